"""The linear system of a Newton step: factored by rows or by active coordinates, or solved without a matrix."""

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from sparelu.convex.solver.penalties import Curvature
from sparelu.convex.solver.program import Outputs, Program

LARGEST_MATRIX = 4000
"""Rows (or active coordinates) up to which a system is factored: 128 megabytes, some ten seconds of one thread."""


def solve_newton(program: Program, diagonal: Outputs, curvature: Curvature, sigma: float, right: Outputs) -> Outputs:
    """Solve (diag(diagonal) + B B' / penalty + sigma sum_j D_j X S_j X' D_j) step = right.

    Up to ``LARGEST_MATRIX`` rows the matrix of the rows is factored, memory n^2; beyond, that of the active
    coordinates, or conjugate gradients in them where these are too many as well.
    """
    n, k = right.shape
    if n > LARGEST_MATRIX:
        return _Coordinates(program, diagonal, curvature, sigma).solve(right)
    if k > 1:
        return _by_outputs(program, diagonal, curvature, sigma, right)
    q = _columns(program, curvature)[:, 0, :]
    matrix = sigma * (_common(program, curvature) + q @ q.T)
    matrix += program.ridge @ program.ridge.T / program.penalty
    matrix.flat[:: n + 1] += diagonal[:, 0]
    try:
        return np.asarray(cho_solve(cho_factor(matrix, lower=True), right))
    except LinAlgError:
        # Columns of very different scale: rounding of the large part hides the diagonal, below whose least entry no
        # eigenvalue can be.
        size, vectors = eigh(matrix)
        return np.asarray(vectors @ ((vectors.T @ right) / np.maximum(size, diagonal.min())[:, None]))


def _common(program: Program, curvature: Curvature) -> Float[np.ndarray, "n n"]:
    """Compute (X X') o (D diag(common) D')."""
    x = program.design.x
    live = curvature.common > 0
    if not live.any():
        return np.zeros((len(x), len(x)))
    mask = program.design.patterns.masks(program.pattern[curvature.index[live]])
    rooted = mask * np.sqrt(curvature.common[live])[:, None]
    return np.asarray((rooted.T @ rooted) * (x @ x.T))


def _columns(program: Program, curvature: Curvature) -> Float[np.ndarray, "n k r"]:
    """Compute D_j X R_j for all blocks, side by side."""
    x, k = program.design.x, program.loss.y.shape[1]
    if not curvature.factors:
        return np.zeros((len(x), k, 0))
    masks = program.design.patterns.masks(program.pattern[curvature.index])
    factors = np.concatenate(curvature.factors, axis=1).reshape(x.shape[1], k, -1)
    widths = [f.shape[1] for f in curvature.factors]
    found = np.tensordot(x, factors, axes=1)
    found *= np.repeat(masks, widths, axis=0).T[:, None, :]
    return np.asarray(found)


def _by_outputs(program: Program, diagonal: Outputs, curvature: Curvature, sigma: float, right: Outputs) -> Outputs:
    """Solve for several outputs: one matrix of rows for each, and the outer products that join them (Woodbury)."""
    n, k = right.shape
    shared = sigma * _common(program, curvature) + program.ridge @ program.ridge.T / program.penalty
    q = np.sqrt(sigma) * _columns(program, curvature)
    solved, parts = np.empty((n, k)), np.empty_like(q)
    same = bool((diagonal == diagonal[:, :1]).all())
    for o in range(k):
        if o == 0 or not same:
            matrix = shared.copy()
            matrix.flat[:: n + 1] += diagonal[:, o]
            factor = cho_factor(matrix, lower=True, overwrite_a=True)
        solved[:, o], parts[:, o] = cho_solve(factor, right[:, o]), cho_solve(factor, q[:, o])
    small = np.tensordot(q, parts, axes=((0, 1), (0, 1)))
    small.flat[:: len(small) + 1] += 1.0
    joint = cho_solve(cho_factor(small), np.tensordot(q, solved, axes=((0, 1), (0, 1))))
    return solved - parts @ joint


def _root(common: float, factor: np.ndarray) -> np.ndarray:
    """Return a root T of common I + R R' = T T' with as few columns as it can have."""
    if common == 0:
        return factor
    u, size, _ = np.linalg.svd(factor, full_matrices=False)
    more = np.sqrt(common + size**2) - np.sqrt(common)
    return np.asarray(np.sqrt(common) * np.eye(len(factor)) + (u * more) @ u.T)


