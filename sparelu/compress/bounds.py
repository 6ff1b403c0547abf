"""How near M neurons with outputs of one sign can come: lower bounds (proofs in docs/simplex_proof.md)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.special import eval_chebyt, eval_gegenbauer

from sparelu.compress.frames import InvariantTarget, equal_norms
from sparelu.gaussian import TwoLayer, arc_cosine

ANGLES = 100_001
"""Angles at which it is held below kappa; between them the curvature bounds what is missed, about 1e-10."""


@dataclass(frozen=True)
class PairBound:
    """Hold sum_jk r_j r_k kappa(rho_jk) >= whole (sum r)^2 + first |sum r_j v_j|^2 for M unit vectors in R^d and r >=
    0.
    """

    whole: float
    first: float


def pair_bound(d: int, neurons: int, *, degree: int = 12) -> PairBound:
    """Return the best bound of Delsarte's kind, d >= 2.

    For h = sum_k h_k P_k, P_k the Gegenbauer polynomials of R^d with P_k(1) = 1, h_k >= 0 for k >= 1 and h <= kappa:
    sum_jk r_j r_k P_k(rho_jk) >= 0 gives
    sum_jk r_j r_k kappa >= h_0 R^2 + h_1 |sum r_j v_j|^2 + (1/2 - h(1)) sum r_j^2, and sum r_j^2 >= R^2/M.
    The linear programme takes the largest h_0 + (1/2 - h(1))/M over a grid of angles t; then h_0 is lowered by the
    largest excess of h over kappa, bounded between angles by |d2/dt2 (h - kappa)(cos t)| <= 1/2 + sum h_k k^2.

    ``degree``: highest degree of the polynomial below kappa.
    """
    angles = np.linspace(0, np.pi, ANGLES)
    basis = np.stack([_gegenbauer(k, d, np.cos(angles)) for k in range(degree + 1)], axis=1)
    kappa = arc_cosine(torch.from_numpy(np.cos(angles))).numpy()
    coarse = slice(None, None, 50)
    gain = np.full(degree + 1, -1 / neurons)
    gain[0] += 1
    bounds = [(None, None)] + [(0, None)] * degree
    found = linprog(-gain, A_ub=basis[coarse], b_ub=kappa[coarse], bounds=bounds, method="highs")
    h = found.x
    spacing = angles[1]
    missed = spacing**2 / 8 * (0.5 + float(h[1:] @ np.arange(1, degree + 1) ** 2))
    h[0] -= max(float((basis @ h - kappa).max()), 0.0) + missed
    return PairBound(float(gain @ h) + 0.5 / neurons, float(h[1]))


def invariant_bound(target: InvariantTarget, neurons: int) -> float:
    """Bound below the loss of M neurons with outputs of one sign for the invariant target; exact for M <= d.

    The larger of the loss of equal norms and angles, and with the :class:`PairBound` (c, h_1):
    energy - (share total)^2/c - t^2/(16 h_1), the least of c R^2 + h_1 s^2 - 2 share total R - t s/2 over R and s.
    """
    least = equal_norms(target, neurons).loss
    if 2 <= target.inputs < neurons - 1:
        pair = pair_bound(target.inputs, neurons)
        pulled = target.size**2 / (16 * pair.first) if pair.first > 0 else math.inf
        least = max(least, target.energy - (target.share * target.total) ** 2 / pair.whole - pulled)
    return max(least, 0.0)


def rest_energy(net: TwoLayer, energy: float) -> float:
    """Compute E[(f - f0)^2]: what the invariant theory leaves out of a network of ``energy`` E[f^2], exact."""
    return max(energy - InvariantTarget.of(net).energy, 0.0)


def lower_bound(net: TwoLayer, neurons: int, energy: float) -> float:
    """Bound below the squared distance of M neurons with outputs of one sign from ``net``: (sqrt(L0) - |f - f0|)_+^2.

    L0 is :func:`invariant_bound` of f0; the triangle inequality does the rest. ``energy`` is E[f^2].
    """
    least = invariant_bound(InvariantTarget.of(net), neurons)
    return max(math.sqrt(least) - math.sqrt(rest_energy(net, energy)), 0.0) ** 2


def _gegenbauer(k: int, d: int, x: np.ndarray) -> np.ndarray:
    """Compute P_k with P_k(1) = 1, orthogonal for the inner product of two random unit vectors of R^d."""
    if d == 2:
        return np.asarray(eval_chebyt(k, x))
    return np.asarray(eval_gegenbauer(k, d / 2 - 1, x) / eval_gegenbauer(k, d / 2 - 1, 1.0))
