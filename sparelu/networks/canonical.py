"""One form for every network of one function: what recovery, equality and counts are taken on.

One hidden layer: neurons of equal direction are merged; an antipodal pair becomes one generator plus an
affine part, since ``(-t)_+ = (t)_+ - t``; neurons whose outgoing weights cancel are gone; a scalar output
has weights +-1 (the product is in the hidden layer), a vector output has hidden rows of unit norm; neurons
stand in the order of their supports. Deeper: the same layer by layer, without the antipodal rule (its
affine part would have no place between hidden layers), and with unit rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparelu.networks.layer import Layer


@dataclass
class _Neuron:
    """Hold the direction w (unit norm) with bias b, and the outgoing weights of both orientations."""

    indices: np.ndarray
    w: np.ndarray
    b: float
    plus: np.ndarray
    minus: np.ndarray

    def same(self, other: "_Neuron", tolerance: float) -> bool:
        """Tell whether both have one hyperplane, to a relative ``tolerance``."""
        gap = max(float(np.abs(self.w - other.w).max()), abs(self.b - other.b) / max(1.0, abs(self.b)))
        return bool(gap <= tolerance)


Form = tuple[tuple[Layer, ...], Layer | None]
"""Layers with ReLU between them, and the affine skip part."""


def canonical_form(layers: Sequence[Layer], skip: Layer | None, tolerance: float) -> Form:
    """Merge, fuse and order the neurons of a chain without dead units, in float64.

    ``tolerance`` is the relative rounding allowed in "equal direction". The function is unchanged up to rounding.
    """
    chain = list(layers)
    pairs = len(chain) == 2
    for i in range(len(chain) - 1):
        chain[i], chain[i + 1], affine = _merge(chain[i], chain[i + 1], pairs, tolerance)
        if affine is not None:
            skip = affine if skip is None else _add(skip, affine, tolerance)
    if pairs and chain[1].shape[0] == 1:
        chain[0], chain[1] = _fuse(chain[0], chain[1])
    if skip is not None and skip.nonzeros == 0 and skip.biases == 0:
        skip = None
    return tuple(chain), skip


def turn_generators(hidden: Layer, output: Layer, skip: Layer | None, tolerance: float) -> Form:
    """Make the first weight of every neuron positive, by ``v (-t)_+ = v (t)_+ - v t``; the rest goes to the skip
    part.
    """
    sign = hidden.values[hidden.indptr[:-1].long()].sign()
    turned = np.flatnonzero(sign.numpy() < 0)
    v = output.to_scipy()[:, turned]
    linear = (v @ hidden.to_scipy()[turned]).tocoo()
    constant = v @ hidden.dense_bias().numpy()[turned]
    shape = (output.shape[0], hidden.shape[1])
    moved = Layer.from_triplets(shape, linear.coords[0], linear.coords[1], linear.data, constant)
    rows = hidden.outputs_of_values
    bias = None if hidden.bias is None else hidden.dense_bias() * sign
    turned_hidden = Layer.from_triplets(hidden.shape, rows, hidden.indices, hidden.values * sign[rows.long()], bias)
    return (turned_hidden, output), moved if skip is None else _add(skip, moved, tolerance)


def _merge(below: Layer, above: Layer, pairs: bool, tolerance: float) -> tuple[Layer, Layer, Layer | None]:
    w, v = below.to_scipy(), above.to_scipy().tocsc()
    bias = below.dense_bias().numpy()
    constant = above.dense_bias().numpy().copy()
    groups: dict[tuple[bytes, int], list[_Neuron]] = {}
    for j in range(w.shape[0]):
        start, end = w.indptr[j], w.indptr[j + 1]
        out = v[:, [j]].toarray()[:, 0]
        if start == end:
            constant += out * max(bias[j], 0.0)
            continue
        neuron = _normalised(w.indices[start:end], w.data[start:end], float(bias[j]), out, pairs)
        _place(neuron, groups, tolerance)
    neurons = [n for group in groups.values() for n in group]
    affine = _affine_part(neurons, above.shape[0], below.shape[1]) if pairs else None
    neurons = [n for n in neurons if n.plus.any()]
    neurons.sort(key=lambda n: (tuple(n.indices), tuple(n.w), n.b))
    has_bias = above.bias is not None or constant.any()
    return (*_layers(neurons, below, above, constant if has_bias else None, tolerance), affine)


def _normalised(indices: np.ndarray, w: np.ndarray, b: float, out: np.ndarray, pairs: bool) -> _Neuron:
    norm = float(np.linalg.norm(w))
    zero = np.zeros_like(out)
    if pairs and w[0] < 0:
        return _Neuron(indices, -w / norm, -b / norm, zero, norm * out)
    return _Neuron(indices, w / norm, b / norm, norm * out, zero)


def _place(neuron: _Neuron, groups: dict[tuple[bytes, int], list[_Neuron]], tolerance: float) -> None:
    group = groups.setdefault((neuron.indices.tobytes(), neuron.indices.size), [])
    for other in group:
        if other.same(neuron, tolerance):
            other.plus = _sum(other.plus, neuron.plus, tolerance)
            other.minus = _sum(other.minus, neuron.minus, tolerance)
            return
    group.append(neuron)


def _sum(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """Compute ``a + b`` with cancellation to rounding counted as zero."""
    total = a + b
    return np.where(np.abs(total) <= tolerance * np.maximum(np.abs(a), np.abs(b)), 0.0, total)


def _affine_part(neurons: list[_Neuron], outputs: int, inputs: int) -> Layer | None:
    """Turn pairs into one generator in place; the affine part that they leave.

    plus (t)_+ + minus (-t)_+ = (plus + minus) (t)_+ - minus t.  A neuron met in one orientation alone keeps it.
    """
    rows, columns, values, bias = [], [], [], np.zeros(outputs)
    for n in neurons:
        if n.minus.any() and not n.plus.any():
            n.indices, n.w, n.b, n.plus, n.minus = n.indices, -n.w, -n.b, n.minus, n.plus
        elif n.minus.any():
            r, c = np.nonzero(np.outer(n.minus, n.w))
            rows.append(r)
            columns.append(n.indices[c])
            values.append(-(n.minus[r] * n.w[c]))
            bias -= n.minus * n.b
            n.plus, n.minus = _sum(n.plus, n.minus, 1e-15), np.zeros_like(n.minus)
    if not rows:
        return None
    join = np.concatenate
    return Layer.from_triplets((outputs, inputs), join(rows), join(columns), join(values), bias)


def _layers(
    neurons: list[_Neuron], below: Layer, above: Layer, constant: np.ndarray | None, tolerance: float
) -> tuple[Layer, Layer]:
    m = len(neurons)
    counts = np.array([n.indices.size for n in neurons], dtype=np.int64)
    indices = np.concatenate([n.indices for n in neurons]) if m else np.empty(0, dtype=np.int64)
    values = np.concatenate([n.w for n in neurons]) if m else np.empty(0)
    bias = None if below.bias is None else np.array([n.b for n in neurons])
    first = Layer.from_triplets((m, below.shape[1]), np.repeat(np.arange(m), counts), indices, values, bias)
    out = np.stack([n.plus for n in neurons], axis=1) if m else np.zeros((above.shape[0], 0))
    return first, Layer.from_dense(out, constant)


def _fuse(hidden: Layer, output: Layer) -> tuple[Layer, Layer]:
    """Fuse for a scalar output: |v_j| moves into w_j, and the output weight is its sign."""
    v = output.dense()[0]
    scale = v.abs()
    rows = hidden.outputs_of_values.long()
    bias = None if hidden.bias is None else hidden.dense_bias() * scale
    first = Layer.from_triplets(hidden.shape, rows, hidden.indices, hidden.values * scale[rows], bias)
    return first, Layer.from_dense(v.sign()[None], None if output.bias is None else output.dense_bias())


def _add(a: Layer, b: Layer, tolerance: float) -> Layer:
    """Add two affine maps; what cancels to rounding is gone."""
    p, q = a.to_scipy(), b.to_scipy()
    total, size = (p + q).tocoo(), (abs(p) + abs(q)).tocsr()
    rows, columns = total.coords
    left = np.abs(total.data) > tolerance * np.asarray(size[rows, columns]).reshape(-1)
    bias = None
    if a.bias is not None or b.bias is not None:
        bias = _sum(a.dense_bias().numpy(), b.dense_bias().numpy(), tolerance)
    return Layer.from_triplets(a.shape, rows[left], columns[left], total.data[left], bias)
