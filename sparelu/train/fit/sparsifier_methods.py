"""The engine's methods as Fitters: a few lines each, over
:class:`~sparelu.train.fit.with_sparsifier.EngineTraining`.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from sparelu.method import setting
from sparelu.train.at_init import grasp, reinitialised, shuffled, snip, synflow
from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.fit.with_sparsifier import EngineTraining, Task
from sparelu.train.sparsifier.layer_densities import ALLOCATIONS, Masks
from sparelu.train.sparsifier.prunable import seeded
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration
from sparelu.train.static import Static

TEMPERATURE = 200.0
"""By which the authors of GraSP divide the outputs while scoring."""


@dataclass(frozen=True)
class RandomStart(EngineTraining):
    """The support starts at random, spread over the layers by ``allocation``.

    With ``fan_in`` "living" the first weights are scaled for the inputs that their units have left. With Adam that does
    not help a network of three layers: LeNet-300-100 with 2% of its weights, ten epochs, one seed, on 10000 of MNIST's
    training rows: RigL 96.3% instead of 96.6, a fixed support 95.0 instead of 95.3.
    """

    allocation: str = setting("erk", "how the nonzeros are spread over the layers", choices=tuple(ALLOCATIONS))
    fan_in: str = setting("all", "inputs of a unit that its first weights are scaled for", choices=("living", "all"))

    def choices(self, task: Task) -> Choices:
        """The budget, spread, drawn with the seed."""
        fan_in = "active" if self.fan_in == "living" else "all"
        return {"nonzeros": task.nonzeros, "allocation": self.allocation, "fan_in": fan_in, "seed": task.seed}


@dataclass(frozen=True)
class StaticTraining(RandomStart):
    """A random support that never moves: what every moving one has to beat."""

    name: ClassVar[str] = "static"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Evci et al., Rigging the lottery, 2020 (static baseline)"

    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """A fixed support."""
        return Static(module, optimizer, total_steps=total, **choices)


@dataclass(frozen=True)
class DynamicTraining(RandomStart):
    """The support moves while the network learns: a share of the weights is dropped and as many are grown."""

    every: int = setting(100, "minibatches between two moves of the support", low=1)
    fraction: float = setting(
        0.3, "share of the living weights that the first move drops; it falls to 0", above=0, high=1
    )
    until: float = setting(0.75, "share of the training in which the support moves", above=0, high=1)

    def plan(self, soft: bool = False) -> Exploration:
        """When the support moves and by how much."""
        return Exploration(every=self.every, fraction=self.fraction, until=self.until, soft=soft)


@dataclass(frozen=True)
class PlannedTraining(DynamicTraining):
    """A sparsifier of :mod:`sparelu.train.dynamic` that takes the plan and nothing else."""

    moves: ClassVar[Callable[..., Sparsifier]]

    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """The sparsifier ``moves`` with the plan."""
        return self.moves(module, optimizer, total_steps=total, plan=self.plan(), **choices)


@dataclass(frozen=True)
class RigLTraining(PlannedTraining):
    """Drop by magnitude, grow where the gradient is largest (RigL). The defaults are the authors' for MNIST."""

    name: ClassVar[str] = "rigl"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Evci et al., Rigging the lottery: making all tickets winners, 2020"
    moves: ClassVar[Callable[..., Sparsifier]] = RigL


@dataclass(frozen=True)
class SETTraining(PlannedTraining):
    """Drop by magnitude, grow at random (SET), with RigL's plan."""

    name: ClassVar[str] = "set"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Mocanu et al., Scalable training of artificial neural networks, 2018"
    moves: ClassVar[Callable[..., Sparsifier]] = SET


@dataclass(frozen=True)
class SNFSTraining(PlannedTraining):
    """Drop by magnitude, grow where the running mean of the gradient is largest (SNFS), with RigL's plan."""

    name: ClassVar[str] = "snfs"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Dettmers and Zettlemoyer, Sparse networks from scratch, 2019"
    moves: ClassVar[Callable[..., Sparsifier]] = SNFS


