"""SET as its authors drop: a Fitter on the engine in one file, ``sparelu/train/fit/signed_set.py``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from sparelu.train.dynamic import at_random, by_magnitude_of_its_sign
from sparelu.train.fit.sparsifier_methods import PlannedTraining
from sparelu.train.sparsifier.sparsifier import Rule, Sparsifier


@dataclass(frozen=True)
class SignedSETTraining(PlannedTraining):
    """Drop the same share of the positive and of the negative weights by magnitude, grow at random.

    Source: Mocanu et al., Scalable training of artificial neural networks, 2018, as their code does it. Departs from
    it: the share that is dropped falls to zero, as RigL's does, and new weights start at zero.
    """

    name: ClassVar[str] = "set-signed"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Mocanu et al., Scalable training of artificial neural networks, 2018"

    moves: ClassVar[Callable[..., Sparsifier]] = partial(
        Sparsifier, rule=Rule(by_magnitude_of_its_sign, at_random, at_random)
    )
