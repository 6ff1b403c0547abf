"""Rare activations, hinges that few rows lie beyond: what is left when all other rows are met to rounding.

Such a hinge is affine on almost all rows, so nothing asks for it before the rest is exact, and then a few rows have
all of the error: a search that goes on explains them by hundreds of wrong weights. They are set aside instead and the
rest is fitted, as in least trimmed squares (Rousseeuw 1984). What is missing at rows that lie beyond a value of one
input is a hinge on it, if it is an exact line in that input on at least three of them. Among the others, rows that
share an exact plane in one or two inputs show a hinge on those, and so do all that are left, if theirs is a plane in a
few. Fewer rows do not decide a hinge, and stay excluded.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample, residual
from sparelu.recover.exact.model.least_squares import Fit, refit
from sparelu.recover.exact.model.relu_model import ReluModel

MOST, SHARE = 300, 0.01
"""Rows that may be set aside, and as a share of all."""
CONCENTRATED = 0.3
"""Share of the squared error that those rows have at least; of Gaussian noise one row in a hundred has 0.08."""
TRIMS = 5
"""Refits of the rows that are left, each of which shows more clearly which rows are not met."""
CLEARLY = 30.0
"""Roundings of the labels that a row which is not met is at least away."""
CLEAR = 100.0
"""How many times as far the furthest row of a hinge must be."""
FEWEST = 3
"""Rows that show a line: its two numbers, and one that they must meet."""
DRAWS = 200
"""Sets of rows that are tried for a plane that others lie on too."""


def explain_few(
    model: ReluModel, rows: Sample, met: Callable[[Fit], bool], rounded: float, rng: np.random.Generator
) -> tuple[ReluModel, np.ndarray] | None:
    """Return the model of one output refitted and joined by hinges beyond which few rows lie, and the rows not met.

    None unless ``met`` says that a fit of all but a few rows is exact. ``rounded`` is the standard deviation of the
    rounding of the labels. Hinges that the model has already beyond few rows, or beyond too few for their weights, are
    also sought anew: what leaves the fewest rows unmet is returned.
    """
    most = min(MOST, int(SHARE * rows.n))
    if most == 0:
        return None
    sides = _sides(model, rows)
    beyond = torch.minimum(*sides)
    numbers = (model.weight != 0).sum(1)
    rare = torch.zeros_like(beyond, dtype=torch.bool), beyond < FEWEST * (numbers + 1), beyond <= most
    starts = {gone.cpu().numpy().tobytes(): _make_affine(model, gone, sides) for gone in rare}
    trimmed = [_trim(start, rows, most, met) for start in starts.values()]
    ends = [_explain(kept, rows, far, CLEARLY * rounded, rng) for kept, far in filter(None, trimmed)]
    return min(ends, key=lambda end: (len(end[1]), end[0].nonzeros), default=None)


def drop_undecided(model: ReluModel, rows: Sample) -> tuple[ReluModel, np.ndarray]:
    """Return the model without hinges beyond which no more rows lie than they have weights, and those rows."""
    sides = _sides(model, rows)
    rare = torch.minimum(*sides) <= (model.weight != 0).sum(1)
    beyond = [(_most(sides) * (x @ model.weight.T) < 0)[:, rare].any(1) for x, _ in rows.blocks()]
    return _make_affine(model, rare, sides), torch.cat(beyond).nonzero()[:, 0].cpu().numpy()


def _sides(model: ReluModel, rows: Sample) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return how many rows lie on either side of every hinge."""
    above, below = torch.zeros_like(model.orientation), torch.zeros_like(model.orientation)
    for x, _ in rows.blocks():
        z = x @ model.weight.T
        above += (z > 0).sum(0)
        below += (z < 0).sum(0)
    return above, below


def _most(sides: tuple[Tensor, Tensor]) -> Float[Tensor, " k"]:
    """Return 1 for hinges that most rows lie above, else -1."""
    return torch.where(sides[0] >= sides[1], 1.0, -1.0).to(sides[0])


def _make_affine(model: ReluModel, rare: Bool[Tensor, " k"], sides: tuple[Tensor, Tensor]) -> ReluModel:
    """Return the model with the hinges ``rare`` in the affine part, as they are where most rows lie."""
    moved = (model.outputs * (_most(sides) * rare)[:, None]).T @ model.weight / 2
    return replace(model, affine=model.affine + moved).take(~rare)


def _trim(model: ReluModel, rows: Sample, most: int, met: Callable[[Fit], bool]) -> tuple[ReluModel, np.ndarray] | None:
    """Return the model refitted on all but the ``most`` rows that are met least, and those; None if the rest is not."""
    before = float("inf")
    for _ in range(TRIMS):
        squares = residual(model, rows)[:, 0].square()
        far = squares.topk(most).indices.cpu()
        if float(squares[far].sum()) < CONCENTRATED * float(squares.sum()):
            return None
        after = refit(model, rows.without(far.tolist()))
        if met(after):
            return after.model, far.numpy()
        if after.mse > 0.5 * before:
            return None
        model, before = after.model, after.mse
    return None


