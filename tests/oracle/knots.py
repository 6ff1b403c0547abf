"""Oracles for interpolants of one variable, in rational arithmetic and by enumeration: slow, and independent
of the package.
"""

import itertools
import re
from fractions import Fraction

import numpy as np


def signs(x: np.ndarray, y: np.ndarray) -> str:
    """Signs of the second differences of sorted points, exactly: a text of + - 0."""
    u, v = ([Fraction(float(t)) for t in a] for a in (x, y))
    s = [(v[i + 1] - v[i]) / (u[i + 1] - u[i]) for i in range(len(u) - 1)]
    return "".join("+" if b > a else "-" if b < a else "0" for a, b in itertools.pairwise(s))


CELLS = {
    "+": [(-1, -1, True), (0, -1, False), (1, -1, True), (1, 0, False), (1, 1, True)],
    "-": [(-1, -1, True), (-1, 0, False), (-1, 1, True), (0, 1, False), (1, 1, True)],
    "0": [(-1, -1, True), (0, 0, False), (1, 1, True)],
}
"""Where a slope at an inner point lies against the secants left and right of it, and whether that leaves
freedom.
"""


def fewest_knots(bends: str) -> tuple[int, bool]:
    """Least number of knots over all piecewise-linear interpolants, and whether one function alone attains
    it.

    Dynamic program over the slopes on both sides of every point, in cells between the two secants. Between
    neighbours: no knot when both slopes are the secant's, one when they lie strictly on opposite sides of it,
    else two; one more for a knot at a point.
    """
    now = [(side, (0, 1, side != 0)) for side in (-1, 0, 1)]
    for sign in bends:
        cells = CELLS[sign]
        arrive = [_best([_across(v, u, left, free) for u, v in now]) for left, _, free in cells]
        now = [
            (right, _best([(a[0] + (i != j), a[1], a[2] or free) for i, a in enumerate(arrive)]))
            for j, (_, right, free) in enumerate(cells)
        ]
    knots, ways, free = _best([_across(v, u, side, side != 0) for side in (-1, 0, 1) for u, v in now])
    return knots, ways == 1 and not free


def _across(value: tuple[int, int, bool], left: int, right: int, free: bool) -> tuple[int, int, bool]:
    knots = 0 if left == right == 0 else 1 if left * right == -1 else 2
    return value[0] + knots, value[1], value[2] or free or knots == 2


def _best(options: list[tuple[int, int, bool]]) -> tuple[int, int, bool]:
    least = min(o[0] for o in options)
    kept = [o for o in options if o[0] == least]
    return least, min(2, sum(o[1] for o in kept)), any(o[2] for o in kept)


def vertex_costs(x: np.ndarray, y: np.ndarray, p: float) -> list[list[tuple[int, float]]]:
    """For each run of equal signs, (knots, sum |slope change|^p) of all vertices u_j in {s_{i+j-1}, s_{i+j}}
    of Theorem 3.1.
    """
    s = np.diff(y) / np.diff(x)
    found = []
    for run in re.finditer(r"\++|-+", signs(x, y)):
        first, last = s[run.start()], s[run.end()]
        choices = [(s[j], s[j + 1]) for j in range(run.start() + 1, run.end() - 1)]
        chains = [np.array([first, *inner, last]) for inner in itertools.product(*choices)]
        steps = [np.abs(np.diff(c)) for c in chains]
        found.append([(int((d > 0).sum()), float((d[d > 0] ** p).sum())) for d in steps])
    return found
