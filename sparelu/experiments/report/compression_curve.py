"""The curve of error against the neurons that are kept: measured, as a figure in a file, and as a chart in a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sparelu.data import Data
from sparelu.experiments import formatting as text
from sparelu.experiments.figures.curves import MARKERS, REFERENCE, STYLE, count_ticks, few_ticks
from sparelu.experiments.figures.rows import SERIES
from sparelu.experiments.report.charts import CHOSEN, count_axis, frame, x_range
from sparelu.networks.network import Network

LOST = "share of the output variance lost"
TRAIN, TEST, EXACT = "training rows", "held-out rows", "exact, Gaussian of the rows"


@dataclass(frozen=True)
class Width:
    """A network of ``neurons``, and what of the original's outputs it loses, in shares of their variance.

    ``population`` is exact under the Gaussian of the rows (None where no method says it), ``train`` and ``test`` are
    means over rows; the scores are against the labels. The run is about the ``chosen`` one.
    """

    neurons: int
    population: float | None
    train: float
    test: float
    train_score: float
    test_score: float
    chosen: bool


@dataclass(frozen=True)
class CompressionCurve:
    """Widths tried, the neurons and scores of the original network, and how much score might be lost (None: not asked).

    ``score_name`` is what the scores are ("accuracy", "R2").
    """

    widths: tuple[Width, ...]
    neurons: int
    train_score: float
    test_score: float
    score_name: str
    tolerance: float | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "CompressionCurve":
        """Read from the values of ``dataclasses.asdict``."""
        return cls(**{**values, "widths": tuple(Width(**width) for width in values["widths"])})

    @property
    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """Return points (neurons, share lost) of each kind of error that is known and above zero, in the order of
        neurons.
        """
        ordered = sorted(self.widths, key=lambda w: w.neurons)
        lost = {
            TRAIN: [(w.neurons, w.train) for w in ordered if w.train > 0],
            TEST: [(w.neurons, w.test) for w in ordered if w.test > 0],
            EXACT: [(w.neurons, w.population) for w in ordered if w.population],
        }
        return {name: points for name, points in lost.items() if points}

    @property
    def scores(self) -> dict[str, list[tuple[int, float]]]:
        """Return points (neurons, score) on both kinds of rows, with the original as the last."""
        ordered = sorted(self.widths, key=lambda w: w.neurons)
        train, test = [(w.neurons, w.train_score) for w in ordered], [(w.neurons, w.test_score) for w in ordered]
        return {
            TRAIN: [*train, (self.neurons, self.train_score)],
            TEST: [*test, (self.neurons, self.test_score)],
        }


def gap_and_variance(original: Network, small: Network, data: Data) -> tuple[float, float]:
    """Return mean squared gap of the outputs over the rows, and the variance of the original's outputs there."""
    one, two = original.to(torch.float64, "cpu"), small.to(torch.float64, "cpu")
    gap, first, second = 0.0, torch.zeros(original.outputs, dtype=torch.float64), 0.0
    for x, _ in data.chunks():
        rows = np.asarray(x, dtype=np.float64)
        said = one(rows)
        gap += float((said - two(rows)).square().sum())
        first, second = first + said.sum(0), second + float(said.square().sum())
    return gap / data.n, max(second / data.n - float((first / data.n).square().sum()), 0.0)


def share(gap: float, variance: float) -> float:
    """Return ``gap / variance``; infinite where a constant is missed."""
    return gap / variance if variance > 0 else (math.inf if gap > 0 else 0.0)


def width_figure(curve: CompressionCurve) -> Figure:
    """Draw error (left) and score (right) against neurons, the chosen width ringed; dashed: the original, the
    tolerance.
    """
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(8.6, 3.6), layout="constrained")
        left, right = drawn.subplots(1, 2)
        _series(left, curve.losses)
        _series(right, curve.scores)
        if curve.losses:
            left.set_yscale("log")
            few_ticks(left.yaxis)
            left.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            _ring(left, [(w.neurons, w.test) for w in curve.widths if w.chosen and w.test > 0])
        left.set_ylabel(LOST)
        _ring(right, [(w.neurons, w.test_score) for w in curve.widths if w.chosen])
        right.axhline(curve.test_score, color=REFERENCE, linestyle=":", linewidth=1.2, label="held-out, original")
        if curve.tolerance is not None:
            least = curve.train_score - curve.tolerance
            right.axhline(least, color=REFERENCE, linestyle="--", linewidth=1.2, label="least asked of training rows")
        right.set_ylabel(curve.score_name)
        if text.is_share(curve.score_name):
            right.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("neurons")
            count_ticks(axes.xaxis)
            if axes.lines:
                axes.legend(loc="best", fontsize=8)
    return drawn


def _series(axes: Axes, series: dict[str, list[tuple[int, float]]]) -> None:
    """Draw a line for each kind of rows, of one look in both panels."""
    for label, points in series.items():
        look = (TRAIN, TEST, EXACT).index(label)
        x, y = np.array(points, dtype=float).T
        axes.plot(x, y, color=SERIES[look], marker=MARKERS[look], label=label)


def _ring(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    for x, y in points:
        axes.plot([x], [y], "o", markersize=12, markerfacecolor="none", markeredgecolor=CHOSEN, label="chosen")


def width_chart(curve: CompressionCurve) -> figure | None:
    """Draw error against neurons for a report, both axes log; None when nothing was lost at any width."""
    losses = curve.losses
    if not losses:
        return None
    plot = frame("neurons (log scale)", f"{LOST} (log scale)", log_x=True, log_y=True, height=320)
    count_axis(plot, *x_range([w.neurons for w in curve.widths]))
    values = [v for points in losses.values() for _, v in points]
    plot.y_range = Range1d(start=0.6 * min(values), end=1.7 * max(values))
    scores = {w.neurons: text.score(w.test_score, curve.score_name) for w in curve.widths}
    for (label, points), colour in zip(losses.items(), SERIES, strict=False):
        columns = {
            "neurons": [m for m, _ in points],
            "lost": [v for _, v in points],
            "shown": [f"{v:.3g}" for _, v in points],
            "score": [scores[m] for m, _ in points],
            "label": [label] * len(points),
        }
        source = ColumnDataSource(columns)
        plot.line("neurons", "lost", source=source, color=colour, line_width=2)
        dots = plot.scatter("neurons", "lost", source=source, size=9, color=colour, legend_label=label)
        tips = [("", "@label"), ("neurons", "@neurons"), ("lost", "@shown"), (f"test {curve.score_name}", "@score")]
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, mode="mouse", point_policy="snap_to_data"))
    chosen = [w for w in curve.widths if w.chosen and w.test > 0]
    if chosen:
        x, y = [w.neurons for w in chosen], [w.test for w in chosen]
        plot.scatter(x, y, size=19, fill_color=None, line_color=CHOSEN, line_width=3, legend_label="chosen")
    plot.legend.location, plot.legend.background_fill_alpha = "bottom_left", 0.8
    return plot
