"""Dynamic sparse training: SET, RigL, SNFS and MEST differ in the scores for dropping and growing.

Each is made with ``Method(model, optimizer, density=..., total_steps=...)``; what else can be chosen is in
:data:`~sparelu.train.sparsifier.sparsifier.Choices`. ``plan`` takes
:data:`~sparelu.train.sparsifier.update_schedules.ITOP_SET` and others.
"""

from functools import partial
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from sparelu.train.sparsifier.prunable import Part
from sparelu.train.sparsifier.scores import magnitude
from sparelu.train.sparsifier.sparsifier import Choices, Rule, Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration, Plan

RIGL_PLAN, MEST_PLAN = Exploration(), Exploration(soft=True)

DECAY = 0.9
"""Of the running mean of gradients in SNFS."""


def by_magnitude(part: Part, generator: torch.Generator) -> Tensor:
    """|w|."""
    return magnitude(part.weight.detach())


def by_magnitude_of_its_sign(part: Part, generator: torch.Generator) -> Tensor:
    """The share of the living weights of the same sign that are nearer to zero; zero itself counts as positive.

    Dropping the lowest then takes the same share of the positive and of the negative weights, as in the authors' SET.
    """
    score = torch.zeros_like(part.weight)
    weight = part.weight.detach()
    for side in ((weight < 0) & part.mask, (weight >= 0) & part.mask):
        values = weight[side].abs()
        rank = torch.empty_like(values)
        rank[values.argsort(stable=True)] = torch.arange(len(values), device=values.device).to(values)
        score[side] = rank / max(1, len(values))
    return score


def at_random(part: Part, generator: torch.Generator) -> Tensor:
    """Uniform numbers, drawn on the CPU so that they are the same on every device."""
    return torch.rand(part.weight.shape, generator=generator).to(part.weight.device)


def by_gradient(part: Part, generator: torch.Generator) -> Tensor:
    """|dL/dw| of the last batch, dropped weights included."""
    return part.gradient().abs()


def by_mean_gradient(part: Part, generator: torch.Generator) -> Tensor:
    """|running mean of dL/dw|."""
    return part.memory["mean"].abs()


def remember_gradient(part: Part) -> None:
    """Running mean of the dense gradient, from 0."""
    gradient = part.gradient()
    mean = part.memory.setdefault("mean", torch.zeros_like(gradient))
    mean.mul_(DECAY).add_(gradient, alpha=1 - DECAY)


def by_magnitude_and_gradient(part: Part, generator: torch.Generator, weight: float) -> Tensor:
    """|w| + ``weight`` |dL/dw|."""
    return part.weight.detach().abs() + weight * part.gradient().abs()


class SET(Sparsifier):
    """Drop by magnitude after the step, grow at random (Mocanu et al., 2018), with the plan of RigL.

    The authors' code drops once in an epoch, 30%, among positive and negative weights apart: use :class:`Sparsifier`
    with ``rule=Rule(by_magnitude_of_its_sign, at_random, at_random)`` for that. New weights start at 0, not at random.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: Plan = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = Rule(by_magnitude, at_random, at_random)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)


class RigL(Sparsifier):
    """Drop by magnitude, grow by the dense gradient of the batch, in place of the optimiser's step.

    Evci et al., Rigging the lottery, 2020, after the authors' code: weights just dropped may be grown again and keep
    their value then; new ones are 0, and so are their slots. Ties go to the earlier weight; the authors add noise.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: Plan = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = Rule(by_magnitude, by_gradient, at_random, replaces_step=True)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)


class SNFS(Sparsifier):
    """Drop by magnitude after the step, grow by the running mean of the dense gradient.

    Dettmers and Zettlemoyer, Sparse networks from scratch, 2019, as compared in Rigging the lottery: layers keep their
    numbers, while the original moves weights between layers (``allocation="global"`` does that in one ranking).
    The running mean takes the memory of one dense tensor for each layer.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: Plan = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = Rule(by_magnitude, by_mean_gradient, at_random, observe=remember_gradient)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)


class MEST(Sparsifier):
    """Drop by |w| + ``gradient_weight`` |dL/dw| after the step, grow at random, beyond the budget until the next visit.

    Yuan et al., MEST, 2021, with elastic mutation and soft memory bound. Between two visits of the support at most
    ``plan.fraction`` more weights than the budget live; from the last visit on, exactly the budget.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: Plan = MEST_PLAN,
        gradient_weight: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        rule = Rule(partial(by_magnitude_and_gradient, weight=gradient_weight), at_random, at_random)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)
