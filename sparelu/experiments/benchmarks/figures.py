"""Figures of benchmarks that are no curves against nonzeros: lines of named series, and what theory says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

from sparelu.experiments.figures.curves import MARKERS, STYLE, few_ticks
from sparelu.experiments.figures.rows import SERIES

Points = Sequence[tuple[float, float]]


def lines(
    series: Mapping[str, Points],
    titles: tuple[str, str],
    *,
    log: tuple[bool, bool] = (False, False),
    theory: Mapping[str, Points] | None = None,
    names_inside: int = 4,
) -> Figure:
    """Draw a line with markers for each of ``series``, points (x, y) in the order of x; ``theory`` is dashed,
    unmarked.

    ``titles`` name the axes, ``log`` says which are logarithmic. With a theory for each series, each has the colour of
    its series. Raises ``ValueError`` when there is no point.

    ``names_inside``: names in a legend within the axes; more go beside them.
    """
    drawn, dashed = ({k: v for k, v in given.items() if v} for given in (series, theory or {}))
    if not drawn:
        raise ValueError("no series has a point: there is nothing to draw")
    with matplotlib.rc_context(STYLE):
        many = len(drawn) + len(dashed) > names_inside
        figure = Figure(figsize=(7.4 if many else 5.8, 3.7), layout="constrained")
        axes = figure.add_subplot()
        matched = len(dashed) == len(drawn)
        alone = "" if dashed else "-"
        _plot(axes, drawn, [{"marker": m, "linestyle": alone} for m in MARKERS], list(SERIES))
        _plot(axes, dashed, [{"linestyle": "--", "linewidth": 1.2}], list(SERIES) if matched else ["#000000"])
        axes.set_xlabel(titles[0])
        axes.set_ylabel(titles[1])
        xs = sorted({float(x) for points in drawn.values() for x, _ in points})
        if log[0]:
            axes.set_xscale("log")
            _ticks(axes.xaxis, xs)
        if log[1]:
            axes.set_yscale("log")
            _ticks(axes.yaxis, None)
        if many:
            figure.legend(loc="outside right upper", fontsize=8)
        else:
            axes.legend(loc="best", fontsize=8)
    return figure


def _plot(axes: Axes, series: Mapping[str, Points], looks: Sequence[dict[str, Any]], colours: Sequence[str]) -> None:
    for i, (label, points) in enumerate(series.items()):
        x, y = np.array(sorted(points), dtype=float).T
        axes.plot(x, y, color=colours[i % len(colours)], label=label, **looks[i % len(looks)])


def _ticks(axis: Axis, values: Sequence[float] | None, *, most: int = 7) -> None:
    """Set ticks at the values where they are few, else at 1, 2, 5 times powers of ten."""
    if values is not None and len(values) <= most:
        axis.set_major_locator(FixedLocator(values))
        axis.set_major_formatter(FixedFormatter([_number(v) for v in values]))
        axis.set_minor_locator(NullLocator())
        return
    few_ticks(axis)
    axis.set_major_formatter(FuncFormatter(lambda v, _: _number(v)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
