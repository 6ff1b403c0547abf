"""SET as its authors drop: a Fitter on the engine in one file, ``sparelu/train/fit/signed_set.py``."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from sparelu.data import Budget, Data
from sparelu.outcome import State
from sparelu.train.fit.sparsifier_methods import (
    ALLOCATION,
    EVERY,
    FAN_IN,
    FRACTION,
    UNTIL,
    explore,
    start_at_random,
)
from sparelu.train.fit.training import FLOOR, RATE, Training
from sparelu.train.fit.with_sparsifier import SparsifierRun
from sparelu.train.sparsifier.scores import at_random, by_magnitude_of_its_sign
from sparelu.train.sparsifier.sparsifier import Sparsifier, UpdateRule


@dataclass(frozen=True)
class SignedSETTraining(Training):
    """Drop the same share of the positive and of the negative weights by magnitude, grow at random.

    Source: Mocanu et al., Scalable training of artificial neural networks, 2018, as their code does it. Departs from
    it: the share that is dropped falls to zero, as RigL's does, and new weights start at zero.
    """

    name: ClassVar[str] = "set-signed"
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
        """Draw the support, say what moves it, and how the step size falls."""
        moving = partial(Sparsifier, rule=UpdateRule(by_magnitude_of_its_sign, at_random), plan=explore(self))
        return SparsifierRun(self, start_at_random(self, moving), data, budget, rng, start)
