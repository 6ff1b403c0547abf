"""The kernel view of the gated program: its tangent kernel, and the reweighting that leads from it to the optimum.

For fixed weights eta_i >= 0 of the patterns, min sum_i |u_i|^2 / (2 eta_i) instead of sum_i |u_i| is kernel ridge
regression with K_eta = sum_i eta_i D_i X X' D_i. The tangent kernel (NTK) of the gated network is that of the weights
P(1[X g >= 0] = D_i) of Gaussian gates, whatever the labels; the group lasso is the optimum over all weights (multiple
kernel learning). Source: Dwaraknath, Ergen and Pilanci, Fixing the NTK, 2023. Their objective without 1/n; here means.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from sparelu.convex.patterns import Patterns
from sparelu.convex.solver.loss import Squared
from sparelu.convex.solver.penalties import block_norms
from sparelu.convex.solver.program import Design


def gated_tangent_kernel(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Compute x.x' (pi - angle) / (2 pi): the tangent kernel of a gated network of gates N(0, I)."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    angle = np.arccos(np.clip(unit @ unit.T, -1.0, 1.0))
    np.fill_diagonal(angle, 0.0)
    return np.asarray((x @ x.T) * (np.pi - angle) / (2 * np.pi))


def tangent_weights(
    x: Float[np.ndarray, "n d"], patterns: Patterns, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Estimate the probability (P,) that a Gaussian gate has each of the ``patterns``, from ``draws`` gates."""
    drawn = np.packbits((rng.standard_normal((draws, x.shape[1])) @ x.T) >= 0, axis=1)
    place = {row.tobytes(): i for i, row in enumerate(patterns.bits)}
    counts = np.zeros(len(patterns))
    for row in drawn:
        if (i := place.get(row.tobytes())) is not None:
            counts[i] += 1
    return counts / draws


@dataclass(frozen=True, eq=False)
class Weighted:
    """Weights ``eta`` (P,), the blocks (P, d, k) of their kernel ridge regression, and their group-lasso objective."""

    eta: np.ndarray
    blocks: np.ndarray
    objective: float


def solve_weighted(design: Design, loss: Squared, penalty: float, eta: np.ndarray) -> Weighted:
    """Solve kernel ridge regression with the kernel of weights ``eta``: u_i = eta_i X' D_i theta / penalty."""
    x, masks = design.x, design.patterns.masks()
    kernel = ((masks.T * eta) @ masks) * (x @ x.T) / penalty
    kernel.flat[:: len(x) + 1] += 1 / loss.c
    theta = cho_solve(cho_factor(kernel), loss.y)
    blocks = design.correlate(theta) * (eta / penalty)[:, None, None]
    f = design.apply(np.flatnonzero(eta), blocks[eta > 0])
    return Weighted(eta, blocks, loss.value(f) + penalty * float(block_norms(blocks).sum()))


def reweight(design: Design, loss: Squared, penalty: float, eta: np.ndarray) -> Iterator[Weighted]:
    """Yield the solutions of eta_i <- |u_i|, without end: majorise |u| by (|u|^2 / eta + eta) / 2 and minimise.

    From the second on the objective never rises. Converges linearly at best and reaches no zeros: an explanation of how
    the tangent kernel is mended; the solver is :mod:`sparelu.convex.solver.newton`.
    """
    while True:
        found = solve_weighted(design, loss, penalty, eta)
        yield found
        eta = block_norms(found.blocks)
