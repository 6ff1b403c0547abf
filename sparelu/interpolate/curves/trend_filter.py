"""min_theta 1/2 sum_i w_i (theta_i - y_i)^2 + strength sum |slope changes of theta|, exactly, by an active
set.

theta are the values at sorted x of the least-squares function with penalised total variation of the slope:
piecewise linear with knots at data points. With knots A and signs s given, theta = B z for the values z at
the ends and at A, where B interpolates linearly, and z solves one tridiagonal system. The multiplier

    u_i = sum_{j<i} w_j (y_j - theta_j) (x_i - x_j)

is the double sum of the residuals; theta is optimal when |u| <= strength everywhere and u = strength s_i at
the knots. Knots enter where |u| is too large, and leave where their slope change turns against its sign, each
time with descent, so that the method ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparelu.interpolate.curves.hat_basis import Hats, Series


@dataclass(frozen=True, eq=False)
class Denoised:
    """Hold values ``theta`` (n,) with slope changes ``changes`` (K,) at the data points number ``knots`` (K,), and
    their ``gap``.

    ``gap`` is the difference of primal and dual objective, relative to the primal: a proof of how near the
    optimum is.
    """

    theta: np.ndarray
    knots: np.ndarray
    changes: np.ndarray
    gap: float


def largest_strength(series: Series) -> float:
    """Return the least strength at which the least-squares line is optimal."""
    none = np.empty(0, dtype=np.int64)
    theta, _ = _fit(series, none, np.empty(0), 0.0)
    return float(np.abs(_multiplier(series, theta, none, np.empty(0))).max())


def denoise(series: Series, strength: float, start: Denoised | None = None, *, most_rounds: int = 2000) -> Denoised:
    """Return the exact minimiser for ``strength`` > 0. ``start`` is a solution at another strength, whose knots are
    tried first.

    Raises ``RuntimeError`` when the active set does not settle, which only rounding can cause.
    """
    knots = np.empty(0, dtype=np.int64) if start is None else start.knots
    now = np.empty(0) if start is None else start.changes
    signs, settled, single = np.sign(now), knots[:0] - 1, False
    for _ in range(most_rounds):
        theta, changes = _fit(series, knots, signs, strength)
        if (changes * signs < 0).any():
            now = _towards(now, changes)
            keep = now * signs > 0
            knots, signs, now = knots[keep], signs[keep], now[keep]
            continue
        u = _multiplier(series, theta, knots, strength * signs)
        single = np.array_equal(knots, settled)
        entering = _peaks(u, knots, strength, single)
        if entering.size == 0:
            return Denoised(theta, knots, changes, _gap(series, theta, changes, u, strength))
        settled = knots
        order = np.argsort(np.concatenate([knots, entering]))
        knots = np.concatenate([knots, entering])[order]
        signs = np.concatenate([signs, np.sign(u[entering])])[order]
        now = np.concatenate([changes, np.zeros(entering.size)])[order]
    raise RuntimeError(f"the active set did not settle in {most_rounds} rounds: scale x and y to unit size")


def denoise_path(series: Series, strengths: np.ndarray) -> Iterator[Denoised]:
    """Return the minimisers at ``strengths``, best from the largest down, each started from the one before."""
    solution: Denoised | None = None
    for strength in strengths:
        solution = denoise(series, float(strength), solution)
        yield solution


def _towards(now: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """Go from the changes ``now`` to the first sign change on the way to ``aim``: these become zero."""
    turning = (now != 0) & (now * aim < 0)
    time = np.full(now.size, np.inf)
    time[turning] = now[turning] / (now[turning] - aim[turning])
    step = min(1.0, float(time.min(initial=np.inf)))
    # A knot that has just entered with the wrong sign leaves before any step is made.
    if ((now == 0) & (aim != 0)).any():
        step = min(step, 1.0)
    moved = now + step * (aim - now)
    moved[time == step] = 0.0
    return moved


def _fit(series: Series, knots: np.ndarray, signs: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (n,) and slope changes (K,) of the minimiser with these knots and signs of slope changes."""
    nodes = np.concatenate([[0], knots, [series.x.size - 1]])
    hats = Hats.at(series, series.x[nodes])
    force = strength * np.diff(np.concatenate([[0.0], signs, [0.0]])) / hats.width
    z = hats.solver()(hats.adjoint(series.y) - np.append(force, 0.0) + np.insert(force, 0, 0.0))
    return hats.apply(z), np.diff(np.diff(z) / hats.width)


def _multiplier(series: Series, theta: np.ndarray, knots: np.ndarray, at_knots: np.ndarray) -> np.ndarray:
    """Compute u (n,), with the drift of its sums taken out: it is known at the ends (zero) and at the knots."""
    flow = np.cumsum(series.w * (series.y - theta))[:-1]
    u = np.concatenate([[0.0], np.cumsum(flow * np.diff(series.x))])
    nodes = np.concatenate([[0], knots, [u.size - 1]])
    drift = u[nodes] - np.concatenate([[0.0], at_knots, [0.0]])
    return u - np.interp(series.x, series.x[nodes], drift)


def _peaks(u: np.ndarray, knots: np.ndarray, strength: float, single: bool, *, entry: float = 1e-9) -> np.ndarray:
    """Find where |u| exceeds the strength most: one place between any two knots, or one altogether.

    ``entry``: relative excess of |u| over the strength at which a knot enters.
    """
    excess = np.abs(u) - strength * (1 + entry)
    excess[knots] = -1.0
    excess[[0, -1]] = -1.0
    if single:
        best = int(excess.argmax())
        return np.array([best] if excess[best] > 0 else [], dtype=np.int64)
    starts = np.concatenate([[0], knots])
    top = np.maximum.reduceat(excess, starts)
    piece = np.searchsorted(starts, np.arange(u.size), side="right") - 1
    places = np.flatnonzero((excess == top[piece]) & (excess > 0))
    return places[np.unique(piece[places], return_index=True)[1]]


def _gap(series: Series, theta: np.ndarray, changes: np.ndarray, u: np.ndarray, strength: float) -> float:
    """Return the relative duality gap: the residuals, scaled until |u| <= strength, are a dual point."""
    residual = series.y - theta
    square = float((series.w * residual**2).sum())
    primal = square / 2 + strength * float(np.abs(changes).sum())
    scale = min(1.0, strength / max(float(np.abs(u).max()), 1e-300))
    dual = scale * float((series.w * residual * series.y).sum()) - scale**2 * square / 2
    return abs(primal - dual) / max(primal, 1e-300)
