"""The critical exponent p*: below it every l^p-minimal interpolant is also a sparsest one (Theorem 3.2).

For one run of r bends of equal sign, a sparsest tiling has r mod 2 monomers, any other at least two more. p*
is the first zero of

    gap(p) = min over other tilings of sum size^p  -  min over sparsest tilings of sum size^p,   gap(0+) > 0,
    gap(1) = 0.

The least sum over tilings with k switches between the two phases of dimers is convex in k (a shortest-path
problem with augmentations), so "two monomers more" decides the sign of the gap, and running minima evaluate
it in O(r).

An interval [a, b] of p is proved free of zeros as follows. Every size^p is convex in p. Against a fixed
sparsest tiling B, take the tangents at the middle for the tiles of another tiling T, chords for the tiles of
B that T lacks, and nothing for common tiles: a lower bound of the difference that is linear in p, so its
minimum over T at both ends bounds it on the whole interval. On the last interval, [a, 1], where the gap ends
in zero, its derivative is bounded away from zero instead.
"""

from dataclasses import dataclass

import numpy as np

from sparelu.interpolate.curves.lp_program import find_runs
from sparelu.interpolate.curves.second_differences import CHUNK

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Brackets:
    """Hold ``low[i] <= p* <= high[i]`` for the run that starts at bend ``starts[i]``, runs of four bends or more;
    others have p* = 1.

    ``low`` is proved (up to the rounding it allows for); at ``high`` another interpolant is as good as the
    sparsest, or high is 1.
    """

    starts: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def overall(self) -> tuple[float, float]:
        """Return the bracket of the least p* of all runs."""
        return float(self.low.min(initial=1.0)), float(self.high.min(initial=1.0))


