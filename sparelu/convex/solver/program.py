"""The convex programs: what is minimised, what bounds it from below, and the gap between the two."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sparelu.convex.patterns import Patterns
from sparelu.convex.solver.loss import Separable

Rows = Float[np.ndarray, "n d"]
Outputs = Float[np.ndarray, "n k"]
Blocks = Float[np.ndarray, "b d k"]


@dataclass(frozen=True, eq=False)
class Design:
    """The features D_i X of rows ``x`` (n, d) under ``patterns``, never written out: one bit for a row and pattern."""

    x: Rows
    patterns: Patterns

    def correlate(self, theta: Outputs) -> Float[np.ndarray, "p d k"]:
        """Compute X' D_i theta for every pattern: n P d products for each output."""
        found = np.empty((len(self.patterns), self.x.shape[1], theta.shape[1]))
        for part, mask in self.patterns.blocks():
            for o in range(theta.shape[1]):
                found[part, :, o] = (mask * theta[:, o]) @ self.x
        return found

    def apply(self, index: Int[np.ndarray, " b"], u: Blocks) -> Outputs:
        """Compute sum_j D_index(j) X u_j (n, k)."""
        total = np.zeros((len(self.x), u.shape[2]))
        if len(index):
            mask = self.patterns.masks(index)
            for o in range(u.shape[2]):
                total[:, o] = np.einsum("bn,nb->n", mask, self.x @ u[:, :, o].T)
        return total


@dataclass(frozen=True, eq=False)
class Program:
    """min_{u, a} L(sum_j s_j D_p(j) X u_j + B a) + penalty sum_j |u_j| + penalty / 2 |a|^2, and perhaps u_j in cones.

    Block j multiplies the rows that pattern ``pattern[j]`` keeps, with sign ``sign[j]``. ``ridge`` holds the columns B
    (n, q) of weights that no neuron carries, such as the output bias, with the penalty that weight decay gives them.
    """

    design: Design
    loss: Separable
    penalty: float
    pattern: Int[np.ndarray, " b"]
    sign: Float[np.ndarray, " b"]
    ridge: Float[np.ndarray, "n q"]

    @classmethod
    def gated(cls, design: Design, loss: Separable, penalty: float, ridge: Float[np.ndarray, "n q"]) -> "Program":
        """Return the gated ReLU program: one block for each pattern."""
        count = len(design.patterns)
        return cls(design, loss, penalty, np.arange(count), np.ones(count), ridge)

    @classmethod
    def relu(cls, design: Design, loss: Separable, penalty: float, ridge: Float[np.ndarray, "n q"]) -> "Program":
        """Return the ReLU program: a block of each sign, side by side, for each pattern, to be held in its cone."""
        count = len(design.patterns)
        return cls(design, loss, penalty, np.repeat(np.arange(count), 2), np.tile([1.0, -1.0], count), ridge)

    def correlate(self, theta: Outputs) -> Blocks:
        """Compute s_j X' D_p(j) theta for every block."""
        return self.design.correlate(theta)[self.pattern] * self.sign[:, None, None]

    def outputs(self, u: Blocks, a: Float[np.ndarray, "q k"]) -> Outputs:
        """Compute the outputs of blocks ``u`` (most of which may be zero) and ridge weights ``a``."""
        live = np.flatnonzero(u.any(axis=(1, 2)))
        return self.design.apply(self.pattern[live], u[live] * self.sign[live, None, None]) + self.ridge @ a

    def empty_dual_point(self, *, newton_steps: int = 20) -> Outputs:
        """Compute the dual point of the network without neurons, its ridge weights fitted.

        Newton's method is quadratic: a handful of the ``newton_steps`` would do.
        """
        a = np.zeros((self.ridge.shape[1], self.loss.y.shape[1]))
        theta = self.loss.dual_point(self.ridge @ a)
        for _ in range(newton_steps if a.size else 0):
            gap = self.ridge.T @ theta - self.penalty * a
            bend = 1 / self.loss.curvature(theta)
            for o in range(a.shape[1]):
                h = (self.ridge.T * bend[:, o]) @ self.ridge
                a[:, o] += np.linalg.solve(h + self.penalty * np.eye(len(h)), gap[:, o])
            theta = self.loss.dual_point(self.ridge @ a)
        return theta

    def ridge_weights(self, theta: Outputs) -> Float[np.ndarray, "q k"]:
        """Compute the ridge weights that belong to a dual point: a = B' theta / penalty."""
        return self.ridge.T @ theta / self.penalty

    def dual_value(self, theta: Outputs) -> float:
        """Compute the dual objective, a lower bound of every primal objective where ``theta`` is feasible."""
        return self.loss.dual_value(theta) - 0.5 * self.penalty * float((self.ridge_weights(theta) ** 2).sum())
