"""Second differences of points on a line, with signs that rounding cannot change.

Whether three points are collinear, and which way they bend, decides how many knots an interpolant needs. The
sign of

    det = (y2 - y1) (x1 - x0) - (y1 - y0) (x2 - x1)

is therefore computed exactly for the numbers as given: in floating point with error-free transformations
(Dekker 1971, Knuth 1969), and in rational arithmetic for the few triples that these leave open.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

EPS = float(np.finfo(np.float64).eps)
SPLIT = 2.0 ** ((np.finfo(np.float64).nmant + 2) // 2) + 1.0
"""Veltkamp's factor: splits a number into two of half its bits."""
SMALL = 1e-140
LARGE = 1 / SMALL
"""Outside of these factors a product or its rounding error can leave the range of float64."""
CANCELLED = 1e-3
"""A difference of products above this share of them is right to 1e-12 in plain float64."""
CHUNK = 1 << 15
"""Points worked on at once: they stay in cache."""


class PointsError(ValueError):
    """Say that the points cannot be interpolated; the message says which, and what was wanted."""


@dataclass(frozen=True, eq=False)
class Points:
    """Hold points sorted by x, each x once, and what their second differences say.

    ``slopes`` (n-1,) are the secants; ``bends`` (n-2,) the slope changes at the inner points, exact in sign
    and zero exactly where three points are collinear; ``doubtful`` (n-2,) marks bends that are not zero but
    could be, within half a unit in the last place of the numbers given; ``merged`` counts repeated points;
    ``close`` counts neighbours whose distance in x is below four units in the last place; ``precision`` is
    the relative unit of the coarser input.
    """

    x: np.ndarray
    y: np.ndarray
    slopes: np.ndarray
    bends: np.ndarray
    doubtful: np.ndarray
    merged: int
    close: int
    precision: float = EPS


def sort_points(x: ArrayLike, y: ArrayLike) -> Points:
    """Sort the points (n,), merge repeated ones, and take their second differences.

    Raises :class:`PointsError` for fewer than two points, values that are not finite, two values at one x,
    and slopes that float64 cannot hold.
    """
    given = [np.asarray(a) for a in (x, y)]
    _check_integers(given)
    ulp = [_half_ulp(a) for a in given]
    xs, ys = (np.ravel(a).astype(np.float64) for a in given)
    _check(xs, ys)
    order = np.arange(xs.size)
    if not (xs[1:] >= xs[:-1]).all():
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    keep = np.concatenate([[True], xs[1:] != xs[:-1]])
    _check_repeats(xs, ys, keep, order)
    merged = int(keep.size - keep.sum())
    if merged:
        xs, ys = xs[keep], ys[keep]
    if xs.size < 2:
        raise PointsError(f"an interpolant needs points at two places at least, got {xs.size}")
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = np.diff(ys) / np.diff(xs)
        bends, det = _bends(xs, ys)
    if not (np.isfinite(slopes).all() and np.isfinite(bends).all()):
        raise PointsError("slopes between neighbours overflow float64: scale x up or y down")
    doubtful = _doubtful(xs, ys, det, *ulp)
    close = int(np.count_nonzero(np.diff(xs) < 4 * EPS * np.maximum(np.abs(xs[1:]), np.abs(xs[:-1]))))
    return Points(xs, ys, slopes, bends, doubtful, merged, close, max(EPS, 2 * max(ulp)))


def _half_ulp(values: np.ndarray) -> float:
    """Return the relative half unit in the last place; 0 where all values are whole numbers, which are taken as
    exact.
    """
    if values.dtype.kind != "f" or bool(np.all(values == np.rint(values))):
        return 0.0
    return float(np.finfo(values.dtype).eps) / 2


def _check_integers(given: list[np.ndarray]) -> None:
    for values in given:
        if values.dtype.kind in "iu" and values.size and int(np.abs(values).max()) > 2**53:
            raise PointsError("whole numbers above 2^53 are not exact in float64: subtract an offset or divide")


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if x.size != y.size:
        raise PointsError(f"x has {x.size} values and y {y.size}: one y for each x is wanted")
    if x.size < 2:
        raise PointsError(f"an interpolant needs two points at least, got {x.size}")
    bad = np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))
    if bad.size:
        raise PointsError(f"{bad.size} point(s) are not finite, the first is number {bad[0]}: remove or fill them")


def _check_repeats(x: np.ndarray, y: np.ndarray, keep: np.ndarray, order: np.ndarray) -> None:
    clash = np.flatnonzero(~keep[1:] & (y[1:] != y[:-1]))
    if clash.size == 0:
        return
    i = int(clash[0])
    rounding = abs(y[i + 1] - y[i]) <= 4 * EPS * max(abs(y[i]), abs(y[i + 1]))
    why = " (they differ by rounding only: round y first)" if rounding else ""
    raise PointsError(
        f"points {order[i]} and {order[i + 1]} contradict each other: x = {x[i]!r} with y = {y[i]!r} and y = "
        f"{y[i + 1]!r}{why}; {clash.size} such pair(s). No function interpolates them: average them, or fit with noise"
    )


