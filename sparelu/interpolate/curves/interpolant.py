"""A piecewise-linear function of one variable as knots and slope changes, and what is proved of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from sparelu.interpolate.curves.critical_exponent import Brackets, critical_p
from sparelu.interpolate.curves.lp_program import find_runs, tile_runs
from sparelu.interpolate.curves.second_differences import Points, sort_points, straighten
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

SOURCE = "Nakhleh & Nowak 2025, Global minimizers of l^p-regularized objectives yield the sparsest ReLU networks"


@dataclass(frozen=True, eq=False)
class Interpolant:
    """Hold f(x) = intercept + slope x + sum_k changes[k] (x - knots[k])_+ through ``points``.

    ``knots`` (K,) increase and ``changes`` (K,) are nonzero. Left of the first knot, and right of knot k, f
    is the line of slope ``points.slopes[pieces[k]]`` through the points number ``pieces[k]`` and ``pieces[k]
    + 1``; ``pieces`` is (K+1,).
    """

    points: Points
    knots: np.ndarray
    changes: np.ndarray
    pieces: np.ndarray

    @property
    def slope(self) -> float:
        """Return the slope left of all knots."""
        return float(self.points.slopes[0])

    @property
    def intercept(self) -> float:
        """Return the value at zero of the line left of all knots."""
        return float(self.points.y[0] - self.slope * self.points.x[0])

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Return the values at ``x``, each from the line of its piece: at the points, right to rounding, however many
        knots there are.
        """
        at = np.asarray(x, dtype=np.float64)
        anchor = self.pieces[np.searchsorted(self.knots, at, side="left")]
        return self.points.y[anchor] + self.points.slopes[anchor] * (at - self.points.x[anchor])

    def path_norm(self, p: float) -> float:
        """Compute V_p = sum |slope change|^p; the number of knots for p = 0."""
        return float(self.knots.size) if p == 0 else float((np.abs(self.changes) ** p).sum())

    def network(self) -> Network:
        """Build one neuron for each knot, output signs, and the line left of all knots as the affine part."""
        k, size = self.knots.size, np.abs(self.changes)
        each = np.arange(k)
        hidden = Layer.from_triplets((k, 1), each, np.zeros(k, dtype=int), size, -size * self.knots)
        signs = Layer.from_triplets((1, k), np.zeros(k, dtype=int), each, np.sign(self.changes))
        skip = Layer.from_dense(np.array([[self.slope]]), np.array([self.intercept]))
        return Network((hidden, signs), skip)

    @cached_property
    def least_knots(self) -> int:
        """Return the least number of knots of any piecewise-linear interpolant: ceil(r / 2) summed over the runs."""
        return int(((find_runs(self.points.bends)[1] + 1) // 2).sum())

    @property
    def total_variation(self) -> float:
        """Compute V_1 of every l^p-minimal interpolant, 0 <= p <= 1: the sum of |bend|."""
        return float(np.abs(self.points.bends).sum())

    @property
    def lipschitz(self) -> float:
        """Return the Lipschitz constant of this function."""
        return float(np.abs(self.points.slopes[self.pieces]).max())

    @property
    def unique_of_least_variation(self) -> bool:
        """Tell whether one function alone has both the fewest knots and the least V_1: no odd run longer than one
        (Debarre et al.).
        """
        lengths = find_runs(self.points.bends)[1]
        return not bool(((lengths % 2 == 1) & (lengths > 1)).any())

    @property
    def unique(self) -> bool:
        """Tell whether one function alone has the fewest knots among all piecewise-linear interpolants."""
        return sparsest_is_unique(self.points.bends)

    @cached_property
    def critical(self) -> Brackets:
        """Return the brackets of p* for every run."""
        return critical_p(self.points.bends)


def interpolate(x: ArrayLike, y: ArrayLike, p: float = 0.0, collinear: str = "exact") -> Interpolant:
    """Return the interpolant of points x (n,), y (n,) with the least sum |slope change|^p over all ReLU networks
    with a free affine part.

    ``p`` from 0 to 1. For p = 0: the fewest knots, of these the limit p -> 0+ of the l^p minimisers. For p =
    1, where minimisers have any number of knots, the same function. ``collinear`` says what lies on a line:
    "exact" for the numbers as given, "rounding" also what is within rounding of one, and then f meets the
    points to rounding (:func:`~.second_differences.straighten`). O(n) on sorted points, else one sort. Raises
    :class:`~.second_differences.PointsError`, and ``ValueError`` for p out of range.

    Source: Theorems 3.1 and 3.2 of Nakhleh & Nowak (2025); the minimum over the 2^(m-1) vertices of each run
    is found by dynamic programming (:mod:`sparelu.interpolate.curves.lp_program`), where the paper leaves the algorithm
    open.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must lie from 0 to 1, got {p}")
    if collinear not in ("exact", "rounding"):
        raise ValueError(f"collinear must be 'exact' or 'rounding', got {collinear!r}")
    given = sort_points(x, y)
    return interpolate_bends(straighten(given) if collinear == "rounding" else given, p)


def interpolate_bends(given: Points, p: float) -> Interpolant:
    """Interpolate as :func:`interpolate` does, for points whose bends are known."""
    bends = given.bends
    opens = tile_runs(bends, p)
    closes = np.concatenate([[False], opens[:-1]]) if opens.size else opens
    start = np.flatnonzero((bends != 0) & ~closes)
    paired = opens[start]
    partner = start + paired
    left = given.x[1:-1][start]
    other = np.where(paired, bends[partner], 0.0)
    changes = bends[start] + other
    # (a x + b x') / (a + b) as a step from x, so that it stays within [x, x'] whatever the rounding
    knots = left + (given.x[1:-1][partner] - left) * (other / changes)
    return Interpolant(given, knots, changes, np.concatenate([[0], partner + 1]).astype(np.int64))


def sparsest_is_unique(bends: np.ndarray) -> bool:
    """Tell whether a single function has the fewest knots.

    It does when every run is even, or is one bend with a zero on both sides, and no two such single bends of
    opposite sign have exactly one zero between them. Found from, and tested against, the dynamic program over
    slope cells that counts all interpolants of fewest knots.
    """
    starts, lengths = find_runs(bends)
    odd = starts[lengths % 2 == 1]
    if odd.size == 0:
        return True
    flat = np.concatenate([[False], bends == 0, [False]])
    if bool((lengths[lengths % 2 == 1] > 1).any()) or not bool((flat[odd] & flat[odd + 2]).all()):
        return False
    near = odd[:-1][np.diff(odd) == 2]
    return not bool((np.sign(bends[near]) != np.sign(bends[near + 2])).any())


def certify_interpolant(found: Interpolant, p: float, missed: float) -> tuple[Certificate, ...]:
    """State what is proved of an l^p-minimal interpolant whose network misses no point by more than ``missed``."""
    doubtful = int(found.points.doubtful.sum())
    exact = Assumption(
        "the numbers given are exact",
        "taken on trust",
        f"{doubtful} bend(s) are within rounding of zero, {found.points.close} neighbour(s) within four units "
        f"in the last place, {found.points.merged} repeated point(s) merged",
    )
    meets = Assumption("the network in float64 meets the points", "checked", f"largest error {missed:.1e}")
    low, high = found.critical.overall
    state = "checked" if found.knots.size == found.least_knots else "violated"
    sparsest = Assumption("this one has the fewest knots", state, f"{found.knots.size} knots at p = {p:g}")
    only = "one function alone attains it" if found.unique else "several functions attain it"
    return (
        Certificate(
            f"no piecewise-linear interpolant has fewer knots; {only}",
            float(found.least_knots),
            "knots",
            (exact, meets, sparsest),
            source=SOURCE,
        ),
        Certificate(
            f"no ReLU network with a free affine part has a smaller sum |v w|^{p:g}",
            found.path_norm(p),
            "path norm",
            (exact, meets),
            source=SOURCE,
        ),
        Certificate(
            f"l^p minimisers are sparsest for every p below p*, which lies from {low:.6g} to {high:.6g}",
            low,
            "p",
            (exact,),
            source=SOURCE,
        ),
        Certificate("total variation of the slope", found.total_variation, "slope", (exact,), source=SOURCE),
        Certificate("Lipschitz constant", found.lipschitz, "slope", (exact,), source=SOURCE),
    )
