"""Where a search for M neurons begins, and what it is compared with: M directions chosen from a wide network.

Every function returns weights (M, r) and biases (M,) in the coordinates of its network; outputs are solved for later.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.compress.projection import Form, NetworkTarget, first_parts
from sparelu.gaussian import TwoLayer
from sparelu.gaussian.kernels import Neurons, pair_moments
from sparelu.gaussian.normal import cdf

CANDIDATES = 2048
"""Neurons that greedy selection looks at: more are drawn at random, by importance."""


Chosen = tuple[Float[Tensor, "m r"], Float[Tensor, " m"]]


def importance(net: TwoLayer) -> Float[Tensor, " n"]:
    """Compute ``|a_j| |(w_j, b_j)|``: the size of a neuron's contribution, whatever its scaling."""
    size = (net.weight.square().sum(1) + net.bias.square()).sqrt()
    return torch.linalg.vector_norm(net.out, dim=0) * size


def largest_neurons(net: TwoLayer, neurons: int) -> Chosen:
    """Return the neurons of largest :func:`importance`: magnitude pruning of neurons."""
    rows = torch.topk(importance(net), neurons).indices
    return net.weight[rows], net.bias[rows]


def find_centres(net: TwoLayer, neurons: int, rng: np.random.Generator) -> Chosen:
    """Find by k-means of the directions (w, b)/|(w, b)|, each weighing its :func:`importance`; fewer if directions
    repeat.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows = torch.cat([net.weight, net.bias[:, None]], 1)
    size = torch.linalg.vector_norm(rows, dim=1).clamp(min=1e-300)
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct directions than clusters
        fitted = KMeans(neurons, n_init=1, random_state=seed).fit(
            (rows / size[:, None]).numpy(), sample_weight=importance(net).numpy()
        )
    found = torch.from_numpy(fitted.cluster_centers_[np.unique(fitted.labels_)])
    return found[:, :-1].contiguous(), found[:, -1].contiguous()


def choose_greedily(target: NetworkTarget, form: Form, neurons: int, rng: np.random.Generator) -> Chosen:
    """Choose by orthogonal matching pursuit in the exact geometry: the neuron that lowers the squared distance most, M
    times.
    """
    net = target.net
    if len(net.bias) > CANDIDATES:
        share = importance(net).numpy()
        rows = torch.from_numpy(np.sort(rng.choice(len(share), CANDIDATES, replace=False, p=share / share.sum())))
    else:
        rows = torch.arange(len(net.bias))
    candidates = Neurons.of(net.weight[rows], net.bias[rows])
    mean, pull = first_parts(candidates)
    left, free = target.cross(candidates), own_energy(candidates)
    total = free.clone()
    if form.offset:
        left, free = left - mean[:, None] * target.mean, free - mean.square()
    if form.linear:
        left, free = left - pull @ target.slope.T, free - pull.square().sum(1)
    directions, picked = torch.zeros(len(rows), 0, dtype=left.dtype), []
    for _ in range(neurons):
        usable = free > 1e-10 * total
        if not bool(usable.any()):
            break
        gain = torch.where(usable, left.square().sum(1) / free.clamp(min=1e-300), torch.zeros_like(free))
        j = int(torch.argmax(gain))
        column = pair_moments(candidates, candidates[j : j + 1]).value[:, 0]
        column = column - (mean * mean[j] if form.offset else 0) - (pull @ pull[j] if form.linear else 0)
        new = (column - directions @ directions[j]) / free[j].sqrt()
        left = left - new[:, None] * (left[j] / free[j].sqrt())
        free = free - new.square()
        directions = torch.cat([directions, new[:, None]], 1)
        picked.append(j)
    index = rows[torch.tensor(picked, dtype=torch.long)]
    return net.weight[index], net.bias[index]


def scatter_neurons(
    net: TwoLayer, form: Form, neurons: int, rng: np.random.Generator, *, farthest: float = 5.0
) -> Chosen:
    """Draw directions at random, with biases as far out as those of the network.

    ``farthest``: standard deviations of the inputs within which knots are scattered: what lies further out is met by no
    input.
    """
    weight = torch.from_numpy(rng.standard_normal((neurons, net.weight.shape[1])))
    weight /= torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    out = (net.bias / torch.linalg.vector_norm(net.weight, dim=1).clamp(min=1e-300)).abs()
    spread = float(out.clamp(max=farthest).median())
    bias = torch.from_numpy(rng.standard_normal(neurons)) * spread if form.bias else weight @ form.shift
    return weight, bias


def own_energy(neurons: Neurons) -> Float[Tensor, " n"]:
    """Compute E[relu_i^2] = (b^2 + |u|^2) Phi(h) + b |u| phi(h), b = h |u|."""
    square = neurons.bias.square() + neurons.size.square()
    return square * cdf(neurons.shift) + neurons.bias * neurons.size * neurons.edge
