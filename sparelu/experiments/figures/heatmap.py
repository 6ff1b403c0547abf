"""Heatmaps of a sweep: phase transitions with their 50% contour and a theory line, and panels on one colour scale."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from sparelu.experiments.figures.curves import STYLE, count_ticks
from sparelu.experiments.figures.rows import FlatRow, drawable, group_by

MISSING = "#d9d9d9"
LINE = "#d55e00"
COLUMNS = 3
TICKS = 7
TICK_SIZE = 7.5
LETTERS = 34
"""Letters of a label that fit beside one line of panels."""


@dataclass(frozen=True)
class Theory:
    """A line to compare with: its name, and y as a function of x."""

    name: str
    y: Callable[[np.ndarray], np.ndarray]


def sampling_line(weights: int) -> Theory:
    """Return the nonzeros s that n samples determine among N = ``weights`` candidates, by n = 2 s log(N / s).

    That is the leading term of 2 s log(N / s) + 5 s / 4 + 1, which suffices for l1 recovery from N independent
    Gaussian columns (Chandrasekaran, Recht, Parrilo and Willsky 2012, Proposition 3.10). The gated columns of a ReLU
    network are neither independent nor known: for them n >= C s log(e N / s) suffices with a C that grows with their
    condition number (Fridovich-Keil and Pilanci 2026, Lemma 1). So the line is a scale to compare with and no bound.
    """
    s = np.geomspace(1e-6, weights / math.e, 2000)  # 2 s log(N / s) rises up to s = N / e
    n = 2 * s * np.log(weights / s)
    name = "rows = 2 s log(d m / s), as for l1 recovery"
    return Theory(name, lambda x: np.interp(x, n, s, left=math.nan, right=math.nan))


def phase_transition(
    rows: Sequence[FlatRow],
    x: str,
    y: str,
    success: Callable[[FlatRow], bool],
    criterion: str,
    *,
    by: str = "label",
    theory: Theory | None = None,
    titles: tuple[str, str] | None = None,
) -> Figure:
    """Share of repetitions with ``success`` at each (``x``, ``y``): a panel for each value of ``by``, one colour scale.

    White is the 50% contour, dashed the ``theory``; grey cells have no row. ``criterion`` says what success is,
    ``titles`` what x and y are called. Raises ``ValueError`` when no row has a score.
    """
    judged = [{**row, "success": float(success(row))} for row in drawable(rows, "score", x, y)]
    seeds = max(len(cell) for cell in group_by(judged, by, x, y).values())
    label = f"share of {seeds} seed{'s'[: seeds > 1]} with {criterion}"
    return _panels(judged, (x, y), "success", by, titles or (x, y), label, Normalize(0, 1), theory)


def panels(
    rows: Sequence[FlatRow],
    x: str,
    y: str,
    value: str,
    label: str,
    *,
    by: str = "label",
    theory: Theory | None = None,
    titles: tuple[str, str] | None = None,
) -> Figure:
    """Draw mean ``value`` at each (``x``, ``y``), one panel for each value of ``by``, all on one colour scale.

    The scale is logarithmic when the values are positive and span more than a factor of 100. Raises ``ValueError``
    when no row can be drawn.
    """
    drawn = drawable(rows, value, x, y)
    return _panels(drawn, (x, y), value, by, titles or (x, y), label, _scale_of(drawn, by, x, y, value), theory)


def panels_into(
    part: SubFigure,
    rows: Sequence[FlatRow],
    x: str,
    y: str,
    value: str,
    label: str,
    *,
    by: str = "label",
    titles: tuple[str, str] | None = None,
) -> None:
    """Draw what :func:`panels` draws, in ``part`` of a figure, whose constrained layout has been asked for."""
    drawn = drawable(rows, value, x, y)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        _fill(part, drawn, (x, y), value, by, titles or (x, y), label, _scale_of(drawn, by, x, y, value), None)


def _scale_of(rows: Sequence[FlatRow], by: str, x: str, y: str, value: str) -> Normalize:
    means = [np.mean([row[value] for row in cell]) for cell in group_by(rows, by, x, y).values()]
    low, high = float(min(means)), float(max(means))
    return LogNorm(low, high) if low > 0 and high > 100 * low else Normalize(low, high)


def _panels(
    rows: Sequence[FlatRow],
    names: tuple[str, str],
    value: str,
    by: str,
    titles: tuple[str, str],
    label: str,
    norm: Normalize,
    theory: Theory | None,
) -> Figure:
    many = len(group_by(rows, by))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(1.4 + 2.7 * _columns(many), 0.6 + 2.5 * -(-many // _columns(many))), layout="constrained"
        )
        _fill(figure, rows, names, value, by, titles, label, norm, theory)
    return figure


def _columns(groups: int) -> int:
    return 2 if groups == 4 else min(COLUMNS, groups)


def _fill(
    figure: Figure | SubFigure,
    rows: Sequence[FlatRow],
    names: tuple[str, str],
    value: str,
    by: str,
    titles: tuple[str, str],
    label: str,
    norm: Normalize,
    theory: Theory | None,
) -> None:
    x, y = (np.array(sorted({row[name] for row in rows}), dtype=float) for name in names)
    groups = {key[0]: cell for key, cell in group_by(rows, by).items()}
    columns = _columns(len(groups))
    lines = -(-len(groups) // columns)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for i, (axes, (group, cell)) in enumerate(zip(grid.flat, groups.items(), strict=False)):
        _heatmap(axes, x, y, _means(cell, names, value, x, y), norm, contour=value == "success")
        if theory is not None:
            _theory(axes, x, theory)
        axes.set_title(str(group), fontsize=9)
        axes.tick_params(labelbottom=i + columns >= len(groups), labelsize=TICK_SIZE)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    figure.supxlabel(titles[0], fontsize=9)
    figure.supylabel(titles[1], fontsize=9)
    wrapped = "\n".join(textwrap.wrap(label, LETTERS * lines))
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=list(grid.flat), label=wrapped, shrink=0.9)
    found = {name: line for axes in grid.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if found:
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=2, facecolor="#bdbdbd")


def _means(
    rows: Sequence[FlatRow], names: tuple[str, str], value: str, x: np.ndarray, y: np.ndarray
) -> np.ma.MaskedArray:
    """Return means of the cells (y, x); cells without a row are masked."""
    grid = np.ma.masked_all((len(y), len(x)))
    for key, cell in group_by(rows, *names).items():
        grid[np.searchsorted(y, key[1]), np.searchsorted(x, key[0])] = np.mean([row[value] for row in cell])
    return grid


def _heatmap(axes: Axes, x: np.ndarray, y: np.ndarray, grid: Any, norm: Normalize, contour: bool) -> None:
    axes.set_facecolor(MISSING)
    _scale(axes.xaxis, axes.set_xscale, x)
    _scale(axes.yaxis, axes.set_yscale, y)
    axes.pcolormesh(_edges(x), _edges(y), grid, norm=norm, cmap="viridis", rasterized=True)
    if contour and min(grid.shape) > 1 and grid.min() < 0.5 < grid.max():
        lines = axes.contour(x, y, grid, levels=[0.5], colors="white", linewidths=2)
        lines.set_path_effects([Stroke(linewidth=3.4, foreground="black"), Normal()])
        axes.plot([], [], color="white", linewidth=2, path_effects=lines.get_path_effects(), label="50% of the seeds")
    axes.set_xlim(*_ends(x))
    axes.set_ylim(*_ends(y))


def _theory(axes: Axes, x: np.ndarray, theory: Theory) -> None:
    low, high = _ends(x)
    fine = np.geomspace(low, high, 200) if _is_log(x) else np.linspace(low, high, 200)
    axes.plot(fine, theory.y(fine), color=LINE, linestyle="--", linewidth=1.8, label=theory.name)


def _is_log(values: np.ndarray) -> bool:
    return bool(values[0] > 0 and values[-1] >= 10 * values[0])


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return cell edges half way between centres, on the scale of the axis."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5]) * (abs(centres[0]) or 1.0)
    c = np.log(centres) if _is_log(centres) else centres
    middle = (c[1:] + c[:-1]) / 2
    edges = np.concatenate([[2 * c[0] - middle[0]], middle, [2 * c[-1] - middle[-1]]])
    return np.exp(edges) if _is_log(centres) else edges


def _ends(centres: np.ndarray) -> tuple[float, float]:
    edges = _edges(centres)
    return float(edges[0]), float(edges[-1])


def _scale(axis: Axis, set_scale: Callable[[str], None], values: np.ndarray) -> None:
    """Scale by the logarithm where the values span a decade; ticks at the values where they are few."""
    if _is_log(values):
        set_scale("log")
    if len(values) <= TICKS:
        axis.set_major_locator(FixedLocator(values.tolist()))
        axis.set_major_formatter(FixedFormatter([f"{v:,g}" for v in values]))
        axis.set_minor_locator(NullLocator())
    elif _is_log(values):
        axis.set_view_interval(values[0], values[-1], ignore=True)
        count_ticks(axis)