def critical_p(bends: np.ndarray) -> Brackets:
    """Return the brackets of p* for every run of ``bends`` (m,), zero where three points are collinear."""
    starts, lengths = find_runs(bends)
    keep = lengths >= 4
    starts, lengths = starts[keep], lengths[keep]
    low, high = np.ones(starts.size), np.ones(starts.size)
    for r in np.unique(lengths):
        group = np.flatnonzero(lengths == r)
        step = max(1, CHUNK // int(r))
        for part in (group[i : i + step] for i in range(0, group.size, step)):
            low[part], high[part] = _brackets(np.abs(bends[starts[part][:, None] + np.arange(r)]))
    return Brackets(starts, low, high)


def _brackets(size: np.ndarray, *, first: float = 0.125, finest: float = 2.0**-10) -> tuple[np.ndarray, np.ndarray]:
    """Bracket p* for runs of one length, ``size`` (n, r).

    The first intervals tried have the width ``first``; below ``finest`` the bracket is left open.
    """
    all_runs = _Runs.of(size)
    low, high = np.zeros(len(size)), np.ones(len(size))
    width = np.full(len(size), first)
    active = np.arange(len(size))
    stuck = []
    while active.size:
        part = all_runs.take(active)
        done = part.falls_to_zero(low[active])
        low[active[done]] = 1.0
        active, part = active[~done], part.take(np.flatnonzero(~done))
        end = np.minimum(1.0, low[active] + width[active])
        free = part.free_of_zeros(low[active], end)
        low[active[free]] = end[free]
        width[active] = np.where(free, np.minimum(2 * width[active], first), width[active] / 2)
        out = (width[active] < finest) | (low[active] >= 1.0)
        stuck.append(active[out])
        active = active[~out]
    left = np.concatenate([np.empty(0, dtype=int), *stuck])
    left = left[low[left] < 1.0]
    high[left] = all_runs.take(left).first_crossing(low[left])
    return low, high


@dataclass(frozen=True, eq=False)
class _Runs:
    """Hold logarithms of tile sizes of n runs: monomers (n, r), dimers (n, r-1), scaled to a geometric mean of
    one.
    """

    monomers: np.ndarray
    dimers: np.ndarray

    @classmethod
    def of(cls, size: np.ndarray) -> "_Runs":
        single = size / np.exp(np.log(size).mean(axis=1, keepdims=True))
        return cls(np.log(single), np.log(single[:, :-1] + single[:, 1:]))

    def take(self, rows: np.ndarray) -> "_Runs":
        return _Runs(self.monomers[rows], self.dimers[rows])

    def powers(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(p[:, None] * self.monomers), np.exp(p[:, None] * self.dimers)

    def gap(self, p: np.ndarray) -> np.ndarray:
        """Compute gap(p) of each run (n,), exact up to rounding."""
        single, double = self.powers(p)
        return least_of_others(single, double) - _cost(single, double, _sparsest_tiles(single, double))

    def free_of_zeros(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Find where gap > 0 is proved on [low, high]."""
        single, double = self.powers((low + high) / 2)
        chosen = _sparsest_tiles(single, double)
        half = (high - low)[:, None] / 2
        proved = np.ones(len(single), dtype=bool)
        for end, step in ((low, -half), (high, half)):
            tangents = single * (1 + step * self.monomers), double * (1 + step * self.dimers)
            proved &= _beats_others(self.powers(end), tangents, chosen)
        return proved

    def falls_to_zero(self, low: np.ndarray) -> np.ndarray:
        """Find where gap' < 0 is proved on [low, 1] against one sparsest tiling: with gap(1) = 0, gap > 0 before
        1.
        """
        chosen = _sparsest_tiles(*self.powers((1 + low) / 2))
        logs = (self.monomers, self.dimers)
        at_low, at_one = (self.powers(p) for p in (low, np.ones_like(low)))
        mine = tuple(-c * log for c, log in zip(at_low, logs, strict=True))
        others = tuple(-c * log for c, log in zip(at_one, logs, strict=True))
        return _beats_others((mine[0], mine[1]), (others[0], others[1]), chosen)

    def first_crossing(self, low: np.ndarray, *, grid: int = 64, bisections: int = 30) -> np.ndarray:
        """Return the smallest p found on a grid and by bisection, above ``low``, with gap(p) <= 0; else 1."""
        high = np.ones_like(low)
        for share in np.arange(grid - 1, 0, -1) / grid:
            p = low + share * (1 - low)
            high = np.where(self.gap(p) <= 0, p, high)
        below, crossed = low.copy(), high < 1
        for _ in range(bisections):
            middle = (below + high) / 2
            over = self.gap(middle) <= 0
            high = np.where(crossed & over, middle, high)
            below = np.where(crossed & ~over, middle, below)
        return high


Tiles = tuple[np.ndarray, np.ndarray]
"""Something for each monomer (n, r) and for each dimer (n, r-1)."""


def _beats_others(of_chosen: Tiles, of_others: Tiles, chosen: Tiles) -> np.ndarray:
    """Find where the chosen tiling costs less than every tiling with two monomers more, by more than rounding."""
    single, double = (np.where(c, a, b) for a, b, c in zip(of_chosen, of_others, chosen, strict=True))
    total = np.abs(single).sum(axis=1) + np.abs(double).sum(axis=1)
    rounding = 4 * EPS * total * np.log2(4 + single.shape[1])
    return least_of_others(single, double) - _cost(single, double, chosen) > rounding


def _cost(single: np.ndarray, double: np.ndarray, chosen: Tiles) -> np.ndarray:
    return np.where(chosen[0], single, 0).sum(axis=1) + np.where(chosen[1], double, 0).sum(axis=1)


def _sparsest_tiles(single: np.ndarray, double: np.ndarray) -> Tiles:
    """Return the cheapest sparsest tiling: dimers alone in even runs, one monomer at an even place in odd ones."""
    n, r = single.shape
    place = np.full((n, 1), r)
    if r % 2:
        even, odd = _sums(double)
        place = 2 * np.argmin(even + single[:, ::2] - odd, axis=1)[:, None]
    at = np.arange(r)
    dimers = np.where(at[:-1] < place, at[:-1] % 2 == 0, (at[:-1] > place) & (at[:-1] % 2 == 1))
    return at == place, dimers


def _sums(double: np.ndarray) -> Tiles:
    """Return the running sums, from zero, of the dimers on even places and of those on odd places."""
    zero = np.zeros((len(double), 1))
    return (
        np.hstack([zero, np.cumsum(double[:, ::2], axis=1)]),
        np.hstack([zero, np.cumsum(double[:, 1::2], axis=1)]),
    )


def least_of_others(single: np.ndarray, double: np.ndarray) -> np.ndarray:
    """Return least cost (n,) over tilings with exactly two monomers more than a sparsest one, for any costs of the
    tiles.

    Dimers stand on even places before the first monomer, on odd ones after it, and so on: each monomer
    changes the phase.
    """
    even, odd = _sums(double)
    ones, twos = (single.shape[1] + 1) // 2, single.shape[1] // 2
    # First monomer at place 2k: k even dimers before it, odd dimers from place 2k + 1. Second at 2k + 1: even
    # dimers from 2k + 2.
    first = np.minimum.accumulate(even[:, :ones] + single[:, ::2] - odd[:, :ones], axis=1)
    second = first[:, :twos] + odd[:, :twos] + single[:, 1::2] - even[:, 1 : twos + 1]
    if single.shape[1] % 2 == 0:
        return second.min(axis=1) + even[:, -1]
    # Third at place 2k + 2, after a second at 2k + 1 or before; odd dimers from place 2k + 3.
    rest = even[:, 1 : twos + 1] + single[:, 2::2] + odd[:, -1:] - odd[:, 1 : twos + 1]
    return (np.minimum.accumulate(second, axis=1) + rest).min(axis=1)
