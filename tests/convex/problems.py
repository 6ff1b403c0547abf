"""Programs for the tests, and objective, gap and optimum computed without the code under test: dense, by cvxpy."""

import warnings

import cvxpy
import numpy as np

from sparelu.convex.patterns import draw_patterns
from sparelu.convex.solver.loss import Logistic, Separable, Squared
from sparelu.convex.solver.program import Design


def make_design(n: int, d: int, patterns: int, seed: int = 0, constant: bool = False) -> Design:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) / np.sqrt(d)
    x = np.column_stack([x, np.ones(n)]) if constant else x
    return Design(x, draw_patterns(x, patterns, rng))


def make_loss(design: Design, kind: str, outputs: int = 1, seed: int = 0, weighted: bool = False) -> Separable:
    rng = np.random.default_rng(seed + 100)
    n, d = design.x.shape
    hidden = np.maximum(design.x @ rng.standard_normal((d, 20)), 0)
    y = hidden @ rng.standard_normal((20, outputs))
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    c = rng.uniform(0.2, 2, n) if weighted else np.ones(n)
    return Squared(y, c / c.sum()) if kind == "squared" else Logistic(np.where(y > 0, 1.0, -1.0), c / c.sum())


def features(design: Design) -> list[np.ndarray]:
    """D_i X for every pattern, written out."""
    return [mask[:, None] * design.x for mask in design.patterns.masks()]


def loss_by_formula(loss: Separable, f: np.ndarray) -> float:
    if isinstance(loss, Squared):
        return float(sum(c * 0.5 * np.sum((a - b) ** 2) for c, a, b in zip(loss.c, f, loss.y, strict=True)))
    return float(sum(c * np.log(1 + np.exp(-a * b)).sum() for c, a, b in zip(loss.c, f, loss.y, strict=True)))


def gap_by_formula(design: Design, loss: Separable, penalty: float, ridge, blocks, a, theta) -> tuple[float, float]:
    """Primal objective of gated blocks (P, d, k) and ridge weights; lower bound by a dual point made feasible."""
    parts = features(design)
    f = sum(part @ u for part, u in zip(parts, blocks, strict=True)) + ridge @ a
    primal = loss_by_formula(loss, f) + penalty * sum(np.linalg.norm(u) for u in blocks) + penalty / 2 * np.sum(a**2)
    worst = max(np.linalg.norm(part.T @ theta) for part in parts)
    theta = theta * min(1.0, penalty / worst)
    if isinstance(loss, Squared):
        dual = np.sum(theta * loss.y) - np.sum(theta**2 / loss.c[:, None]) / 2
    else:
        p = np.clip(theta * loss.y / loss.c[:, None], 1e-300, 1)
        dual = -np.sum(loss.c[:, None] * (p * np.log(p) + (1 - p) * np.log1p(-np.minimum(p, 1 - 1e-16))))
    return primal, float(dual - np.sum((ridge.T @ theta) ** 2) / (2 * penalty))


def solve_by_cvxpy(design, loss, penalty: float, ridge, kind: str = "gated", entries: float = 0.0):
    """Optimal objective by Clarabel; ``kind`` is "gated" or "relu" (cones, both signs)."""
    n, k = loss.y.shape
    d, total, size, limits = design.x.shape[1], 0, 0, []
    a = cvxpy.Variable((ridge.shape[1], k)) if ridge.shape[1] else None
    for mask in design.patterns.masks():
        for sign in (1, -1) if kind == "relu" else (1,):
            u = cvxpy.Variable((d, k))
            total = total + sign * (mask[:, None] * design.x) @ u
            size = size + cvxpy.norm(cvxpy.vec(u, order="C"), 2)
            if entries:
                size = size + entries / penalty * cvxpy.sum(cvxpy.abs(u))
            if kind == "relu":
                limits.append(np.where(mask, 1.0, -1.0)[:, None] * design.x @ u >= 0)
    if a is not None:
        total, size = total + ridge @ a, size + cvxpy.sum_squares(a) / 2
    if isinstance(loss, Squared):
        fit = cvxpy.sum(cvxpy.multiply(loss.c[:, None] / 2, cvxpy.square(total - loss.y)))
    else:
        fit = cvxpy.sum(cvxpy.multiply(np.tile(loss.c[:, None], k), cvxpy.logistic(cvxpy.multiply(-loss.y, total))))
    problem = cvxpy.Problem(cvxpy.Minimize(fit + penalty * size), limits)
    tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls its own answer inaccurate when the last digit does not come
        return float(problem.solve(solver="CLARABEL", **tight))
