"""How a number changes while a network trains, as functions of ``progress`` in 0..1."""

import math


def cubic(progress: float, start: float, end: float, power: float = 3.0) -> float:
    """Fall from ``start`` to ``end``, fast at first: end + (start - end)(1 - progress)^power.

    Zhu and Gupta, To prune, or not to prune, 2017, equation 1 has power 3. Outside 0..1 the ends are held.
    """
    return end + (start - end) * (1 - min(max(progress, 0.0), 1.0)) ** power


def cosine(progress: float, start: float, end: float) -> float:
    """Go from ``start`` to ``end`` along half a cosine (Loshchilov and Hutter, SGDR, 2017, equation 5)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def removals(rate: float, start: int, end: int) -> list[int]:
    """List what is left of ``start`` after each removal of the share ``rate`` of it, at least one, down to ``end``."""
    left = []
    while start > end:
        start = max(end, start - max(1, int(rate * start)))
        left.append(start)
    return left
