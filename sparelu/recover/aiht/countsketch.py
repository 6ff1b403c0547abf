"""Count-sketch: the running sum of a long vector in a short table, with unbiased estimates of single entries.

Charikar, Chen and Farach-Colton, "Finding frequent items in data streams" (2002), theorem 1.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

DEPTH = 4
"""Hash rows; an estimate is the median over them."""

STREAM = 0x5CE7C4
"""Second word of the Philox key of the hash parameters."""


class CountSketch:
    """Sums of updates to a vector of any length, in a table of ``DEPTH`` rows and ``width`` buckets.

    Row r adds sign_r(i) * delta to bucket h_r(i). Over the draw of the hashes sign_r(i) * table[r, h_r(i)] is an
    unbiased estimate of the sum at i, with variance at most ||rest||^2 / width. Bucket and sign come from the 64-bit
    finaliser of MurmurHash3 of ``a_r i + b_r``; ``a_r`` and ``b_r`` depend on ``seed`` alone.
    """

    def __init__(self, width: int, seed: int, table: Float[np.ndarray, "4 width"] | None = None) -> None:
        self.width, self.seed = width, seed
        self.table = np.zeros((DEPTH, width)) if table is None else table.copy()
        words = np.random.Philox(key=np.array([seed, STREAM], dtype=np.uint64)).random_raw(2 * DEPTH)
        self._a, self._b = words[:DEPTH, None] | np.uint64(1), words[DEPTH:, None]

    def add(self, index: Int[np.ndarray, " b"], delta: Float[np.ndarray, " b"]) -> None:
        """Add ``delta`` to the vector at ``index`` (indices may repeat)."""
        bucket, sign = self._hash(index)
        for row in range(DEPTH):
            self.table[row] += np.bincount(bucket[row], weights=sign[row] * delta, minlength=self.width)

    def estimate(self, index: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        """Return the median over the rows of the estimates at ``index`` (of four: the mean of the middle two)."""
        bucket, sign = self._hash(index)
        found = np.sort(sign * np.take_along_axis(self.table, bucket, axis=1), axis=0)
        return (found[1] + found[2]) / 2

    def _hash(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Compute buckets (``DEPTH``, b) and signs +-1; arithmetic is modulo 2^64."""
        word = self._a * index.astype(np.uint64) + self._b
        word ^= word >> np.uint64(33)
        word *= np.uint64(0xFF51AFD7ED558CCD)
        word ^= word >> np.uint64(33)
        word *= np.uint64(0xC4CEB9FE1A85EC53)
        word ^= word >> np.uint64(33)
        sign = 1.0 - 2.0 * (word & np.uint64(1)).astype(np.float64)
        return ((word >> np.uint64(1)) % np.uint64(self.width)).astype(np.int64), sign
