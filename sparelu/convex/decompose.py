"""From gated blocks to ReLU neurons: u = v - w, v and w in the cone of D, so that D X u = (X v)_+ - (X w)_+."""

import numpy as np
from scipy.optimize import brentq, nnls

from sparelu.convex.solver.cones import Cones


def decompose(cones: Cones, i: int, u: np.ndarray, exact: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return v and w (d,) in cone ``i`` with u = v - w.

    Exact: |v| + |w| is least. For a share tau in (0, 1) let z be the shortest vector with A z >= max(0, -A u) + tau A u
    for A = (2 D_i - I) X, and w = z - tau u: it minimises (1 - tau) |w|^2 + tau |u + w|^2 over the w that keep the
    cones. Where tau = |w| / (|v| + |w|) this is stationary where |v| + |w| is, which is convex: such a tau, found by
    bracketing, gives a least sum. Else (approximate, as in Mishkin, Sahiner and Pilanci 2022): |w| is least.
    Every pattern of a gate has a cone with an interior, so that there always is a decomposition.
    """
    inside = cones.constraints(i, u)
    if inside.min(initial=0.0) >= 0:
        return u, np.zeros_like(u)
    if inside.max(initial=0.0) <= 0:
        return np.zeros_like(u), -u
    a = cones.side[i, :, None] * cones.x

    def least(tau: float) -> np.ndarray:
        return _shortest(a, np.maximum(0, -inside) + tau * inside) - tau * u

    def miss(tau: float) -> float:
        w = least(tau)
        sizes = np.linalg.norm(w), np.linalg.norm(u + w)
        return float(tau - sizes[0] / (sizes[0] + sizes[1]))

    w = least(float(brentq(miss, 0.0, 1.0, xtol=1e-13)) if exact else 0.0)
    return u + w, w


def _shortest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the shortest z with a z >= b, by least-distance programming (Lawson and Hanson 1974, chapter 23)."""
    nu, _ = nnls(np.vstack([a.T, b]), np.append(np.zeros(a.shape[1]), 1.0))
    residual = 1.0 - b @ nu
    return np.asarray((a.T @ nu) / residual)


def prune_to_rank(z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return factors >= 0 (m,) of neurons with outputs ``z`` (n, m): at most rank(z) stay, with the same sum.

    If sum b_j z_j = 0, scaled so that its largest entry is 1, factors 1 - b leave the sum as it is, are not negative,
    and end one neuron at least; neurons stay in their cones. At an optimum of the convex program the penalty sum
    scale_j factor_j is unchanged too, because penalty |u_j| = z_j . theta there (Mishkin and Pilanci 2023). Elsewhere
    the sign of b is chosen so that it does not rise where both signs end a neuron.
    """
    factors = np.ones(z.shape[1])
    basis = _null_space(z)
    while basis.shape[1]:
        b = basis[:, 0] * (-1.0 if basis[:, 0] @ (factors * scale) < 0 else 1.0)
        left = 1 - b / b.max()
        left[left <= 8 * np.finfo(float).eps] = 0.0
        factors *= left
        for j in np.flatnonzero((left == 0) & basis.any(axis=1)).tolist():
            basis = _without_row(basis, j)
        basis[left > 0] /= left[left > 0, None]
        basis = np.linalg.qr(basis)[0] if basis.size else basis
    return factors


def _without_row(basis: np.ndarray, j: int) -> np.ndarray:
    """Return a basis of those combinations in the span of ``basis`` that leave neuron ``j`` out."""
    pivot = int(np.abs(basis[j]).argmax())
    if basis[j, pivot] == 0:
        return basis
    rest = np.delete(basis, pivot, axis=1)
    rest = rest - np.outer(basis[:, pivot] / basis[j, pivot], rest[j])
    rest[j] = 0.0
    return np.asarray(rest)


def _null_space(z: np.ndarray) -> np.ndarray:
    """Return a basis (m, r) of the combinations of columns, each scaled to length one, that vanish."""
    length = np.linalg.norm(z, axis=0)
    if not length.all():
        raise ValueError("a neuron that is silent on every row cannot be pruned by its outputs: leave it out before")
    _, size, v = np.linalg.svd(z / length, full_matrices=True)
    rank = int((size > 1e-11 * size[0]).sum())
    return np.asarray((v[rank:] / length).T)
