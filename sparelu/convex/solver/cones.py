"""The penalty of the ReLU program: norms of blocks held in the cones K_i = {u : (2 D_i - I) X u >= 0}."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import qr
from scipy.linalg.lapack import dposv
from scipy.optimize import nnls

from sparelu.convex.patterns import Patterns
from sparelu.convex.solver.penalties import Curvature, Penalty, block_norms
from sparelu.convex.solver.program import Blocks, Rows

OUTSIDE = 1e-12
"""How far outside a half space, as a share of the length projected, a point may lie and count as inside."""

ActiveSet = tuple[np.ndarray, np.ndarray]
"""Rows (s,) that hold a projection back, and their multipliers (s,), all positive."""

FREE: ActiveSet = (np.empty(0, np.int64), np.empty(0))


class Cones:
    """The cones of ``patterns`` on rows ``x`` (n, d), and projections onto them.

    Rows are brought to unit length, which leaves the cones as they are; rows of zeros constrain nothing.
    """

    def __init__(self, x: Rows, patterns: Patterns) -> None:
        length = np.linalg.norm(x, axis=1)
        self.live = length > 0
        self.x = x[self.live] / length[self.live, None]
        self.gram = self.x @ self.x.T
        self.side = np.where(patterns.masks()[:, self.live], 1.0, -1.0).astype(np.int8)

    def constraints(self, i: int, u: np.ndarray) -> np.ndarray:
        """Compute the distance of ``u`` (d,) inside each half space of cone ``i``; negative: outside."""
        return np.asarray(self.side[i] * (self.x @ u))

    def pull(self, i: int, active: ActiveSet) -> np.ndarray:
        """Compute A' nu (d,) of an active set: what is added to a point to project it."""
        rows, nu = active
        return np.asarray((self.side[i, rows] * nu) @ self.x[rows])

    def project(self, i: int, w: np.ndarray, start: ActiveSet) -> tuple[np.ndarray, ActiveSet]:
        """Return the projection of ``w`` (d,) on cone ``i``, and its active set, from the one it had before.

        p = w + A' nu with nu >= 0 and A p >= 0 complementary: non-negative least squares (Lawson and Hanson 1974). From
        the active set of a nearby point it needs few exchanges.
        """
        inside = self.constraints(i, w)
        doubt = OUTSIDE * float(np.linalg.norm(w))
        rows, nu = start if start[0].size else self._first_set(i, w)
        for _ in range(3 * len(self.x) + 3):
            rows, nu = self._positive(i, rows, nu, inside)
            p = w + self.pull(i, (rows, nu))
            outside = self.constraints(i, p)
            outside[rows] = 0
            worst = int(outside.argmin())
            if outside[worst] >= -doubt:
                break
            rows, nu = np.append(rows, worst), np.append(nu, 0.0)
        return p, (rows, nu)

    def _first_set(self, i: int, w: np.ndarray) -> ActiveSet:
        """Return the active set of a point without a neighbour to start from."""
        nu, _ = nnls((self.side[i, :, None] * self.x).T, -w)
        rows = np.flatnonzero(nu > 0)
        return rows, nu[rows]

    def _positive(self, i: int, rows: np.ndarray, nu: np.ndarray, inside: np.ndarray) -> ActiveSet:
        """Return rows with A_S p = 0 and their multipliers; those whose multiplier would turn negative are left out."""
        while rows.size:
            side = self.side[i, rows].astype(float)
            gram = self.gram[rows[:, None], rows] * (side[:, None] * side)
            _, wanted, failed = dposv(gram, -inside[rows])
            if failed:  # a row that depends on the others: the one that came last
                rows, nu = rows[:-1], nu[:-1]
                continue
            if wanted.min() > 0:
                return rows, wanted
            falling = wanted <= 0
            ratio = nu[falling] / (nu[falling] - wanted[falling] + np.finfo(float).tiny)
            nu = nu + float(ratio.min()) * (wanted - nu)
            kept = nu > 0
            kept[np.flatnonzero(falling)[ratio.argmin()]] = False
            rows, nu = rows[kept], nu[kept]
        return rows, nu

    def face(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Return an orthonormal basis (d, r) of the directions that the active ``rows`` leave free."""
        if not rows.size:
            return np.eye(self.x.shape[1])
        q, r, _ = qr(self.x[rows].T, pivoting=True)
        diagonal = np.abs(np.diag(r))
        rank = int((diagonal > OUTSIDE * diagonal[0]).sum())
        return np.asarray(q[:, rank:])


@dataclass(frozen=True, eq=False)
class ConeNorm(Penalty):
    """``weight`` sum_j |u_j| for blocks u_j in the cones of their ``pattern``; k = 1 output.

    prox(w) = shrink(Proj_K(w)) because K is a cone. The active set of every block is kept from one call to the next:
    it starts the next projection, and |w + A' nu| bounds the length of the projection without making it.
    """

    weight: float
    cones: Cones
    pattern: Int[np.ndarray, " b"]
    kept: dict[int, ActiveSet] = field(default_factory=dict)
    """Active sets by block, in units of the dual correlations g."""

    def value(self, u: Blocks) -> float:
        return self.weight * float(block_norms(u).sum())

    def shrink(self, w: Blocks, sigma: float) -> Blocks:
        threshold = sigma * self.weight
        found = np.zeros_like(w)
        for j in np.flatnonzero(self._bounds(w, sigma) > threshold).tolist():
            p = self._project(j, w[j, :, 0], sigma)
            size = float(np.linalg.norm(p))
            if size > threshold:
                found[j, :, 0] = (1 - threshold / size) * p
        return found

    def curvature(self, w: Blocks, u: Blocks, sigma: float) -> Curvature:
        """Return a Pi + (1 - a) p p' / |p|^2, Pi the projection on the face on which p = Proj_K(w) lies."""
        index = np.flatnonzero(u.any(axis=(1, 2)))
        factors = []
        for j in index.tolist():
            size = float(np.linalg.norm(u[j]))
            a = size / (size + sigma * self.weight)
            face = self.cones.face(int(self.pattern[j]), self.kept.get(j, FREE)[0])
            factors.append(np.column_stack([np.sqrt(a) * face, np.sqrt(1 - a) * u[j, :, 0] / size]))
        return Curvature(index, np.zeros(index.size), factors)

    def dual_norm(self, g: Blocks) -> float:
        """Compute max_j |Proj_K(g_j)| / weight; blocks whose bound is below the largest met are not projected."""
        bounds = self._bounds(g, 1.0)
        most = 0.0
        for j in np.argsort(-bounds, kind="stable").tolist():
            if bounds[j] <= most:
                break
            most = max(most, float(np.linalg.norm(self._project(j, g[j, :, 0], 1.0))))
        return most / self.weight

    def state(self) -> dict[str, np.ndarray]:
        """Return the active sets."""
        if not self.kept:
            return {}
        sizes = [len(rows) for rows, _ in self.kept.values()]
        return {
            "blocks": np.repeat(np.fromiter(self.kept, np.int64), sizes),
            "rows": np.concatenate([rows for rows, _ in self.kept.values()]),
            "nu": np.concatenate([nu for _, nu in self.kept.values()]),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the active sets back; a block with none is as one that was never projected."""
        for j in np.unique(state.get("blocks", np.empty(0, np.int64))).tolist():
            at = state["blocks"] == j
            self.kept[j] = (state["rows"][at], state["nu"][at])

    def _bounds(self, w: Blocks, sigma: float) -> Float[np.ndarray, " b"]:
        """Bound |Proj_K(w_j)| by |w_j + A' nu| for the kept nu >= 0, and by |w_j|."""
        bounds = block_norms(w)
        if self.kept:
            index = np.fromiter(self.kept, np.int64, len(self.kept))
            pulls = np.stack([self.cones.pull(int(self.pattern[j]), self.kept[j]) for j in index.tolist()])
            held = np.linalg.norm(w[index, :, 0] + sigma * pulls, axis=1)
            bounds[index] = np.minimum(bounds[index], held)
        return bounds

    def _project(self, j: int, w: np.ndarray, sigma: float) -> np.ndarray:
        rows, nu = self.kept.get(j, FREE)
        p, (rows, nu) = self.cones.project(int(self.pattern[j]), w, (rows, sigma * nu))
        self.kept[j] = (rows, nu / sigma)
        return p
