"""Directions that a dual point prices above the penalty: max over |u| <= 1 of |sum_r theta_r (x_r . u)_+|.

The dual constraint of a two-layer ReLU network is that this maximum is at most the penalty; where it is larger, the
pattern of the direction belongs into the program.
"""

import numpy as np
from jaxtyping import Float


def price_directions(
    x: Float[np.ndarray, "n d"], theta: Float[np.ndarray, " n"], u: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """Compute |sum_r theta_r (x_r . u)_+| / |u| for every direction."""
    return np.asarray(np.abs(np.maximum(u @ x.T, 0) @ theta) / np.linalg.norm(u, axis=1))


def price_gates(
    x: Float[np.ndarray, "n d"], theta: Float[np.ndarray, " n"], u: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """Compute |X' D(u) theta| for every gate: what the gated program prices."""
    return np.asarray(np.linalg.norm(((u @ x.T >= 0) * theta) @ x, axis=1))


def search_directions(
    x: Float[np.ndarray, "n d"],
    theta: Float[np.ndarray, " n"],
    starts: Float[np.ndarray, "m d"],
    gates: bool = False,
    *,
    sweeps: int = 50,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m d"]]:
    """Improve every start by local search; return prices and directions, of gates with ``gates``.

    The sum is u . g on the cone of u, g = X' D(u) theta: a step goes to g or -g, or half the way, and is kept where the
    price rises. It ends where neither does.

    ``sweeps``: steps of a local search at most; most end in less than ten.
    """
    price = price_gates if gates else price_directions
    u = starts / np.maximum(np.linalg.norm(starts, axis=1, keepdims=True), np.finfo(float).tiny)
    value = price(x, theta, u)
    moving = np.arange(len(u))
    for _ in range(sweeps):
        g = ((u[moving] @ x.T >= 0) * theta) @ x
        size = np.linalg.norm(g, axis=1, keepdims=True)
        g = np.divide(g, size, out=u[moving].copy(), where=size > 0)
        better = np.zeros(len(moving), dtype=bool)
        for trial in (g, -g, u[moving] + g, u[moving] - g):
            worth = np.zeros(len(moving))
            whole = np.linalg.norm(trial, axis=1) > np.finfo(float).eps
            worth[whole] = price(x, theta, trial[whole])
            gain = worth > value[moving] * (1 + 1e-12)
            u[moving[gain]] = trial[gain] / np.linalg.norm(trial[gain], axis=1, keepdims=True)
            value[moving[gain]] = worth[gain]
            better |= gain
        moving = moving[better]
        if not moving.size:
            break
    return value, u
