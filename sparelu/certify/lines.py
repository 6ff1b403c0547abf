"""Linear regions along a line, exactly: all knots of a ReLU network of one variable, for any depth.

A network on the line x = o + t e is a network of the one input t (:func:`restrict_to_line`), so that lines and segments
in any dimension need nothing more than knots in one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from sparelu.networks.network import Layer, Network

ROUNDING = 32 * float(np.finfo(np.float64).eps)
"""Rounding of a computed coefficient relative to the sum of its terms' sizes: what is smaller counts as zero."""


class TooManyRegions(ValueError):
    """Say that the exact count was given up at its limit."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Represent a piecewise affine function on (low, high): slopes[p] t + offsets[p] between ``knots[p-1]`` and
    ``knots[p]``.

    knots (K,) increase; slopes and offsets are (K+1, k) for k outputs; neighbouring slopes differ.
    """

    low: float
    high: float
    knots: np.ndarray
    slopes: np.ndarray
    offsets: np.ndarray

    @property
    def regions(self) -> int:
        """Return the number of maximal intervals on which the function is affine."""
        return self.knots.size + 1

    def __call__(self, t: ArrayLike) -> np.ndarray:
        """Return the values (n, k) at the points ``t`` (n,)."""
        at = np.asarray(t, dtype=np.float64)
        piece = np.searchsorted(self.knots, at)
        return self.slopes[piece] * at[:, None] + self.offsets[piece]

    def effective(self, relative: float) -> int:
        """Return the regions that are left when changes of slope below ``relative`` times the largest are
        overlooked.
        """
        change = np.abs(np.diff(self.slopes, axis=0)).max(axis=1, initial=0.0)
        return 1 + int((change >= relative * change.max(initial=0.0)).sum()) if change.size else 1

    def simplest(self, share: float) -> int:
        """Find the fewest affine pieces between knots that stay within ``share`` of the range of the outputs of the
        function.

        Pieces may jump by as much; the interval must be bounded. What stands behind a few knots that have not quite
        met is counted once, which :meth:`effective` does not do. Greedy from the left, which is optimal.

        Raises ``ValueError`` when the interval is unbounded.
        """
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            raise ValueError(f"the interval from {self.low:g} to {self.high:g} is unbounded: give both ends")
        t = np.concatenate([[self.low], self.knots, [self.high]])
        values = np.concatenate([self.slopes[:1] * self.low + self.offsets[:1], self(t[1:])])
        room = share * float((values.max(axis=0) - values.min(axis=0)).max())
        count, start = 0, 0
        while start < t.size - 1:
            near, far = start + 1, t.size
            while far - near > 1:
                middle = (near + far) // 2
                fits = all(_straightness(t[start : middle + 1], y[start : middle + 1]) <= room for y in values.T)
                near, far = (middle, far) if fits else (near, middle)
            count, start = count + 1, near
        return count


def _straightness(t: np.ndarray, y: np.ndarray) -> float:
    """Return the largest error of the best line through points in the order of t: it is parallel to an edge of their
    hull.
    """
    slopes = np.concatenate([_hull_slopes(t, y), _hull_slopes(t, -y) * -1])
    gaps = y - slopes[:, None] * t
    return float(0.5 * (gaps.max(axis=1) - gaps.min(axis=1)).min())


