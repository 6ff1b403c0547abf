"""Exact reductions of a ReLU network of any depth: what can go without changing the function where it is used.

Everywhere: equal and collinear neurons, neurons whose outputs cancel, constants (the canonical form). On a box of
inputs, by interval bounds: neurons that never fire, and neurons that always do; the latter are affine, so those of a
single hidden layer move to the affine part, and deeper ones whose weights depend linearly on the others' are expressed
by them. On the rows of data only, if asked: optimal-set pruning (Mishkin and Pilanci 2023) to at most one neuron for
each row and output.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import qr
from scipy.optimize import linprog

from sparelu.data import Budget, Data
from sparelu.method import Compressor, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

POINTS = 1000
"""Random points of the box at which the reduced network is held against the original."""


@dataclass(frozen=True)
class Box:
    """Hold inputs between ``low`` and ``high``, each (d,); infinite where nothing is known."""

    low: np.ndarray
    high: np.ndarray

    def through(self, weight: np.ndarray, bias: np.ndarray) -> "Box":
        """Return the interval bounds of ``weight x + bias``, rounded outwards."""
        up, down = np.maximum(weight, 0), np.minimum(weight, 0)
        low, high = _dot(up, self.low) + _dot(down, self.high), _dot(up, self.high) + _dot(down, self.low)
        size = _dot(np.abs(weight), np.maximum(np.abs(self.low), np.abs(self.high))) + np.abs(bias)
        slack = np.where(np.isfinite(size), 1e-15 * (weight.shape[1] + 2) * size, 0.0)
        return Box(low + bias - slack, high + bias + slack)

    def positive(self) -> "Box":
        """Return the box after the ReLU."""
        return Box(np.maximum(self.low, 0), np.maximum(self.high, 0))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return the points inside, uniform where bounded on both sides, else normal about the finite end."""
        free = rng.standard_normal((n, len(self.low)))
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(bounded, self.low, 0.0), np.where(bounded, self.high, 0.0)
        x = np.where(bounded, low + rng.uniform(size=free.shape) * (high - low), free)
        return np.clip(x, self.low, self.high)


def reduce_on(network: Network, box: Box) -> Network:
    """Return the network with fewest neurons that these exact reductions give on ``box``, in float64."""
    net = network.to(dtype=torch.float64, device="cpu").canonical()
    layers, skip, inside = list(net.layers), net.skip, box
    for i in range(len(layers) - 1):
        below, above = layers[i], layers[i + 1]
        bounds = inside.through(below.dense().numpy(), below.dense_bias().numpy())
        live = np.flatnonzero(bounds.high > 0)
        always = bounds.low[live] >= 0
        below, above = _take(below, above, live)
        if len(layers) == 2:
            below, above, skip = _to_skip(below, above, skip, always)
        else:
            below, above = _express(below, above, always)
        layers[i], layers[i + 1] = below, above
        inside = inside.through(below.dense().numpy(), below.dense_bias().numpy()).positive()
    return Network(tuple(layers), skip).canonical()


def prune_on_rows(network: Network, x: np.ndarray) -> Network:
    """Prune to at most rows x outputs neurons in every hidden layer, the same outputs on the rows ``x`` (n, d), no
    larger norms.

    For each layer, outgoing weights are scaled by t >= 0 such that what the next layer receives on the rows stays, at
    the least sum_j t_j |v_j| |w_j|: the vertex of this linear programme has no more positive t than equations. The
    scaled network keeps signs and the sum of the norms does not grow.

    Raises ``ValueError`` when the solver finds no vertex.
    """
    layers = list(network.to(dtype=torch.float64).layers)
    inputs = np.asarray(x, dtype=np.float64)
    for i in range(len(layers) - 1):
        active = np.maximum(inputs @ layers[i].dense().numpy().T + layers[i].dense_bias().numpy(), 0)
        if active.shape[1] > len(x):
            layers[i], layers[i + 1] = _vertex(layers[i], layers[i + 1], active)
            active = np.maximum(inputs @ layers[i].dense().numpy().T + layers[i].dense_bias().numpy(), 0)
        inputs = active
    return Network(tuple(layers), None if network.skip is None else network.skip.to(dtype=torch.float64))


