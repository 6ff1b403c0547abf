"""Kinks that few rows lie beyond: what is left when all other rows are met to rounding.

Such a kink is affine on almost all rows, so nothing asks for it before the rest is exact, and then a few rows have
all of the error: a search that goes on explains them by hundreds of wrong weights. They are set aside instead and the
rest is fitted, as in least trimmed squares (Rousseeuw 1984). What is missing at rows that lie beyond a value of one
input is a kink on it, if it is an exact line in that input on at least three of them; and what is missing at the others
is a kink on several inputs, if it is an exact plane in a few. Fewer rows do not decide a kink, and stay aside.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.kinks import Kinks, Sample, residual
from sparelu.recover.normal import Support
from sparelu.recover.refit import Fit, refit

MOST, SHARE = 300, 0.01
"""Rows that may be set aside, and as a share of all."""
CONCENTRATED = 0.3
"""Share of the squared error that those rows have at least; of Gaussian noise one row in a hundred has 0.08."""
TRIMS = 5
"""Refits of the rows that are left, each of which shows more clearly which rows are not met."""
CLEARLY = 30.0
"""Roundings of the labels that a row which is not met is at least away."""
CLEAR = 100.0
"""How many times as far the furthest row of a kink must be."""
FEWEST = 3
"""Rows that show a line: its two numbers, and one that they must meet."""


def but_for_few(fit: Fit, rows: Sample, met: Callable[[Fit], bool], rounded: float) -> tuple[Kinks, np.ndarray] | None:
    """The kinks refitted and joined by those beyond which few rows lie, and the rows that are still not met.

    None unless ``met`` says that a fit of all but a few rows is exact. ``rounded`` is the standard deviation of the
    rounding of the labels. Kinks that the fit has already beyond few rows are sought anew, and kept where that leaves
    fewer rows unmet.
    """
    most = min(MOST, int(SHARE * rows.n))
    starts = [fit.kinks, _without_rare(fit.kinks, rows, most)] if most else []
    trimmed = [_trimmed(kinks, rows, most, met) for kinks in starts if kinks is not None]
    ends = [_explained(kinks, rows, far, CLEARLY * rounded) for kinks, far in filter(None, trimmed)]
    return min(ends, key=lambda end: (len(end[1]), end[0].nonzeros), default=None)


def undecided(kinks: Kinks, rows: Sample) -> tuple[Kinks, np.ndarray]:
    """Without kinks beyond which no more rows lie than they have weights, and those rows."""
    above, below = _sides(kinks, rows)
    rare = torch.minimum(above, below) <= (kinks.weight != 0).sum(1)
    side = torch.where(above >= below, 1.0, -1.0)
    beyond = [(side * (x @ kinks.weight.T) < 0)[:, rare].any(1) for x, _ in rows.blocks()]
    return _made_affine(kinks, rare, side), torch.cat(beyond).nonzero()[:, 0].cpu().numpy()


def _without_rare(kinks: Kinks, rows: Sample, most: int) -> Kinks | None:
    """Without kinks beyond which at most ``most`` rows lie; None where there are none."""
    above, below = _sides(kinks, rows)
    rare = torch.minimum(above, below) <= most
    return _made_affine(kinks, rare, torch.where(above >= below, 1.0, -1.0)) if bool(rare.any()) else None


def _sides(kinks: Kinks, rows: Sample) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """How many rows lie on either side of every kink."""
    above, below = torch.zeros_like(kinks.sign), torch.zeros_like(kinks.sign)
    for x, _ in rows.blocks():
        z = x @ kinks.weight.T
        above += (z > 0).sum(0)
        below += (z < 0).sum(0)
    return above, below


def _made_affine(kinks: Kinks, rare: Bool[Tensor, " k"], side: Float[Tensor, " k"]) -> Kinks:
    """With the kinks ``rare`` in the affine part, as they are on their ``side``."""
    moved = (kinks.sign * side * rare) @ kinks.weight / 2
    return kinks.moved(torch.zeros_like(kinks.weight), moved).take(~rare)


def _trimmed(kinks: Kinks, rows: Sample, most: int, met: Callable[[Fit], bool]) -> tuple[Kinks, np.ndarray] | None:
    """Refitted on all but the ``most`` rows that are met least, and those rows; None where the others are not met."""
    before = float("inf")
    for _ in range(TRIMS):
        squares = residual(kinks, rows).square()
        far = squares.topk(most).indices.cpu()
        if float(squares[far].sum()) < CONCENTRATED * float(squares.sum()):
            return None
        after = refit(kinks, Support.of(kinks.weight != 0), rows.without(far.tolist()))
        if met(after):
            return after.kinks, far.numpy()
        if after.mse > 0.5 * before:
            return None
        kinks, before = after.kinks, after.mse
    return None


def _explained(kinks: Kinks, rows: Sample, far: np.ndarray, level: float) -> tuple[Kinks, np.ndarray]:
    """The rows ``far`` that differ by more than ``level``, explained by further kinks as far as they can be."""
    far = np.sort(far)
    few = rows.rows(far)
    x, low, high = few.tensors(torch.float64)[0].cpu().numpy()[:, :-1], *_extremes(rows.without(far.tolist()))
    r = _gap(kinks, few)
    left = np.abs(r) > level
    sides = [(i, side) for i in range(x.shape[1]) for side in (1.0, -1.0)]
    moved = True
    while moved and left.any():
        moved = False
        for i, side in sides:
            value = side * x[:, i]
            end = max(side * (high if side > 0 else low)[i], value[~left].max(initial=-np.inf))
            beyond = np.flatnonzero(left & (value > end))
            line = _line(value[beyond], r[beyond], level)
            if line is not None:
                plane = np.zeros(x.shape[1] + 1)
                plane[i], plane[-1] = side * line[0], line[1]
                kinks, moved = _with_hinge(kinks, plane, r[beyond]), True
                r = _gap(kinks, few)
                left = np.abs(r) > level
    several = _plane(x[left], r[left], level)
    if several is not None:
        kinks = _with_hinge(kinks, several, r[left])
        left = np.abs(_gap(kinks, few)) > level
    return kinks, far[left]


def _gap(kinks: Kinks, few: Sample) -> np.ndarray:
    return residual(kinks, few).cpu().numpy()


def _extremes(rows: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value of every input."""
    low, high = np.full(rows.inputs - 1, np.inf), np.full(rows.inputs - 1, -np.inf)
    for block, _ in rows.blocks():
        x = block[:, :-1].cpu().numpy()
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
    return low, high


