"""Supports that never move, and pruning by magnitude at once or step by step, on any module."""

from functools import partial
from typing import Unpack

from torch.nn import Module
from torch.optim import Optimizer

from sparelu.train.sparsifier.checks import inner_optimizer
from sparelu.train.sparsifier.scores import Score, at_random, by_curved_magnitude, by_magnitude
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier, UpdateRule
from sparelu.train.sparsifier.update_schedules import Fixed, Gradual, UpdateSchedule

FIXED, GRADUAL = Fixed(), Gradual()


class Static(Sparsifier):
    """A support that never moves: at random, or the ``masks`` given."""

    def __init__(
        self, model: Module, optimizer: Optimizer, *, total_steps: int = 1, **choices: Unpack[Choices]
    ) -> None:
        rule = UpdateRule(by_magnitude, at_random)
        super().__init__(model, optimizer, rule=rule, plan=FIXED, total_steps=total_steps, **choices)


class Magnitude(Sparsifier):
    """The largest weights of a trained model, chosen when this is made; training goes on from there."""

    def __init__(
        self, model: Module, optimizer: Optimizer, *, total_steps: int = 1, **choices: Unpack[Choices]
    ) -> None:
        rule = UpdateRule(by_magnitude, at_random, by_magnitude)
        super().__init__(model, optimizer, rule=rule, plan=FIXED, total_steps=total_steps, **choices)


class GradualMagnitude(Sparsifier):
    """Dense at first; the smallest weights go step by step (Zhu and Gupta, To prune, or not to prune, 2017).

    The authors prune every layer to the same density: ``allocation="uniform"``. With ``curvature`` the order is that of
    |w| v^(curvature/2), v the mean squared gradient that the optimiser keeps: 0.5 does better than the magnitude in
    ``sparelu fit --method gmp``, 1 is Optimal Brain Damage.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        plan: UpdateSchedule = GRADUAL,
        curvature: float = 0.0,
        **choices: Unpack[Choices],
    ) -> None:
        drop: Score = by_magnitude
        if curvature:
            drop = partial(by_curved_magnitude, optimizer=inner_optimizer(optimizer), power=curvature)
        rule = UpdateRule(drop, at_random, by_magnitude)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)
