"""Least-squares curves with given numbers of knots: knots removed one by one, and moved to where the error is
least.
"""

from dataclasses import dataclass

import numpy as np

from sparelu.interpolate.trend import Series
from sparelu.network import Layer, Network

MOVES = 30
"""Gauss-Newton steps on the places of the knots."""


@dataclass(frozen=True, eq=False)
class Curve:
    """left + slope (x - x0) + sum changes (x - knots)_+ with ``knots`` (K,) increasing and ``changes`` (K,)."""

    x0: float
    left: float
    slope: float
    knots: np.ndarray
    changes: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values at x (n,)."""
        nodes = np.concatenate([[self.x0], self.knots])
        slopes = self.slope + np.concatenate([[0.0], np.cumsum(self.changes)])
        heights = self.left + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(nodes))])
        piece = np.searchsorted(self.knots, x, side="right")
        return heights[piece] + slopes[piece] * (x - nodes[piece])

    def error(self, series: Series) -> float:
        """Weighted sum of squares."""
        return float((series.w * (self(series.x) - series.y) ** 2).sum())

    def network(self) -> Network:
        """One neuron for each knot, and the line left of all knots as the affine part."""
        k, size = self.knots.size, np.abs(self.changes)
        each, zero = np.arange(k), np.zeros(k, dtype=int)
        hidden = Layer.from_triplets((k, 1), each, zero, size, -size * self.knots)
        signs = Layer.from_triplets((1, k), zero, each, np.sign(self.changes))
        skip = Layer.from_dense(np.array([[self.slope]]), np.array([self.left - self.slope * self.x0]))
        return Network((hidden, signs), skip)


def refitted(series: Series, given: Curve) -> Curve:
    """Least squares on the knots of ``given``; ``given`` itself where they leave some value free."""
    nodes = np.concatenate([[given.x0], given.knots, [max(series.x[-1], given.knots.max(initial=-np.inf))]])
    hats = _hats(series, nodes)
    root = np.sqrt(series.w)
    z, _, rank, _ = np.linalg.lstsq(hats * root[:, None], series.y * root, rcond=None)
    if rank < nodes.size:
        return given
    slopes = np.diff(z) / np.diff(nodes)
    return Curve(given.x0, float(z[0]), float(slopes[0]), given.knots, np.diff(slopes))


def _hats(series: Series, nodes: np.ndarray) -> np.ndarray:
    piece = np.clip(np.searchsorted(nodes, series.x, side="right") - 1, 0, nodes.size - 2)
    t = (series.x - nodes[piece]) / (nodes[piece + 1] - nodes[piece])
    hats = np.zeros((series.x.size, nodes.size))
    rows = np.arange(series.x.size)
    hats[rows, piece], hats[rows, piece + 1] = 1 - t, t
    return hats


def fewer(series: Series, given: Curve, allowed: int) -> Curve:
    """At most ``allowed`` knots: each time the one goes whose absence costs least after a refit."""
    while given.knots.size > allowed:
        without = [
            refitted(
                series, Curve(given.x0, given.left, given.slope, np.delete(given.knots, k), np.delete(given.changes, k))
            )
            for k in range(given.knots.size)
        ]
        given = min(without, key=lambda c: c.error(series))
    return given


def moved(series: Series, given: Curve) -> Curve:
    """Knots moved by Gauss-Newton on knots and values together, a step halved until the error falls and the
    order holds.
    """
    best = given
    for _ in range(MOVES if given.knots.size else 0):
        step = _step(series, best)
        before = best.error(series)
        for halving in range(8):
            knots = best.knots + step / 2**halving
            inside = np.all(np.diff(knots) > 0) and series.x[0] < knots[0] and knots[-1] < series.x[-1]
            tried = refitted(series, Curve(best.x0, best.left, best.slope, knots, best.changes)) if inside else best
            if tried.error(series) < before:
                best = tried
                break
        if best.error(series) > (1 - 1e-9) * before:
            break
    return best


def _step(series: Series, given: Curve) -> np.ndarray:
    right = series.x[:, None] > given.knots
    columns = np.hstack(
        [
            np.ones((series.x.size, 1)),
            (series.x - given.x0)[:, None],
            np.maximum(series.x[:, None] - given.knots, 0),
            -given.changes * right,
        ]
    )
    root = np.sqrt(series.w)
    residual = (series.y - given(series.x)) * root
    return np.asarray(np.linalg.lstsq(columns * root[:, None], residual, rcond=None)[0][-given.knots.size :])
