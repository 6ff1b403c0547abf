"""Least-squares curves with given numbers of knots: knots removed one by one, and moved to where the error is
least.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError

from sparelu.interpolate.curves.hat_basis import Hats, Series
from sparelu.networks.network import Layer, Network


@dataclass(frozen=True, eq=False)
class LinearSpline:
    """Hold left + slope (x - x0) + sum changes (x - knots)_+ with ``knots`` (K,) increasing and ``changes`` (K,)."""

    x0: float
    left: float
    slope: float
    knots: np.ndarray
    changes: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the values at x (n,)."""
        nodes = np.concatenate([[self.x0], self.knots])
        slopes = self.slope + np.concatenate([[0.0], np.cumsum(self.changes)])
        heights = self.left + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(nodes))])
        piece = np.searchsorted(self.knots, x, side="right")
        return heights[piece] + slopes[piece] * (x - nodes[piece])

    def error(self, series: Series) -> float:
        """Return the weighted sum of squares."""
        return float((series.w * (self(series.x) - series.y) ** 2).sum())

    def network(self) -> Network:
        """Build one neuron for each knot, and the line left of all knots as the affine part."""
        k, size = self.knots.size, np.abs(self.changes)
        each, zero = np.arange(k), np.zeros(k, dtype=int)
        hidden = Layer.from_triplets((k, 1), each, zero, size, -size * self.knots)
        signs = Layer.from_triplets((1, k), zero, each, np.sign(self.changes))
        skip = Layer.from_dense(np.array([[self.slope]]), np.array([self.left - self.slope * self.x0]))
        return Network((hidden, signs), skip)


def refit_spline(series: Series, given: LinearSpline) -> LinearSpline:
    """Refit by least squares on the knots of ``given``; ``given`` itself where they leave some value free."""
    hats = _hats(series, given)
    try:
        z = hats.least_squares()
    except LinAlgError:
        return given
    slopes = np.diff(z) / hats.width
    return LinearSpline(given.x0, float(z[0]), float(slopes[0]), given.knots, np.diff(slopes))


def _hats(series: Series, given: LinearSpline) -> Hats:
    return Hats.at(series, np.concatenate([[given.x0], given.knots, [series.x[-1]]]))


def remove_knots(series: Series, given: LinearSpline, allowed: int) -> LinearSpline:
    """Reduce to at most ``allowed`` knots: each time the one goes whose absence costs least, and the rest is
    refitted.
    """
    while given.knots.size > allowed:
        least = int(_costs(series, given).argmin())
        knots, changes = np.delete(given.knots, least), np.delete(given.changes, least)
        given = refit_spline(series, LinearSpline(given.x0, given.left, given.slope, knots, changes))
    return given


def _costs(series: Series, given: LinearSpline) -> np.ndarray:
    """Return the rise (K,) of the error of a refitted curve without each knot.

    Under the constraint a' z = 0 on the heights, a the second difference at the knot, least squares rise by (a' z)^2
    / (a' G^-1 a) with the Gram matrix G, and a' z is the slope change. Where G is singular: the size of the change.
    """
    hats = _hats(series, given)
    try:
        solve = hats.solver()
    except LinAlgError:
        return np.abs(given.changes)
    k = np.arange(given.knots.size)
    second = np.zeros((hats.nodes.size, k.size))
    second[k, k], second[k + 2, k] = 1 / hats.width[:-1], 1 / hats.width[1:]
    second[k + 1, k] = -second[k, k] - second[k + 2, k]
    return np.asarray(given.changes**2 / np.einsum("mk,mk->k", second, solve(second)))


def move_knots(series: Series, given: LinearSpline, *, moves: int = 30) -> LinearSpline:
    """Move the knots by Gauss-Newton on knots and values together, a step halved until the error falls and the
    order holds.

    ``moves``: Gauss-Newton steps on the places of the knots.
    """
    best = given
    for _ in range(moves if given.knots.size else 0):
        step = _step(series, best)
        before = best.error(series)
        for halving in range(8):
            knots = best.knots + step / 2**halving
            inside = np.all(np.diff(knots) > 0) and series.x[0] < knots[0] and knots[-1] < series.x[-1]
            tried = (
                refit_spline(series, LinearSpline(best.x0, best.left, best.slope, knots, best.changes))
                if inside
                else best
            )
            if tried.error(series) < before:
                best = tried
                break
        if best.error(series) > (1 - 1e-9) * before:
            break
    return best


def _step(series: Series, given: LinearSpline) -> np.ndarray:
    """Return the Gauss-Newton step (K,) of the knots.

    Heights and places of the knots together span all lines in every piece, each by itself: a knot of height z that
    moves by h changes its left piece by z - s h there, its right piece by z - s' h, with the slopes s and s'. So
    lines are fitted to the residual in each piece, and their gap at a knot over the slope change is the step.
    """
    ends = _hats(series, given).lines(series.y - given(series.x))
    return np.asarray((ends[:-1, 1] - ends[1:, 0]) / given.changes)
