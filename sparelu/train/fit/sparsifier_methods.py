"""The methods that run on the engine, one row each: name, paper, settings, and what makes it (a ``Recipe``).

A new one needs its class here and its test: write the settings it has, and return the recipe in ``begin``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from sparelu.data import Budget, Data
from sparelu.method import setting
from sparelu.networks.network import Network
from sparelu.outcome import State
from sparelu.train.at_init import grasp, reinitialised, shuffled, snip, synflow
from sparelu.train.channels.chase import Chase, Removal, SoftBound
from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.fit.training import FLOOR, RATE, Check, Training, allowance
from sparelu.train.fit.with_sparsifier import Recipe, SparsifierRun, SparsifierTask
from sparelu.train.sparsifier.decay import cosine
from sparelu.train.sparsifier.layer_densities import ALLOCATIONS, Masks
from sparelu.train.sparsifier.prunable import seeded
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration
from sparelu.train.static import Static

TEMPERATURE = 200.0
"""By which the authors of GraSP divide the outputs while scoring."""

VISITS = 20
"""Moves of Chase's support at least: what a removal of channels takes away must be grown elsewhere before the end."""

CHECKS = ("none", "shuffled", "reinitialised")
"""Accuracy often stays when a support chosen before training is shuffled within each layer, or the weights are drawn
anew: then neither the places nor their values were what helped (Frankle et al., Pruning neural networks at
initialization, 2021)."""

ALLOCATION: str = setting("erk", "how the nonzeros are spread over the layers", choices=tuple(ALLOCATIONS))
FAN_IN: str = setting("all", "inputs of a unit that its first weights are scaled for", choices=("living", "all"))
EVERY: int = setting(100, "minibatches between two moves of the support", low=1)
FRACTION: float = setting(0.3, "share of the living weights that the first move drops; it falls to 0", above=0, high=1)
UNTIL: float = setting(0.75, "share of the training in which the support moves", above=0, high=1)
SPREAD: str = setting("global", "how the nonzeros are spread over the layers", choices=tuple(ALLOCATIONS))
CHECK: str = setting("none", "train the published check instead of the method", choices=CHECKS)
SCORED: int = setting(1000, "rows that the scores are computed on", low=1)


def start_at_random(method: Any, sparsifier: Callable[..., Sparsifier]) -> Recipe:
    """Begin at a support drawn at random, which ``sparsifier`` moves; the step size falls along half a cosine.

    Of the method its ``allocation``, ``fan_in``, ``rate`` and ``floor`` are read.
    """
    support = partial(draw_support, allocation=method.allocation, fan_in=method.fan_in)
    return Recipe(support, sparsifier, half_cosine(method.rate, method.floor))


def start_where_scored(method: Any, score: Callable[[SparsifierTask], Callable[..., Masks]]) -> Recipe:
    """Begin at the support that the score of a task chooses, and keep it.

    Of the method its ``allocation``, ``check``, ``rate`` and ``floor`` are read.
    """

    def support(task: SparsifierTask) -> Choices:
        return choose_support(task, score(task), method.allocation, method.check)

    return Recipe(support, Static, half_cosine(method.rate, method.floor), fixed=True)


def explore(method: Any, soft: bool = False) -> Exploration:
    """Return RigL's plan with the ``every``, ``fraction`` and ``until`` of a method."""
    return Exploration(every=method.every, fraction=method.fraction, until=method.until, soft=soft)


def half_cosine(rate: float, floor: float) -> Callable[[float], float]:
    """Return the schedule from ``rate`` to ``floor`` times it over the training."""
    return lambda progress: cosine(progress, rate, floor * rate)


def draw_support(task: SparsifierTask, allocation: str, fan_in: str) -> Choices:
    """Spread the budget over the layers and draw the places with the seed.

    With ``fan_in`` "living" the first weights are scaled for the inputs that their units have left: the default of the
    sparsifiers, which find weights as torch draws them, of a sixth of He's variance. Here He's start and Adam do better
    without. On a table of 100 inputs and five classes, 256-128, 10 epochs, two seeds: RigL with 5% of the weights 67.2
    and 70.0% instead of 73.5 and 74.7, with 1% 47.7 instead of 50.2; on 10000 of MNIST's training rows LeNet-300-100
    with 2%: RigL 96.3 instead of 96.6, a fixed support 95.0 instead of 95.3.
    """
    scaled = "active" if fan_in == "living" else "all"
    return {"nonzeros": task.nonzeros, "allocation": allocation, "fan_in": scaled, "seed": task.seed}


