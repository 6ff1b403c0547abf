"""The chart of a network of one input: its function, its knots, the training points, and the dots joined."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from bokeh.plotting import figure

from sparelu.certify.lines import find_pieces
from sparelu.data import Data
from sparelu.experiments.figures.rows import SERIES
from sparelu.experiments.report.charts import INK, MUTED, frame
from sparelu.networks.network import Network

POINTS = 1000
"""Training rows that are drawn at most."""
NOTHING: Mapping[str, Network] = MappingProxyType({})
MARGIN = 0.08
"""Share of the range of the inputs that is drawn on either side of it."""
MET = 1e-6
"""Residual, relative to the targets, up to which points count as met."""


def drawn_rows(data: Data) -> list[list[float]] | None:
    """Return rows (x, y) spread evenly over the data; None unless it is regression with one input and one target."""
    if data.task != "regression" or data.inputs != 1 or data.outputs != 1 or not data.in_memory:
        return None
    take = np.unique(np.linspace(0, data.n - 1, min(data.n, POINTS)).astype(int))
    x, y = np.asarray(data.x, dtype=np.float64)[take, 0], np.asarray(data.y, dtype=np.float64).reshape(-1)[take]
    return np.column_stack([x, y]).tolist()


def function_chart(
    network: Network, rows: Sequence[Sequence[float]], names: tuple[str, str], beside: Mapping[str, Network] = NOTHING
) -> figure:
    """Draw the function over the range of the ``rows`` (x, y), with ``names`` on the axes, and other networks
    ``beside`` it.

    Where it meets all rows, the dots joined by lines are drawn as well: an interpolant of least l^1 path norm.
    """
    x, y = np.array(rows, dtype=np.float64).T
    margin = MARGIN * (float(np.ptp(x)) or 1.0)
    low, high = float(x.min()) - margin, float(x.max()) + margin
    knots = find_pieces(network, low, high).knots
    plot = frame(*names)
    order = np.argsort(x)
    residual = np.abs(_values(network, x) - y).max()
    if residual <= MET * max(float(np.abs(y).max()), 1e-300):
        label = f"dots joined, {_bends(x[order], y[order])} knots (least l¹ path norm)"
        plot.line(x[order], y[order], color=SERIES[1], line_dash="dotted", line_width=2, legend_label=label)
    for (name, other), colour in zip(beside.items(), itertools.cycle(SERIES[2:]), strict=False):
        bends = find_pieces(other, low, high).knots
        at = np.concatenate([[low], bends, [high]])
        label = f"{name}, {_counted(bends.size)}"
        plot.line(at, _values(other, at), color=colour, line_dash="dashed", line_width=2, legend_label=label)
    at = np.concatenate([[low], knots, [high]])
    plot.line(at, _values(network, at), color=SERIES[0], line_width=2, legend_label="this network")
    if knots.size:
        count = _counted(knots.size)
        heights = _values(network, knots)
        plot.scatter(knots, heights, marker="dash", angle=np.pi / 2, size=16, color=SERIES[0], legend_label=count)
    size, colour = (6, INK) if len(x) <= 100 else (3, MUTED)
    plot.scatter(x, y, size=size, color=colour, alpha=1.0 if len(x) <= 100 else 0.5, legend_label="training rows")
    plot.legend.location = "top_left"
    plot.legend.background_fill_alpha = 0.8
    return plot


def _counted(knots: int) -> str:
    return f"{knots} knot{'s' if knots != 1 else ''}"


def _values(network: Network, x: np.ndarray) -> np.ndarray:
    return np.asarray(network(x[:, None]).double().numpy()[:, 0])


def _bends(x: np.ndarray, y: np.ndarray) -> int:
    """Return slope changes of the line through sorted points, those within rounding left out."""
    keep = np.append(np.diff(x) > 0, True)
    slopes = np.diff(y[keep]) / np.diff(x[keep])
    return int((np.abs(np.diff(slopes)) > MET * np.abs(slopes).max(initial=0.0)).sum())
