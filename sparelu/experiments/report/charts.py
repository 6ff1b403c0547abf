"""The interactive charts of a report: score against nonzeros, and the history of the fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LogTicker,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.models.annotations import BoxAnnotation, Span
from bokeh.plotting import figure

from sparelu.experiments import formatting as text
from sparelu.experiments.figures.rows import SERIES
from sparelu.experiments.trials.one_standard_error import Validated, best, loss_name

INK, MUTED, GRID = "#1a1a1a", "#595959", "#e4e4e4"
CHOSEN = "#000000"
ROUNDS = 1000
FIGURES = 3


@dataclass(frozen=True)
class Point:
    """A network on the curve: its count, test score, cost, and ``label`` ("" for this method, "dense", another's name).

    ``peak_memory`` and ``stored_bytes`` are in bytes, ``seconds`` the time of the fit. The report is about the
    ``chosen`` one.
    """

    nonzeros: int
    score: float
    seconds: float
    peak_memory: int
    stored_bytes: int
    label: str
    chosen: bool


def score_chart(points: Sequence[Point], score_name: str, method: str) -> figure | None:
    """Draw score against nonzeros on a log axis; the chosen point ringed, a dashed line at the dense score.

    None when no point has both weights and a finite score.
    """
    drawn = [p for p in points if p.nonzeros > 0 and math.isfinite(p.score)]
    if not drawn:
        return None
    plot = frame("nonzero weights (log scale)", score_name, log_x=True)
    low, high = y_range([p.score for p in drawn])
    plot.y_range = Range1d(start=low, end=high)
    count_axis(plot, *x_range([p.nonzeros for p in drawn]))
    if text.is_share(score_name):
        plot.yaxis.formatter = NumeralTickFormatter(format="0%" if high - low > 0.08 else "0.0%")
    for p in drawn:
        if p.label == "dense":
            plot.add_layout(Span(location=p.score, dimension="width", line_dash="dashed", line_color=MUTED))
    labels = list(dict.fromkeys(p.label for p in drawn))
    colours = iter(SERIES * len(labels))
    for label in labels:
        series = sorted((p for p in drawn if p.label == label), key=lambda p: p.nonzeros)
        colour = MUTED if label == "dense" else next(colours)
        _series(plot, series, label or method, colour, score_name, line=label != "dense")
    plot.legend.location = "bottom_right"
    plot.legend.background_fill_alpha = 0.8
    return plot


def _series(plot: figure, series: Sequence[Point], label: str, colour: str, score_name: str, line: bool) -> None:
    source = ColumnDataSource(_columns(series, label, score_name))
    if line:
        plot.line("nonzeros", "score", source=source, color=colour, line_width=2)
    marker = "circle" if line else "diamond"
    dots = plot.scatter("nonzeros", "score", source=source, marker=marker, size=9, color=colour, legend_label=label)
    rows = (
        ("nonzeros", "nonzeros"),
        (score_name, "shown"),
        ("stored", "bytes"),
        ("time", "seconds"),
        ("memory", "memory"),
    )
    tips = [("", "@label"), *((name, f"@{column}") for name, column in rows)]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, mode="mouse", point_policy="snap_to_data"))
    chosen = [p for p in series if p.chosen]
    if chosen:
        plot.scatter(
            [p.nonzeros for p in chosen],
            [p.score for p in chosen],
            size=19,
            fill_color=None,
            line_color=CHOSEN,
            line_width=3,
            legend_label="chosen",
        )


@dataclass(frozen=True)
class CrossValidation:
    """The mean losses on held-out folds by budget, the number of folds, the rule that chose, and the task."""

    curve: tuple[Validated, ...]
    folds: int
    select: str
    task: str

    @property
    def loss_name(self) -> str:
        """Return what the loss is called."""
        return loss_name(self.task)

    @property
    def least(self) -> Validated:
        """Return the budget of least mean loss."""
        return best(self.curve)


def validation_chart(found: CrossValidation) -> figure:
    """Draw mean loss with one standard error to each side against nonzeros; the band of the rule, and the choice
    ringed.

    The band reaches from the least mean loss up by its standard error: budgets in it count as equally good.
    """
    points = [p for p in found.curve if p.losses]
    plot = frame("nonzero weights (log scale)", found.loss_name, log_x=True, height=300)
    low, high = y_range([p.loss + sign * p.error for p in points for sign in (-1, 1)])
    plot.y_range = Range1d(start=low, end=high)
    count_axis(plot, *x_range([p.nonzeros for p in points]))
    if text.is_share(found.loss_name):
        plot.yaxis.formatter = NumeralTickFormatter(format="0%" if high - low > 0.08 else "0.0%")
    least = found.least
    top = least.loss + least.error
    plot.add_layout(BoxAnnotation(bottom=least.loss, top=top, fill_color=SERIES[2], fill_alpha=0.18, line_color=None))
    source = ColumnDataSource(_validation_columns(points, found.loss_name))
    plot.segment("nonzeros", "low", "nonzeros", "high", source=source, color=SERIES[0], line_width=1.5)
    plot.line("nonzeros", "loss", source=source, color=SERIES[0], line_width=2)
    name = f"mean of {found.folds} folds"
    dots = plot.scatter("nonzeros", "loss", source=source, size=9, color=SERIES[0], legend_label=name)
    x, y = [p.nonzeros for p in points if p.chosen], [p.loss for p in points if p.chosen]
    plot.scatter(x, y, size=19, fill_color=None, line_color=CHOSEN, line_width=3, legend_label="chosen")
    tips = [("nonzeros", "@nonzeros"), (found.loss_name, "@shown"), ("settings", "@settings")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, mode="mouse", point_policy="snap_to_data"))
    plot.legend.location = "top_right"
    plot.legend.background_fill_alpha = 0.8
    return plot


def _validation_columns(points: Sequence[Validated], name: str) -> dict[str, list[object]]:
    return {
        "nonzeros": [p.nonzeros for p in points],
        "loss": [p.loss for p in points],
        "low": [p.loss - p.error for p in points],
        "high": [p.loss + p.error for p in points],
        "shown": [f"{text.score(p.loss, name)} ± {text.score(p.error, name)}" for p in points],
        "settings": [text.settings(p.settings) or "as given" for p in points],
    }


def _columns(series: Sequence[Point], label: str, score_name: str) -> dict[str, list[object]]:
    return {
        "nonzeros": [p.nonzeros for p in series],
        "score": [p.score for p in series],
        "shown": [text.score(p.score, score_name) for p in series],
        "bytes": [text.size(p.stored_bytes) for p in series],
        "seconds": [text.duration(p.seconds) for p in series],
        "memory": [text.size(p.peak_memory) for p in series],
        "label": [label] * len(series),
    }


def history_charts(history: Sequence[Mapping[str, float]]) -> list[tuple[str, figure]]:
    """Return the training loss and up to three further figures of the history against rounds, each with its name."""
    names = [k for row in history[:1] for k in row if k not in ("progress", "loss", "seconds")]
    charts = [(name, _history_chart(history, name)) for name in ("loss", *names[:FIGURES])]
    return [(name, chart) for name, chart in charts if chart is not None]


def _history_chart(history: Sequence[Mapping[str, float]], name: str) -> figure | None:
    step = math.ceil(len(history) / ROUNDS) if history else 1
    rows = [(i + 1, row) for i, row in enumerate(history) if i % step == 0 or i == len(history) - 1]
    rows = [(i, row) for i, row in rows if math.isfinite(row.get(name, math.nan))]
    if len(rows) < 2:
        return None
    values = np.array([row[name] for _, row in rows])
    log = bool(values.min() > 0 and values.max() > 20 * values.min())
    plot = frame("round", "training loss" if name == "loss" else name, log_y=log, height=240)
    if log:
        plot.yaxis.ticker, plot.yaxis.formatter = LogTicker(mantissas=[1, 2, 5]), BasicTickFormatter()
    source = ColumnDataSource(
        {
            "round": [i for i, _ in rows],
            "value": values,
            "seconds": [text.duration(row.get("seconds", 0.0)) for _, row in rows],
        }
    )
    line = plot.line("round", "value", source=source, color=SERIES[0], line_width=2)
    tips = [("round", "@round"), (name, "@value{0.[0000]}"), ("after", "@seconds")]
    plot.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline"))
    return plot


def frame(
    x: str, y: str, log_x: bool = False, log_y: bool = False, height: int = 340, tools: str = "pan,box_zoom,reset"
) -> figure:
    plot = figure(
        x_axis_type="log" if log_x else "linear",
        y_axis_type="log" if log_y else "linear",
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        tools=tools,
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.toolbar.active_drag = None  # a finger on the chart scrolls the page
    plot.grid.grid_line_color = GRID
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "13px"
        axis.axis_line_color = axis.major_tick_line_color = MUTED
        axis.minor_tick_line_color = None
    return plot


def x_range(nonzeros: Sequence[int]) -> tuple[float, float]:
    low, high = min(nonzeros), max(nonzeros)
    pad = 1.4 if high > 3 * low else 3.0
    return low / pad, high * pad


def y_range(scores: Sequence[float]) -> tuple[float, float]:
    low, high = min(scores), max(scores)
    pad = max(0.12 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-6)
    return low - pad, high + pad


def count_axis(plot: figure, low: float, high: float) -> None:
    """Set ticks at 1, 2, 5 times powers of ten, or at powers alone over more than three decades."""
    plot.x_range = Range1d(start=low, end=high)
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [s * 10**p for p in powers if p >= 0 for s in steps if low <= s * 10**p <= high]
    plot.xaxis.ticker = plot.xgrid.ticker = FixedTicker(ticks=ticks)
    plot.xaxis.major_label_overrides = {t: text.count(t) for t in ticks}