class _Coordinates:
    """The system in the active coordinates: with S_j = T_j T_j', sqrt(sigma) D_j X T_j side by side in Q, Woodbury says

    (C + Q Q')^-1 r = C^-1 r - C^-1 Q (I + Q' C^-1 Q)^-1 Q' C^-1 r.

    Q is applied pattern by pattern and never stored, unless it has few columns.
    """

    def __init__(self, program: Program, diagonal: Outputs, curvature: Curvature, sigma: float) -> None:
        self.program, self.diagonal = program, diagonal
        self.masks = program.design.patterns.masks(program.pattern[curvature.index])
        k = program.loss.y.shape[1]
        pairs = zip(curvature.common.tolist(), curvature.factors, strict=True)
        self.roots = [np.sqrt(sigma) * _root(common, factor) for common, factor in pairs]
        self.ends = np.cumsum([0, *(root.shape[1] for root in self.roots)])
        self.ridge = program.ridge / np.sqrt(program.penalty)
        self.width = int(self.ends[-1]) + self.ridge.shape[1] * k

    def solve(self, right: Outputs) -> Outputs:
        """Solve the system for the right side (n, k)."""
        scaled = right / self.diagonal
        if not self.width:
            return scaled
        wanted = self._transpose(scaled)
        small = self._factored(wanted) if self.width <= LARGEST_MATRIX else self._by_gradients(wanted, right)
        return scaled - self._apply(small) / self.diagonal

    def _apply(self, v: np.ndarray) -> Outputs:
        x, k = self.program.design.x, self.diagonal.shape[1]
        total = self.ridge @ v[self.ends[-1] :].reshape(-1, k)
        if self.roots:
            blocks = [root @ v[a:b] for root, a, b in zip(self.roots, self.ends, self.ends[1:], strict=False)]
            u = np.stack(blocks).reshape(-1, x.shape[1], k)
            for o in range(k):
                total[:, o] += np.einsum("bn,nb->n", self.masks, x @ u[:, :, o].T)
        return np.asarray(total)

    def _transpose(self, f: Outputs) -> np.ndarray:
        x = self.program.design.x
        g = np.stack([(self.masks * f[:, o]) @ x for o in range(f.shape[1])], axis=2).reshape(len(self.roots), -1)
        parts = [root.T @ gj for root, gj in zip(self.roots, g, strict=True)]
        return np.concatenate([*parts, (self.ridge.T @ f).reshape(-1)])

    def _factored(self, wanted: np.ndarray) -> np.ndarray:
        """Solve with the matrix of the coordinates, its columns made one by one from unit vectors of a block."""
        matrix = np.eye(self.width)
        x, k = self.program.design.x, self.diagonal.shape[1]
        for start in range(0, len(x), LARGEST_MATRIX):
            rows = slice(start, start + LARGEST_MATRIX)
            parts = [
                mask[rows, None, None] * np.tensordot(x[rows], root.reshape(x.shape[1], k, -1), axes=1)
                for mask, root in zip(self.masks, self.roots, strict=True)
            ]
            parts.append(np.einsum("nq,kl->nkql", self.ridge[rows], np.eye(k)).reshape(len(x[rows]), k, -1))
            q = np.concatenate(parts, axis=2)
            flat = (q / np.sqrt(self.diagonal[rows])[:, :, None]).reshape(-1, self.width)
            matrix += flat.T @ flat
        return np.asarray(cho_solve(cho_factor(matrix, overwrite_a=True), wanted))

    def _by_gradients(
        self, wanted: np.ndarray, right: Outputs, *, inexact: float = 0.01, iterations: int = 2000, look: int = 10
    ) -> np.ndarray:
        """Solve by conjugate gradients, preconditioned by the diagonal block of every pattern.

        A residual r of the coordinates is one of Q r in the rows, which is much larger where sigma is.

        ``inexact``: residual of the rows, as a share of the right side, at which conjugate gradients stop: an inexact
        Newton step.

        ``iterations``: conjugate gradient steps at most.

        ``look``: conjugate gradient steps between two looks at the residual of the rows, each of which costs one more
        product.
        """
        factors = [cho_factor(block) for block in self._diagonal_blocks()]

        def precondition(r: np.ndarray) -> np.ndarray:
            blocks = zip(factors, self.ends, self.ends[1:], strict=False)
            parts = [cho_solve(factor, r[a:b]) for factor, a, b in blocks]
            return np.concatenate([*parts, r[self.ends[-1] :] / self._ridge_diagonal])

        v, r = np.zeros_like(wanted), wanted.copy()
        z = precondition(r)
        direction, energy = z, float(r @ z)
        for step in range(iterations):
            if step % look == 0 and np.linalg.norm(self._apply(r)) <= inexact * np.linalg.norm(right):
                break
            image = direction + self._transpose(self._apply(direction) / self.diagonal)
            t = energy / float(direction @ image)
            v, r = v + t * direction, r - t * image
            z = precondition(r)
            before, energy = energy, float(r @ z)
            direction = z + energy / before * direction
        return v

    def _diagonal_blocks(self) -> list[np.ndarray]:
        x, k = self.program.design.x, self.diagonal.shape[1]
        blocks = []
        for mask, root in zip(self.masks, self.roots, strict=True):
            block = np.eye(root.shape[1])
            for o in range(k):
                part = root.reshape(x.shape[1], k, -1)[:, o]
                block += part.T @ ((x[mask].T / self.diagonal[mask, o]) @ x[mask]) @ part
            blocks.append(block)
        return blocks

    @property
    def _ridge_diagonal(self) -> np.ndarray:
        """Compute 1 + the diagonal of the ridge columns' block, in the order of its coordinates."""
        return np.asarray(1 + (self.ridge**2).T @ (1 / self.diagonal)).reshape(-1)