def two_difference(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``a - b`` as a rounded value and its exact error."""
    d = a - b
    v = a - d
    return d, (a - (d + v)) + (v - b)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``a b`` as a rounded value and its exact error."""
    p = a * b
    s, t = SPLIT * a, SPLIT * b
    ah, bh = s - (s - a), t - (t - b)
    al, bl = a - ah, b - bh
    return p, al * bl - (((p - ah * bh) - al * bh) - ah * bl)


def _bends(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope changes (n-2,) with exact signs, and which of them half a unit in the last place could make
    zero.

    Chunks keep the work in cache; only where the two products nearly cancel are error-free transformations
    needed.
    """
    bends, det = np.empty(max(0, x.size - 2)), np.empty(max(0, x.size - 2))
    for start in range(0, bends.size, CHUNK):
        part = slice(start, min(start + CHUNK, bends.size))
        u, v = x[part.start : part.stop + 2], y[part.start : part.stop + 2]
        h, g = np.diff(u), np.diff(v)
        right, left = g[1:] * h[:-1], g[:-1] * h[1:]
        gap = right - left
        size = np.abs(right) + np.abs(left)
        open_ = np.flatnonzero(~((np.abs(gap) > CANCELLED * size) & (size > 1e-270) & (size < 1e270)))
        det[part] = gap
        bends[part] = gap / h[:-1] / h[1:]
        rows = open_[:, None] + np.arange(3)
        bends[start + open_], det[start + open_] = _careful(u[rows].T, v[rows].T)
    return bends, det


def _careful(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope change and determinant of triples, x and y (3, k), through error-free transformations."""
    (h0, h1), (h0_err, h1_err) = two_difference(x[1:], x[:-1])
    (g0, g1), (g0_err, g1_err) = two_difference(y[1:], y[:-1])
    right, right_err = two_product(g1, h0)
    left, left_err = two_product(g0, h1)
    gap, gap_err = two_difference(right, left)
    terms = (
        right_err - left_err,
        g1 * h0_err + g1_err * h0,
        -(g0 * h1_err + g0_err * h1),
        gap_err + g1_err * h0_err - g0_err * h1_err,
    )
    det = gap + sum(terms)
    # Differences without error and equal rounded products leave right_err - left_err alone, and a rounded
    # difference has the right sign. Otherwise ten roundings of the terms in `size` bound the error of det.
    size = np.abs(right_err) + np.abs(left_err) + np.abs(gap_err) + sum(np.abs(t) for t in terms)
    exact = (h0_err == 0) & (h1_err == 0) & (g0_err == 0) & (g1_err == 0) & (gap == 0)
    sure = exact | (np.abs(det) > 10 * EPS * size)
    for factor in (g0, g1, h0, h1):
        sure &= ((np.abs(factor) > SMALL) & (np.abs(factor) < LARGE)) | (factor == 0)
    bends = np.where(det == 0, 0.0, det / h0 / h1)
    for i in np.flatnonzero(~sure):
        bends[i], det[i] = _exact_bend(x[:, i].tolist(), y[:, i].tolist())
    return bends, det


def _exact_bend(x: list[float], y: list[float]) -> tuple[float, float]:
    a, b, c = (Fraction(v) for v in x)
    u, v, w = (Fraction(t) for t in y)
    det = (w - v) * (b - a) - (v - u) * (c - b)
    try:
        return float(det / ((b - a) * (c - b))), float(det)
    except OverflowError:
        return np.inf, np.inf


def _doubtful(x: np.ndarray, y: np.ndarray, det: np.ndarray, x_ulp: float, y_ulp: float) -> np.ndarray:
    """Find where det is not zero, yet no larger than it moves when each number given moves by half a unit in its
    last place.

    First order in the units; (n-2,).
    """
    found = np.zeros(det.size, dtype=bool)
    if x_ulp == 0 and y_ulp == 0:
        return found
    for start in range(0, det.size, CHUNK):
        stop = min(start + CHUNK, det.size)
        u, v = np.abs(x[start : stop + 2]), np.abs(y[start : stop + 2])
        h, g = np.diff(x[start : stop + 2]), np.diff(y[start : stop + 2])
        from_y = h[:-1] * v[2:] + (h[:-1] + h[1:]) * v[1:-1] + h[1:] * v[:-2]
        from_x = np.abs(g[:-1]) * u[2:] + np.abs(g[1:] + g[:-1]) * u[1:-1] + np.abs(g[1:]) * u[:-2]
        d = np.abs(det[start:stop])
        found[start:stop] = (d > 0) & (d <= y_ulp * from_y + x_ulp * from_x)
    return found


def straighten(given: Points) -> Points:
    """Return the points whose doubtful bends are zero, wherever a whole stretch of them lies within rounding of its
    chord.

    A stretch that bends away from its chord by more than four units in the last place of its largest |y| and
    |slope x|, taken at the precision of the doubtful bends, keeps its bends: it is a curve sampled finely,
    not a line.
    """
    flat = given.doubtful | (given.bends == 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
    slopes, bends = given.slopes.copy(), given.bends.copy()
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if not given.doubtful[first:last].any():
            continue
        x, y = given.x[first : last + 2], given.y[first : last + 2]
        chord = (y[-1] - y[0]) / (x[-1] - x[0])
        size = np.abs(y).max() + abs(chord) * np.abs(x).max()
        if np.abs(y[0] + chord * (x - x[0]) - y).max() <= 4 * given.precision * size:
            slopes[first : last + 1], bends[first:last] = chord, 0.0
    ends = np.flatnonzero(slopes != given.slopes)
    touched = np.unique(np.clip(np.concatenate([ends - 1, ends]), 0, max(0, bends.size - 1)))
    touched = touched[bends[touched] != 0] if bends.size else touched
    bends[touched] = slopes[touched + 1] - slopes[touched]
    return replace(given, slopes=slopes, bends=bends, doubtful=given.doubtful & (bends != 0))