@dataclass(frozen=True)
class MESTTraining(DynamicTraining):
    """Drop by magnitude and gradient, grow at random beyond the budget, cut back at the next move (MEST).

    Between two moves more weights live than the budget has; networks of such iterates are cut to it by magnitude.
    """

    name: ClassVar[str] = "mest"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Yuan et al., MEST: accurate and fast memory-economic sparse training, 2021"

    gradient_weight: float = setting(1.0, "factor of the gradient's magnitude in the score for dropping", low=0)

    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """See :class:`~sparelu.train.dynamic.MEST`."""
        plan = self.plan(soft=True)
        weight = self.gradient_weight
        return MEST(module, optimizer, total_steps=total, plan=plan, gradient_weight=weight, **choices)


@dataclass(frozen=True)
class StartTraining(EngineTraining):
    """A support chosen before training, that never moves.

    Accuracy often stays when such a support is shuffled within each layer, or the weights are drawn anew: then neither
    the places nor their values were what helped (Frankle et al., Pruning neural networks at initialization, 2021).
    ``check`` trains with these instead, from the same seed.
    """

    allocation: str = setting("global", "how the nonzeros are spread over the layers", choices=tuple(ALLOCATIONS))
    check: str = setting(
        "none", "train the published check instead of the method", choices=("none", "shuffled", "reinitialised")
    )

    @abstractmethod
    def scored(self, task: Task) -> Masks:
        """The masks of the method."""

    def choices(self, task: Task) -> Choices:
        """The masks, or those of the check."""
        masks, g = self.scored(task), seeded(task.seed)
        if self.check == "shuffled":
            masks = shuffled(masks, g)
        if self.check == "reinitialised":
            task.module.load_state_dict(reinitialised(task.module, g, task.layers).state_dict())
        return {"masks": masks}

    def resumed(self, task: Task, masks: Masks) -> Choices:
        """The masks, which have not moved."""
        return {"masks": masks}

    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """A fixed support."""
        return Static(module, optimizer, total_steps=total, **choices)


@dataclass(frozen=True)
class SNIPTraining(StartTraining):
    """Keep the weights whose removal changes the loss most to first order (SNIP), then train."""

    name: ClassVar[str] = "snip"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Lee, Ajanthan and Torr, SNIP: single-shot network pruning, 2019"

    rows: int = setting(1000, "rows that the scores are computed on", low=1)
    rounds: int = setting(1, "cuts that lead to the budget, each scored anew", low=1)

    def scored(self, task: Task) -> Masks:
        """See :func:`~sparelu.train.at_init.snip`."""
        x, y = task.rows(self.rows)
        loss = partial(_loss, task=task, x=x, y=y, temperature=1.0)
        k, spread = task.nonzeros, self.allocation
        return snip(task.module, loss, nonzeros=k, rounds=self.rounds, layers=task.layers, allocation=spread)


@dataclass(frozen=True)
class GraSPTraining(StartTraining):
    """Keep the weights whose removal lowers the gradient norm most (GraSP), then train."""

    name: ClassVar[str] = "grasp"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Wang, Zhang and Grosse, Picking winning tickets before training, 2020"

    rows: int = setting(1000, "rows that the scores are computed on", low=1)

    def scored(self, task: Task) -> Masks:
        """See :func:`~sparelu.train.at_init.grasp`."""
        x, y = task.rows(self.rows)
        loss = partial(_loss, task=task, x=x, y=y, temperature=TEMPERATURE)
        return grasp(task.module, loss, nonzeros=task.nonzeros, layers=task.layers, allocation=self.allocation)


@dataclass(frozen=True)
class SynFlowTraining(StartTraining):
    """Keep the weights that carry the most synaptic flow, without data (SynFlow), then train."""

    name: ClassVar[str] = "synflow"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Tanaka et al., Pruning neural networks without any data, 2020"

    rounds: int = setting(100, "cuts that lead to the budget, each scored anew", low=1)

    def scored(self, task: Task) -> Masks:
        """See :func:`~sparelu.train.at_init.synflow`."""
        return synflow(
            task.module,
            (task.inputs,),
            nonzeros=task.nonzeros,
            rounds=self.rounds,
            layers=task.layers,
            allocation=self.allocation,
        )


def _loss(module: nn.Module, task: Task, x: torch.Tensor, y: torch.Tensor, temperature: float) -> torch.Tensor:
    return task.objective(module(x) / temperature, y)
