"""Upper bounds of the dual constraint over all patterns: max over |u| <= 1 of |sum_r theta_r (x_r . u)_+|.

Local searches bound it from below and prove nothing. For rows of rank three at most it is computed exactly. Else it is
bounded by Lagrange multipliers of t_r (t_r - x_r . u) = 0, which t_r = (x_r . u)_+ satisfies, for rows of positive
theta, and by -(t)_+ <= -g t with g in [0, 1] for the others. Maximising over t and u in closed form, with the
multiplier of |u| <= 1 eliminated, leaves for any m > 0 and b_r in [0, |theta_r|] with Q = I - X_+' diag(m) X_+ / 4
positive definite

    max_u sum_r theta_r (x_r . u)_+ <= sqrt( sum_+ theta_r^2 / m_r + a' Q^-1 a ),   a = X_+' theta_+ / 2 - X_-' b.

Every such m and b is a proof; that they are nearly the best ones is not needed. Derived here; it is the Shor relaxation
with its blocks of single rows eliminated, so that only a d x d matrix is factored.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from sparelu.convex.arrangement import enumerate_patterns
from sparelu.convex.directions import search_directions
from sparelu.convex.patterns import Patterns, draw_gates
from sparelu.convex.relu import price_cones

ROUNDING = 1e-9
"""Share by which a bound is raised: far more than float64 loses in it."""


def all_patterns(x: Float[np.ndarray, "n d"], limit: int) -> Patterns | None:
    """Return all patterns where the rank is three at most and there are at most ``limit``, else None."""
    rank = int(np.linalg.matrix_rank(x))
    return enumerate_patterns(x) if rank <= 3 and len(x) ** (rank - 1) <= limit else None


def bound_price(
    x: Float[np.ndarray, "n d"],
    theta: Float[np.ndarray, "n k"],
    everything: Patterns | None,
    rng: np.random.Generator,
    *,
    searches: int = 200,
) -> tuple[float, float]:
    """Return an upper bound of max over |u| <= 1 of |sum_r theta_r (x_r . u)_+|, and the largest value met.

    For several outputs theta_r is a vector: in any rotation of the outputs the bound is the root of the sum of the
    squares of the bounds of single ones; the rotation is that of the singular vectors of theta.

    ``searches``: local searches that show how much of a bound is slack.
    """
    rotated = theta @ np.linalg.svd(theta, full_matrices=False)[2].T
    upper, lower = np.zeros(rotated.shape[1]), np.zeros(rotated.shape[1])
    for o, column in enumerate(rotated.T):
        if column.any():
            found, _ = search_directions(x, column, draw_gates(x, searches, rng))
            lower[o] = float(found.max())
            if everything is not None:
                upper[o] = max(lower[o], float(price_cones(x, everything, column, lower[o]).max()))
            else:
                upper[o] = max(bound_one_sign(x, column), bound_one_sign(x, -column))
    return float(np.linalg.norm(upper)) * (1 + ROUNDING), float(lower.max())


def bound_one_sign(
    x: Float[np.ndarray, "n d"], theta: Float[np.ndarray, " n"], *, steps: int = 200, wide: float = 40.0
) -> float:
    """Bound max over |u| <= 1 of sum_r theta_r (x_r . u)_+ from above by the relaxation of this module.

    ``steps`` of the quasi-Newton method find the multipliers, whose logarithms go no further than ``wide`` from their
    start, so that none under- or overflows.
    """
    plus, minus = theta > 0, theta < 0
    if not plus.any():
        return 0.0
    up, down, weight, most = x[plus], x[minus], theta[plus], -theta[minus]
    half = 0.5 * up.T @ weight
    shape = weight / max(float(np.linalg.eigvalsh((up.T * weight) @ up).max()), np.finfo(float).tiny)
    best = [np.inf]

    def squared_bound(v: np.ndarray) -> tuple[float, np.ndarray]:
        m, b = np.exp(v[: len(weight)]), v[len(weight) :] * most
        a = half - down.T @ b
        try:
            factor = cho_factor(np.eye(x.shape[1]) - 0.25 * (up.T * m) @ up)
        except LinAlgError:
            return 1e6 * best[0], np.zeros_like(v)
        solved = cho_solve(factor, a)
        value = float((weight**2 / m).sum() + a @ solved)
        best[0] = min(best[0], value)
        slope_m = -(weight**2) / m + 0.25 * m * (up @ solved) ** 2
        return value, np.concatenate([slope_m, -2 * (down @ solved) * most])

    start = np.concatenate([np.log(2 * shape), np.full(len(most), 0.5)])
    limits = [(s - wide, s + wide) for s in start[: len(weight)]] + [(0.0, 1.0)] * len(most)
    minimize(squared_bound, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": steps})
    return float(np.sqrt(best[0]))