def _line(value: np.ndarray, r: np.ndarray, level: float) -> tuple[float, float] | None:
    """Weight and constant of the line that gives most of the largest values their ``r``, and is 0 before the others."""
    order = np.argsort(-value)
    for count in range(len(order), FEWEST - 1, -1):
        v, goal = value[order[:count]], r[order[:count]]
        weight, constant = np.polyfit(v, goal, 1)
        before = value[order[count]] if count < len(order) else -np.inf
        if _exact(weight * v + constant, goal, level) and before <= -constant / weight <= v[-1]:
            return float(weight), float(constant)
    return None


def _plane(x: np.ndarray, r: np.ndarray, level: float) -> np.ndarray | None:
    """Weights and constant (d + 1,) of the plane through all rows, of few inputs: orthogonal matching pursuit."""
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


def _exact(found: np.ndarray, goal: np.ndarray, level: float) -> bool:
    return bool(np.abs(found - goal).max() <= level and np.abs(goal).max() > CLEAR * level)


def _with_hinge(kinks: Kinks, plane: np.ndarray, r: np.ndarray) -> Kinks:
    """With v (z)_+ = v (|z| + z) / 2 added, v z the ``plane`` (d + 1,) and v the sign of the ``r`` that it explains."""
    z = torch.as_tensor(plane).to(kinks.affine)
    more = kinks.with_kinks(z.new_full((1,), np.sign(r.sum())), z[None])
    return more.moved(torch.zeros_like(more.weight), z / 2)
