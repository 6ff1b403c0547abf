"""Activation patterns 1[X g >= 0] of n rows: drawn, told apart, and kept as one bit a row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_NUMBERS = 2**21
"""Numbers of one block of unpacked patterns: sixteen megabytes in float64."""


@dataclass(frozen=True, eq=False)
class Patterns:
    """Distinct activation patterns: ``bits`` (P, ceil(n / 8)) uint8 of ``rows`` = n rows, a gate (P, d) for each.

    Bit r of pattern i says whether row r is active: D_i = diag(1[X g_i >= 0]). ``complete`` says that these are all
    patterns that a gate in general position can have.
    """

    bits: np.ndarray
    rows: int
    gates: np.ndarray
    complete: bool = False

    def __len__(self) -> int:
        return len(self.bits)

    def masks(self, index: np.ndarray | slice | None = None) -> np.ndarray:
        """Return the patterns ``index`` (all by default) as booleans (P, n)."""
        bits = self.bits if index is None else self.bits[index]
        return np.unpackbits(bits, axis=1, count=self.rows).view(bool)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield slices of the patterns with their masks (size, n), so that little is unpacked at a time."""
        size = max(1, BLOCK_NUMBERS // max(1, self.rows))
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            yield part, self.masks(part)

    def take(self, index: np.ndarray) -> "Patterns":
        """Return the named patterns alone."""
        return Patterns(self.bits[index], self.rows, self.gates[index])

    def take_first(self, count: int) -> "Patterns":
        """Return at most the first ``count`` patterns."""
        return self.take(np.arange(min(count, len(self))))

    def add(self, other: "Patterns") -> "Patterns":
        """Return these patterns, then those of ``other`` that are not among them."""
        return distinct_patterns(np.vstack([self.bits, other.bits]), np.vstack([self.gates, other.gates]), self.rows)

    @classmethod
    def of_gates(cls, x: np.ndarray, gates: np.ndarray) -> "Patterns":
        """Return the distinct patterns of ``gates`` (g, d) on rows ``x`` (n, d), in the order of the gates.

        The pattern without an active row is left out: its block cannot change an output.
        """
        size = max(1, BLOCK_NUMBERS // len(x))
        parts = [np.packbits((gates[i : i + size] @ x.T) >= 0, axis=1) for i in range(0, len(gates), size)]
        empty = np.empty((0, -(-len(x) // 8)), np.uint8)
        return distinct_patterns(np.vstack([empty, *parts]), gates, len(x))


def distinct_patterns(bits: np.ndarray, gates: np.ndarray, rows: int) -> Patterns:
    """Return the patterns ``bits`` (P, ceil(n / 8)) without those met before, and without the empty one."""
    whole = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1]))).reshape(-1)
    _, first = np.unique(whole, return_index=True)
    first = np.sort(first)
    first = first[bits[first].any(axis=1)]
    return Patterns(bits[first], rows, gates[first])


def draw_gates(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` gates (count, d) that cut the rows ``x`` (n, d) as N(0, I) cuts standardised ones.

    A column that is constant and not zero is the one that biases multiply. The other columns j are divided by their
    deviation s_j: g_j = N(0, 1) / s_j; with a constant column c its gate is (N(0, 1) - sum_j g_j mean_j) / c. Without
    one the hyperplanes pass through zero, and s_j is the root mean square. A constant column of zeros has no effect.
    """
    spread = np.ptp(x, axis=0)
    constant = np.flatnonzero((spread == 0) & (x[0] != 0))
    free = np.flatnonzero(spread > 0)
    gates = np.zeros((count, x.shape[1]))
    scale = x.std(axis=0) if constant.size else np.sqrt(np.mean(x**2, axis=0))
    gates[:, free] = rng.standard_normal((count, free.size)) / scale[free]
    if constant.size:
        offset = rng.standard_normal(count) - gates[:, free] @ x[:, free].mean(axis=0)
        gates[:, constant[0]] = offset / x[0, constant[0]]
    return gates


def draw_patterns(x: np.ndarray, count: int, rng: np.random.Generator, *, idle_batches: int = 4) -> Patterns:
    """Draw up to ``count`` distinct patterns of rows ``x`` (n, d); fewer where some batches brought none.

    Source of the scheme: Pilanci and Ergen 2020 (sampled arrangements); Mishkin, Sahiner and Pilanci 2022.

    ``idle_batches``: batches without a new pattern after which a draw ends short of what was asked.
    """
    found = Patterns.of_gates(x, draw_gates(x, count, rng))
    idle = 0
    while len(found) < count and idle < idle_batches:
        more = found.add(Patterns.of_gates(x, draw_gates(x, count, rng)))
        idle = 0 if len(more) > len(found) else idle + 1
        found = more
    return found.take_first(count)


def largest_count(rows: int, rank: int) -> float:
    """Return the most patterns that gates in general position have on ``rows`` of ``rank``: 2 sum_{k<r} C(n-1, k).

    Source: Cover 1965. A float, so that it never overflows.
    """
    total, term = 0.0, 1.0
    for k in range(rank):
        total += term
        term *= (rows - 1 - k) / (k + 1)
    return 2 * total
