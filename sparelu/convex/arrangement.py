"""All activation patterns of rows of rank three at most, exactly.

The rows' orthogonal planes cut the space of gates into cells, one for each pattern. Every cell of rows of full rank
has an extreme ray; a ray is orthogonal to two rows that are not parallel. Around a ray the rows that are not orthogonal
to it keep their sign, and those that are have the patterns of a plane. Signs that rounding could change are found in
rational arithmetic, so that rows in special position (grids, doubles, a constant column) are enumerated exactly too.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from sparelu.convex.patterns import Patterns, distinct_patterns

RANK = 3
"""Largest rank of the rows that is enumerated."""

DOUBT = 128 * np.finfo(float).eps
"""Rounding of the determinant of three vectors of entries at most one, each itself rounded twice."""

Exact = tuple[Fraction, ...]
Pair = tuple[Fraction, Fraction]
Cell = tuple[np.ndarray, np.ndarray]
Cells = Iterator[Cell]
"""Signs (cells, lines) of the lines, and a point (cells, rank) in each cell."""


def independent_columns(x: np.ndarray) -> list[int] | None:
    """Return columns of ``x`` (n, d) that span all of them, found without rounding; None when the rank is above three.

    The patterns of these columns alone are those of all: X g = X_r (M g), and M g is any vector.
    """
    if np.linalg.matrix_rank(x) > RANK:
        return None
    basis: list[list[Fraction]] = []
    chosen: list[int] = []
    for j in range(x.shape[1]):
        column = [Fraction(v) for v in x[:, j].tolist()]
        for known in basis:
            at = next(i for i, v in enumerate(known) if v)
            if column[at]:
                ratio = column[at] / known[at]
                column = [a - ratio * b for a, b in zip(column, known, strict=True)]
        if any(column):
            basis.append(column)
            chosen.append(j)
            if len(chosen) > RANK:
                return None
    return chosen


def enumerate_patterns(x: np.ndarray) -> Patterns | None:
    """Return every pattern that a gate in general position has on rows ``x`` (n, d), but for the empty one.

    None when the rank of ``x`` is above three. A gate strictly inside is given with each; where float64 cannot tell a
    cell from its neighbour, the gate lies in the neighbour and the pattern is still right.
    """
    chosen = independent_columns(x)
    if chosen is None:
        return None
    lines = _Lines(x[:, chosen])
    bits, inside = [], []
    for signs, points in (_point, _line, _plane, _space)[len(chosen)](lines):
        bits.append(np.packbits(lines.patterns(signs), axis=1))
        inside.append(points)
    gates = np.zeros((sum(map(len, inside)), x.shape[1]))
    gates[:, chosen] = np.vstack(inside)
    found = distinct_patterns(np.vstack(bits), gates, len(x))
    return Patterns(found.bits, found.rows, found.gates, complete=True)


class _Lines:
    """The distinct lines on which the rows lie: ``exact`` directions, and for each row its line and side."""

    def __init__(self, x: np.ndarray) -> None:
        self.exact: list[Exact] = []
        known: dict[Exact, int] = {}
        self.line, self.side = np.zeros(len(x), np.int64), np.zeros(len(x), np.int8)
        for r, row in enumerate(x.tolist()):
            exact = tuple(Fraction(v) for v in row)
            lead = next((v for v in exact if v), None)
            if lead is None:
                continue
            key = tuple(v / lead for v in exact)
            self.line[r] = known.setdefault(key, len(self.exact))
            if self.line[r] == len(self.exact):
                self.exact.append(key)
            self.side[r] = 1 if lead > 0 else -1
        scaled = np.array([[float(v) for v in key] for key in self.exact]).reshape(len(self.exact), x.shape[1])
        self.near = scaled / np.abs(scaled).max(axis=1, keepdims=True) if len(scaled) else scaled

    def patterns(self, signs: np.ndarray) -> np.ndarray:
        """Return the patterns (P, n) of the rows for signs (P, lines) of the lines; rows of zeros are active."""
        if not self.exact:
            return np.ones((len(signs), len(self.side)), dtype=bool)
        return np.asarray(signs[:, self.line] * self.side >= 0)


def _point(lines: _Lines) -> Cells:
    yield np.zeros((1, 0), np.int8), np.zeros((1, 0))


def _line(lines: _Lines) -> Cells:
    ends = np.array([[1], [-1]], np.int8)
    yield ends, ends.astype(float)


def _plane(lines: _Lines) -> Cells:
    signs, points = _around([(v[0], v[1]) for v in lines.exact])
    yield signs, np.array([[float(a), float(b)] for a, b in points])


def _around(vectors: list[Pair]) -> tuple[np.ndarray, list[Pair]]:
    """Return for every sector that the lines orthogonal to ``vectors`` (pairwise not parallel) cut: signs, a point.

    Crossing the line of a vector changes the sign of that vector alone, so the signs (2 m, m) follow from the first.
    """
    rays = [_upper((-b, a)) for a, b in vectors]
    # Sorting by the slope -a / b of a ray (a, b) with b > 0 is exact; the ray with b = 0 points along +x: the first.
    order = sorted(range(len(rays)), key=lambda i: (bool(rays[i][1]), -rays[i][0] / (rays[i][1] or 1)))
    circle = [rays[i] for i in order] + [(-rays[i][0], -rays[i][1]) for i in order]
    if len(circle) == 2:
        a, b = circle[0]
        points = [(-b, a), (b, -a)]
    else:
        points = [(p[0] + q[0], p[1] + q[1]) for p, q in zip(circle, circle[1:] + circle[:1], strict=True)]
    flips = np.ones((len(points), len(vectors)), np.int8)
    for cell in range(1, len(points)):
        flips[cell, order[cell % len(order)]] = -1
    first = np.array([_sign(a * points[0][0] + b * points[0][1]) for a, b in vectors], np.int8)
    return first * np.cumprod(flips, axis=0, dtype=np.int8), points


def _upper(ray: Pair) -> Pair:
    size = max(abs(ray[0]), abs(ray[1])) * (1 if ray[1] > 0 or (ray[1] == 0 and ray[0] > 0) else -1)
    return ray[0] / size, ray[1] / size


def _space(lines: _Lines) -> Cells:
    for a in range(len(lines.exact) - 1):
        others = np.arange(a + 1, len(lines.exact))
        rays = np.cross(lines.near[a], lines.near[others])
        values = rays @ lines.near.T
        values[:, a] = values[np.arange(len(others)), others] = np.inf
        sure = (np.abs(values) > DOUBT).all(axis=1)
        if sure.any():
            yield _simple_rays(lines, a, others[sure], rays[sure], values[sure])
        for b in others[~sure].tolist():
            yield from _special_ray(lines, a, b)


def _simple_rays(lines: _Lines, a: int, b: np.ndarray, rays: np.ndarray, values: np.ndarray) -> Cell:
    """Return the eight cells about the two rays orthogonal to lines a and b alone, for every b."""
    size = np.linalg.norm(rays, axis=1, keepdims=True)
    towards_a, towards_b = np.cross(lines.near[b], rays) / size, np.cross(rays, lines.near[a]) / size
    signs, points = [], []
    free = np.abs(values)
    free[:, a] = free[np.arange(len(b)), b] = np.inf
    for side in (1, -1):
        for first in (1, -1):
            for second in (1, -1):
                sign = (side * np.sign(values)).astype(np.int8)
                sign[:, a], sign[np.arange(len(b)), b] = first, second
                inside = first * towards_a + second * towards_b
                signs.append(sign)
                points.append(side * rays + _room(lines, free, inside)[:, None] * inside)
    return np.vstack(signs), np.vstack(points)


def _room(lines: _Lines, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return how far one may go from each ray towards ``inside`` before half the way to another line is gone."""
    moved = np.abs(inside @ lines.near.T)
    ratio = np.divide(values, moved, out=np.full_like(values, np.inf), where=moved > 0)
    return np.asarray(np.minimum(1.0, 0.5 * ratio.min(axis=1)))


