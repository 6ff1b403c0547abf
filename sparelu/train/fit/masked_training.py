"""Training under a mask whose size falls by a schedule: what gradual and one-shot pruning share."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from sparelu.data import Budget, Data
from sparelu.method import setting
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


@dataclass(frozen=True)
class MaskedTraining(Training):
    """Adam under a mask. The schedules are the subclass's.

    A weight that is cut stays 0. Inputs and units that lose their last weight leave the matrices, so that late steps
    are cheap. No more units of a layer are trained than the budget has nonzeros: more could not live.
    """

    rate: float = setting(0.01, "step size of Adam at the start", above=0)
    floor: float = setting(0.01, "share of the step size that is left at the end", low=0, high=1)
    curvature: float = setting(0.5, "cut by |w| v^(this/2), v the mean squared gradient; 0: by |w|", low=0, high=2)

    @abstractmethod
    def living(self, progress: float, weights: int, allowed: int) -> int:
        """How many of the counted ``weights`` live at ``progress`` in 0..1 of the training."""

    @abstractmethod
    def step_size(self, progress: float) -> float:
        """Adam's step size."""

    @abstractmethod
    def penalty(self, progress: float, allowed: int) -> float:
        """The factor of the sum of |w| that is added to the loss."""

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> "_Run":
        return _Run(self, data, budget, rng, start)


class _Run(Run):
    """One fit under way: ``done`` epochs, with the mean ``loss`` of the last."""

    def __init__(
        self, method: MaskedTraining, data: Data, budget: Budget, rng: np.random.Generator, start: State | None
    ) -> None:
        self.method, self.loss_of = method, loss_of(data)
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
        """One pass over the rows."""
        method, net, losses = self.method, self.net, []
        for x, y in self.feed.batches(method.batch, rng):
            progress = net.step / self.total
            losses.append(self.ranks.mean(net.gradient, net.backward(x, y, self.loss_of), len(x)))
            if not math.isfinite(losses[-1]):
                break
            net.adam(method.step_size(progress), method.penalty(progress, self.allowed))
            if net.step % max(1, self.total // CUTS) == 0 or net.step == self.total:
                self.cut()
        self.done += 1
        self.loss = float(np.mean(losses))

    def cut(self) -> None:
        """Bring the mask to the size that the schedule has for now."""
        net = self.net
        k = self.method.living(net.step / self.total, self.weights, self.allowed)
        if k >= self.left:
            return
        part = net.counted
        score = curved_magnitude(gauge_free(net), net.square[part], self.method.curvature)
        net.keep(selection(net, score, k))
        self.left = net.nonzeros
        rows, units = (len(places) for places in net.read()[:2])
        if rows * units < SHRINK * net.widths[0] * net.widths[1] or self.left == self.allowed:
            self.feed.keep(net.compact())

    def network(self) -> Network:
        """The network within the budget, on the scale of the targets."""
        return within(self.net, self.allowed).network(self.feed.mean, self.feed.sd)

    def iterate(self) -> Iterate:
        """What there is after ``done`` epochs."""
        state = {"done": self.done, "loss": self.loss, "weights": self.weights}
        return Iterate(
            self.done / self.rounds,
            self.loss,
            self.network,
            lambda: {**state, "net": self.net.state()},
            {"nonzeros": float(self.left)},
        )
