"""Training under a mask whose size falls by a schedule: what gradual and one-shot pruning share."""

import math
from typing import Protocol, runtime_checkable

import numpy as np

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State
from sparelu.train.fit.batches import Feed
from sparelu.train.fit.init import he
from sparelu.train.fit.losses import loss_of
from sparelu.train.fit.masked_mlp import MLP
from sparelu.train.fit.path_pruning import gauge_free, selection, within
from sparelu.train.fit.training import Run, Training, allowance, live_columns
from sparelu.train.sparsifier.scores import curved_magnitude

CUTS = 1000
"""About how many cuts lead to the budget."""

SHRINK = 0.8
"""The matrices are made anew when their first can shrink to this share."""


@runtime_checkable
class PruningSchedule(Protocol):
    """What pruning by a mask whose size falls asks of a method; ``progress`` is that of the training, in 0..1."""

    @property
    def curvature(self) -> float:
        """Return the power of the mean squared gradient in the score, twice."""

    def living(self, progress: float, weights: int, allowed: int) -> int:
        """Return how many of the counted ``weights`` are active."""

    def step_size(self, progress: float) -> float:
        """Return Adam's step size."""

    def penalty(self, progress: float, allowed: int) -> float:
        """Return the factor of the sum of |w| that is added to the loss."""


class MaskedRun(Run):
    """One fit under way: ``done`` epochs, with the mean ``loss`` of the last.

    A weight that is cut stays 0. Inputs and units that lose their last weight leave the matrices, so that late steps
    are cheap. No more units of a layer are trained than the budget has nonzeros: more could not live.
    """

    def __init__(
        self,
        method: Training,
        schedule: PruningSchedule,
        data: Data,
        budget: Budget,
        rng: np.random.Generator,
        start: State | None,
    ) -> None:
        self.method, self.schedule, self.loss_of = method, schedule, loss_of(data)
        self.allowed = allowance(data, budget)
        self.rounds = method.passes(data, self.allowed)
        self.total = self.rounds * method.minibatches(data)
        if start is None:
            self.net = MLP.started(data, budget.hidden, self.allowed, he, live_columns(data), rng)
            self.weights, self.done, self.loss = self.net.nonzeros, 0, math.nan
        else:
            self.net = MLP.restored(start["net"], data.device)
            self.weights, self.done, self.loss = start["weights"], start["done"], start["loss"]
        self.feed, self.ranks = Feed(data, self.net.units[0]), data.ranks
        self.left = self.net.nonzeros

    def advance(self, rng: np.random.Generator) -> None:
        """Pass over the rows once."""
        schedule, net, losses = self.schedule, self.net, []
        for x, y in self.feed.batches(self.method.batch, rng):
            progress = net.step / self.total
            losses.append(self.ranks.mean(net.gradient, net.backward(x, y, self.loss_of), len(x)))
            if not math.isfinite(losses[-1]):
                break
            net.adam(schedule.step_size(progress), schedule.penalty(progress, self.allowed))
            if net.step % max(1, self.total // CUTS) == 0 or net.step == self.total:
                self.cut()
        self.done += 1
        self.loss = float(np.mean(losses))

    def cut(self) -> None:
        """Bring the mask to the size that the schedule has for now."""
        net = self.net
        k = self.schedule.living(net.step / self.total, self.weights, self.allowed)
        if k >= self.left:
            return
        part = net.counted
        score = curved_magnitude(gauge_free(net), net.square[part], self.schedule.curvature)
        net.keep(selection(net, score, k))
        self.left = net.nonzeros
        rows, units = (len(places) for places in net.read()[:2])
        if rows * units < SHRINK * net.widths[0] * net.widths[1] or self.left == self.allowed:
            self.feed.keep(net.compact())

    def network(self) -> Network:
        """Return the network within the budget, on the scale of the targets."""
        return within(self.net, self.allowed).network(self.feed.mean, self.feed.sd)

    def iterate(self) -> Iterate:
        """Return what there is after ``done`` epochs."""
        state = {"done": self.done, "loss": self.loss, "weights": self.weights}
        return Iterate(
            self.done / self.rounds,
            self.loss,
            self.network,
            lambda: {**state, "net": self.net.state()},
            {"nonzeros": float(self.left)},
        )
