"""Levenberg-Marquardt for models that are piecewise linear in their numbers (Marquardt 1963; Nocedal and Wright 10.3).

Undamped steps end in a few rounds once it is known which piece every row is on: a step that ends where its linear
model promised is the last. The normal equations serve as long as steps gain a factor of ten.
"""

import math
from typing import Any, Protocol, TypeVar, runtime_checkable

NOTHING = 1e-9
"""Share of the squared error that a step must promise to be tried: float64 does not show less."""
DAMPING = 1e-6
"""Damping of the first step, relative to the diagonal of the normal equations."""
FURTHER = 10.0
"""What damping is multiplied by when a step fails and divided by when one is taken; a gain by which equations serve."""
TRIALS = 9
"""Steps of growing damping that are tried at one point."""


@runtime_checkable
class DescentPoint(Protocol):
    """Numbers with the error and the gradient there."""

    @property
    def level(self) -> float:
        """Return the log of the error; every step lowers it."""

    @property
    def met(self) -> bool:
        """Tell whether the error is rounding."""

    def left_of(self, before: Any) -> float:
        """Return the squared error as a share of that at the point ``before``."""


P = TypeVar("P", bound=DescentPoint)
E = TypeVar("E")


@runtime_checkable
class Problem(Protocol[P, E]):
    """Least squares over the numbers of a support."""

    def equations(self, point: P) -> E:
        """Return the normal equations at a point."""

    def solve(self, point: P, equations: E, damping: float) -> tuple[Any, float, float]:
        """Return the numbers after a damped step, the share of the error that it promises to take, the damping."""

    def evaluate(self, numbers: Any, before: P) -> P:
        """Return the point of such numbers, after a step from ``before``."""


def levenberg_marquardt(
    problem: Problem[P, E], point: P, equations: E | None = None, *, steps: int, enough: float
) -> tuple[P, E]:
    """Return the point where a step gains less than the fraction ``enough``, or after ``steps``; and the equations."""
    found = problem.equations(point) if equations is None else equations
    damping = DAMPING
    for _ in range(steps):
        moved = _step(problem, point, found, damping)
        if moved is None:
            break
        after, promised, damping = moved
        gain, left = point.level - after.level, after.left_of(point)
        point = after
        if gain < enough or abs(left - (1 - promised)) < enough * left or point.met:
            break
        if gain < math.log(FURTHER):
            found = problem.equations(point)
    return point, found


def _step(problem: Problem[P, E], point: P, equations: E, damping: float) -> tuple[P, float, float] | None:
    """Return the point after a step that lowers the error, its promise and the next damping; None if none does."""
    for _ in range(TRIALS):
        numbers, promise, damping = problem.solve(point, equations, damping)
        if promise < NOTHING:
            break
        after = problem.evaluate(numbers, point)
        if after.level < point.level:
            return after, promise, damping / FURTHER
        damping = max(damping * FURTHER, NOTHING)
    return None
