"""Rademacher complexities of classes of sparse ReLU networks around a given one; proofs are in docs/certificates.md.

All are of E sup_f sum_ik xi_ik f_k(x_i) / m, with m rows x_i, k outputs and independent signs xi_ik. A bias is a weight
from a constant unit of value 1: layer l is the matrix [W_l b_l; 0 1], if there is any bias.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from sparelu.networks.network import Layer, Network

FLAGS = 2**22
"""Pairs of groups up to which edges are marked in a table instead of being sorted."""

Groups = tuple[np.ndarray, ...]
"""For each hidden layer the group of every unit, as whole numbers from 0."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Represent the layers of a network as sparse matrices (o, i) with the constant unit last, where ``constant``.

    ``width`` is the largest width before units that nothing feeds or reads were left out.
    """

    weights: tuple[sparse.csr_array, ...]
    constant: bool
    width: int

    @classmethod
    def of(cls, network: Network) -> "Chain":
        """Build from the chain of layers, without units that nothing feeds or reads; the skip part is left out."""
        layers = network.compact().layers
        constant = any(layer.biases for layer in layers)
        last = len(layers) - 1
        width = max(max(layer.shape) for layer in network.layers) + int(constant)
        return cls(tuple(_augmented(layer, constant, i == last) for i, layer in enumerate(layers)), constant, width)

    @property
    def depth(self) -> int:
        """Return the number of layers of weights, L."""
        return len(self.weights)

    @property
    def outputs(self) -> int:
        """Return the number of outputs, C."""
        return int(self.weights[-1].shape[0])


@dataclass(frozen=True)
class Complexity:
    """Hold ``scale`` (the norm that the class bounds, at this network) times ``unit`` (the complexity at scale 1)."""

    scale: float
    unit: float

    @property
    def value(self) -> float:
        """Return the complexity of the class of this network's scale."""
        return self.scale * self.unit


def energies(rows: Sequence[np.ndarray], constant: bool) -> np.ndarray:
    """Compute sum_i x_ip^2 for every input p, and m for the constant unit: (d,) or (d + 1,); ``rows`` are pieces (m,
    d).
    """
    total = sum(np.einsum("nd,nd->d", x, x, dtype=np.float64) for x in rows)
    return np.append(total, float(sum(len(x) for x in rows))) if constant else np.asarray(total)


def partitions(chain: Chain) -> list[Groups]:
    """Return the ways to group units: every hidden layer in single units or as a whole; for more than four, single
    below whole.
    """
    hidden = chain.depth - 1
    choices = product((False, True), repeat=hidden) if hidden <= 4 else _splits(hidden)
    sizes = [w.shape[0] for w in chain.weights[:-1]]
    return [
        tuple(np.zeros(n, dtype=np.int64) if whole else np.arange(n) for n, whole in zip(sizes, choice, strict=True))
        for choice in choices
    ]


def graph_complexity(chain: Chain, energy: np.ndarray, rows: int, groups: Groups) -> Complexity:
    """Bound the class of all networks on this graph: units of a group g read the groups that they read here, by any
    weights.

    R <= (rho/m) (1 + sqrt(2 [(L-1) log 2 + log P])) G. rho = sum_k |w^L_k| prod_l max_g |W^l_g|_F, with the groups
    scaled to one norm; P = number of paths from outputs to groups of layer 1; G = A(L), A(1, g)^2 = energy of the
    inputs that g reads, A(l, g)^2 = |pred(g)| max_pred A(l-1)^2. Single units everywhere: the bound for sparse graphs
    of Galanti et al. (2023) with the top layer's fan-in, without which it is none; whole layers everywhere: Golowich
    et al. (2018).
    """
    reach, paths = np.asarray(energy), np.zeros(len(energy))
    below, previous = np.arange(len(energy)), len(energy)
    everywhere = (*groups, np.arange(chain.outputs))
    scales = np.ones(len(energy))
    rho = 0.0
    for i, (w, group) in enumerate(zip(chain.weights, everywhere, strict=True)):
        count = int(group.max()) + 1 if group.size else 0
        values = w.data * scales[w.indices]
        unit = np.repeat(np.arange(w.shape[0]), np.diff(w.indptr))
        norm = np.sqrt(np.bincount(group[unit], values**2, minlength=count))
        rho, scales = float(norm.sum()), norm[group]
        owner, read = _edges(group[unit], below[w.indices], count, previous)
        reach, paths = _step(reach, paths, owner, read, count, first=i == 0)
        below, previous = group, count
    peeled = (chain.depth - 1) * math.log(2) + _log_sum(paths)
    largest = math.sqrt(float(reach.max(initial=0.0)))
    return Complexity(rho, largest * (1 + math.sqrt(2 * max(peeled, 0.0))) / rows)


