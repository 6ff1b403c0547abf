"""Neurons brought within a budget: the largest weights stay, and the outputs are fitted again."""

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from sparelu.convex.rows import ProductNeurons, TrainingTable


def truncate_neurons(neurons: ProductNeurons, width: int, nonzeros: int | None, biases: bool) -> ProductNeurons:
    """Return the ``width`` largest neurons, of which the largest weights stay within ``nonzeros``.

    For one output a weight counts once, as a product v w; for several each neuron counts its output weight as well.
    """
    size = np.linalg.norm(neurons.u, axis=1)
    kept = np.sort(np.argsort(-size, kind="stable")[:width])
    neurons = neurons.take(kept[size[kept] > 0])
    if nonzeros is None or count_weights(neurons, biases) <= nonzeros:
        return neurons
    weights = neurons.u[:, : neurons.u.shape[1] - biases]
    extra = int(len(neurons.constant) > 1)
    allowed, used = np.zeros_like(neurons.u, dtype=bool), np.zeros(len(weights), dtype=bool)
    left = nonzeros
    for at in np.argsort(-np.abs(weights), axis=None, kind="stable").tolist():
        j, i = divmod(at, weights.shape[1])
        cost = 1 + extra * (not used[j])
        if weights[j, i] != 0 and cost <= left:
            allowed[j, i] = used[j] = True
            left -= cost
    if biases:
        allowed[:, -1] = used
    return replace(neurons, u=np.where(allowed, neurons.u, 0.0)).take(np.flatnonzero(used))


def count_weights(neurons: ProductNeurons, biases: bool) -> int:
    """Count nonzeros as :attr:`sparelu.Network.nonzeros` does."""
    weights = neurons.u[:, : neurons.u.shape[1] - biases]
    extra = int((np.abs(neurons.u).sum(axis=1) > 0).sum()) if len(neurons.constant) > 1 else 0
    return int(np.count_nonzero(weights)) + extra


def refit_scales(neurons: ProductNeurons, table: TrainingTable, penalty: float) -> ProductNeurons:
    """Fit scales and signs of the neurons and the output biases again, their directions kept: a convex problem.

    The penalty of a neuron of direction w, |w| = 1, and output weight v is |v|; here v^2 / 2 with |w| as it was, which
    is smooth and the same weight decay before the two are balanced.
    """
    size = np.linalg.norm(neurons.u, axis=1)
    root = np.sqrt(np.where(size > 0, size, 1.0))
    z = np.maximum(table.x @ (neurons.u / root[:, None]).T, 0)
    k, m, q = len(neurons.constant), len(size), table.ridge.shape[1]
    onto = np.eye(k)[neurons.output]

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        v, a = theta[:m], theta[m:].reshape(q, k)
        dual = table.loss.dual_point(f := (z * v) @ onto + table.ridge @ a)
        slope_v = -np.einsum("nm,nm->m", z, dual[:, neurons.output]) + penalty * v
        slope_a = -table.ridge.T @ dual + penalty * a
        value = table.loss.value(f) + 0.5 * penalty * float(theta @ theta)
        return value, np.concatenate([slope_v, slope_a.reshape(-1)])

    start = np.concatenate([neurons.sign * root * (size > 0), neurons.constant[: q * k]])
    theta = minimize(objective, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "maxiter": 2000}).x
    v = theta[:m]
    constant = theta[m:] if q else neurons.constant
    return ProductNeurons(neurons.u / root[:, None] * np.abs(v)[:, None], np.sign(v), neurons.output, constant)
