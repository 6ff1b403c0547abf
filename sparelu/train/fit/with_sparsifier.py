"""The engine behind the verb ``fit``: Adam on a module that a :class:`Sparsifier` keeps sparse.

What the methods have in common is here; what makes each is its row in
:mod:`~sparelu.train.fit.sparsifier_methods`.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State
from sparelu.train.fit.batches import Feed
from sparelu.train.fit.models import body_of
from sparelu.train.fit.training import Run, Training, allowance
from sparelu.train.sparsifier.selection import Choice
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier
from sparelu.train.sparsifier.update_schedules import NoUpdateWarning

Objective = Callable[[Tensor, Tensor], Tensor]
"""Outputs (b, k) and targets to the mean loss of the rows."""


@dataclass(frozen=True)
class SparsifierTask:
    """What a method may look at before training: ``rows`` to score with, and the ``layers`` that are pruned."""

    module: nn.Module
    inputs: int
    nonzeros: int
    layers: Choice
    objective: Objective
    rows: Callable[[int], tuple[Tensor, Tensor]]
    seed: int


def _nothing(progress: float) -> float:
    return 0.0


def _as_it_is(network: Network) -> Network:
    return network


@dataclass(frozen=True)
class Recipe:
    """What makes a method of the loop.

    ``start`` says where the support begins: masks, or a number of nonzeros and their allocation. ``sparsifier`` makes
    the sparsifier of (module, optimizer, total_steps=..., **choices). ``rate`` is Adam's step size and ``penalty`` the
    factor of the sum of |w| over the prunable weights, both of the progress in 0..1. ``deliver`` is done to a trained
    network before it is returned. With ``fixed`` the support never moves, so that a resumed fit need not find it again.
    """

    start: Callable[[SparsifierTask], Choices]
    sparsifier: Callable[..., Sparsifier]
    rate: Callable[[float], float]
    penalty: Callable[[float], float] = _nothing
    deliver: Callable[[Network], Network] = _as_it_is
    fixed: bool = False


class SparsifierRun(Run):
    """One fit under way: ``done`` epochs, with the mean ``loss`` of the last."""

    def __init__(
        self,
        method: Training,
        recipe: Recipe,
        data: Data,
        budget: Budget,
        rng: np.random.Generator,
        start: State | None,
    ) -> None:
        self.method, self.recipe, self.objective = method, recipe, objective_of(data)
        self.allowed = allowance(data, budget)
        self.rounds = method.passes(data, self.allowed)
        self.total = self.rounds * method.minibatches(data)
        drawn = rng.bit_generator.state
        self.body = body_of(data, budget, self.allowed, rng)
        self.seed, self.done, self.loss = int(rng.integers(2**31)), 0, math.nan
        if start is not None:
            rng.bit_generator.state = drawn
            self.seed, self.done, self.loss = start["seed"], start["done"], start["loss"]
        self.feed = Feed(data, self.body.columns)
        self.module = self.body.module
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=recipe.rate(0.0), fused=True)
        self.sparsifier = self._engine(rng, start)

    def _engine(self, rng: np.random.Generator, start: State | None) -> Sparsifier:
        recipe, pruned = self.recipe, self.body.pruned
        task = SparsifierTask(
            self.module,
            len(self.body.columns),
            min(self.allowed, self.body.weights),
            lambda name, module: name in pruned,
            self.objective,
            lambda size: next(self.feed.batches(size, rng)),
            self.seed,
        )
        if start is not None and recipe.fixed:
            choices: Choices = {"masks": start["sparsifier"]["masks"]}
        else:
            choices = recipe.start(task)
        choices["layers"] = task.layers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoUpdateWarning)  # a share of a few weights may be none
            sparsifier = recipe.sparsifier(self.module, self.optimizer, total_steps=self.total, **choices)
        if start is not None:
            self.body.load(start["body"])
            slots = {int(i): dict(s) for i, s in start["slots"].items()}
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
            sparsifier.load_state_dict(start["sparsifier"])
        return sparsifier

    def advance(self, rng: np.random.Generator) -> None:
        """Pass over the rows once."""
        recipe, losses = self.recipe, []
        for x, y in self.feed.batches(self.method.batch, rng):
            progress = self.sparsifier.steps / self.total
            self.optimizer.param_groups[0]["lr"] = recipe.rate(progress)
            self.optimizer.zero_grad()
            loss = self.objective(self.module(x), y)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                break
            loss.backward()
            self._add_penalty(recipe.penalty(progress))
            self.optimizer.step()
        self.done += 1
        self.loss = float(np.mean(losses))

    def _add_penalty(self, factor: float) -> None:
        """Add the gradient of ``factor`` times the sum of |w|."""
        for part in self.sparsifier.parts.values() if factor else ():
            if part.weight.grad is not None:
                part.weight.grad.add_(part.weight.detach().sign(), alpha=factor)

    def network(self) -> Network:
        """Return the network within the budget, on the scale of the targets."""
        return self.recipe.deliver(self.body.network(self.sparsifier.masks, self.allowed, self.feed.mean, self.feed.sd))

    def state(self) -> State:
        """Return all that :class:`SparsifierRun` starts from."""
        slots = self.optimizer.state_dict()["state"]
        return {
            "done": self.done,
            "loss": self.loss,
            "seed": self.seed,
            "body": self.body.state(self.sparsifier.masks),
            "slots": {str(i): {k: v.clone() for k, v in s.items()} for i, s in slots.items()},
            "sparsifier": self.sparsifier.state_dict(),
        }

    def iterate(self) -> Iterate:
        """Return what there is after ``done`` epochs."""
        numbers = {"nonzeros": float(self.sparsifier.nonzeros), "visited": self.sparsifier.explored}
        return Iterate(self.done / self.rounds, self.loss, self.network, self.state, numbers)


def objective_of(data: Data) -> Objective:
    """Choose half the squared error or the cross-entropy in nats, one logit for two classes, as ``losses`` does."""
    if data.task == "regression":
        return lambda z, y: 0.5 * (z - y).square().sum() / len(z)
    if data.outputs == 1:
        return lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.to(z))
    return F.cross_entropy
