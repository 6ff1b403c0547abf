"""What error on new rows is proved from the error on the training rows: margin bounds by norms of the weights."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from sparelu.certify.complexity import (
    Chain,
    Complexity,
    Spectral,
    energies,
    golowich,
    graph_complexity,
    log_graphs,
    neyshabur,
    partitions,
    path_norm,
)
from sparelu.certify.premises import width_reason
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

BOUNDS = ("graph", "path", "golowich", "neyshabur", "spectral")


@dataclass(frozen=True)
class Bound:
    """Hold one generalisation bound: ``gap`` is what it adds to the loss on the rows, for complexity and confidence."""

    name: str
    complexity: float
    confidence: float

    @property
    def gap(self) -> float:
        """Return twice the complexity of the loss, and the deviation."""
        return 2 * self.complexity + self.confidence


def margin_loss(network: Network, data: Data, margin: float) -> float:
    """Return the mean loss in [0, 1] of the rows; it is above the error rate, and Lipschitz in the outputs.

    Classification: 1 - M/margin cut to [0, 1], M the gap from the right output to the best other (two classes: the
    output, signed). Regression: min(1, |f(x) - y| / margin).
    """
    exact, total = network.to(torch.float64, "cpu"), 0.0
    for x, y in data.chunks():
        out = exact(np.asarray(x, dtype=np.float64)).numpy()
        total += float(_loss(out, y, data.task, margin).sum())
    return total / data.n


def _loss(out: np.ndarray, y: np.ndarray, task: str, margin: float) -> np.ndarray:
    if task == "regression":
        return np.minimum(np.linalg.norm(out - y.reshape(len(y), -1), axis=1) / margin, 1.0)
    each = np.arange(len(y))
    if out.shape[1] == 1:
        gap = np.where(y == 1, out[:, 0], -out[:, 0])
    else:
        right, others = out[each, y].copy(), out.copy()
        others[each, y] = -np.inf
        gap = right - others.max(axis=1)
    return np.clip(1 - gap / margin, 0.0, 1.0)


def lipschitz(task: str, outputs: int, margin: float) -> tuple[float, float]:
    """Return the factor from the complexity of the outputs to that of the loss, and the loss's Lipschitz constant in
    them.

    One output: the contraction lemma, 1/margin. Several: Maurer (2016), sqrt 2 times the constant, which is 1/margin
    for a distance and sqrt 2 / margin for the gap of two outputs.
    """
    if outputs == 1:
        return 1 / margin, 1 / margin
    constant = (1 if task == "regression" else math.sqrt(2)) / margin
    return math.sqrt(2) * constant, constant


def bounds(network: Network, data: Data, margin: float, delta: float, searched: bool, count: int = 1) -> list[Bound]:
    """Return every bound of :data:`BOUNDS` for this network and these rows, each with probability 1 - delta / count.

    The classes are those of all networks whose norm is at most a whole number; the union over these numbers costs
    log(k (k+1)). ``searched``: the support was found on the data, and the union over all supports with as many weights
    is paid for by the bounds that look at it; the partition of the units is one of a fixed list, also paid for.
    """
    chain, m = Chain.of(network), data.n
    energy = energies([np.asarray(x) for x, _ in data.chunks()], chain.constant)
    factor, constant = lipschitz(data.task, network.outputs, margin)
    skip = _skip_complexity(network, data)
    price = log_graphs(network) if searched else 0.0
    ways = partitions(chain)
    graphs = [graph_complexity(chain, energy, m, groups) for groups in ways]
    least = min(graphs, key=lambda c: _rounded(c).value)
    found = {
        "graph": (least, price + math.log(len(ways))),
        "path": (path_norm(chain, energy, m), 0.0),
        "golowich": (golowich(chain, energy, m), 0.0),
        "neyshabur": (neyshabur(chain, energy, m), 0.0),
    }
    result = []
    for name, (complexity, cost) in found.items():
        parts = [_rounded(c) for c in (complexity, skip) if c is not None]
        cost += sum(math.log(c.scale * (c.scale + 1)) for c in parts)
        value = factor * sum(c.value for c in parts)
        result.append(Bound(name, value, _deviation(delta / count, cost, m)))
    if skip is None:
        norms = Spectral.of(chain)
        value = norms.loss_complexity(energy, m, constant)
        result.append(Bound("spectral", value, _deviation(delta / count, norms.choices(), m)))
    return result


def _rounded(complexity: Complexity) -> Complexity:
    """Raise the scale to the next whole number, as the class is counted."""
    return Complexity(max(1.0, math.ceil(complexity.scale)), complexity.unit)


def _deviation(delta: float, cost: float, rows: int) -> float:
    """Compute 3 sqrt(log(2/delta) + cost) / sqrt(2 m): loss and complexity, both measured on the rows, against their
    means.
    """
    return 3 * math.sqrt((math.log(2 / delta) + cost) / (2 * rows))


def _skip_complexity(network: Network, data: Data) -> Complexity | None:
    """Bound the affine part as a linear class: sum_k |(a_k, c_k)| sqrt(sum (|x|^2 + 1)) (1 + sqrt(2 log C)) / m."""
    if network.skip is None:
        return None
    energy = energies([np.asarray(x) for x, _ in data.chunks()], True)
    skip: Layer = network.skip.to(torch.float64, "cpu")
    both = np.column_stack([skip.dense().numpy(), skip.dense_bias().numpy()])
    root = 1 + math.sqrt(2 * math.log(network.outputs))
    return Complexity(float(np.linalg.norm(both, axis=1).sum()), root * math.sqrt(float(energy.sum())) / data.n)


@dataclass(frozen=True)
class Generalise(Certifier):
    """Bound the error on new rows by the loss on these and a norm of the weights; mostly vacuous, and then says so.

    Sources: the bound for sparse graphs of Galanti et al. (2023) in a form that is proved in docs/certificates.md,
    Golowich et al. (2018), Neyshabur et al. (2015), Bartlett et al. (2017), and the l1 path norm.

    Use it to see what bounds by norms say of a network, beside each other.

    Not in place of rows kept for testing: on trained networks it is mostly vacuous.
    """

    margin: float = setting(1.0, "margin of the loss, in units of the outputs; fixed before the data are seen", above=0)
    delta: float = setting(0.01, "probability with which the claim may fail", above=0, below=1)
    support: str = setting(
        "searched", "was the support found on these data, or fixed before", choices=("searched", "fixed")
    )
    bound: str = setting("best", "which bound; best: the least, each at delta/5", choices=("best", *BOUNDS))

    name = "generalise"
    question = "certify"
    paper = "Galanti, Xu, Galanti and Poggio, Norm-based generalization bounds for sparse neural networks, 2023"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        reason = width_reason(network, data, "the bound is of the error on rows like these")
        if reason is None and data is not None and network.outputs != data.outputs:
            reason = f"the network has {network.outputs} outputs, the data need {data.outputs}"
        if reason is None and self.bound == "spectral" and network.skip is not None:
            reason = "the spectral bound is for a chain of layers, and this network has an affine part: take another"
        return reason

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        if data is None:
            raise ValueError(self.refuses(network, data))
        best = self.bound == "best"
        found = bounds(network, data, self.margin, self.delta, self.support == "searched", len(BOUNDS) if best else 1)
        chosen = min(found, key=lambda b: b.gap) if best else next(b for b in found if b.name == self.bound)
        loss = margin_loss(network, data, self.margin)
        value = loss + chosen.gap
        what = "error rate" if data.task == "classification" else f"mean of min(1, |f(x) - y| / {self.margin:g})"
        claim = (
            f"{what} on new rows, at most, with probability {1 - self.delta:g} ({chosen.name} bound; n = {data.n}, "
            f"loss at margin {self.margin:g} on the rows {loss:.4f})"
        )
        premises = self._premises(network, data, found)
        return Certificate(claim, value, what, premises, vacuous=value >= 1, source=self.paper)

    def _premises(self, network: Network, data: Data, found: list[Bound]) -> tuple[Assumption, ...]:
        gaps = ", ".join(f"{b.name} {b.gap:.3g}" for b in found)
        price = f"e^{log_graphs(network):.4g} supports"
        graph = {
            "searched": Assumption("the support is one of all with as many weights: paid for", "checked", price),
            "fixed": Assumption("the support was fixed before the data were seen", "taken on trust", "by `support`"),
        }
        return (
            Assumption("rows are independent draws of one law, and new rows too", "taken on trust"),
            Assumption("margin and hidden widths were fixed before the data were seen", "taken on trust"),
            Assumption("inputs as the network reads them", "checked", _normalisation(data)),
            graph[self.support],
            Assumption("norms are rounded up to whole numbers and paid for", "checked", f"gaps: {gaps}"),
        )


def _normalisation(data: Data) -> str:
    """Return the mean squared norm, and the largest mean square of an input."""
    energy = energies([np.asarray(x) for x, _ in data.chunks()], False) / data.n
    return (
        f"mean |x|^2 = {float(energy.sum()):.4g}, largest mean square of an input {float(energy.max()):.4g} "
        f"({data.names[int(energy.argmax())]})"
    )
