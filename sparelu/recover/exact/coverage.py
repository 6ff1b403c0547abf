"""Do rows lie where hinges are? What rows around every hinge decide, and rows that are copies of others.

A hinge is known by the rows on its two sides. Too few beyond it, or between it and another, are met by any weights;
and in a gap without rows any other function may bend: a step is two steep hinges that no row lies between.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from sparelu.data import Rows

NEIGHBOURS = 20
"""Rows next to a hinge on a side: by chance the gap about it is longer than all their spacings with 2^-20."""
EXACT = 1e-9
"""Relative size of w.x + b that is the rounding of a row on the hinge itself."""
AT_ONCE = 2**24
"""Numbers w.x + b held at a time: 128 MB."""
BLOCK = 8192
ASKED = 200
"""Rows kept apart whose nearest fitted row is sought."""
FITTED = 100_000
"""Fitted rows among which it is sought, at most: 160 MB of distances."""


def uncovered_hinges(weight: Float[np.ndarray, "k d"], bias: Float[np.ndarray, " k"], x: Rows) -> list[str]:
    """Return what leaves hinges of w.x + b open on rows ``x`` (n, d), a phrase for every kind; none where all is told.

    Of every neuron: rows beyond its hinge on the thinner side, and the gap about it; of every pair: rows between. The
    gap is compared with the next distinct values on either side, so rows on a grid have gaps as wide as their grid.
    """
    numbers = (weight != 0).sum(axis=1) + 1
    few, open_gap, coarse = [], [], []
    for first in range(0, len(weight), per := max(1, AT_ONCE // max(1, x.shape[0]))):
        own = slice(first, first + per)
        z = np.concatenate(list(_heights(weight[own], bias[own], x)))
        for j, column in enumerate(z.T, start=first):
            above, below = column[column > 0], -column[column < 0]
            if min(len(above), len(below)) <= numbers[j]:
                few.append(j)
            elif not _bracketed(above, below, len(column) > len(above) + len(below)):
                open_gap.append(j)
            elif any(_repeats(side) for side in (above, below)):
                coarse.append(j)
    near = _pairs_without_rows(weight, bias, x, numbers)
    return _words(few, open_gap, coarse, near)


def _words(few: list[int], open_gap: list[int], coarse: list[int], near: list[tuple[int, int]]) -> list[str]:
    words = []
    if few:
        words.append(f"{_named(few)}: no more rows lie beyond the hinge than it has weights; more rows there decide it")
    if open_gap:
        words.append(
            f"{_named(open_gap)}: the hinge lies in a gap without rows, in which the function may bend otherwise; "
            "rows in the gap decide it"
        )
    if coarse:
        words.append(
            f"{_named(coarse)}: w.x + b takes fewer than {NEIGHBOURS} values on a side; two hinges at the values next "
            "to this one are the same function on all of them"
        )
    if near:
        pairs = ", ".join(f"{a} and {b}" for a, b in near[:3]) + (", ..." if len(near) > 3 else "")
        words.append(
            f"neurons {pairs}: fewer rows lie between the two hinges than they have weights, as where a function jumps"
        )
    return words


def _named(neurons: list[int]) -> str:
    shown = ", ".join(map(str, neurons[:5])) + (", ..." if len(neurons) > 5 else "")
    return f"neuron{'s' if len(neurons) > 1 else ''} {shown}"


def _heights(weight: np.ndarray, bias: np.ndarray, x: Rows) -> Iterator[np.ndarray]:
    """Yield w.x + b of block after block, zero where that is the rounding of a row on the hinge."""
    for start in range(0, x.shape[0], BLOCK):
        part = np.asarray(x[start : start + BLOCK], dtype=np.float64)
        z = part @ weight.T + bias
        size = np.abs(part) @ np.abs(weight).T + np.abs(bias)
        yield np.where(np.abs(z) <= EXACT * size, 0.0, z)


def _nearest(side: np.ndarray) -> np.ndarray:
    """Return the ``NEIGHBOURS`` smallest distinct values of a side, all of them where there are fewer."""
    some = np.partition(side, 50 * NEIGHBOURS)[: 50 * NEIGHBOURS] if len(side) > 50 * NEIGHBOURS else side
    values = _distinct(some)
    return (values if len(values) >= NEIGHBOURS else _distinct(side))[:NEIGHBOURS]


def _distinct(values: np.ndarray) -> np.ndarray:
    values = np.sort(values)
    apart = np.diff(values, prepend=-math.inf) > EXACT * values
    return values[apart]


def _bracketed(above: np.ndarray, below: np.ndarray, met: bool) -> bool:
    """Tell whether the gap about 0 is no longer than the next spacings of either side, as where a row lies in it."""
    sides = [_nearest(above), _nearest(below)]
    gap = sides[0][0] + sides[1][0]
    spans = [side[-1] - side[0] for side in sides if len(side) == NEIGHBOURS]
    return met or all(gap <= span for span in spans)


def _repeats(side: np.ndarray) -> bool:
    """Tell whether a side has so few values because they repeat."""
    distinct = len(_nearest(side))
    return distinct < NEIGHBOURS and distinct < len(side)


def _pairs_without_rows(weight: np.ndarray, bias: np.ndarray, x: Rows, numbers: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of hinges that enclose fewer rows than they have weights.

    With s the signs of w.x + b, s's is the number of rows of one side less that of two: a product gives all pairs.
    """
    k = len(weight)
    signs, seen = np.zeros((k, k)), np.zeros((k, k))
    for z in _heights(weight, bias, x):
        side = np.sign(z)
        signs += side.T @ side
        seen += np.abs(side).T @ np.abs(side)
    between = (seen - np.abs(signs)) / 2
    first, second = np.nonzero(np.triu(between < numbers[:, None] + numbers, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def distinct_share(apart: Float[np.ndarray, "h d"], x: Rows) -> tuple[float, float]:
    """Return the share of rows ``apart`` without a near copy among ``x``, and one over the copies of a row, averaged.

    A copy is nearer than the ceil(sqrt n)-th neighbour by a factor of 100 sqrt n, which a row of a law with a density
    is with probability 0.01 on a line, and less in more dimensions.
    """
    if not len(apart) or not apart.shape[1]:
        return (1.0 if len(apart) else 0.0), 1.0
    some = apart[:: max(1, len(apart) // ASKED)][:ASKED].astype(np.float64)
    rows = np.asarray(x[: min(x.shape[0], FITTED)], dtype=np.float64)
    scale = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
    rows, some = (rows - rows.mean(axis=0)) / scale, (some - rows.mean(axis=0)) / scale
    k = min(len(rows) - 1, math.ceil(math.sqrt(len(rows))))
    squares = (some**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * some @ rows.T
    far = np.partition(squares, k, axis=1)[:, k]
    copies = (squares <= np.maximum(far / (100 * k) ** 2, EXACT**2)[:, None]).sum(axis=1)
    return float((copies == 0).mean()), float((1 / (1 + copies)).mean())
