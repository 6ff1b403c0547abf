"""How far apart two ReLU networks of one shape are on a set of inputs: linear bounds of both, propagated together.

F is the reference (W, b), f the other network (P, c); z are pre-activations of f, h = (z)_+, and d = z_F - z. With
d^+ = (z + d)_+ - (z)_+, every layer obeys
    d_l = W_l d^+_{l-1} + (W_l - P_l) h_{l-1} + (b_l - c_l),    z_l = P_l h_{l-1} + c_l,
and, since the ReLU is monotone and 1-Lipschitz, min(d, 0) <= d^+ <= max(d, 0), with d^+ = d where both units are
active and d^+ = 0 where both are silent. Bounds are found by substituting these lines backwards to the input.
"""

from dataclasses import dataclass

import numpy as np
import torch

from sparelu.certify.averaged import bound_difference
from sparelu.networks.network import Layer, Network

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Hold the points x with low <= x <= high and |x| <= radius; low and high (d,), radius may be infinite.

    With ``rows`` (n, d): only mixtures of these rows, their convex hull.
    """

    low: np.ndarray
    high: np.ndarray
    radius: float = np.inf
    rows: np.ndarray | None = None

    @classmethod
    def hull(cls, rows: np.ndarray) -> "Inputs":
        """Return the mixtures of the rows (n, d)."""
        longest = float(np.linalg.norm(rows, axis=1).max()) * (1 + EPSILON * rows.shape[1])
        return cls(rows.min(axis=0), rows.max(axis=0), longest, rows)

    @property
    def norm(self) -> float:
        """Return an upper bound of |x|."""
        return min(self.radius, float(np.linalg.norm(np.maximum(np.abs(self.low), np.abs(self.high)))))

    def highest(self, linear: np.ndarray) -> np.ndarray:
        """Return the upper bound of ``linear x`` for every row of ``linear`` (k, d); a mixture is below its largest
        row.
        """
        if self.rows is not None:
            return np.asarray((linear @ self.rows.T).max(axis=1))
        box = np.maximum(linear, 0) @ self.high + np.minimum(linear, 0) @ self.low
        return np.minimum(box, self.norm * np.linalg.norm(linear, axis=1))


@dataclass(frozen=True, eq=False)
class LayerPair:
    """Hold dense weights of one layer of both networks and their difference: w (o, i), b (o,), p, c, dw, db."""

    w: np.ndarray
    b: np.ndarray
    p: np.ndarray
    c: np.ndarray

    @property
    def dw(self) -> np.ndarray:
        """Return W - P."""
        return self.w - self.p

    @property
    def db(self) -> np.ndarray:
        """Return b - c."""
        return self.b - self.c


@dataclass(frozen=True, eq=False)
class Lines:
    """Hold for every unit the lower and upper line of d^+ in d, and of h in z, as slopes and offsets (4 pairs of
    (m,)).
    """

    d_low: tuple[np.ndarray, np.ndarray]
    d_high: tuple[np.ndarray, np.ndarray]
    h_low: tuple[np.ndarray, np.ndarray]
    h_high: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Gap:
    """Hold bounds of F(x) - f(x): low <= F - f <= high by output (k,), and |F - f|_2 <= ``norm``."""

    low: np.ndarray
    high: np.ndarray
    norm: float

    @property
    def largest(self) -> float:
        """Return the upper bound of max_k |F_k - f_k|."""
        return min(self.norm, float(np.maximum(-self.low, self.high).max(initial=0.0)))


def pair_layers(reference: Network, network: Network) -> list[LayerPair]:
    """Return the layers of both networks side by side, in float64.

    Raises ``ValueError`` when the networks differ in a width.
    """
    shapes = [tuple(layer.shape for layer in net.layers) for net in (reference, network)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"layers of shapes {shapes[0]} and {shapes[1]} cannot be paired: give networks of the same widths "
            "(before neurons are removed)"
        )
    both = zip(reference.layers, network.layers, strict=True)
    return [LayerPair(*_dense(one), *_dense(two)) for one, two in both]


def _dense(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    exact = layer.to(torch.float64, "cpu")
    return exact.dense().numpy(), exact.dense_bias().numpy()


def product_of_norms(reference: Network, network: Network, inputs: Inputs) -> float:
    """Return the upper bound of |F - f|_2 on ``inputs`` from operator norms alone (Qian and Klabjan 2021, with biases).

    e_l = |W_l| e_{l-1} + |W_l - P_l| h_{l-1} + |b_l - c_l| and h_l = |P_l| h_{l-1} + |c_l|; without biases this is
    sum_l (prod_{k>l} |W_k|) |W_l - P_l| (prod_{k<l} |P_k|) sup|x|.
    """
    error, size = 0.0, inputs.norm
    for s in pair_layers(reference, network):
        error = _norm(s.w) * error + _norm(s.dw) * size + float(np.linalg.norm(s.db))
        size = _norm(s.p) * size + float(np.linalg.norm(s.c))
    skip_w, skip_b = _skip_difference(reference, network)
    return error + _norm(skip_w) * inputs.norm + float(np.linalg.norm(skip_b)) + _rounding(reference, network, inputs)


def bound_gap(reference: Network, network: Network, inputs: Inputs) -> Gap:
    """Return the bounds of the difference of both networks on ``inputs``; never above :func:`product_of_norms`.

    Backward linear bounds of differences and activations, intersected at every layer with interval bounds and with
    the recursion of norms on what is already known. Work: for each of L layers a pass through those below it.

    Raises ``ValueError`` when the networks differ in a width.
    """
    steps, lines = pair_layers(reference, network), list[Lines]()
    below = _Known(inputs.low, inputs.high, np.zeros_like(inputs.low), np.zeros_like(inputs.low), inputs.norm, 0.0)
    skip_w, skip_b = _skip_difference(reference, network)
    for i, s in enumerate(steps):
        last = i == len(steps) - 1
        extra = (skip_w, skip_b) if last else (np.zeros((len(s.b), len(inputs.low))), np.zeros(len(s.b)))
        d_low, d_high = _backwards(steps, lines, s.w, s.dw, extra[0], s.db + extra[1], inputs)
        if last:
            rows, length = bound_difference([(t.w, t.b) for t in steps], [(t.p, t.c) for t in steps], inputs.norm)
            d = _intersect((d_low, d_high), _around(extra, rows, inputs))
            return _final(s, below, extra, d, length, inputs, _rounding(reference, network, inputs))
        z_low, z_high = _backwards(steps, lines, np.zeros_like(s.w), s.p, extra[0], s.c, inputs)
        below, line = _after(s, below, (z_low, z_high), (d_low, d_high))
        lines.append(line)
    raise AssertionError("a network has a last layer")


@dataclass(frozen=True, eq=False)
class _Known:
    """Hold what is known of the inputs of a layer: intervals of h and of d^+, each (m,), and bounds of their norms."""

    h_low: np.ndarray
    h_high: np.ndarray
    d_low: np.ndarray
    d_high: np.ndarray
    h_norm: float
    d_norm: float


def _backwards(
    steps: list[LayerPair],
    lines: list[Lines],
    on_d: np.ndarray,
    on_h: np.ndarray,
    on_x: np.ndarray,
    constant: np.ndarray,
    inputs: Inputs,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of ``on_d d^+ + on_h h + on_x x + constant`` at the layer above ``lines``: rows (k,) low,
    high.
    """
    d, h = np.concatenate([on_d, -on_d]), np.concatenate([on_h, -on_h])
    total = np.concatenate([constant, -constant])
    for s, line in zip(reversed(steps[: len(lines)]), reversed(lines), strict=True):
        d, moved = _substituted(d, line.d_low, line.d_high)
        h, moved_h = _substituted(h, line.h_low, line.h_high)
        total = total + moved + moved_h + d @ s.db + h @ s.c
        d, h = d @ s.w, d @ s.dw + h @ s.p
    bound = total + inputs.highest(h + np.concatenate([on_x, -on_x]))
    k = len(constant)
    return -bound[k:], bound[:k]


