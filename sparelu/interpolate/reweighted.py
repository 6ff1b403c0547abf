"""Sparse networks by the reweighted l^1 method on the products v_k w_k."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.interpolant import SOURCE, interpolate
from sparelu.interpolate.curves.second_differences import PointsError
from sparelu.interpolate.points.backward import (
    Elimination,
    Shallow,
    eliminate_weights,
    merge_patterns,
    polish,
    return_to_points,
)
from sparelu.interpolate.points.path_prox import PathNetwork, PathPenalty
from sparelu.interpolate.points.refit import LiveNetwork, keep_largest, refit_live
from sparelu.interpolate.univariate import one_input_reason, points_on_a_line
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State, Status

ROUNDS = 50
"""Iterates in a fit."""
DEFAULT_P = 0.4
"""The exponent where p* is unknown: the smaller of the two that the paper shows."""


@dataclass(frozen=True)
class Reweighted(Fitter):
    """Train by Adam and a reweighted l^1 proximal step on the products v_k w_k, then zero and refit exactly.

    Minimises mean loss + strength sum |v_k w_k|^p (squared or cross-entropy loss). Source: Nakhleh & Nowak
    (2025), appendix A.3. The weights of the l^1 norm are of the products before the Adam step, as in the
    paper; two mistakes of the published code are not repeated: its notebook in 50 dimensions takes the new v
    for them (a missing clone), and both notebooks
    show their p = 0.7 model as p = 1. Departures: products are zeroed for good at ``least``, not counted
    against it afterwards; several outputs enter by the norm of a neuron's outgoing weights; a budget keeps
    the largest products; targets are standardised unless ``raw``; ``finish`` eliminate goes on from a short
    fit to as many weights as points (:mod:`sparelu.interpolate.points.backward`), with a tenth of the gradients and
    fewer weights.

    Use it for the penalty of the paper on rows of any number, several outputs and classes included.

    Not for the fewest weights through few points: ``few-weights`` has a bound that it meets.
    """

    name = "reweighted"
    question = "interpolate"
    paper = SOURCE

    p: float | None = setting(
        None, "exponent of the path norm; none takes 0.4, or less where p* is known to be lower", above=0.0, high=1.0
    )
    strength: float = setting(0.005, "weight of the path norm", low=0.0)
    rate: float = setting(0.01, "step size of Adam and of the proximal step", above=0.0)
    epochs: int = setting(5000, "passes over the rows", low=1)
    batch: int = setting(0, "rows in a minibatch; 0 takes all", low=0)
    biases: bool = setting(True, "count the biases b_k among the penalised weights")
    least: float = setting(1e-6, "products below this share of the largest are zeroed", low=0.0)
    raw: bool = setting(False, "leave the targets as they are, without output bias, as published")
    finish: str = setting("refit", "what follows the epochs", choices=("refit", "eliminate"))

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Name the reason: more than one hidden layer, or elimination without one target."""
        reason = budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is None and self.finish == "eliminate" and (data.task != "regression" or data.outputs != 1):
            return "finish = eliminate serves regression with one target: take finish = refit"
        return reason

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield one iterate for every fiftieth of the epochs, and one more when elimination follows."""
        net, done = self._begin(data, budget, rng, start)
        penalty = PathPenalty(self.exponent(data), self.strength, self.biases)
        losses = [float(start["loss"])] if start is not None else [np.inf]
        if start is not None:
            yield self._iterate(net, penalty, done, losses[-1], data, budget)
        every = max(1, self.epochs // ROUNDS)
        while done < self.epochs:
            losses = [net.step(x, y, penalty, data.task == "classification") for x, y in self._batches(data, rng)]
            done += 1
            if done % every == 0 or done == self.epochs:
                yield self._iterate(net, penalty, done, float(np.mean(losses)), data, budget)
        return Status.max_steps

    def exponent(self, data: Data) -> float:
        """Return p as given; else 0.4, or nine tenths of the proved bound on p* where that is lower and known: for
        one input.
        """
        if self.p is not None:
            return self.p
        try:
            known = one_input_reason(data) is None
            low = interpolate(*points_on_a_line(data)).critical.overall[0] if known else 1.0
        except PointsError:
            low = 1.0
        return min(DEFAULT_P, 0.9 * low)

    def _begin(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None
    ) -> tuple[PathNetwork, int]:
        if start is not None:
            return PathNetwork.restored(start["net"], self.rate), int(start["epoch"])
        k, d, o = budget.hidden[0], data.inputs, data.outputs

        def uniform(shape: tuple[int, ...], fan: int) -> Tensor:
            return torch.as_tensor(rng.uniform(-1, 1, shape) / np.sqrt(fan), dtype=data.dtype, device=data.device)

        zero = torch.zeros(o, dtype=data.dtype, device=data.device)
        return PathNetwork(uniform((k, d), d), uniform((k,), d), uniform((o, k), k), zero, self.rate), 0

    def _scale(self, data: Data) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and deviation that the targets are standardised with."""
        if self.raw or data.task == "classification":
            return np.zeros(data.outputs), np.ones(data.outputs)
        stats = data.statistics
        return stats.y_mean, np.where(stats.y_sd > 0, stats.y_sd, 1.0)

    def _batches(self, data: Data, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = rng if 0 < self.batch < data.n else None
        mean, sd = self._scale(data)
        for x, y in data.batches(self.batch or data.n, shuffled):
            if data.task == "classification":
                yield x, y
            else:
                yield x, (y - torch.as_tensor(mean).to(y)) / torch.as_tensor(sd).to(y)

    def _iterate(
        self, net: PathNetwork, penalty: PathPenalty, done: int, loss: float, data: Data, budget: Budget
    ) -> Iterate:
        live = net.products(self.biases) != 0
        return Iterate(
            done / self.epochs,
            loss,
            lambda: self._network(net, data, budget),
            lambda: {"net": net.state(), "epoch": done, "loss": loss},
            {
                "products": float(live.sum()),
                "neurons": float(live.any(dim=1).sum()),
                "p": penalty.p,
            },
        )

    def _network(self, net: PathNetwork, data: Data, budget: Budget) -> Network:
        """Set hard zeros, keep the budget, and refit what is left."""
        mean, sd = self._scale(data)
        live = keep_largest(LiveNetwork.of(net), self.least, budget.count(data.inputs, data.outputs))
        finish = _eliminated if self.finish == "eliminate" else refit_live
        live = finish(live, data, mean, sd)
        constant = ~live.w.any(axis=1)
        used = ~constant & live.v.any(axis=0)
        v, b = live.v[:, used] * sd[:, None], live.b[used]
        c = (live.c + live.v[:, constant] @ np.maximum(live.b[constant], 0)) * sd + mean
        return Network.two_layer(live.w[used], v, b, c if c.any() else None).to(data.dtype)


def _eliminated(live: LiveNetwork, data: Data, mean: np.ndarray, sd: np.ndarray) -> LiveNetwork:
    """Eliminate down to as many weights, biases included, as there are points, the points met exactly."""
    x, y = np.asarray(data.x, dtype=np.float64), np.asarray(data.y, dtype=np.float64).reshape(-1)
    xbar, target = np.column_stack([x, np.ones(len(x))]), (y - mean[0]) / sd[0]
    live = refit_live(live, data, mean, sd)
    nu = np.abs(live.v[0])[:, None] * np.column_stack([live.w, live.b])
    first = return_to_points(xbar, target, Shallow(nu, np.sign(live.v[0]), nu != 0), steps=200)
    if first is None:
        return live
    first, rng = merge_patterns(xbar, first), np.random.default_rng(0)
    for search in eliminate_weights(xbar, target, Elimination(first, first), rng, dead_ends=60, hold=False):
        first = search.best
    net = polish(xbar, target, first)
    return LiveNetwork(net.nu[:, :-1], net.nu[:, -1], net.sign[None, :], live.c)