def choose_support(task: SparsifierTask, score: Callable[..., Masks], allocation: str, check: str) -> Choices:
    """Choose the places by ``score`` before training, or those of the published ``check`` (see :data:`CHECKS`)."""
    masks = score(task.module, nonzeros=task.nonzeros, layers=task.layers, allocation=allocation)
    g = seeded(task.seed)
    if check == "shuffled":
        masks = shuffled(masks, g)
    if check == "reinitialised":
        task.module.load_state_dict(reinitialised(task.module, g, task.layers).state_dict())
    return {"masks": masks}


@dataclass(frozen=True)
class StaticTraining(Training):
    """A random support that never moves: what every moving one has to beat.

    Use it as the baseline of sparse training: the weights that never move.

    Not for the best accuracy at a small density.
    """

    name: ClassVar[str] = "static"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Evci et al., Rigging the lottery, 2020 (static baseline)"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        return SparsifierRun(self, start_at_random(self, Static), data, budget, rng, start)


@dataclass(frozen=True)
class SETTraining(Training):
    """Drop by magnitude, grow at random (SET), with RigL's plan.

    Use it where the gradients of absent weights are not to be computed: growth is at random.

    Not for the smallest densities: at 1 % of LeNet-300-100 ``rigl`` was ahead of it.
    """

    name: ClassVar[str] = "set"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Mocanu et al., Scalable training of artificial neural networks, 2018"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN
    every: int = EVERY
    fraction: float = FRACTION
    until: float = UNTIL

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        recipe = start_at_random(self, partial(SET, plan=explore(self)))
        return SparsifierRun(self, recipe, data, budget, rng, start)


@dataclass(frozen=True)
class RigLTraining(Training):
    """Drop by magnitude, grow where the gradient is largest (RigL). The defaults are the authors' for MNIST.

    Use it to train with a fixed number of weights from start to end; ``auto`` takes it for convolutions.

    Not for small tables and multilayer perceptrons, where ``gmp`` kept more accuracy at equal budgets.
    """

    name: ClassVar[str] = "rigl"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Evci et al., Rigging the lottery: making all tickets winners, 2020"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN
    every: int = EVERY
    fraction: float = FRACTION
    until: float = UNTIL

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        recipe = start_at_random(self, partial(RigL, plan=explore(self)))
        return SparsifierRun(self, recipe, data, budget, rng, start)


@dataclass(frozen=True)
class SNFSTraining(Training):
    """Drop by magnitude, grow where the running mean of the gradient is largest (SNFS), with RigL's plan.

    Use it where single gradients are too noisy to grow by.

    Not where memory has to follow the nonzeros: the running mean of the gradient is dense.
    """

    name: ClassVar[str] = "snfs"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Dettmers and Zettlemoyer, Sparse networks from scratch, 2019"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN
    every: int = EVERY
    fraction: float = FRACTION
    until: float = UNTIL

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        recipe = start_at_random(self, partial(SNFS, plan=explore(self)))
        return SparsifierRun(self, recipe, data, budget, rng, start)


@dataclass(frozen=True)
class MESTTraining(Training):
    """Drop by magnitude and gradient, grow at random beyond the budget, cut back at the next move (MEST).

    Between two moves more weights live than the budget has; networks of such iterates are cut to it by magnitude.

    Use it where growth at random should be tried before weights are dropped.

    Not where the budget has to hold at every step: more weights live between two moves.
    """

    name: ClassVar[str] = "mest"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Yuan et al., MEST: accurate and fast memory-economic sparse training, 2021"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN
    every: int = EVERY
    fraction: float = FRACTION
    until: float = UNTIL
    gradient_weight: float = setting(1.0, "factor of the gradient's magnitude in the score for dropping", low=0)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        moving = partial(MEST, plan=explore(self, soft=True), gradient_weight=self.gradient_weight)
        return SparsifierRun(self, start_at_random(self, moving), data, budget, rng, start)


@dataclass(frozen=True)
class SNIPTraining(Training):
    """Keep the weights whose removal changes the loss most to first order (SNIP), then train.

    Use it where the support has to be fixed before training, and rows are at hand.

    Not for the smallest densities, where a layer may lose all its weights: ``synflow`` keeps paths.
    """

    name: ClassVar[str] = "snip"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Lee, Ajanthan and Torr, SNIP: single-shot network pruning, 2019"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = SPREAD
    check: str = CHECK
    rows: int = SCORED
    rounds: int = setting(1, "cuts that lead to the budget, each scored anew", low=1)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        def score(task: SparsifierTask) -> Callable[..., Masks]:
            return partial(snip, loss=_loss_on_rows(task, self.rows, 1.0), rounds=self.rounds)

        return SparsifierRun(self, start_where_scored(self, score), data, budget, rng, start)


