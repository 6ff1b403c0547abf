"""Figures of a sweep from flat rows: scores and costs against nonzeros, as PNG and as vector PDF for a paper.

Rows without the numbers that a figure needs (refused, failed) are passed over. Nothing here touches matplotlib's
global state. Heatmaps are in :mod:`sparelu.experiments.figures.heatmap`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sparelu.experiments.figures.rows import SERIES, FlatRow, drawable, group_by, over_seeds
from sparelu.experiments.formatting import duration, is_share, size
from sparelu.writing import write_atomically

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names are no formulas, whatever they hold
}
MARKERS = "osD^vPX"
REFERENCE = "#595959"


def score_against_nonzeros(
    rows: Sequence[FlatRow],
    *,
    series: str = "label",
    score: str = "score",
    name: str = "test score",
    dense: float | None = None,
    log_score: bool = False,
) -> Figure:
    """Draw mean ``score`` against nonzeros (log axis), a line for each value of ``series``.

    A band of one standard deviation is drawn from three repetitions on. ``dense`` is the score of a dense network, a
    dashed line. Raises ``ValueError`` when no row can be drawn.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.7), layout="constrained")
        axes = figure.add_subplot()
        _lines(axes, drawable(rows, "nonzeros", score), series, score)
        if dense is not None:
            axes.axhline(dense, color=REFERENCE, linestyle="--", linewidth=1.2, label="dense")
        axes.set_ylabel(name)
        if log_score:
            axes.set_yscale("log")
            few_ticks(axes.yaxis)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        elif is_share(name):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))
        axes.legend(loc="best")
    return figure


def cost_against_nonzeros(rows: Sequence[FlatRow], *, series: str = "label") -> Figure:
    """Draw peak memory and seconds against nonzeros, all axes log, each with a guide of slope one.

    What grows in proportion to the nonzeros runs parallel to the guide. Rows with a cost of zero are below what was
    measured and are passed over. Raises ``ValueError`` when no row can be drawn.
    """
    shown = {
        "peak_memory": ("peak memory of the fit", lambda v: size(round(v))),
        "seconds": ("time of the fit", duration),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.8, 3.5), layout="constrained")
        for axes, (cost, (title, words)) in zip(figure.subplots(1, 2), shown.items(), strict=True):
            drawn = drawable([r for r in rows if r.get(cost)], "nonzeros", cost)
            points = _lines(axes, drawn, series, cost)
            _slope_one(axes, points)
            few_ticks(axes.xaxis, decades=1.5)
            axes.set_yscale("log")
            axes.set_ylabel(title)
            few_ticks(axes.yaxis)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _, words=words: words(v)))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def save_figure(figure: Figure, stem: Path, *, dpi: int = 200) -> tuple[Path, Path]:
    """Write ``stem``.png and ``stem``.pdf, each atomically; the same figure gives the same bytes."""
    paths = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".pdf")
    figure.set_dpi(dpi)
    with matplotlib.rc_context(STYLE):
        # Each canvas draws once; savefig draws twice, the first time for the layout, which is settled here.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for path, write in zip(paths, (_png, _pdf), strict=True):
            write_atomically(path, write(figure))
    return paths


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def _pdf(figure: Figure) -> bytes:
    content = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(content, metadata={"CreationDate": None})
    return content.getvalue()


def count_ticks(axis: Axis) -> None:
    """Show whole numbers with thousands separators on a log axis."""
    few_ticks(axis)
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))


def few_ticks(axis: Axis, decades: float = 2.5) -> None:
    """Set ticks at 1, 2 and 5 times powers of ten, or at powers alone over more than so many ``decades``."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 10**decades * low else (1,), numticks=12))
    axis.set_minor_formatter(NullFormatter())


def _lines(axes: Axes, rows: Sequence[FlatRow], series: str, value: str) -> np.ndarray:
    """Return a line with its band for each value of ``series``; all mean points (nonzeros, value)."""
    axes.set_xscale("log")
    drawn = [row for row in rows if row["nonzeros"] > 0]
    groups = {key[0]: over_seeds(cell, value) for key, cell in group_by(drawn, series).items()}
    for look, (label, points) in enumerate(groups.items()):
        x, mean, spread, seeds = points.T
        colour, marker = SERIES[look % len(SERIES)], MARKERS[look % len(MARKERS)]
        repeated = f", mean ± sd of {seeds.max():.0f} seeds" if seeds.max() > 2 else ""
        axes.plot(x, mean, color=colour, marker=marker, label=f"{label}{repeated}")
        if repeated:
            axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("nonzero weights")
    count_ticks(axes.xaxis)
    return np.concatenate([points[:, :2] for points in groups.values()])


def _slope_one(axes: Axes, points: np.ndarray) -> None:
    """Draw y = c x, with c so small that the line stays below every point."""
    x, y = points.T
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, ends * (y / x).min() / 1.6, color=REFERENCE, linestyle=":", linewidth=1.2, label="slope one")
