"""Into how many linear regions does the network cut its inputs?

Exact in one dimension and on segments (:mod:`sparelu.certify.lines`) and in two (:mod:`sparelu.certify.plane`); above,
bounds: what is met on segments between rows, and what counting hyperplanes allows.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sparelu.certify.lines import TooManyRegions, find_pieces, restrict_to_line
from sparelu.certify.plane import enumerate_cells
from sparelu.certify.premises import some_rows, width_reason
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate


def upper_bound(network: Network) -> int:
    """Bound the number of linear regions in the whole input space.

    A layer of m units cuts a space of dimension r into at most sum_{j <= r} C(m, j) parts (Zaslavsky 1975); the next
    layer cuts each of these, on which its inputs move in at most min(r, m) dimensions (Serra et al. 2018, without
    their bound on the dimension of single regions).
    """
    dimension, total = network.inputs, 1
    for layer in network.compact().layers[:-1]:
        dimension = min(dimension, layer.shape[0])
        total *= sum(math.comb(layer.shape[0], j) for j in range(dimension + 1))
    return total


def on_segment(network: Network, start: np.ndarray, end: np.ndarray, limit: int = 10**7) -> int:
    """Count the linear regions of the network on the open segment from ``start`` (d,) to ``end`` (d,), exactly."""
    return find_pieces(restrict_to_line(network, start, np.asarray(end) - np.asarray(start)), 0.0, 1.0, limit).regions


def on_tour(network: Network, rows: np.ndarray, limit: int = 10**7) -> int:
    """Count the most linear regions on any of the segments that join successive ``rows`` (n, d)."""
    return max((on_segment(network, a, b, limit) for a, b in pairwise(rows) if (a != b).any()), default=1)


@dataclass(frozen=True)
class Regions(Certifier):
    """Count linear regions: exactly for one input (all of the line) and two (the box of the data), else bounds.

    Use it for networks of one or two inputs, where the count is exact.

    Not for many inputs, where it has bounds alone.
    """

    rows: int = setting(33, "rows whose successive segments are followed where the count is not exact", low=2)
    limit: int = setting(100_000, "cells of two inputs at which the exact count is given up", low=1)

    name = "regions"
    question = "certify"
    paper = "Safran, Vardi and Lee, On the effective number of linear regions in shallow univariate ReLU networks, 2022"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        return width_reason(network, data, "" if network.inputs == 1 else "regions are counted where they lie")

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        try:
            if network.inputs == 1:
                return self._line(network)
            if network.inputs == 2 and data is not None:
                return self._plane(network, data)
            why = f"{network.inputs} inputs: exact counts are for one and two"
        except TooManyRegions as error:
            why = f"too large for an exact count: {error}"
        return self._bounds(network, data, rng, why)

    def _line(self, network: Network) -> Certificate:
        found = find_pieces(network)
        least = ", ".join(f"{found.effective(r)} at {r:g}" for r in (1e-6, 1e-3, 1e-2, 5e-2))
        claim = f"linear regions on the whole line, exact; overlooking small relative changes of slope: {least}"
        return self._exact(claim, found.regions)

    def _plane(self, network: Network, data: Data) -> Certificate:
        low, high = data.ranges
        margin = np.where(high > low, 0.0, 0.5)
        found = enumerate_cells(network, low - margin, high + margin, self.limit)
        claim = f"linear regions in the box of the data, exact ({found.activation_regions} activation patterns)"
        return self._exact(claim, found.regions)

    def _exact(self, claim: str, count: int) -> Certificate:
        rounding = Assumption(
            "knots and corners that float64 rounding cannot tell apart are one", "checked", "running error bounds"
        )
        return Certificate(claim, float(count), "regions", (rounding,), source=self.paper)

    def _bounds(self, network: Network, data: Data | None, rng: np.random.Generator, why: str) -> Certificate:
        above = upper_bound(network)
        most = f"{above}" if above < 10**6 else f"10^{_log10(above):.1f}"
        if data is None:
            return Certificate(
                f"at least so many linear regions; at most {most} by counting", 1.0, "regions", (self._why(why),), True
            )
        tour = some_rows(data, self.rows, rng)[rng.permutation(min(self.rows, data.n))]
        try:
            met = on_tour(network, tour)
        except TooManyRegions as error:
            return Certificate(f"at most {most} regions by counting ({error})", 1.0, "regions", (self._why(why),), True)
        claim = (
            f"at least so many linear regions: the exact count on one of {len(tour) - 1} segments between rows; "
            f"at most {most} by counting"
        )
        return Certificate(claim, float(met), "regions", (self._why(why),), vacuous=met == 1 < above, source=self.paper)

    def _why(self, why: str) -> Assumption:
        return Assumption("the value is a lower bound, not the count", "checked", why)


def _log10(count: int) -> float:
    """Compute log10 of an integer of any size."""
    shift = max(0, count.bit_length() - 1000)
    return math.log10(count >> shift) + shift * math.log10(2)