def _hull_slopes(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slopes of the lower convex hull of points in the order of t."""
    kept: list[int] = []
    for i in range(t.size):
        while len(kept) > 1 and (y[kept[-1]] - y[kept[-2]]) * (t[i] - t[kept[-2]]) >= (y[i] - y[kept[-2]]) * (
            t[kept[-1]] - t[kept[-2]]
        ):
            kept.pop()
        kept.append(i)
    return np.diff(y[kept]) / np.diff(t[kept])


def restrict_to_line(network: Network, origin: ArrayLike, direction: ArrayLike) -> Network:
    """Return the network of one input ``t -> network(origin + t direction)``, in float64; origin and direction (d,)."""
    net = network.to(torch.float64, "cpu")
    o, e = (torch.as_tensor(np.asarray(a, dtype=np.float64)) for a in (origin, direction))
    if o.shape != (net.inputs,) or e.shape != (net.inputs,):
        raise ValueError(f"the network reads {net.inputs} inputs: give origin and direction of that length")
    skip = None if net.skip is None else _restricted(net.skip, o, e)
    return Network((_restricted(net.layers[0], o, e), *net.layers[1:]), skip)


def _restricted(layer: Layer, origin: torch.Tensor, direction: torch.Tensor) -> Layer:
    w = layer.to_scipy()
    bias = w @ origin.numpy() + layer.dense_bias().numpy()
    return Layer.from_dense((w @ direction.numpy())[:, None], bias)


def find_pieces(
    network: Network, low: float = -np.inf, high: float = np.inf, limit: int = 10**7, activation: bool = False
) -> Pieces:
    """Return all linear pieces of a network of one input on (low, high).

    Exact up to the rounding of float64: knots that rounding cannot tell apart are one, and a change of slope that
    cancels to rounding is none. One hidden layer costs a sort of its m neurons; deeper ones follow the pieces through
    the layers, with memory (pieces x width). With ``activation`` the intervals of constant activation pattern are
    returned, which may share an affine function.

    Raises ``ValueError`` when the network reads more than one input or the interval is empty, and
    :class:`TooManyRegions` when pieces times width pass ``limit``.
    """
    if network.inputs != 1:
        raise ValueError(f"the network reads {network.inputs} inputs: take it along a line first (`along`)")
    if not low < high:
        raise ValueError(f"the interval from {low:g} to {high:g} is empty")
    net = network.to(torch.float64, "cpu")
    if len(net.layers) == 2 and not activation:
        return _shallow(net, low, high)
    return _deep(net, low, high, limit, activation)


def _affine_skip(net: Network) -> tuple[np.ndarray, np.ndarray]:
    if net.skip is None:
        return np.zeros(net.outputs), np.zeros(net.outputs)
    return net.skip.dense().numpy()[:, 0], net.skip.dense_bias().numpy()


def _shallow(net: Network, low: float, high: float) -> Pieces:
    """Find the pieces of f = sum_j v_j (w_j t + b_j)_+: knots -b_j/w_j, where the slope changes by v_j |w_j|."""
    w, b = net.layers[0].dense().numpy()[:, 0], net.layers[0].dense_bias().numpy()
    v = net.layers[1].dense().numpy().T
    slope, offset = _affine_skip(net)
    kinked = w != 0
    at = np.full(w.shape, np.inf)
    with np.errstate(over="ignore"):
        at[kinked] = -b[kinked] / w[kinked]
    inside = kinked & (at > low) & (at < high)
    active = np.where(kinked, np.where(w > 0, at <= low, at > low), b > 0)  # just right of low
    slope = slope + v[active].T @ w[active]
    offset = offset + v[active].T @ b[active] + net.layers[1].dense_bias().numpy()
    order = np.flatnonzero(inside)[np.argsort(at[inside], kind="stable")]
    t, changes = at[order], v[order] * np.abs(w[order])[:, None]
    starts = np.flatnonzero(np.diff(t, prepend=-np.inf) > ROUNDING * np.abs(t))
    total = np.add.reduceat(changes, starts, axis=0) if t.size else changes
    size = np.add.reduceat(np.abs(changes), starts, axis=0) if t.size else changes
    kept = (np.abs(total) > ROUNDING * size).any(axis=1)
    knots, change = t[starts][kept], total[kept]
    slopes = np.concatenate([slope[None], slope + np.cumsum(change, axis=0)])
    offsets = np.concatenate([offset[None], offset - np.cumsum(change * knots[:, None], axis=0)])
    return Pieces(low, high, knots, slopes, offsets)


@dataclass
class _Affine:
    """Hold coefficients (pieces, units) of slope t + offset, and the sums of their terms' sizes."""

    slope: np.ndarray
    offset: np.ndarray
    slope_size: np.ndarray
    offset_size: np.ndarray

    def through(self, layer: Layer) -> "_Affine":
        w, b = layer.to_scipy(), layer.dense_bias().numpy()
        size = abs(w)
        return _Affine(
            (w @ self.slope.T).T,
            (w @ self.offset.T).T + b,
            (size @ self.slope_size.T).T,
            (size @ self.offset_size.T).T + np.abs(b),
        )

    def masked(self, parent: np.ndarray, on: np.ndarray) -> "_Affine":
        parts = (self.slope, self.offset, self.slope_size, self.offset_size)
        return _Affine(*(p[parent] * on for p in parts))


def _deep(net: Network, low: float, high: float, limit: int, activation: bool) -> Pieces:
    knots = np.empty(0)
    state = _Affine(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
    for layer in net.layers[:-1]:
        state = state.through(layer)
        cuts, parent_of_cut = _crossings(state, np.concatenate([[low], knots]), np.concatenate([knots, [high]]))
        if (knots.size + cuts.size + 1) * layer.shape[0] > limit:
            raise TooManyRegions(
                f"{knots.size + cuts.size + 1} pieces of {layer.shape[0]} units pass the limit of {limit} numbers"
            )
        parent = np.sort(np.concatenate([np.arange(knots.size + 1), parent_of_cut]))
        knots = np.sort(np.concatenate([knots, cuts]))
        middle = _inner_points(knots, low, high)[:, None]
        value = state.slope[parent] * middle + state.offset[parent]
        size = state.slope_size[parent] * np.abs(middle) + state.offset_size[parent]
        state = state.masked(parent, value > ROUNDING * size)
    out = state.through(net.layers[-1])
    slope, offset = _affine_skip(net)
    slopes, offsets = out.slope + slope, out.offset + offset
    if not activation:
        size = out.slope_size + np.abs(slope)
        kept = (np.abs(np.diff(slopes, axis=0)) > ROUNDING * (size[1:] + size[:-1])).any(axis=1)
        knots, first = knots[kept], np.concatenate([[True], kept])
        slopes, offsets = slopes[first], offsets[first]
    return Pieces(low, high, knots, slopes, offsets)


def _crossings(state: _Affine, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the zeros of any unit strictly inside its piece, further from the ends and each other than rounding; their
    pieces.

    A zero t = -c/a of a t + c, both rounded, is known to rounding x (sum of sizes at t) / |a|.
    """
    piece, unit = np.nonzero(np.abs(state.slope) > ROUNDING * state.slope_size)
    a = state.slope[piece, unit]
    t = -state.offset[piece, unit] / a
    unsure = ROUNDING * (state.slope_size[piece, unit] * np.abs(t) + state.offset_size[piece, unit]) / np.abs(a)
    inside = (t - left[piece] > unsure) & (right[piece] - t > unsure)
    piece, t, unsure = piece[inside], t[inside], unsure[inside]
    order = np.lexsort((t, piece))
    piece, t, unsure = piece[order], t[order], unsure[order]
    new = np.ones(t.size, dtype=bool)
    if t.size:
        new[1:] = (np.diff(piece) > 0) | (np.diff(t) > unsure[1:] + unsure[:-1])
    return t[new], piece[new]


def _inner_points(knots: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a point inside every piece."""
    ends = np.concatenate([[low], knots, [high]])
    left, right = ends[:-1].copy(), ends[1:].copy()
    open_left, open_right = np.isinf(left), np.isinf(right)
    left[open_left] = np.where(open_right[open_left], -1.0, right[open_left] - 2 * np.abs(right[open_left]) - 1)
    right[open_right] = left[open_right] + 2 * np.abs(left[open_right]) + 1
    return 0.5 * (left + right)
