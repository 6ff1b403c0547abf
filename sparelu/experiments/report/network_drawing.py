"""The drawing of a sparse network: units in columns, weights as curves, the strongest when there are too many.

Weights are blue (positive) or red (negative); their width is |w| relative to the largest weight of the same layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparelu.experiments.formatting import count, counted, signed
from sparelu.experiments.report.live_network import Anatomy, Wires, norms

WIDTH = 960
MARGIN = 150
HEAD = 34
PITCH = 17
SWEEPS = 6


@dataclass(frozen=True)
class DrawingLimits:
    """How much is drawn: units of each kind, and weights in all."""

    inputs: int = 40
    neurons: int = 24
    outputs: int = 20
    weights: int = 500


@dataclass(frozen=True)
class Unit:
    """A circle at (``x``, ``y``), with the ``label`` beside or in it and the text shown on hover."""

    key: str
    kind: str
    x: float
    y: float
    label: str
    tip: str


@dataclass(frozen=True)
class DrawnWeight:
    """A weight: an SVG path between two units, ``width`` in pixels, ``source`` and ``target`` their keys."""

    source: str
    target: str
    path: str
    width: float
    positive: bool
    skip: bool
    tip: str


@dataclass(frozen=True)
class Drawing:
    """Units and curves on a canvas, the titles of the columns (x, text), and what was left out in words."""

    width: int
    height: int
    units: tuple[Unit, ...]
    curves: tuple[DrawnWeight, ...]
    titles: tuple[tuple[float, str], ...]
    left_out: str


def draw(
    body: Anatomy,
    outputs: int,
    input_name: Callable[[int], str],
    output_name: Callable[[int], str],
    limits: DrawingLimits | None = None,
) -> Drawing:
    """Lay out ``body`` with ``outputs`` outputs in columns from the inputs (left) to the outputs (right)."""
    limits = limits or DrawingLimits()
    columns = _choose(body, outputs, limits)
    wires = _between(body, columns, limits.weights)
    columns = _untangle(columns, wires[: len(body.layers)])
    height = HEAD + PITCH * max(8, *(len(c) for c in columns)) + 10
    x = np.linspace(MARGIN, WIDTH - MARGIN, len(columns))
    places = [
        {int(u): (float(x[i]), HEAD + (height - HEAD - 10) * (j + 0.5) / len(column)) for j, u in enumerate(column)}
        for i, column in enumerate(columns)
    ]
    names = [input_name, *(_neuron_name for _ in body.hidden), output_name]
    units = tuple(u for i in range(len(columns)) for u in _units(body, i, places[i], names))
    return Drawing(
        WIDTH,
        height,
        units,
        _curves(wires, places, names),
        tuple((float(x[i]), _title(i, len(columns))) for i in range(len(columns))),
        _left_out(body, outputs, columns, wires),
    )


def _neuron_name(unit: int) -> str:
    return f"neuron {unit}"


def _title(column: int, columns: int) -> str:
    if column in (0, columns - 1):
        return "outputs" if column else "inputs"
    return "neurons" if columns == 3 else f"neurons of layer {column}"


def _strongest(units: np.ndarray, strength: np.ndarray, limit: int) -> np.ndarray:
    """Return the ``limit`` units of largest strength, in increasing order; ties go to the lower number."""
    return np.sort(units[np.lexsort((units, -strength))[:limit]])


def _choose(body: Anatomy, outputs: int, limits: DrawingLimits) -> list[np.ndarray]:
    """Return units drawn in each column: the strongest neurons, then the inputs and outputs most tied to them."""
    hidden = [_strongest(u, body.strength(i), limits.neurons) for i, u in enumerate(body.hidden)]
    first, last = body.layers[0], body.layers[-1]
    into = np.isin(first.targets, hidden[0]) if hidden else np.ones(len(first.targets), dtype=bool)
    of_inputs = norms(body.inputs, first.sources[into], first.weights[into])
    if body.skip is not None:
        of_inputs = np.hypot(of_inputs, norms(body.inputs, body.skip.sources, body.skip.weights))
    every = np.arange(outputs)
    return [
        _strongest(body.inputs, of_inputs, limits.inputs),
        *hidden,
        _strongest(every, norms(every, last.targets, last.weights), limits.outputs),
    ]


def _between(body: Anatomy, columns: Sequence[np.ndarray], limit: int) -> list[Wires]:
    """Return the wires among the drawn units, at most ``limit``: the largest relative to their layer; the skip part
    last.
    """
    parts = list(zip(body.layers, columns, columns[1:], strict=False))
    if body.skip is not None:
        parts.append((body.skip, columns[0], columns[-1]))
    shown = [np.isin(w.sources, below) & np.isin(w.targets, above) for w, below, above in parts]
    relative = [np.abs(w.weights) / np.abs(w.weights).max(initial=1e-300) for w, _, _ in parts]
    candidates = np.concatenate([r[s] for r, s in zip(relative, shown, strict=True)])
    if len(candidates) > limit:
        floor = np.partition(candidates, -limit)[-limit]
        shown = [s & (r >= floor) for r, s in zip(relative, shown, strict=True)]
    return [w.kept(s) for (w, _, _), s in zip(parts, shown, strict=True)]


def _untangle(columns: list[np.ndarray], wires: Sequence[Wires]) -> list[np.ndarray]:
    """Reorder inputs and neurons by the mean place of what they are wired to (barycentre); outputs stay in order."""
    columns = list(columns)
    for sweep in range(SWEEPS):
        for i in range(len(columns) - 1) if sweep % 2 else reversed(range(len(columns) - 1)):
            pull, weight = np.zeros(len(columns[i])), np.zeros(len(columns[i]))
            if i < len(wires):
                _pull(columns[i], columns[i + 1], wires[i].sources, wires[i].targets, wires[i].weights, pull, weight)
            if i > 0:
                w = wires[i - 1]
                _pull(columns[i], columns[i - 1], w.targets, w.sources, w.weights, pull, weight)
            here = (np.arange(len(columns[i])) + 0.5) / max(len(columns[i]), 1)
            columns[i] = columns[i][
                np.argsort(np.where(weight > 0, pull / np.maximum(weight, 1e-300), here), kind="stable")
            ]
    return columns


def _pull(
    column: np.ndarray,
    other: np.ndarray,
    mine: np.ndarray,
    theirs: np.ndarray,
    weights: np.ndarray,
    pull: np.ndarray,
    weight: np.ndarray,
) -> None:
    """Add to ``pull`` and ``weight`` of each unit of ``column`` the places (0 to 1) of its ends in ``other``."""
    place = {int(u): j for j, u in enumerate(column)}
    at = {int(u): (j + 0.5) / len(other) for j, u in enumerate(other)}
    for a, b, w in zip(mine.tolist(), theirs.tolist(), np.abs(weights).tolist(), strict=True):
        pull[place[a]] += w * at[b]
        weight[place[a]] += w


def _units(
    body: Anatomy,
    column: int,
    places: dict[int, tuple[float, float]],
    names: Sequence[Callable[[int], str]],
) -> list[Unit]:
    last = len(body.layers)
    kind = "input" if column == 0 else "output" if column == last else "neuron"
    return [
        Unit(
            f"c{column}u{u}", kind, x, y, str(u) if kind == "neuron" else names[column](u), _tip(body, column, u, names)
        )
        for u, (x, y) in places.items()
    ]


def _tip(body: Anatomy, column: int, unit: int, names: Sequence[Callable[[int], str]]) -> str:
    parts = []
    if column > 0:
        below = body.layers[column - 1]
        parts.append(f"{counted(int((below.targets == unit).sum()), 'weight')} in")
        parts.append(f"bias {signed(below.bias[unit])}" if unit in below.bias else "no bias")
    if column < len(body.layers):
        parts.append(f"{counted(int((body.layers[column].sources == unit).sum()), 'weight')} out")
    return f"{names[column](unit)}: " + ", ".join(parts)


def _curves(
    wires: Sequence[Wires], places: Sequence[dict[int, tuple[float, float]]], names: Sequence[Callable[[int], str]]
) -> tuple[DrawnWeight, ...]:
    """Return curves, thin ones first so that the strong lie on top."""
    made = []
    for i, w in enumerate(wires):
        skip = i == len(places) - 1
        below, above = (0, len(places) - 1) if skip else (i, i + 1)
        top = np.abs(w.weights).max(initial=1e-300)
        for s, t, weight in zip(w.sources.tolist(), w.targets.tolist(), w.weights.tolist(), strict=True):
            (x0, y0), (x1, y1) = places[below][s], places[above][t]
            bend = (x0 + x1) / 2
            made.append(
                DrawnWeight(
                    f"c{below}u{s}",
                    f"c{above}u{t}",
                    f"M{x0:.0f} {y0:.1f}C{bend:.0f} {y0:.1f} {bend:.0f} {y1:.1f} {x1:.0f} {y1:.1f}",
                    0.5 + 3.5 * abs(weight) / top,
                    weight > 0,
                    skip,
                    f"{names[below](s)} → {names[above](t)}: {signed(weight)}{' (affine part)' if skip else ''}",
                )
            )
    return tuple(sorted(made, key=lambda c: c.width))


def _left_out(body: Anatomy, outputs: int, columns: Sequence[np.ndarray], wires: Sequence[Wires]) -> str:
    """Return what the drawing does not show, in words; empty when it shows everything."""
    live = [len(body.inputs), *(len(h) for h in body.hidden), outputs]
    things = ["used inputs", *("live neurons" for _ in body.hidden), "outputs"]
    if len(body.hidden) > 1:
        things[1:-1] = [f"live neurons of layer {i + 1}" for i in range(len(body.hidden))]
    parts = [
        f"{len(c)} of {count(total)} {thing}"
        for c, total, thing in zip(columns, live, things, strict=True)
        if len(c) < total
    ]
    drawn = sum(len(w.weights) for w in wires)
    total = sum(len(w.weights) for w in body.layers) + (0 if body.skip is None else len(body.skip.weights))
    if drawn < total:
        parts.append(f"{count(drawn)} of {count(total)} weights")
    return "" if not parts else "Drawn are the strongest " + ", ".join(parts) + "."
