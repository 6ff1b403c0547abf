"""The least sum of |slope change|^p over all interpolants: a chain of monomers and dimers.

The l^p-minimal interpolant of points with bends a_1, a_2, ... has one knot for every tile of a tiling of the
bends: a single bend a_j (knot at x_j), or two neighbours of equal sign (one knot of size a_j + a_{j+1}
between x_j and x_{j+1}). Bends that are zero have no tile, and part the chain. This is the vertex form of
Theorem 3.1 of Nakhleh & Nowak (2025): the choice of u_j between the two secants at x_{i+j} says whether bend
j is taken before or after.
"""

import numpy as np


def tile_runs(bends: np.ndarray, p: float) -> np.ndarray:
    """Find which bends open a dimer in the tiling of least sum |size|^p.

    Arguments: ``bends`` (m,), zero where three points are collinear, and ``p`` from 0 to 1. For p = 0 the
    limit p -> 0+ is taken: the fewest knots, and among those the least sum of log |size|. For p = 1 all
    tilings have one sum, and that of p = 0 is
    returned. Returns a boolean array (m,); a nonzero bend that is in no dimer is a tile by itself. O(m).
    """
    opens = np.zeros(bends.size, dtype=bool)
    live = np.flatnonzero(bends)
    if live.size:
        linked = np.concatenate([[False], _linked(live, bends)])
        size = np.abs(bends[live])
        opens[live] = _fewest(size, linked) if p in (0.0, 1.0) else _least(size, linked, p)
    return opens


def find_runs(bends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start (r,) and length (r,) of the maximal runs of neighbouring bends of equal nonzero sign."""
    live = np.flatnonzero(bends)
    if live.size == 0:
        return live, live
    first = np.concatenate([[True], ~_linked(live, bends)])
    starts = np.flatnonzero(first)
    return live[starts], np.diff(np.append(starts, live.size))


def _linked(live: np.ndarray, bends: np.ndarray) -> np.ndarray:
    return (np.diff(live) == 1) & ((bends[live[1:]] > 0) == (bends[live[:-1]] > 0))


def _fewest(size: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """Tile in the limit p -> 0+: dimers only in even runs; in odd runs one monomer, at the even place of the least sum
    of logarithms.

    Moving the monomer from place k to k + 2 replaces a_k and the dimer (k+1, k+2) by the dimer (k, k+1) and
    a_{k+2}.
    """
    starts = np.flatnonzero(~linked)
    length = np.diff(np.append(starts, size.size))
    run = np.repeat(np.arange(starts.size), length)
    place = np.arange(size.size) - starts[run]
    even = place % 2 == 0
    later = np.flatnonzero(even & (place >= 2))
    log = np.log(size)
    pair = np.log(np.maximum(size[:-1] + size[1:], np.finfo(float).tiny))
    step = np.zeros(size.size)
    step[later] = pair[later - 2] + log[later] - log[later - 2] - pair[later - 1]
    total = np.cumsum(step)
    total = np.where(even, total - total[starts[run]], np.inf)
    best = np.minimum.reduceat(total, starts)
    candidates = np.flatnonzero(total == best[run])
    monomer = place[candidates[np.unique(run[candidates], return_index=True)[1]]]
    monomer = np.where(length % 2 == 1, monomer, size.size)
    before = place < monomer[run]
    return np.where(before, even, (place > monomer[run]) & ~even)


def _least(size: np.ndarray, linked: np.ndarray, p: float) -> np.ndarray:
    """Tile for 0 < p < 1 by dynamic programming.

    With V_j the least sum for the first j bends and e_j = V_j - V_{j-1},  e_j = min(A_j, D_j - e_{j-1}), A
    and D the costs of the monomer j and of the dimer (j-1, j). The differences e stay in [0, max A], and so
    does their rounding.
    """
    single = size**p
    cap = float(single.max())
    double = np.full(size.size, 3 * cap)
    double[1:][linked[1:]] = ((size[1:] + size[:-1])[linked[1:]]) ** p
    closes = _closes_dimer(single, double, cap)
    # Read from the right, a dimer closes at the last of a row of True, and then at every second one.
    place = np.arange(size.size)
    stops = np.where(np.append(~closes[1:], True), place, size.size)
    end = np.minimum.accumulate(stops[::-1])[::-1]
    return np.append((closes & ((end - place) % 2 == 0))[1:], False)


def _closes_dimer(single: np.ndarray, double: np.ndarray, cap: float) -> np.ndarray:
    """Find where D_j - e_{j-1} <= A_j, for all j: sqrt(m) steps on arrays of sqrt(m).

    The chain is cut into blocks. The map from e before a block to e after it is clip(s e + c, low, high) with
    s = +-1, a form that composition keeps; one pass finds the maps, a short loop joins them, and a second
    pass goes through all blocks at once.
    """
    m = single.size
    steps = max(1, int(np.sqrt(m)))
    blocks = -(-m // steps)
    pad = steps * blocks - m
    a = np.ascontiguousarray(np.pad(single, (0, pad), constant_values=cap).reshape(blocks, steps).T)
    d = np.ascontiguousarray(np.pad(double, (0, pad), constant_values=3 * cap).reshape(blocks, steps).T)
    shift, low, high = np.zeros(blocks), np.zeros(blocks), np.full(blocks, cap)
    for i in range(steps):
        shift, low, high = d[i] - shift, np.minimum(d[i] - high, a[i]), np.minimum(d[i] - low, a[i])
    sign = -1.0 if steps % 2 else 1.0
    e = np.zeros(blocks)
    for b in range(blocks - 1):
        e[b + 1] = min(max(sign * e[b] + shift[b], low[b]), high[b])
    closes = np.empty((steps, blocks), dtype=bool)
    for i in range(steps):
        rest = d[i] - e
        np.less_equal(rest, a[i], out=closes[i])
        e = np.minimum(a[i], rest)
    return closes.T.reshape(-1)[:m]