@dataclass(frozen=True)
class Merge(Compressor):
    """Remove only neurons whose removal changes nothing on the box of inputs, or on the rows if asked.

    Use it to leave out what changes nothing, at any depth.

    Not for a much smaller network: a trained one has little that changes nothing.
    """

    low: float | None = setting(None, "least value of every input; none: the smallest in the data, else unbounded")
    high: float | None = setting(None, "largest value of every input; none: the largest in the data, else unbounded")
    rows: bool = setting(False, "keep the outputs on the rows of the data only: at most one neuron for each")

    name = "merge"
    question = "compress"
    paper = "Mishkin and Pilanci, Optimal sets and solution paths of ReLU networks, 2023 (pruning on rows)"

    def refuses(self, network: Network, budget: Budget, data: Data | None) -> str | None:
        if data is not None and data.inputs != network.inputs:
            return f"the network reads {network.inputs} inputs, the data have {data.inputs}"
        if self.low is not None and self.high is not None and self.low > self.high:
            return f"low = {self.low:g} is above high = {self.high:g}"
        if self.rows and data is None:
            return "pruning on rows needs the data"
        if len(budget.hidden) != len(network.hidden):
            return f"the network has {len(network.hidden)} hidden layers, the budget names {len(budget.hidden)}"
        if budget.count(network.inputs, network.outputs) is not None:
            return "it removes neurons, not weights: give `hidden` alone"
        left = self._reduced(network, data).hidden
        if any(a > b for a, b in zip(left, budget.hidden, strict=True)):
            where = "the rows" if self.rows else "the box of inputs"
            other = ", or use `population`" if len(left) == 1 else ""
            return f"{left} neurons are left by what is exact on {where}: ask for those{other}"
        return None

    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        small = self._reduced(network, data)
        if small.hidden == network.hidden:
            return network, (Certificate("returned unchanged: no neuron is superfluous", 0.0, "output"),)
        box = self._box(network, data)
        where = "the rows of the data" if self.rows else "every input of the box"
        x = box.sample(POINTS, rng) if data is None or not self.rows else _sampled_rows(data, rng)
        gap = network.to(dtype=torch.float64)(x) - small(x)
        checked = Assumption("inputs stay where the reduction is exact", "taken on trust", f"{where}: {_words(box)}")
        removed = sum(network.hidden) - sum(small.hidden)
        claim = f"{removed} neurons removed without change on {where}; largest gap at {len(x)} points, by rounding"
        return small.to(dtype=network.dtype), (Certificate(claim, float(gap.abs().max()), "output", (checked,)),)

    def _box(self, network: Network, data: Data | None) -> Box:
        box = (
            Box(np.full(network.inputs, -np.inf), np.full(network.inputs, np.inf))
            if data is None
            else Box(*data.ranges)
        )
        return Box(
            box.low if self.low is None else np.full(network.inputs, self.low),
            box.high if self.high is None else np.full(network.inputs, self.high),
        )

    def _reduced(self, network: Network, data: Data | None) -> Network:
        small = reduce_on(network, self._box(network, data))
        return prune_on_rows(small, np.asarray(data.x[:])) if data is not None and self.rows else small


def _take(below: Layer, above: Layer, kept: np.ndarray) -> tuple[Layer, Layer]:
    index = torch.from_numpy(kept)
    return below.take(rows=index), above.take(columns=index)


def _to_skip(below: Layer, above: Layer, skip: Layer | None, always: np.ndarray) -> tuple[Layer, Layer, Layer | None]:
    """Move the neurons of a single hidden layer that always fire to the affine part."""
    if not always.any():
        return below, above, skip
    w, b, v = below.dense().numpy(), below.dense_bias().numpy(), above.dense().numpy()
    linear, constant = v[:, always] @ w[always], v[:, always] @ b[always]
    if skip is not None:
        linear, constant = linear + skip.dense().numpy(), constant + skip.dense_bias().numpy()
    below, above = _take(below, above, np.flatnonzero(~always))
    return below, above, Layer.from_dense(linear, constant)


def _express(below: Layer, above: Layer, always: np.ndarray) -> tuple[Layer, Layer]:
    """Express deeper neurons: W_S = C W_B for a basis B of the rows that always fire; then V_S relu(..) = (V_S C)
    relu_B + constant.
    """
    rows = np.flatnonzero(always)
    if len(rows) < 2:
        return below, above
    w, b, v = below.dense().numpy(), below.dense_bias().numpy(), above.dense().numpy().copy()
    triangle, order = qr(w[rows].T, mode="r", pivoting=True)
    size = np.abs(np.diag(triangle[0] if triangle.ndim == 3 else triangle))
    rank = int((size > 1e-13 * max(size[0], 1e-300) * max(w.shape)).sum())
    if rank == len(rows):
        return below, above
    basis, rest = rows[order[:rank]], rows[order[rank:]]
    mixing = np.linalg.lstsq(w[basis].T, w[rest].T, rcond=None)[0].T
    constant = above.dense_bias().numpy() + v[:, rest] @ (b[rest] - mixing @ b[basis])
    v[:, basis] += v[:, rest] @ mixing
    kept = np.setdiff1d(np.arange(len(b)), rest)
    return below.take(rows=torch.from_numpy(kept)), Layer.from_dense(v[:, kept], constant)


def _vertex(below: Layer, above: Layer, active: np.ndarray) -> tuple[Layer, Layer]:
    v = above.dense().numpy()
    received = np.einsum("nj,kj->nkj", active, v).reshape(-1, active.shape[1])
    norms = np.linalg.norm(v, axis=0) * np.linalg.norm(below.dense().numpy(), axis=1)
    found = linprog(norms, A_eq=received, b_eq=received.sum(axis=1), bounds=(0, None), method="highs-ds")
    if found.x is None:
        raise ValueError(f"pruning on rows: the linear programme ended with {found.message!r}")
    kept = np.flatnonzero(found.x > 0)
    # the solver keeps equations to 1e-7: least squares on the vertex's support brings them to rounding
    scale = np.linalg.lstsq(received[:, kept], received.sum(axis=1), rcond=None)[0]
    return below.take(rows=torch.from_numpy(kept)), Layer.from_dense(v[:, kept] * scale, above.dense_bias())


def _sampled_rows(data: Data, rng: np.random.Generator) -> np.ndarray:
    chosen = np.sort(rng.choice(data.n, min(POINTS, data.n), replace=False))
    return np.asarray(data.x[chosen], dtype=np.float64)


def _dot(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute ``weight @ x`` in which zero times infinity is zero."""
    finite = np.isfinite(x)
    total = weight[:, finite] @ x[finite]
    for j in np.flatnonzero(~finite):
        total = total + np.select([weight[:, j] > 0, weight[:, j] < 0], [x[j], -x[j]], 0.0)
    return total


def _words(box: Box) -> str:
    return f"inputs from {box.low.min():.4g} to {box.high.max():.4g}"