def _explain(
    model: ReluModel, rows: Sample, far: np.ndarray, level: float, rng: np.random.Generator
) -> tuple[ReluModel, np.ndarray]:
    """Return the model with hinges for the rows ``far`` that differ by more than ``level``, and those still unmet."""
    far = np.sort(far)
    few = rows.rows(far)
    x, low, high = few.tensors(torch.float64)[0].cpu().numpy()[:, :-1], *_extremes(rows.without(far.tolist()))
    r = _gap(model, few)
    left = np.abs(r) > level
    sides = [(i, side) for i in range(x.shape[1]) for side in (1.0, -1.0)]
    moved = True
    while moved and left.any():
        moved = False
        shared = _shared_plane(x[left], r[left], level, rng)
        if shared is not None:
            plane, on_it = shared
            more = _with_hinge(model, plane, r[left][on_it])
            after = _gap(more, few)
            moved = (np.abs(after) > level).sum() < left.sum()
            if moved:
                model, r, left = more, after, np.abs(after) > level
        for i, side in sides:
            value = side * x[:, i]
            end = max(side * (high if side > 0 else low)[i], value[~left].max(initial=-np.inf))
            beyond = np.flatnonzero(left & (value > end))
            line = _line(value[beyond], r[beyond], level)
            if line is not None:
                plane = np.zeros(x.shape[1] + 1)
                plane[i], plane[-1] = side * line[0], line[1]
                model, moved = _with_hinge(model, plane, r[beyond]), True
                r = _gap(model, few)
                left = np.abs(r) > level
    several = _plane(x[left], r[left], level)
    if several is not None:
        model = _with_hinge(model, several, r[left])
        left = np.abs(_gap(model, few)) > level
    return model, far[left]


def _gap(model: ReluModel, few: Sample) -> np.ndarray:
    return residual(model, few)[:, 0].cpu().numpy()


def _extremes(rows: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Find the least and largest value of every input."""
    low, high = np.full(rows.inputs - 1, np.inf), np.full(rows.inputs - 1, -np.inf)
    for block, _ in rows.blocks():
        x = block[:, :-1].cpu().numpy()
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
    return low, high


def _line(value: np.ndarray, r: np.ndarray, level: float) -> tuple[float, float] | None:
    """Fit a line (weight, constant) to most of the largest values and their ``r``; it meets 0 before the others."""
    order = np.argsort(-value)
    for count in range(len(order), FEWEST - 1, -1):
        v, goal = value[order[:count]], r[order[:count]]
        spread = v - v.mean()
        if not spread.any():
            continue  # equal values decide no line
        weight = float(spread @ goal / (spread @ spread))
        constant = float(goal.mean()) - weight * float(v.mean())
        before = value[order[count]] if count < len(order) else -np.inf
        if _exact(weight * v + constant, goal, level) and weight and before <= -constant / weight <= v[-1]:
            return weight, constant
    return None


def _plane(x: np.ndarray, r: np.ndarray, level: float) -> np.ndarray | None:
    """Fit weights and constant (d + 1,) of the plane through all rows, of few inputs: orthogonal matching pursuit."""
    chosen: list[int] = []
    while len(r) >= FEWEST * (len(chosen) + 2):
        columns = np.column_stack([x[:, chosen], np.ones(len(x))])
        values = np.linalg.lstsq(columns, r, rcond=None)[0]
        if _exact(columns @ values, r, level):
            plane = np.zeros(x.shape[1] + 1)
            plane[[*chosen, x.shape[1]]] = values
            return plane
        rest, centred = r - columns @ values, x - x.mean(axis=0)
        chosen.append(int(np.abs(rest @ centred / np.linalg.norm(centred, axis=0).clip(1e-300)).argmax()))
    return None


def _shared_plane(
    x: np.ndarray, r: np.ndarray, level: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Find weights and constant (d + 1,) of a plane of one or two inputs, and the rows on it: random sample consensus.

    Fischler & Bolles (1981): q + 2 rows at a time, one more than a plane of q inputs has numbers, choose the inputs;
    rows beyond other hinges do not lie on the plane.
    """
    for inputs in (1, 2):
        enough = inputs + 1 + FEWEST
        for _ in range(DRAWS if len(r) >= enough else 0):
            on_it = rng.choice(len(r), inputs + 2, replace=False)
            chosen = _flattest(x[on_it], r[on_it])
            columns = np.column_stack([x[:, chosen], np.ones(len(r))])
            for slack in (CLEAR, 1.0):
                values = np.linalg.lstsq(columns[on_it], r[on_it], rcond=None)[0]
                on_it = np.flatnonzero(np.abs(columns @ values - r) <= slack * level)
            if len(on_it) >= enough:
                plane = np.zeros(x.shape[1] + 1)
                plane[[*chosen, -1]] = values
                return plane, on_it
    return None


def _flattest(x: np.ndarray, r: np.ndarray) -> list[int]:
    """Choose the inputs an affine function of which comes closest to ``r``: one on three rows, two on four."""
    x, r = x[1:] - x[0], r[1:] - r[0]
    if len(r) == 2:
        off = np.abs(x[0] * r[1] - x[1] * r[0]) / np.linalg.norm(x, axis=0).clip(1e-300)
        return [int(off.argmin())]
    # The distance of r from the plane of two columns a, b in three dimensions: |a . (r x b)| / |a x b|.
    turned = np.array([[0.0, -r[2], r[1]], [r[2], 0.0, -r[0]], [-r[1], r[0], 0.0]])
    inner = x.T @ x
    area = np.outer(inner.diagonal(), inner.diagonal()) - inner**2
    off = (x.T @ turned @ x) ** 2 / area.clip(1e-12 * max(area.max(), 1e-300))
    off[np.tril_indices(len(off))] = np.inf
    return [int(i) for i in np.unravel_index(off.argmin(), off.shape)]


def _exact(found: np.ndarray, goal: np.ndarray, level: float) -> bool:
    return bool(np.abs(found - goal).max() <= level and np.abs(goal).max() > CLEAR * level)


def _with_hinge(model: ReluModel, plane: np.ndarray, r: np.ndarray) -> ReluModel:
    """Return the model with v (z)_+ = v (|z| + z) / 2 added, v z the ``plane`` and v the sign of what it explains."""
    z = torch.as_tensor(plane).to(model.affine)
    more = model.with_hinges(z[None], z.new_full((1, 1), np.sign(r.sum())))
    return replace(more, affine=more.affine + z / 2)
