"""Interpolants with fewer nonzeros than points: special targets have them, almost no others do.

What is tried: an affine map (two neurons, or one where the targets have one sign), neurons of one weight each, and a
few neurons of any weights. Least l^1 norm makes the first two sparse (a basic solution of a linear program), backward
elimination the last. None found proves nothing of the targets.
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linprog

from sparelu.interpolate.points.backward import TOLERANCE, Shallow, merge_patterns


def find_cheaper(xbar: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Shallow | None:
    """Search for an interpolant with fewer nonzeros than points; None when no candidate is one.

    ``xbar`` (N, d+1) with its column of ones, ``y`` (N,) of unit scale. The sparsest candidate is returned.
    """
    found = [net for net in _candidates(xbar, y, rng) if net.nonzeros < len(y)]
    return min(found, key=lambda net: net.nonzeros, default=None)


def _candidates(
    xbar: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, starts: int = 12, most_neurons: int = 4
) -> Iterator[Shallow]:
    """Yield interpolants of few weights: an affine one, one of hinges at 0, and those that random starts end at.

    One start in three or so finds one to three planted neurons; more than ``most_neurons`` are the task of exact
    recovery.
    """
    affine = _sparse_solution(xbar, y)
    if affine is not None:
        nu = np.stack([affine, -affine])
        yield merge_patterns(xbar, Shallow(nu, np.array([1.0, -1.0]), nu != 0))
    x, width = xbar[:, :-1], xbar.shape[1]
    weights = _sparse_solution(np.column_stack([np.maximum(x, 0), np.maximum(-x, 0), np.ones(len(y))]), y)
    if weights is not None:
        turn = np.concatenate([np.ones(width - 1), -np.ones(width - 1), [1.0]])
        place = np.concatenate([np.arange(width - 1), np.arange(width - 1), [width - 1]])
        used = np.flatnonzero(weights)
        nu = np.zeros((used.size, width))
        nu[np.arange(used.size), place[used]] = np.abs(weights[used]) * turn[used]
        yield Shallow(nu, np.sign(weights[used]), nu != 0)
    for neurons in range(1, most_neurons + 1):
        if neurons * width >= len(y):  # as many weights as points meet any targets
            return
        for _ in range(starts):
            net = meet_points(xbar, y, _random_hinges(xbar, y, neurons, rng))
            if net is not None:
                yield _without_weights(xbar, y, merge_patterns(xbar, net))
                return


def _sparse_solution(columns: np.ndarray, y: np.ndarray, *, most_entries: int = 1 << 18) -> np.ndarray | None:
    """Return a solution of ``columns v = y`` of least l^1 norm, basic so that it is sparse; None where there is
    none.

    ``most_entries``: entries of the largest linear program that is solved: about a second of one processor.
    """
    if columns.size > most_entries:
        return None
    least = np.linalg.lstsq(columns, y, rcond=None)[0]
    if np.abs(columns @ least - y).max() > TOLERANCE:
        return None
    k = columns.shape[1]
    answer = linprog(np.ones(2 * k), A_eq=np.hstack([columns, -columns]), b_eq=y, method="highs-ds")
    if answer.x is None:
        return None
    v = answer.x[:k] - answer.x[k:]
    support = np.flatnonzero(v)
    exact = np.zeros(k)
    exact[support] = np.linalg.lstsq(columns[:, support], y, rcond=None)[0]
    return exact if np.abs(columns @ exact - y).max() < TOLERANCE else None


def _random_hinges(xbar: np.ndarray, y: np.ndarray, neurons: int, rng: np.random.Generator) -> Shallow:
    """Draw random neurons through points, about a third of them active at all, output weights by least squares."""
    w = rng.standard_normal((neurons, xbar.shape[1] - 1))
    z = xbar[:, :-1] @ w.T
    bias = -z[rng.integers(len(y), size=neurons), np.arange(neurons)]
    everywhere = rng.random(neurons) < 1 / 3
    bias[everywhere] = (z.max(axis=0) - 2 * z.min(axis=0))[everywhere]
    nu = np.column_stack([w, bias])
    v = np.linalg.lstsq(np.maximum(xbar @ nu.T, 0), y, rcond=None)[0]
    nu *= np.maximum(np.abs(v), 1e-3)[:, None]
    return Shallow(nu, np.where(v < 0, -1.0, 1.0), np.ones_like(nu, dtype=bool))


def meet_points(xbar: np.ndarray, y: np.ndarray, net: Shallow, *, most_steps: int = 60) -> Shallow | None:
    """Fit the live weights, fewer than points, to all points by Levenberg-Marquardt; None when they are not met.

    ``most_steps``: a start that finds the points takes ten to thirty.
    """
    damping, residual = 1e-3, y - net.outputs(xbar)
    for _ in range(most_steps):
        if np.abs(residual).max() < TOLERANCE:
            return net
        jacobian = net.jacobian(xbar)
        size = np.linalg.norm(jacobian, axis=0)
        padded = np.vstack([jacobian, np.diag(np.sqrt(damping) * np.maximum(size, 1e-12))])
        step = np.linalg.lstsq(padded, np.concatenate([residual, np.zeros(size.size)]), rcond=None)[0]
        tried = net.stepped(step)
        left = y - tried.outputs(xbar)
        if left @ left < residual @ residual:
            net, residual, damping = tried, left, damping / 10
        else:
            damping *= 10
            if damping > 1e8:
                return None
    return None


def _without_weights(xbar: np.ndarray, y: np.ndarray, net: Shallow) -> Shallow:
    """Set weights to zero one by one, the smallest first, while the others still meet the points."""
    changed = True
    while changed:
        changed = False
        for weight in np.argsort(np.abs(net.nu[net.live])):
            smaller = meet_points(xbar, y, net.without(np.array([weight])))
            if smaller is not None:
                net, changed = smaller, True
                break
    return net
