"""What makes a method: the scores that it drops and grows by, and what else it does at a step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor

from sparelu.train.sparsifier.layer_densities import Allocation
from sparelu.train.sparsifier.prunable import PrunableWeight
from sparelu.train.sparsifier.scores import Score
from sparelu.train.sparsifier.selection import Choice, Names


@dataclass(frozen=True)
class UpdateRule:
    """A method: the active with the lowest ``drop`` go, those of all others with the highest ``grow`` come.

    ``start`` ranks the weights before the first step; without it they are drawn at random, and scaled for the inputs
    that are left. ``observe`` is called at every step while the gradients are still dense, and so is ``grow`` where the
    support moves. With ``replaces_step`` a step that moves the support takes no step of the optimiser; with
    ``restarts`` a weight dropped and grown in one move starts again at 0. ``after`` is called with the number of the
    step at its end, ``finish`` when the training ends before the plan does.
    """

    drop: Score
    grow: Score
    start: Score | None = None
    observe: Callable[[PrunableWeight], None] | None = None
    replaces_step: bool = False
    restarts: bool = False
    after: Callable[[int], None] | None = None
    finish: Callable[[], None] | None = None


class Choices(TypedDict, total=False):
    """What can be chosen for every method: see :class:`Sparsifier`."""

    density: float | Mapping[str, float] | None
    nonzeros: int | None
    masks: Mapping[str, Tensor] | None
    layers: Choice | None
    exclude: Choice
    parameters: Names
    allocation: str | Allocation
    fan_in: str
    seed: int