@dataclass(frozen=True)
class GraSPTraining(Training):
    """Keep the weights whose removal lowers the gradient norm most (GraSP), then train.

    Use it to compare ways of choosing a support before training.

    Not for the smallest densities, where a layer may lose all its weights: ``synflow`` keeps paths.
    """

    name: ClassVar[str] = "grasp"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Wang, Zhang and Grosse, Picking winning tickets before training, 2020"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = SPREAD
    check: str = CHECK
    rows: int = SCORED

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        def score(task: SparsifierTask) -> Callable[..., Masks]:
            return partial(grasp, loss=_loss_on_rows(task, self.rows, TEMPERATURE))

        return SparsifierRun(self, start_where_scored(self, score), data, budget, rng, start)


@dataclass(frozen=True)
class SynFlowTraining(Training):
    """Keep the weights that carry the most synaptic flow, without data (SynFlow), then train.

    Use it where the support has to be fixed before training, without rows, at a small density.

    Not where the rows should decide: it never looks at them.
    """

    name: ClassVar[str] = "synflow"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Tanaka et al., Pruning neural networks without any data, 2020"
    convolves: ClassVar[bool] = True

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = SPREAD
    check: str = CHECK
    rounds: int = setting(100, "cuts that lead to the budget, each scored anew", low=1)

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        def score(task: SparsifierTask) -> Callable[..., Masks]:
            return partial(synflow, shape=(task.inputs,), rounds=self.rounds)

        return SparsifierRun(self, start_where_scored(self, score), data, budget, rng, start)


def refuse_narrow(method: "ChaseTraining", data: Data, budget: Budget) -> str | None:
    """Refuse counts of products, and layers too narrow to lose units."""
    if not method.channel_sparsity:
        return None
    if len(budget.hidden) == 1 and data.outputs == 1 and not budget.channels:
        return (
            "with one hidden layer and one output, products of weights are counted, and no unit is removed by "
            "itself: give two hidden widths, or channel_sparsity 0"
        )
    most = allowance(data, budget)
    widths = (*budget.channels, *(min(width, most) for width in budget.hidden))
    removal = Removal(until=method.until, floor=method.least_channels)
    least = [max(1, removal.least(width, method.channel_sparsity)) for width in widths]
    if sum(least) > round(sum(widths) * (1 - method.channel_sparsity)):
        return (
            f"a share of {method.channel_sparsity:g} of {widths} channels and units cannot go while each layer keeps "
            "one: lower channel_sparsity, or widen `hidden` or `channels`"
        )
    return None


@dataclass(frozen=True)
class ChaseTraining(Training):
    """Weights move over all layers together while the weakest channels and hidden units go (Chase).

    The network that comes back is without them: a module of it is smaller, not only sparser.

    Use it for networks that are to be smaller and faster as dense modules: whole channels go.

    Not where the widths are to stay.
    """

    name: ClassVar[str] = "chase"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Yin et al., Dynamic sparsity is channel-level sparsity learner, 2023"
    convolves: ClassVar[bool] = True
    checks: ClassVar[tuple[Check, ...]] = (refuse_narrow,)

    rate: float = RATE
    floor: float = FLOOR
    allocation: str = ALLOCATION
    fan_in: str = FAN_IN
    channel_sparsity: float = setting(0.4, "share of the channels and hidden units that go", low=0, below=1)
    every: int = setting(
        100, "minibatches between two moves of the support, at most a twentieth of the training", low=1
    )
    excess: float = setting(0.05, "share of all weights that first grows beyond the budget", low=0, high=1)
    until: float = setting(130 / 160, "share of the training in which channels go", above=0, high=1)
    least_channels: float = setting(
        0.5, "share of what an even removal would leave of a layer that is kept at least", low=0, high=1
    )

    def begin(self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None) -> SparsifierRun:
        recipe = replace(start_at_random(self, self._sparsifier), deliver=Network.compact)
        return SparsifierRun(self, recipe, data, budget, rng, start)

    def _sparsifier(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, total_steps: int, **choices: object
    ) -> Sparsifier:
        every = min(self.every, max(1, total_steps // VISITS))
        plan = SoftBound(every=every, excess=self.excess, until=self.until)
        removal = Removal(every=every, until=self.until, floor=self.least_channels)
        share = self.channel_sparsity
        make: Callable[..., Sparsifier] = Chase
        return make(
            module,
            optimizer,
            total_steps=total_steps,
            channel_sparsity=share,
            plan=plan,
            removal=removal,
            **choices,
        )


def _loss_on_rows(task: SparsifierTask, rows: int, temperature: float) -> Callable[[nn.Module], torch.Tensor]:
    """Return the loss on ``rows`` of the data, with outputs divided by ``temperature``."""
    x, y = task.rows(rows)
    return lambda module: task.objective(module(x) / temperature, y)
