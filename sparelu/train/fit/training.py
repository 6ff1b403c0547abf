"""What the methods that train a multilayer perceptron by minibatches have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparelu.data import Budget, Data
from sparelu.method import Fitter, budget_reason, setting
from sparelu.outcome import Iterate, State, Status

ROUNDS = 100
"""About how many iterates a fit yields."""


class Run(ABC):
    """A fit under way: ``done`` of its ``rounds``, with the mean ``loss`` of the last."""

    done: int
    rounds: int
    loss: float

    @abstractmethod
    def advance(self, rng: np.random.Generator) -> None:
        """Take the next round."""

    @abstractmethod
    def iterate(self) -> Iterate:
        """Return what there is after ``done`` rounds."""


Check = Callable[[Any, Data, Budget], str | None]
"""A method, data and a budget to the reason why it cannot serve them."""

RATE: float = setting(0.01, "step size of Adam at the start", above=0)
FLOOR: float = setting(0.01, "share of the step size that is left at the end", low=0, high=1)
"""Settings of several methods; each writes those that it has into its row."""


@dataclass(frozen=True)
class Training(Fitter):
    """Length, refusals and rounds of training by minibatches."""

    convolves: ClassVar[bool] = False
    checks: ClassVar[tuple[Check, ...]] = ()
    """What a method refuses beside that."""

    epochs: int | None = setting(None, "passes over the rows; none: 100 up to 1000 nonzeros, 60 above", low=1)
    batch: int = setting(128, "rows of a minibatch; those that do not fill one wait for the next pass", low=1)
    least: int = setting(3000, "minibatches at least: small data are passed over more often", low=1)

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Refuse no budget, one that does not fit, and fewer nonzeros than a path from an input to an output takes."""
        reason = budget_reason(data, budget, convolutions=self.convolves)
        if reason is not None:
            return reason
        layers, allowed = len(budget.channels) + len(budget.hidden) + 1, allowance(data, budget)
        if allowed < layers and not (layers == 2 and data.outputs == 1):
            return f"a path through {layers} layers takes {layers} nonzeros and the budget is {allowed}: ask for more"
        return next((reason for check in self.checks if (reason := check(self, data, budget))), None)

    @abstractmethod
    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> Run:
        """Begin the fit at its start, or at the state ``start``."""

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield about every hundredth of the rounds. Networks of iterates above the budget are cut to it at once."""
        run = self.begin(data, budget, rng, start)
        if start is not None:
            yield run.iterate()
        pause = math.ceil(run.rounds / ROUNDS)
        while run.done < run.rounds:
            run.advance(rng)
            if not math.isfinite(run.loss):
                return Status.diverged
            if run.done % pause == 0 or run.done == run.rounds:
                yield run.iterate()
        return Status.max_steps

    def minibatches(self, data: Data) -> int:
        """Return the minibatches of one epoch."""
        return max(1, data.n // self.batch)

    def passes(self, data: Data, allowed: int) -> int:
        """Return the epochs that give both ``epochs`` and ``least`` minibatches.

        On MNIST's validation rows a hundred epochs are better than sixty up to a thousand nonzeros (by 0.5 points at
        200) and worse at two thousand (by 0.2): there the network is large enough to learn the rows by heart.
        """
        epochs = self.epochs or (100 if allowed <= 1000 else 60)
        return max(epochs, math.ceil(self.least / self.minibatches(data)))


def allowance(data: Data, budget: Budget) -> int:
    """Return the nonzeros of a budget that gives them (``refuses`` has seen to it). Raises ``ValueError`` otherwise."""
    allowed = budget.count(data.inputs, data.outputs, data.image)
    if allowed is None:
        raise ValueError("the budget names no number of nonzeros: give nonzeros, density, sparsity or compression")
    return allowed


def live_columns(data: Data) -> np.ndarray:
    """Find the inputs that are not constant; the others are left to the biases."""
    return np.flatnonzero(data.statistics.sd > 0)