def _special_ray(lines: _Lines, a: int, b: int) -> Cells:
    """Yield the cells about the two rays orthogonal to lines a, b and perhaps others; nothing if met before."""
    ray = _cross(lines.exact[a], lines.exact[b])
    at = np.array([_sign(_dot(v, ray)) for v in lines.exact], np.int8)
    zero = np.flatnonzero(at == 0)
    if zero[0] != a or zero[1] != b:
        return
    first = lines.exact[a]
    second = _cross(ray, first)
    local, points = _around([(_dot(lines.exact[i], first), _dot(lines.exact[i], second)) for i in zero.tolist()])
    inside = np.array([_rounded([p * f + q * s for f, s in zip(first, second, strict=True)]) for p, q in points])
    u = _rounded(list(ray))
    values = np.where(at == 0, np.inf, np.abs(lines.near @ u))
    for side in (1, -1):
        sign = np.tile((side * at).astype(np.int8), (len(points), 1))
        sign[:, zero] = local
        yield sign, side * u + _room(lines, np.tile(values, (len(points), 1)), inside)[:, None] * inside


def _rounded(v: list[Fraction]) -> np.ndarray:
    """Return an exact vector in float64, its largest entry one."""
    size = max(abs(a) for a in v)
    return np.array([float(a / size) for a in v])


def _cross(a: Exact, b: Exact) -> Exact:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Exact, b: Exact) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)
