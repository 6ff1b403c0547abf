"""The engine behind the verb ``fit``: Adam on a module that a :class:`Sparsifier` keeps sparse.

What the methods have in common is here; what makes each is in :mod:`~sparelu.train.fit.sparsifier_methods`.
"""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparelu.data import Budget, Data
from sparelu.method import setting
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State
from sparelu.train.fit.batches import Feed
from sparelu.train.fit.models import body_of
from sparelu.train.fit.training import Run, Training, allowance
from sparelu.train.sparsifier.decay import cosine
from sparelu.train.sparsifier.layer_densities import Masks
from sparelu.train.sparsifier.prunable import Choice
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier
from sparelu.train.sparsifier.update_schedules import NoUpdateWarning

Objective = Callable[[Tensor, Tensor], Tensor]
"""Outputs (b, k) and targets to the mean loss of the rows."""


@dataclass(frozen=True)
class Task:
    """What a method may look at before training: ``rows`` to score with, and the ``layers`` that are pruned."""

    module: nn.Module
    inputs: int
    nonzeros: int
    layers: Choice
    objective: Objective
    rows: Callable[[int], tuple[Tensor, Tensor]]
    seed: int


@dataclass(frozen=True)
class EngineTraining(Training):
    """Adam, its step size falling along half a cosine, within the support that the engine moves or keeps."""

    sums_over_rows: ClassVar[bool] = False
    convolves: ClassVar[bool] = True

    rate: float = setting(0.01, "step size of Adam at the start", above=0)
    floor: float = setting(0.01, "share of the step size that is left at the end", low=0, high=1)

    @abstractmethod
    def choices(self, task: Task) -> Choices:
        """Where the support starts: masks, or a number of nonzeros and their allocation."""

    @abstractmethod
    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """The sparsifier of the training."""

    def finished(self, network: Network) -> Network:
        """What is returned of a trained network."""
        return network

    def resumed(self, task: Task, masks: Masks) -> Choices:
        """What :meth:`choices` gave when the fit began; ``masks`` are those of the state to go on from."""
        return self.choices(task)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> "_Run":
        return _Run(self, data, budget, rng, start)


class _Run(Run):
    """One fit under way: ``done`` epochs, with the mean ``loss`` of the last."""

    def __init__(
        self, method: EngineTraining, data: Data, budget: Budget, rng: np.random.Generator, start: State | None
    ) -> None:
        self.method, self.objective = method, objective_of(data)
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
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=method.rate, fused=True)
        self.sparsifier = self._engine(rng, start)

    def _engine(self, rng: np.random.Generator, start: State | None) -> Sparsifier:
        method, pruned = self.method, self.body.pruned
        task = Task(
            self.module,
            len(self.body.columns),
            min(self.allowed, self.body.weights),
            lambda name, module: name in pruned,
            self.objective,
            lambda size: next(self.feed.batches(size, rng)),
            self.seed,
        )
        choices = method.choices(task) if start is None else method.resumed(task, start["sparsifier"]["masks"])
        choices["layers"] = task.layers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoUpdateWarning)  # a share of a few weights may be none
            sparsifier = method.engine(self.module, self.optimizer, self.total, choices)
        if start is not None:
            self.body.load(start["body"])  # the engine has cut it to its own start
            slots = {int(i): dict(s) for i, s in start["slots"].items()}
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
            sparsifier.load_state_dict(start["sparsifier"])
        return sparsifier

    def advance(self, rng: np.random.Generator) -> None:
        """One pass over the rows."""
        method, losses = self.method, []
        for x, y in self.feed.batches(method.batch, rng):
            rate = cosine(self.sparsifier.steps / self.total, method.rate, method.floor * method.rate)
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad()
            loss = self.objective(self.module(x), y)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                break
            loss.backward()
            self.sparsifier.step()
        self.done += 1
        self.loss = float(np.mean(losses))

    def network(self) -> Network:
        """The network within the budget, on the scale of the targets."""
        return self.method.finished(
            self.body.network(self.sparsifier.masks, self.allowed, self.feed.mean, self.feed.sd)
        )

    def state(self) -> State:
        """All that :class:`_Run` starts from."""
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
        """What there is after ``done`` epochs."""
        numbers = {"nonzeros": float(self.sparsifier.nonzeros), "visited": self.sparsifier.explored}
        return Iterate(self.done / self.rounds, self.loss, self.network, self.state, numbers)


def objective_of(data: Data) -> Objective:
    """Half the squared error, or the cross-entropy in nats, with one logit for two classes: what ``losses`` has."""
    if data.task == "regression":
        return lambda z, y: 0.5 * (z - y).square().sum() / len(z)
    if data.outputs == 1:
        return lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.to(z))
    return F.cross_entropy
