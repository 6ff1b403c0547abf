"""Dynamic sparse training: SET, RigL, SNFS and MEST differ in the scores for dropping and growing.

Each is made with ``Method(model, optimizer, density=..., total_steps=...)``; what else can be chosen is in
:data:`~sparelu.train.sparsifier.sparsifier.Choices`. ``plan`` takes
:data:`~sparelu.train.sparsifier.update_schedules.ITOP_SET` and others.
"""

from functools import partial
from typing import Unpack

from torch.nn import Module
from torch.optim import Optimizer

from sparelu.train.sparsifier.scores import (
    at_random,
    by_gradient,
    by_magnitude,
    by_magnitude_and_gradient,
    by_mean_gradient,
    remember_gradient,
)
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier, UpdateRule
from sparelu.train.sparsifier.update_schedules import Exploration, UpdateSchedule

RIGL_PLAN, MEST_PLAN = Exploration(), Exploration(soft=True)


class SET(Sparsifier):
    """Drop by magnitude after the step, grow at random (Mocanu et al., 2018), with the plan of RigL.

    The authors' code drops once in an epoch, 30%, among positive and negative weights apart: use :class:`Sparsifier`
    with ``rule=UpdateRule(by_magnitude_of_its_sign, at_random)`` for that. New weights start at 0, not at random.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: UpdateSchedule = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = UpdateRule(by_magnitude, at_random)
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
        plan: UpdateSchedule = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = UpdateRule(by_magnitude, by_gradient, replaces_step=True)
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
        plan: UpdateSchedule = RIGL_PLAN,
        **choices: Unpack[Choices],
    ) -> None:
        rule = UpdateRule(by_magnitude, by_mean_gradient, observe=remember_gradient)
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
        plan: UpdateSchedule = MEST_PLAN,
        gradient_weight: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        rule = UpdateRule(partial(by_magnitude_and_gradient, weight=gradient_weight), at_random)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)
