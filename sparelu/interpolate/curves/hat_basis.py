"""Least squares by linear splines with given nodes, in the basis of hat functions: tridiagonal normal equations."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

FREE = 1e-7
"""Pivot, on hats of unit norm, below which the rows leave a height free."""


@dataclass(frozen=True, eq=False)
class Series:
    """Hold sorted distinct ``x`` (n,), mean values ``y`` (n,) and weights ``w`` (n,) of the rows that shared an x."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Series":
        """Sort the rows; average those of equal x, which changes the loss by a constant only."""
        places, where, counts = np.unique(x, return_inverse=True, return_counts=True)
        return cls(places, np.bincount(where, weights=y) / counts, counts.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Hats:
    """Hold hat functions at increasing ``nodes`` (m,) on a series.

    Piece j holds ``rows[j]`` rows from number ``starts[j]`` on; row i lies the share ``t[i]`` of the ``width`` of its
    piece from the left node.
    """

    series: Series
    nodes: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    t: np.ndarray
    width: np.ndarray

    @classmethod
    def at(cls, series: Series, nodes: np.ndarray) -> "Hats":
        """Compute ``nodes`` with the first at or below the least x and the last at or above the largest."""
        starts = np.concatenate([[0], np.searchsorted(series.x, nodes[1:-1])])
        rows, width = np.diff(np.append(starts, series.x.size)), np.diff(nodes)
        t = (series.x - np.repeat(nodes[:-1], rows)) / np.repeat(width, rows)
        return cls(series, nodes, starts, rows, t, width)

    def apply(self, z: np.ndarray) -> np.ndarray:
        """Return the values (n,) of the spline with heights ``z`` (m,) at the nodes."""
        return np.asarray(np.repeat(z[:-1], self.rows) + np.repeat(np.diff(z), self.rows) * self.t)

    def adjoint(self, v: np.ndarray) -> np.ndarray:
        """Compute H' W v (m,) for the hats H (n, m), the weights W and v (n,)."""
        left, right = (self._sums(share * v) for share in (1 - self.t, self.t))
        return np.append(left, 0.0) + np.insert(right, 0, 0.0)

    def gram(self) -> np.ndarray:
        """Compute H' W H as its two upper bands (2, m)."""
        left, right, both = (self._sums(v) for v in ((1 - self.t) ** 2, self.t**2, self.t * (1 - self.t)))
        return np.array([np.insert(both, 0, 0.0), np.append(left, 0.0) + np.insert(right, 0, 0.0)])

    def _sums(self, v: np.ndarray) -> np.ndarray:
        """Return the weighted sums of ``v`` (n,) over the rows of each piece."""
        sums = np.add.reduceat(np.append(self.series.w * v, 0.0), self.starts)
        return np.where(self.rows > 0, sums, 0.0)

    def solver(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return the map b -> (H' W H)^-1 b for b (m,) or (m, k). Raises ``LinAlgError`` when the rows leave a height
        free.
        """
        gram = self.gram()
        scale = np.sqrt(gram[1])
        if (scale == 0).any():
            raise LinAlgError("no row lies at or beside a node")
        factor = cholesky_banded(np.array([gram[0] / (scale * np.roll(scale, 1)), np.ones(scale.size)]))
        if factor[1].min() < FREE:
            raise LinAlgError("too few rows between two nodes")
        return lambda b: (cho_solve_banded((factor, False), (b.T / scale).T).T / scale).T

    def least_squares(self) -> np.ndarray:
        """Return the heights (m,) of least weighted error, refined once. Raises as :meth:`solver`."""
        solve = self.solver()
        z = solve(self.adjoint(self.series.y))
        return np.asarray(z + solve(self.adjoint(self.series.y - self.apply(z))))

    def lines(self, v: np.ndarray) -> np.ndarray:
        """Return the ends (m-1, 2) of the line of least weighted error to v (n,) in each piece alone, of least norm
        where rows are too few.
        """
        shares = np.column_stack([1 - self.t, self.t])
        sums = [self._sums(shares[:, i] * shares[:, j]) for i in (0, 1) for j in (0, 1)]
        right = np.column_stack([self._sums(shares[:, i] * v) for i in (0, 1)])
        gram = np.stack(sums, axis=1).reshape(-1, 2, 2)
        return np.asarray((np.linalg.pinv(gram, rcond=FREE**2, hermitian=True) @ right[..., None])[..., 0])
