"""Figures of benchmarks that are no curves against nonzeros: lines of named series."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sparelu.experiments.figures import MARKERS, REFERENCE, STYLE, count_ticks
from sparelu.experiments.report_rows import SERIES

Point = tuple[float, float]


def lines(
    series: Mapping[str, Sequence[Point]],
    titles: tuple[str, str],
    *,
    log: tuple[bool, bool] = (False, False),
    references: Mapping[str, float] | None = None,
) -> Figure:
    """A line with markers for each of ``series``, points (x, y) in the order of x.

    ``titles`` name the axes, ``log`` says which are logarithmic, ``references`` are levels of y, dashed. Raises
    ``ValueError`` when there is no point.
    """
    if not any(series.values()):
        raise ValueError("no series has a point: there is nothing to draw")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.7), layout="constrained")
        axes = figure.add_subplot()
        for look, (label, points) in enumerate((k, v) for k, v in series.items() if v):
            x, y = np.array(sorted(points), dtype=float).T
            axes.plot(x, y, color=SERIES[look % len(SERIES)], marker=MARKERS[look % len(MARKERS)], label=label)
        for label, level in (references or {}).items():
            axes.axhline(level, color=REFERENCE, linestyle="--", linewidth=1.2, label=label)
        axes.set_xlabel(titles[0])
        axes.set_ylabel(titles[1])
        if log[0]:
            axes.set_xscale("log")
            count_ticks(axes.xaxis)
        if log[1]:
            axes.set_yscale("log")
        axes.legend(loc="best", fontsize=8)
    return figure