def golowich(chain: Chain, energy: np.ndarray, rows: int) -> Complexity:
    """Bound by Golowich, Rakhlin and Shamir (2018), Theorem 1: (1 + sqrt(2 L log 2)) prod |W_l|_F sqrt(sum |x_i|^2) /
    m.

    For C outputs the top norm is sum_k |w_k| and log C joins the root.
    """
    root = 2 * (chain.depth * math.log(2) + math.log(chain.outputs))
    return Complexity(_frobenius(chain), (1 + math.sqrt(root)) * math.sqrt(float(energy.sum())) / rows)


def neyshabur(chain: Chain, energy: np.ndarray, rows: int) -> Complexity:
    """Bound by Neyshabur, Tomioka and Srebro (2015): 2^(L-1) prod |W_l|_F sqrt(sum |x_i|^2) / m, times sqrt C for C
    outputs.
    """
    factor = 2.0 ** (chain.depth - 1) * math.sqrt(chain.outputs)
    return Complexity(_frobenius(chain), factor * math.sqrt(float(energy.sum())) / rows)


def path_norm(chain: Chain, energy: np.ndarray, rows: int) -> Complexity:
    """Bound by the l1 path norm phi = sum over paths of the product of |weights| (Golowich et al. 2018, l1 form; Gonon
    2023).

    R <= (phi/m) sqrt(2 [(L-1) log 2 + log(2 d C)]) sqrt(max_p sum_i x_ip^2).
    """
    total = np.ones(len(energy))
    for w in chain.weights:
        total = abs(w) @ total
    root = (chain.depth - 1) * math.log(2) + math.log(2 * len(energy) * chain.outputs)
    return Complexity(float(total.sum()), math.sqrt(2 * root * float(energy.max())) / rows)


@dataclass(frozen=True, eq=False)
class Spectral:
    """Hold the norms of Bartlett, Foster and Telgarsky (2017): operator norm and sum of row norms of every layer
    (L,).
    """

    operator: np.ndarray
    rows: np.ndarray
    width: int

    @classmethod
    def of(cls, chain: Chain) -> "Spectral":
        """Build from the layers with their constant unit."""
        operator = np.array([operator_norm(w) for w in chain.weights])
        rows = np.array([float(np.sqrt(w.multiply(w).sum(axis=1)).sum()) for w in chain.weights])
        return cls(operator, rows, chain.width)

    def loss_complexity(self, energy: np.ndarray, rows: int, lipschitz: float) -> float:
        """Return the complexity of a loss in [0, 1] with that Lipschitz constant: 4/m^1.5 + 18 log(m) lipschitz sqrt(V)
        / m.

        V = |X|^2 log(2 W^2) prod s_l^2 (sum (b_l/s_l)^(2/3))^3 from their Theorem 3.3, in Dudley's integral from 1/m.
        Norms are rounded up to multiples of 1/L (:meth:`choices`), that is by at most 1/L.
        """
        s, b = self._rounded()
        spread = float(((b / s) ** (2 / 3)).sum()) ** 1.5
        root = math.sqrt(float(energy.sum()) * math.log(2 * self.width**2)) * float(s.prod()) * spread
        return 4 / rows**1.5 + 18 * math.log(rows) * lipschitz * root / rows

    def choices(self) -> float:
        """Compute the log of what a union over all multiples of 1/L costs: sum of log(k (k + 1))."""
        k = np.concatenate(self._rounded()) * len(self.operator)
        return float(np.log(k * (k + 1)).sum())

    def _rounded(self) -> tuple[np.ndarray, np.ndarray]:
        depth = len(self.operator)
        s, b = (np.maximum(np.ceil(a * depth), 1) / depth for a in (self.operator, self.rows))
        return s, b


