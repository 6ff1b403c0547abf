"""L-BFGS for objectives that bend: limited memory (Nocedal 1980) with the line search of Lewis and Overton (2013).

A penalised sum of hinges has kinks in its weights, so the search asks for the weak Wolfe conditions alone, which
bisection finds almost surely for such functions too.
"""

from collections import deque
from typing import Protocol, runtime_checkable

from torch import Tensor

HISTORY = 20
"""Pairs of steps and changes of the gradient that are kept."""
DECREASE, CURVATURE = 1e-4, 0.9
"""The constants of the Wolfe conditions (Nocedal and Wright 2006, section 3.1)."""
TRIALS = 25
"""Steps tried along one direction."""
WINDOW, GAIN = 20, 0.02
"""Iterations of a window, and the share of the squared error that one must gain."""


@runtime_checkable
class Objective(Protocol):
    """Value and gradient over one vector; ``mse`` is the squared error within the last value."""

    mse: float

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]: ...


def minimise(objective: Objective, vector: Tensor, steps: int) -> Tensor:
    """Return the vector after ``steps`` iterations, or when a window of them gains less than ``GAIN`` of the mse."""
    value, slope = objective(vector)
    memory: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=HISTORY)
    before = float("inf")
    for i in range(steps):
        if i % WINDOW == 0:
            if before - value < GAIN * objective.mse:
                break
            before = value
        direction = _direction(slope, memory)
        first = min(1.0, 1 / max(float(slope.abs().sum()), 1e-300)) if not memory else 1.0
        found = _search(objective, vector, value, float(slope @ direction), direction, first)
        if found is None:
            break
        step, value, after = found
        change = after - slope
        vector, slope, curvature = vector + step, after, float(change @ step)
        if curvature > 1e-10 * float(change @ change):
            memory.append((step, change, curvature))
    return vector


def _direction(slope: Tensor, memory: deque[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Compute minus the approximate inverse Hessian times the gradient, by the recursion of two loops."""
    q, shares = -slope, []
    for step, change, curvature in reversed(memory):
        shares.append(float(step @ q) / curvature)
        q = q.add(change, alpha=-shares[-1])
    if memory:
        _, change, curvature = memory[-1]
        q = q * (curvature / float(change @ change))
    for step, change, curvature in memory:
        q = q.add_(step, alpha=shares.pop() - float(change @ q) / curvature)
    return q


def _search(
    objective: Objective, vector: Tensor, value: float, descent: float, direction: Tensor, first: float
) -> tuple[Tensor, float, Tensor] | None:
    """Find a step that meets the weak Wolfe conditions, with value and gradient; None if the value cannot fall.

    The bracket [low, high] is doubled while it is open and then halved; what falls is kept when the trials are used up.
    """
    low, high, size, best = 0.0, float("inf"), first, None
    for _ in range(TRIALS if descent < 0 else 0):
        step = size * direction
        after, slope = objective(vector + step)
        if not after <= value + DECREASE * size * descent:
            high = size
        else:
            best = step, after, slope
            if float(slope @ direction) >= CURVATURE * descent:
                return best
            low = size
        size = 2 * low if high == float("inf") else (low + high) / 2
    return best
