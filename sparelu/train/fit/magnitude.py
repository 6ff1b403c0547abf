"""Pruning by magnitude: gradually while the network learns, or at once between two trainings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from sparelu.data import Budget, Data
from sparelu.method import setting
from sparelu.outcome import State
from sparelu.train.fit.masked_training import CUTS, MaskedRun, PruningSchedule
from sparelu.train.fit.training import FLOOR, RATE, Run, Training, allowance
from sparelu.train.fit.with_sparsifier import Recipe, SparsifierRun, SparsifierTask
from sparelu.train.sparsifier.decay import cosine, cubic
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier
from sparelu.train.sparsifier.update_schedules import Update, UpdateSchedule
from sparelu.train.static import GradualMagnitude


def run_of(
    method: Training,
    schedule: PruningSchedule,
    data: Data,
    budget: Budget,
    rng: np.random.Generator,
    start: State | None,
) -> Run:
    """Begin a fit: on matrices that shrink with the support, or on the engine where the network convolves.

    On the engine a weight that has lost its path stays, since convolutions have a path through every place.
    """
    if not budget.channels:
        return MaskedRun(method, schedule, data, budget, rng, start)
    allowed = allowance(data, budget)
    recipe = Recipe(
        _all_in_one_ranking,
        partial(_pruner, schedule=schedule),
        schedule.step_size,
        partial(schedule.penalty, allowed=allowed),
    )
    return SparsifierRun(method, recipe, data, budget, rng, start)


def _all_in_one_ranking(task: SparsifierTask) -> Choices:
    return {"nonzeros": task.nonzeros, "allocation": "global", "seed": task.seed}


def _pruner(
    module: nn.Module, optimizer: torch.optim.Optimizer, total_steps: int, schedule: PruningSchedule, **choices: Any
) -> Sparsifier:
    plan = Following(schedule.living, max(1, total_steps // CUTS))
    return GradualMagnitude(
        module, optimizer, total_steps=total_steps, plan=plan, curvature=schedule.curvature, **choices
    )


@dataclass(frozen=True)
class Following(UpdateSchedule):
    """As many weights as ``living`` says for the share of the training, every ``every`` steps and at the last."""

    living: Callable[[float, int, int], int]
    every: int

    def first(self, nonzeros: int, size: int) -> int:
        """Return all weights."""
        return size

    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Return the cut after ``step``."""
        if (step + 1) % self.every and step + 1 != total:
            return None
        return Update(self.living((step + 1) / total, size, nonzeros), 0)


@dataclass(frozen=True)
class GradualPruning(Training):
    """Gradual magnitude pruning: the number of living weights falls from all to the budget while the network learns.

    Over the share ``until`` of the training the number falls as in Zhu and Gupta, with power 5 in place of 3; then the
    survivors are trained further. Where we depart from the paper:

    * Until the budget s is reached, the loss has the penalty l1 / s times the sum of |w|; afterwards none. Without it
      weights that will have to go keep sharing the work. Once s weights are left it is l1 times their mean |w|, so that
      one number serves all budgets.
    * The score is |w| v^(1/4), v Adam's mean squared gradient: between magnitude and Optimal Brain Damage.
    * All layers compete in one ranking, and a weight that has lost its path goes too, so that none is wasted.

    The defaults were chosen on 10000 of MNIST's 60000 training rows, one or two seeds for each choice, which differ by
    up to 0.4 points. With 200 nonzeros and 60 epochs the accuracy is 91.8; with power 3 91.5, with curvature 0 91.6,
    with both 91.2. With 500, steps of 0.01 or 0.02 gave 0.7 to 1.2 points more than 0.005. l1 from 0.1 to 0.15 is flat
    and 0.3 costs a point. Letting cut weights come back, a penalty |w|^p with p < 1, one that grows as weights go, and
    averaging the last weights did not help. Inputs are expected to be of about unit scale.

    Use it for tables and images at small budgets; ``auto`` takes it there.

    Not where the dense network that it starts from does not fit.
    """

    name: ClassVar[str] = "gmp"
    question: ClassVar[str] = "train"
    convolves: ClassVar[bool] = True
    sums_over_rows: ClassVar[bool] = True
    paper: ClassVar[str] = "Zhu and Gupta, To prune, or not to prune, 2017"

    rate: float = RATE
    floor: float = FLOOR
    curvature: float = setting(0.5, "cut by |w| v^(this/2), v the mean squared gradient; 0: by |w|", low=0, high=2)
    l1: float = setting(0.13, "factor of the mean |w| of as many weights as the budget has", low=0)
    until: float = setting(0.7, "share of the training in which the budget is reached", above=0, high=1)
    power: float = setting(5.0, "of the schedule of the number of weights; 3: cubic", above=0)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> Run:
        return run_of(self, self, data, budget, rng, start)

    def living(self, progress: float, weights: int, allowed: int) -> int:
        """Return a number that falls from all to the budget at ``until``."""
        return round(cubic(progress / self.until, weights, allowed, self.power))

    def step_size(self, progress: float) -> float:
        """Return half a cosine over the whole training."""
        return cosine(progress, self.rate, self.floor * self.rate)

    def penalty(self, progress: float, allowed: int) -> float:
        """Return a constant until the budget is reached, then 0."""
        return self.l1 / allowed if progress < self.until else 0.0


@dataclass(frozen=True)
class OneShotPruning(Training):
    """One-shot magnitude pruning: train dense, cut to the budget by |w| at once, train the survivors.

    Both trainings start at the full step size. All layers compete in one ranking, and a weight without a path is not
    kept.

    Use it as the baseline that every other way of pruning has to beat, or after a dense training that was needed
    anyway.

    Not for small budgets, where one cut takes more than training can mend: ``gmp``.
    """

    name: ClassVar[str] = "magnitude"
    question: ClassVar[str] = "train"
    convolves: ClassVar[bool] = True
    sums_over_rows: ClassVar[bool] = True
    paper: ClassVar[str] = "Han, Pool, Tran and Dally, Learning both weights and connections, 2015"

    rate: float = RATE
    floor: float = FLOOR
    curvature: float = setting(0.0, "cut by |w| v^(this/2), v the mean squared gradient; 0: by |w|", low=0, high=2)
    dense: float = setting(0.5, "share of the training before the cut", above=0, below=1)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> Run:
        return run_of(self, self, data, budget, rng, start)

    def living(self, progress: float, weights: int, allowed: int) -> int:
        """Return all, then the budget."""
        return weights if progress < self.dense else allowed

    def step_size(self, progress: float) -> float:
        """Return half a cosine in each training."""
        first = progress < self.dense
        share = progress / self.dense if first else (progress - self.dense) / (1 - self.dense)
        return cosine(share, self.rate, self.floor * self.rate)

    def penalty(self, progress: float, allowed: int) -> float:
        """Return 0."""
        return 0.0
