"""Hard zeros and exact refits of two-layer networks on the weights that are left."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from sparelu.data import Data
from sparelu.interpolate.points.path_prox import PathNetwork

ROWS = 5000
"""Rows up to which all weights are refitted; beyond, the outgoing weights alone."""


@dataclass(frozen=True, eq=False)
class LiveNetwork:
    """Hold v (w x + b)_+ + c in float64: w (K, d), b (K,), v (o, K), c (o,); zeros are final."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: np.ndarray

    @classmethod
    def of(cls, net: PathNetwork) -> "Live":
        """Return the weights of a network in training."""
        return cls(*(t.detach().cpu().to(torch.float64).numpy() for t in (net.w, net.b, net.v, net.c)))

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Return the activations (n, K)."""
        return np.maximum(x @ self.w.T + self.b, 0)


def keep_largest(live: LiveNetwork, least: float, allowed: int | None) -> LiveNetwork:
    """Zero the products below ``least`` times the largest, and keep the largest of the others up to
    ``allowed`` weights.

    For one output the weights are the products; for several, a neuron costs its outgoing weights as well.
    """
    size = np.abs(live.w) * np.linalg.norm(live.v, axis=0)[:, None]
    order = np.argsort(-size, axis=None, kind="stable")
    order = order[size.ravel()[order] > least * size.max(initial=0.0)]
    neuron = order // size.shape[1]
    cost = np.ones(order.size, dtype=int)
    if len(live.v) > 1:
        first = np.unique(neuron, return_index=True)[1]
        cost[first] += np.count_nonzero(live.v, axis=0)[neuron[first]]
    if allowed is not None:
        order = order[np.cumsum(cost) <= allowed]
    mask = np.zeros(size.size, dtype=bool)
    mask[order] = True
    w = np.where(mask.reshape(size.shape), live.w, 0.0)
    used = w.any(axis=1)
    return LiveNetwork(w[used], live.b[used], live.v[:, used], live.c)


def refit_live(live: LiveNetwork, data: Data, mean: np.ndarray, sd: np.ndarray) -> LiveNetwork:
    """Refit to the (standardised) targets of ``data``: least squares, or cross-entropy.

    One target and at most ``ROWS`` rows: all live weights by Gauss-Newton with halving, so that as many
    points as there are weights can be met exactly. Otherwise the outgoing weights by one least-squares solve,
    or one logistic regression.
    """
    if live.w.size == 0 or not data.in_memory:
        return live
    if data.task == "classification":
        return _logistic(live, data)
    x = np.asarray(data.x, dtype=np.float64)
    y = (np.asarray(data.y, dtype=np.float64).reshape(len(x), -1) - mean) / sd
    v = np.linalg.lstsq(live.hidden(x), y - live.c, rcond=None)[0].T
    live = replace(live, v=np.where(live.v != 0, v, 0.0)) if len(v) == 1 else replace(live, v=v)
    return _gauss_newton(live, x, y[:, 0]) if len(v) == 1 and len(x) <= ROWS else live


def _logistic(live: LiveNetwork, data: Data, *, inverse_ridge: float = 1e3) -> LiveNetwork:
    """Refit the outgoing weights by logistic regression; the ridge keeps separable classes finite."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    features = live.hidden(np.asarray(data.x, dtype=np.float64))
    scale = np.maximum(features.max(axis=0), np.finfo(float).tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # any iterate is a classifier
        model = LogisticRegression(C=inverse_ridge, max_iter=300).fit(features / scale, np.asarray(data.y))
    return replace(live, v=model.coef_ / scale, c=model.intercept_)


def _gauss_newton(live: LiveNetwork, x: np.ndarray, y: np.ndarray, *, most_steps: int = 20) -> LiveNetwork:
    sign, size = np.sign(live.v[0]), np.abs(live.v[0])
    nu = np.column_stack([live.w, live.b]) * size[:, None]
    free = nu != 0
    xbar = np.column_stack([x, np.ones(len(x))])
    k, i = np.nonzero(free)
    residual = y - live.c[0] - np.maximum(xbar @ nu.T, 0) @ sign
    for _ in range(most_steps):
        jacobian = ((xbar @ nu.T > 0) * sign)[:, k] * xbar[:, i]
        step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
        before, better = float(residual @ residual), False
        for halving in range(10):
            tried = nu.copy()
            tried[free] += step / 2**halving
            new = y - live.c[0] - np.maximum(xbar @ tried.T, 0) @ sign
            if float(new @ new) < before:
                nu, residual, better = tried, new, True
                break
        if not better or float(residual @ residual) > (1 - 1e-6) * before:
            break
    return LiveNetwork(nu[:, :-1], nu[:, -1], sign[None, :], live.c)