def operator_norm(w: sparse.csr_array, *, largest_gram: int = 2000) -> float:
    """Return an upper bound of the operator norm: the norm itself up to rounding where a side is small.

    ``largest_gram``: rows or columns up to which it is computed from the Gram matrix's eigenvalues.
    """
    if min(w.shape) <= largest_gram:
        gram = (w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w).toarray()
        return math.sqrt(max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)) * (1 + 1e-9) if gram.size else 0.0
    size = abs(w)
    return math.sqrt(float(size.sum(axis=0).max()) * float(size.sum(axis=1).max()))


def log_graphs(network: Network) -> float:
    """Return the log of the number of supports with these widths and as many weights and biases in each layer, any such
    counts.
    """
    total = 0.0
    for layer in network.layers:
        for kept, places in ((layer.nonzeros, layer.shape[0] * layer.shape[1]), (layer.biases, layer.shape[0])):
            total += gammaln(places + 1) - gammaln(kept + 1) - gammaln(places - kept + 1) + math.log(places + 1)
    return float(total)


def _augmented(layer: Layer, constant: bool, last: bool) -> sparse.csr_array:
    w = layer.to_scipy().astype(np.float64)
    if not constant:
        return sparse.csr_array(w)
    bias = sparse.csr_array(layer.dense_bias().double().numpy()[:, None])
    if last:
        return sparse.csr_array(sparse.hstack([w, bias]))
    return sparse.csr_array(sparse.block_array([[w, bias], [None, sparse.csr_array(np.ones((1, 1)))]]))


def _frobenius(chain: Chain) -> float:
    hidden = math.prod(float(np.linalg.norm(w.data)) for w in chain.weights[:-1])
    top = chain.weights[-1]
    return hidden * float(np.sqrt(top.multiply(top).sum(axis=1)).sum())


def _splits(hidden: int) -> list[tuple[bool, ...]]:
    return [tuple(i >= single for i in range(hidden)) for single in range(hidden + 1)]


def _edges(owner: np.ndarray, read: np.ndarray, owners: int, readable: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs (owner, read), by owner."""
    key = owner * readable + read
    if owners * readable <= FLAGS:
        flags = np.zeros(owners * readable, dtype=bool)
        flags[key] = True
        key = np.flatnonzero(flags)
    else:
        key = np.unique(key)
    return key // readable, key % readable


def _step(
    reach: np.ndarray, paths: np.ndarray, owner: np.ndarray, read: np.ndarray, count: int, first: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Compute A^2 and log P of the next layer's groups; in layer 1, energies add and every group is one path."""
    live, start, degree = np.unique(owner, return_index=True, return_counts=True)
    next_reach, next_paths = np.zeros(count), np.full(count, -np.inf)
    if not owner.size:
        return next_reach, next_paths
    if first:
        next_reach[live] = np.add.reduceat(reach[read], start)
        next_paths[live] = 0.0
        return next_reach, next_paths
    next_reach[live] = degree * np.maximum.reduceat(reach[read], start)
    top = paths.max()
    next_paths[live] = top + np.log(np.maximum(np.add.reduceat(np.exp(paths[read] - top), start), 1e-300))
    return next_reach, next_paths


def _log_sum(logs: np.ndarray) -> float:
    finite = logs[np.isfinite(logs)]
    return float(finite.max() + np.log(np.exp(finite - finite.max()).sum())) if finite.size else 0.0
