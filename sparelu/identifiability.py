"""Could a support be recovered from data? Its population constants, and identifiability.

For fixed gates the network is linear in its weights: column (j, i) is 1{h_j.x + b_j >= 0} x_i. alpha and beta are the
extreme eigenvalues of the population Gram matrix of the columns of the support; hard thresholding recovers weights
on it when beta/alpha is finite and rows are enough (Fridovich-Keil and Pilanci; Jain, Tewari and Kar 2014).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from sparelu.data import Data
from sparelu.gaussian import cross_hessian, support_gram
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

SUPPORT_LIMIT = 3000
"""Columns up to which eigenvalues of the Gram matrix are computed: 72 MB, seconds."""

BIASED_LIMIT = 3000
"""Neurons times (inputs read + 1) up to which the Gram matrix with biases is computed."""

PAPER = "Fridovich-Keil and Pilanci, A recovery guarantee for sparse neural networks, 2026"


@dataclass(frozen=True, eq=False)
class SupportColumns:
    """Columns of a one-hidden-layer network: generators and biases of neurons, the (neuron, coordinate) pairs, linear.

    ``generators`` (m, d), ``biases`` (m,); ``neuron`` and ``coordinate`` (s,); ``linear`` (l,) are the coordinates of
    ungated columns x_i, from the affine part.
    """

    generators: np.ndarray
    biases: np.ndarray
    neuron: np.ndarray
    coordinate: np.ndarray
    linear: np.ndarray

    @classmethod
    def of(cls, network: Network) -> "SupportColumns":
        """Read the support of a network as it stands, over the inputs in use; without weights, no column."""
        hidden = network.layers[0].to(torch.float64, "cpu")
        w = hidden.dense().numpy()
        linear = np.zeros(0, dtype=np.int64)
        if network.skip is not None:
            linear = np.unique(network.skip.indices.numpy()).astype(np.int64)
        read = np.union1d(np.flatnonzero(w.any(axis=0)), linear)
        live = w.any(axis=1)
        w, b = w[live][:, read], hidden.dense_bias().numpy()[live]
        neuron, coordinate = np.nonzero(w)
        return cls(w, b, neuron, coordinate, np.searchsorted(read, linear))

    @property
    def size(self) -> int:
        """Return number of columns."""
        return self.neuron.size + self.linear.size

    def gram(self, gate: str = "step") -> np.ndarray:
        """Return population Gram matrix (s + l, s + l) under x ~ N(0, I), neurons' columns first.

        An ungated column is one with the gate of a constant: E[1{h.x + b >= 0} x x'] = Phi(b') I - b' phi(b') h^ h^',
        b' = b/|h|, and I between linear columns. ``gate="sign"`` (without biases) is sign(h.x), whose columns are
        uncorrelated with linear ones.

        Raises ``ValueError`` for signs with biases.
        """
        g = torch.from_numpy(self.generators)
        pairs = torch.from_numpy(self.neuron), torch.from_numpy(self.coordinate)
        if not self.biases.any():
            inner = support_gram(g, *pairs, gate=gate).numpy()
        elif gate == "sign":
            raise ValueError("sign gates are for networks without biases")
        else:
            m, d = self.generators.shape
            b = torch.from_numpy(self.biases)
            whole = cross_hessian(g, b, g, b).numpy().reshape(m * (d + 1), m * (d + 1))
            at = self.neuron * (d + 1) + self.coordinate
            inner = whole[np.ix_(at, at)]
        mixed = self._against_linear() if gate == "step" else np.zeros((self.neuron.size, self.linear.size))
        return np.block([[inner, mixed], [mixed.T, np.eye(self.linear.size)]])

    def _against_linear(self) -> np.ndarray:
        size = np.linalg.norm(self.generators, axis=1)
        shift, unit = self.biases / size, self.generators / size[:, None]
        below = torch.special.ndtr(torch.from_numpy(shift)).numpy()
        density = np.exp(-(shift**2) / 2) / math.sqrt(2 * math.pi)
        p, edge = below[self.neuron], (shift * density)[self.neuron]
        same = self.coordinate[:, None] == self.linear
        own = unit[self.neuron, self.coordinate]
        return p[:, None] * same - (edge * own)[:, None] * unit[self.neuron][:, self.linear]


@dataclass(frozen=True)
class Identifiability:
    """Pairs of neurons with one hyperplane: ``collinear`` of one direction, ``antipodal`` of opposite ones.

    Collinear neurons share their weights in any way; antipodal ones leave a linear part, (t)_+ - (-t)_+ = t, and two
    antipodal pairs make the columns of a shared coordinate dependent, so that alpha = 0.
    """

    collinear: int
    antipodal: int


def identifiability(network: Network) -> Identifiability:
    """Find pairs of neurons of the first layer whose hyperplanes agree to 1e-9, the tolerance of the canonical form."""
    s = SupportColumns.of(network)
    vectors = np.column_stack([s.generators, s.biases])
    unit = vectors / np.linalg.norm(s.generators, axis=1, keepdims=True)
    patterns: dict[bytes, list[int]] = {}
    for j, row in enumerate(s.generators != 0):
        patterns.setdefault(row.tobytes(), []).append(j)
    counts = [0, 0]
    for members in patterns.values():
        group = unit[members]
        for at, sign in enumerate((1, -1)):
            for i in range(len(group) - 1):
                gap = np.abs(group[i + 1 :] - sign * group[i]).max(axis=1)
                counts[at] += int((gap <= 1e-9 * max(1.0, abs(group[i, -1]))).sum())
    return Identifiability(*counts)


def visible(network: Network, x: np.ndarray) -> Network:
    """Return the network of one hidden layer as rows ``x`` (n, d) can know it: what is affine on all of them is affine.

    A neuron that is active on every row, or on none, or reads one input of two values alone, is an affine function
    there, as far as anyone can tell who sees those rows. Nor can they tell where no more rows lie on one side of its
    kink than it has weights, its bias among them: as many of any other inputs meet those rows too. Such neurons are
    moved to the affine part; then, and where inputs are continuous, the canonical form is what is identifiable.

    Raises ``ValueError`` for other depths.
    """
    if len(network.layers) != 2:
        raise ValueError(f"one hidden layer is wanted, the network has {len(network.hidden)}")
    net = network.to(torch.float64, "cpu").compact()
    rows = np.column_stack([np.asarray(x, dtype=np.float64), np.ones(len(x))])
    w = np.column_stack([net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy()])
    z = rows @ w.T
    above, below = (z > 0).sum(axis=0), (z < 0).sum(axis=0)
    known = np.where((above >= below)[:, None], w, 0.0)
    few = np.minimum(above, below) <= (w != 0).sum(axis=1)
    crossed = (~few).nonzero()[0]
    solution = np.linalg.lstsq(rows, np.maximum(z[:, crossed], 0), rcond=None)[0].T
    known[crossed] = np.where(np.abs(solution) > 1e-9 * np.abs(solution).max(axis=1, keepdims=True), solution, 0.0)
    miss = np.abs(np.maximum(z, 0) - rows @ known.T).max(axis=0)
    flat = few | (miss <= 1e-9 * np.abs(z).max(axis=0, initial=1e-300))
    v = net.layers[1].dense().numpy()
    moved = v[:, flat] @ known[flat]
    skip = np.zeros_like(moved[:, :-1]) if net.skip is None else net.skip.dense().numpy()
    constant = net.layers[1].dense_bias().numpy() + moved[:, -1]
    left = skip + moved[:, :-1]
    return Network(
        (
            Layer.from_dense(w[~flat, :-1], w[~flat, -1]),
            Layer.from_dense(v[:, ~flat], constant if constant.any() else None),
        ),
        Layer.from_dense(left) if left.any() else None,
    ).canonical()


def extremes(gram: np.ndarray) -> tuple[float, float]:
    """Return alpha and beta: least and largest eigenvalue; a least one within rounding of zero is zero."""
    values = np.linalg.eigvalsh(gram)
    rounding = len(gram) * float(np.finfo(np.float64).eps) * float(values[-1])
    return (0.0 if values[0] <= 10 * rounding else float(values[0])), float(values[-1])


def sample_size(support: SupportColumns, alpha: float, delta: float, inputs: int) -> float:
    """Return (k/alpha)^2 (s log(e p d / s) + log 1/delta), k the neurons of the support and p d its dictionary.

    So many rows, times an absolute constant that is not known, suffice for restricted strong convexity at level s
    (rows of the gated design are sub-Gaussian with constant sqrt k).
    """
    k, s = max(1, len(support.biases)), support.size
    columns = max(s, k * inputs)
    return (k / alpha) ** 2 * (s * math.log(math.e * columns / s) + math.log(1 / delta)) if alpha > 0 else math.inf


def unsuited(network: Network) -> str | None:
    """Return why no constants are computed: depth, size, or no support."""
    if len(network.layers) != 2:
        return f"recovery constants are for one hidden layer, the network has {len(network.hidden)}"
    hidden = network.compact().layers[0]
    skip = 0 if network.skip is None else network.inputs
    if hidden.nonzeros + skip > SUPPORT_LIMIT:
        return f"a support of {hidden.nonzeros + skip:,} columns is too large: at most {SUPPORT_LIMIT:,} (s^3 work)"
    support = SupportColumns.of(network.canonical())
    places = len(support.biases) * (support.generators.shape[1] + 1)
    if support.biases.any() and places > BIASED_LIMIT:
        return f"with biases the Gram matrix has {places:,} columns before selection: at most {BIASED_LIMIT:,}"
    if support.size > SUPPORT_LIMIT:
        return f"the canonical form has {support.size:,} columns: at most {SUPPORT_LIMIT:,} (s^3 work)"
    return None if support.size else "the network reads no input: there is no support"


def condition(network: Network, data: Data | None, delta: float) -> Certificate:
    """Return beta/alpha of the canonical support under standard normal inputs, and what it needs to hold on ``data``.

    ``delta`` is the probability with which the sample-size condition may fail. Only for networks that
    :func:`unsuited` has no word against.
    """
    net = network.canonical()
    support = SupportColumns.of(net)
    alpha, beta = extremes(support.gram())
    premises = [_identified(network, alpha)]
    if data is not None:
        premises += [_gaussian(data), _rows(support, alpha, data, delta), _empirical(net, data)]
    else:
        premises.append(Assumption("inputs are standard normal", "taken on trust", "no data were given"))
    value = beta / alpha if alpha > 0 else 1 / float(np.finfo(np.float64).eps)
    claim = (
        f"condition number beta/alpha of the {support.size} columns of the support, "
        f"alpha = {alpha:.4g}, beta = {beta:.4g}, for standard normal inputs"
    )
    return Certificate(claim, value, "beta/alpha", tuple(premises), vacuous=alpha == 0, source=PAPER)


def _identified(network: Network, alpha: float) -> Assumption:
    found = identifiability(network)
    evidence = f"{found.collinear} collinear and {found.antipodal} antipodal pairs in the network as given"
    state = "checked" if alpha > 0 else "violated"
    return Assumption("the columns of the canonical support are independent", state, evidence)


def _rows(support: SupportColumns, alpha: float, data: Data, delta: float) -> Assumption:
    need = sample_size(support, alpha, delta, data.inputs)
    words = f"n = {data.n}; a constant that is not known times {need:.3g}"
    text = "rows are enough: n >= C (k/alpha)^2 (s log(e p d/s) + log 1/delta)"
    if data.n < support.size:
        return Assumption(text, "violated", f"{words}; n is below the {support.size} columns")
    return Assumption(text, "taken on trust", words)


def _gaussian(data: Data) -> Assumption:
    """Return means, covariances and fourth moments of the inputs within five standard errors of those of N(0, I)."""
    n, d = data.n, data.inputs
    mean, second, fourth = np.zeros(d), np.zeros((d, d)), np.zeros(d)
    for part, _ in data.chunks():
        x = np.asarray(part, dtype=np.float64)
        mean, second, fourth = mean + x.sum(axis=0), second + x.T @ x, fourth + (x**4).sum(axis=0)
    off = {
        "mean": float(np.abs(mean).max()) / math.sqrt(n),
        "covariance": float(np.abs(second - n * np.eye(d)).max()) / math.sqrt(2 * n),
        "fourth moment": float(np.abs(fourth - 3 * n).max()) / math.sqrt(96 * n),
    }
    words = ", ".join(f"{name} off by {v:.3g}" for name, v in off.items()) + " standard errors at most"
    return Assumption("inputs are standard normal", "checked" if max(off.values()) <= 6 else "violated", words)


def _empirical(net: Network, data: Data) -> Assumption:
    """Return the same constants on the rows: the least eigenvalue decides whether weights on these gates are
    determined.

    More rows cannot make columns dependent, so rows are added up only until the columns are seen to be independent.
    """
    support = SupportColumns.of(net)
    hidden: Layer = net.layers[0].to(torch.float64, "cpu")
    w, b = hidden.dense().numpy(), hidden.dense_bias().numpy()
    live = w.any(axis=1)
    w, b = w[live], b[live]
    linear = np.zeros(0, dtype=np.int64) if net.skip is None else np.unique(net.skip.indices.numpy())
    neuron, coordinate = np.nonzero(w)
    total, rows, wanted, alpha, beta = np.zeros((support.size, support.size)), 0, 4 * support.size, 0.0, 0.0
    for part, _ in data.chunks(4096):
        x = np.asarray(part, dtype=np.float64)
        columns = np.column_stack([(x @ w.T + b >= 0)[:, neuron] * x[:, coordinate], x[:, linear]])
        total, rows = total + columns.T @ columns, rows + len(x)
        if rows >= wanted or rows == data.n:
            alpha, beta = extremes(total / rows)
            wanted = 4 * rows
        if alpha > 0:
            break
    text = "on the rows the columns of the support are independent"
    words = f"alpha = {alpha:.4g}, beta = {beta:.4g} on {rows} of them"
    return Assumption(text, "checked" if alpha > 0 else "violated", words)
