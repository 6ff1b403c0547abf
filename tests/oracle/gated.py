"""Iterative hard thresholding with the gated matrix written out: NumPy, dense, every residual computed anew."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gated_matrix(x: Array, h: Array) -> Array:
    """[D_1 X ... D_m X] (n, m d) for rows x (n, d) and generators h (m, d)."""
    return np.concatenate([(x @ hj > 0)[:, None] * x for hj in h], axis=1)


def keep_largest(z: Array, s: int, importance: Array | None = None) -> Array:
    """z with all but the s entries of largest importance (magnitude, if not given) set to zero; zeros never count."""
    score = np.abs(z if importance is None else importance)
    live = np.flatnonzero(z)
    kept = live[np.argsort(-score[live], kind="stable")[:s]]
    out = np.zeros_like(z)
    out[kept] = z[kept]
    return out


def scalar_step(a: Array, b: Array, x: Array, s: int, inner: int) -> Array:
    """One published step: exact step size on the support, cut, ``inner`` gradient steps with backtracking."""
    on = x != 0
    residual = a @ x - b
    g = np.where(on, a.T @ residual, 0.0)
    mu = (g @ g) / (np.sum((a @ g) ** 2) + 1e-8) if on.any() else 1e-14
    cut = keep_largest(x - mu * (a.T @ residual), s)
    return refine(a, b, cut, mu, inner)[0]


def refine(a: Array, b: Array, cut: Array, mu: float, inner: int) -> tuple[Array, float]:
    """Gradient steps on the support of ``cut``, back to ``cut`` when eleven step sizes fail; and the last step size."""
    on = cut != 0
    z, value = cut, np.sum((a @ cut - b) ** 2)
    first = value
    for _ in range(inner):
        g = np.where(on, a.T @ (a @ z - b), 0.0)
        tried = 0
        while True:
            trial = z - mu * g
            new = np.sum((a @ trial - b) ** 2)
            tried += 1
            if new <= value - 0.9 * mu * (g @ g):
                z, value = trial, new
                break
            mu /= 2
            if tried > 10:
                z, value = cut, first
                break
    return z, mu


def scalar_fit(x: Array, b: Array, h: Array, s: int, steps: int, inner: int, fixed: bool) -> Array:
    """Fused weights (m, d) after ``steps`` full-batch steps; generators follow the weights from the second step on."""
    w = np.zeros(h.size)
    for step in range(steps):
        w = scalar_step(gated_matrix(x, h), b, w, s, inner)
        if step > 0 and not fixed:
            h = w.reshape(h.shape)
    return w.reshape(h.shape)


def vector_gradients(x: Array, r: Array, h: Array, w1: Array, w2: Array) -> tuple[Array, Array]:
    """dW1_j = X' D_j R w2_j and dW2_j = R' D_j X w1_j."""
    products = [((x @ hj > 0)[:, None] * x).T @ r for hj in h]
    return (
        np.stack([g @ v for g, v in zip(products, w2, strict=True)]),
        np.stack([g.T @ w for g, w in zip(products, w1, strict=True)]),
    )


def vector_outputs(x: Array, h: Array, w1: Array, w2: Array) -> Array:
    """sum_j D_j X w1_j w2_j'."""
    gate = x @ h.T > 0
    return (gate * (x @ w1.T)) @ w2


def vector_fit(
    x: Array,
    b: Array,
    generators: Array,
    fills: Sequence[Array],
    s: int,
    steps: int,
    step: float,
    labels: bool,
    fixed: bool,
) -> tuple[Array, Array]:
    """W1 (m, d) and W2 (m, k) after ``steps`` full-batch steps, cut by the exact sum of all changes so far."""
    h = generators
    w1, w2 = np.zeros_like(fills[0]), np.zeros_like(fills[1])
    moved = np.zeros(w1.size + w2.size)
    for number in range(steps):
        out = vector_outputs(x, h, w1, w2)
        if labels:
            out = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
        r = (out - b) / len(x)
        a1, a2 = w1.copy(), w2.copy()
        if number == 0:
            a1, a2 = fills[0].copy(), fills[1].copy()
        d1, d2 = vector_gradients(x, r, h, a1, a2)
        change = -step * np.concatenate([d1.ravel(), d2.ravel()])
        moved += change
        z = keep_largest(np.concatenate([a1.ravel(), a2.ravel()]) + change, s, moved)
        w1, w2 = z[: w1.size].reshape(w1.shape), z[w1.size :].reshape(w2.shape)
        if number > 0 and not fixed:
            h = w1
    return w1, w2
