"""When the support changes and by how much. A plan knows the step and the size of a pool, never the weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sparelu.train.sparsifier.decay import cosine, cubic


@dataclass(frozen=True)
class Update:
    """Keep the ``keep`` best active weights, then grow ``grow`` among all others, those just dropped included."""

    keep: int
    grow: int


class NoUpdateWarning(UserWarning):
    """A plan never moves the support in the steps that a training has."""


class UpdateSchedule(ABC):
    """What happens at each step to a pool of ``size`` weights with room for ``nonzeros``."""

    moves: ClassVar[bool] = True

    @abstractmethod
    def first(self, nonzeros: int, size: int) -> int:
        """Return the active weights before the first step."""

    @abstractmethod
    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Return the move of ``step`` (from 0) of ``total``; None when the support stays."""


@dataclass(frozen=True)
class Fixed(UpdateSchedule):
    """The support never changes."""

    moves: ClassVar[bool] = False

    def first(self, nonzeros: int, size: int) -> int:
        """Return all of the budget."""
        return nonzeros

    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Return None."""
        return None


@dataclass(frozen=True)
class Exploration(UpdateSchedule):
    """Drop and grow a share of the active weights every ``every`` steps, up to the share ``until`` of the training.

    The share falls from ``fraction`` to ``last`` along half a cosine: f(t) = (alpha / 2)(1 + cos(pi t / T_end)) of Evci
    et al., Rigging the lottery, 2020, with its defaults. With ``soft`` the weights are grown beyond the budget, train
    until the next visit, and are cut back then (Yuan et al., MEST, 2021); the last visit only cuts.

    Steps before ``begin`` move nothing. The authors begin at step 0; by default step 0 is an ordinary one here, since
    torch's learning rate schedulers warn when the first step is not the optimiser's.
    """

    every: int = 100
    fraction: float = 0.3
    last: float = 0.0
    until: float = 0.75
    soft: bool = False
    begin: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.last <= self.fraction <= 1 or not 0 < self.until <= 1:
            raise ValueError(f"{self} needs every >= 1, 0 <= last <= fraction <= 1 and 0 < until <= 1")

    def first(self, nonzeros: int, size: int) -> int:
        """Return all of the budget."""
        return nonzeros

    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Exchange int(f(t) nonzeros) weights, where that is any."""
        end = int(self.until * total)
        if not self.begin <= step <= end or step % self.every:
            return None
        count = int(cosine(step / max(1, end), self.fraction, self.last) * nonzeros)
        if not self.soft:
            return Update(nonzeros - count, count) if count else None
        return Update(nonzeros, 0 if step + self.every > end else min(count, size - nonzeros))


@dataclass(frozen=True)
class Gradual(UpdateSchedule):
    """From all weights to the budget between the shares ``begin`` and ``until`` of the training, fast at first.

    Zhu and Gupta, To prune, or not to prune, 2017, equation 1. Every ``every`` steps, and at the last, exactly.
    """

    every: int = 100
    begin: float = 0.0
    until: float = 0.75
    power: float = 3.0

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.begin < self.until <= 1 or self.power <= 0:
            raise ValueError(f"{self} needs every >= 1, 0 <= begin < until <= 1 and power > 0")

    def first(self, nonzeros: int, size: int) -> int:
        """Return all weights."""
        return size

    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Keep as many as are left at this step."""
        begin, end = int(self.begin * total), min(int(self.until * total), total - 1)
        if not begin <= step <= end or ((step - begin) % self.every and step != end):
            return None
        progress = (step - begin) / (end - begin) if end > begin else 1.0
        return Update(round(cubic(progress, size, nonzeros, self.power)), 0)


ITOP_SET = Exploration(every=1500, fraction=0.5, last=0.005, until=1.0)
"""Liu et al., Do we actually need dense over-parameterization?, 2021: the settings for SET."""

ITOP_RIGL = Exploration(every=4000, fraction=0.5, last=0.005, until=1.0)
"""The same paper: the settings for RigL."""