def _substituted(
    coefficient: np.ndarray, low: tuple[np.ndarray, np.ndarray], high: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper bound of ``coefficient y`` for low line <= y <= high line: new coefficients, and the
    constant.
    """
    up, down = np.maximum(coefficient, 0), np.minimum(coefficient, 0)
    return up * high[0] + down * low[0], up @ high[1] + down @ low[1]


def _after(
    s: LayerPair, below: _Known, z: tuple[np.ndarray, np.ndarray], d: tuple[np.ndarray, np.ndarray]
) -> tuple[_Known, Lines]:
    """Intersect backward bounds with intervals and norms; return what is known of the next layer's inputs, and its
    lines.
    """
    z_low, z_high = _intersect(z, _interval(s.p, below.h_low, below.h_high, s.c))
    reach = np.linalg.norm(s.p, axis=1) * below.h_norm
    z_low, z_high = _intersect((z_low, z_high), (s.c - reach, s.c + reach))
    d_low, d_high = _intersect(d, _difference_interval(s, below))
    y_low, y_high = z_low + d_low, z_high + d_high
    h_low, h_high = np.maximum(z_low, 0), np.maximum(z_high, 0)
    both = (z_low >= 0) & (y_low >= 0)
    none = (z_high <= 0) & (y_high <= 0)
    plus_low = np.maximum(np.where(both, d_low, np.minimum(d_low, 0)), np.maximum(y_low, 0) - h_high)
    plus_high = np.minimum(np.where(both, d_high, np.maximum(d_high, 0)), np.maximum(y_high, 0) - h_low)
    plus_low, plus_high = np.where(none, 0.0, plus_low), np.where(none, 0.0, plus_high)
    h_norm = min(_norm(s.p) * below.h_norm + float(np.linalg.norm(s.c)), float(np.linalg.norm(h_high)))
    d_norm = min(_d_norm(s, below), float(np.linalg.norm(np.maximum(-plus_low, plus_high))))
    known = _Known(h_low, h_high, plus_low, plus_high, h_norm, d_norm)
    return known, _lines(z_low, z_high, d_low, d_high, both, none)


def _d_norm(s: LayerPair, below: _Known) -> float:
    """Bound |W d^+ + dW h + db| by norms, the part dW h + db also by intervals."""
    low, high = _interval(s.dw, below.h_low, below.h_high, s.db)
    moved = min(_norm(s.dw) * below.h_norm + float(np.linalg.norm(s.db)), float(np.linalg.norm(np.maximum(-low, high))))
    return _norm(s.w) * below.d_norm + moved


def _difference_interval(s: LayerPair, below: _Known) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of d by unit: intervals, and rows' norms."""
    one = _interval(s.w, below.d_low, below.d_high, s.db)
    two = _interval(s.dw, below.h_low, below.h_high, np.zeros_like(s.db))
    reach = np.linalg.norm(s.w, axis=1) * below.d_norm + np.linalg.norm(s.dw, axis=1) * below.h_norm
    return _intersect((one[0] + two[0], one[1] + two[1]), (s.db - reach, s.db + reach))


def _lines(
    z_low: np.ndarray, z_high: np.ndarray, d_low: np.ndarray, d_high: np.ndarray, both: np.ndarray, none: np.ndarray
) -> Lines:
    """Return the chords: of max(d, 0) above and min(d, 0) below; of the ReLU above, and the nearer of 0 and z below."""
    width = np.where(d_high > d_low, d_high - d_low, 1.0)
    mixed = (d_low < 0) & (d_high > 0)
    up = np.where(both | (d_low >= 0), 1.0, np.where(mixed, d_high / width, 0.0))
    up_at = np.where(mixed & ~both, -d_low * d_high / width, 0.0)
    down = np.where(both | (d_high <= 0), 1.0, np.where(mixed, -d_low / width, 0.0))
    down_at = np.where(mixed & ~both, d_low * d_high / width, 0.0)
    live = ~none
    span = np.where(z_high > z_low, z_high - z_low, 1.0)
    unstable = (z_low < 0) & (z_high > 0)
    rise = np.where(z_low >= 0, 1.0, np.where(unstable, z_high / span, 0.0))
    rise_at = np.where(unstable, -z_low * z_high / span, 0.0)
    floor = np.where(z_low >= 0, 1.0, np.where(unstable & (z_high > -z_low), 1.0, 0.0))
    return Lines(
        (down * live, down_at * live), (up * live, up_at * live), (floor, np.zeros_like(floor)), (rise, rise_at)
    )


def _final(
    s: LayerPair,
    below: _Known,
    extra: tuple[np.ndarray, np.ndarray],
    d: tuple[np.ndarray, np.ndarray],
    length: float,
    inputs: Inputs,
    rounding: float,
) -> Gap:
    low, high = _difference_interval(s, below)
    affine = _interval(extra[0], inputs.low, inputs.high, extra[1])
    low, high = _intersect(d, (low + affine[0], high + affine[1]))
    skip = _norm(extra[0]) * inputs.norm + float(np.linalg.norm(extra[1]))
    norm = min(min(_d_norm(s, below), length) + skip, float(np.linalg.norm(np.maximum(-low, high))))
    return Gap(low - rounding, high + rounding, norm + rounding)


def _around(extra: tuple[np.ndarray, np.ndarray], reach: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval +-reach, moved by the difference of the affine parts."""
    low, high = _interval(extra[0], inputs.low, inputs.high, extra[1])
    return low - reach, high + reach


def _interval(w: np.ndarray, low: np.ndarray, high: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    up, down = np.maximum(w, 0), np.minimum(w, 0)
    return up @ low + down @ high + b, up @ high + down @ low + b


def _intersect(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the common part of two intervals that hold the same number; rounding may leave it empty by a hair."""
    low, high = np.maximum(one[0], two[0]), np.minimum(one[1], two[1])
    return np.minimum(low, high), np.maximum(low, high)


def _norm(w: np.ndarray) -> float:
    """Return the operator norm; zero for a matrix without entries."""
    return float(np.linalg.norm(w, 2)) if w.size else 0.0


def _skip_difference(reference: Network, network: Network) -> tuple[np.ndarray, np.ndarray]:
    k, d = network.outputs, network.inputs
    parts = [(np.zeros((k, d)), np.zeros(k)) if n.skip is None else _dense(n.skip) for n in (reference, network)]
    return parts[0][0] - parts[1][0], parts[0][1] - parts[1][1]


def _rounding(reference: Network, network: Network, inputs: Inputs) -> float:
    """Bound what rounding can add, of these bounds and of evaluating both networks in float64: sums of so many terms
    each.

    Every value is a nest of inner products, of relative error (terms) x epsilon in the product of the norms.
    """
    total = 0.0
    for net in (reference, network):
        size = inputs.norm
        for layer in net.layers:
            w, b = _dense(layer)
            size = float(np.linalg.norm(w)) * size + float(np.linalg.norm(b))
        total += size * EPSILON * sum(sum(layer.shape) for layer in net.layers)
        if net.skip is not None:
            w, b = _dense(net.skip)
            total += EPSILON * net.inputs * (float(np.linalg.norm(w)) * inputs.norm + float(np.linalg.norm(b)))
    return total
