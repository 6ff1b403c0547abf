"""Exact recovery of planted neurons by convex programs: isometry conditions, least-norm programs, phase transitions.

Source: Wang, Hua, Candes and Pilanci, Overparameterized ReLU neural networks learn the simplest model, 2022.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog

from sparelu.convex.patterns import Patterns, distinct_patterns
from sparelu.convex.solver.loss import Squared
from sparelu.convex.solver.newton import minimise_program, start_point
from sparelu.convex.solver.penalties import GroupNorm
from sparelu.convex.solver.program import Design, Program

RECOVERED = 1e-4
"""Largest difference of weights that counts as recovered, as published."""


def probability_of_a_half_space(rows: int, inputs: int) -> float:
    """Return the chance that some u has X u >= 0 for rows in general position: 2^(1-n) sum_{k<d} C(n-1, k) (Wendel).

    Then the pattern of all ones exists, a linear neuron may be split with it at no cost, and it is not recovered. The
    chance is exactly one half at n = 2 d: the phase transition.
    """
    return float(sum(math.comb(rows - 1, k) for k in range(min(inputs, rows)))) / 2.0 ** (rows - 1)


def half_space_gate(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """Return a gate (1, d) that keeps all rows, or none (0, d), by a linear program."""
    found = linprog(np.zeros(x.shape[1]), A_ub=-x, b_ub=-np.ones(len(x)), bounds=(None, None))
    return found.x[None] if found.status == 0 else np.empty((0, x.shape[1]))


def linear_isometry(x: Float[np.ndarray, "n d"], patterns: Patterns, w: Float[np.ndarray, " d"]) -> float:
    """Compute NIC-L: max_j |X' D_j X (X'X)^-1 w| / |w|. Below 1 a planted linear neuron is the one least-norm fit."""
    dual = x @ np.linalg.solve(x.T @ x, w / np.linalg.norm(w))
    return float(np.linalg.norm(Design(x, patterns).correlate(dual[:, None])[:, :, 0], axis=1).max())


def neuron_isometry(x: Float[np.ndarray, "n d"], patterns: Patterns, w: Float[np.ndarray, " d"]) -> float:
    """Compute NIC-1: max over j other than the planted pattern s of |X' D_j D_s X (X' D_s X)^-1 w| / |w|."""
    active = x @ w >= 0
    dual = active * (x @ np.linalg.solve(x[active].T @ x[active], w / np.linalg.norm(w)))
    others = ~(patterns.masks() == active).all(axis=1)
    found = Design(x, patterns).correlate(dual[:, None])[others, :, 0]
    return float(np.linalg.norm(found, axis=1).max(initial=0.0))


def normalised_isometry(x: Float[np.ndarray, "n d"], patterns: Patterns, planted: Float[np.ndarray, "k d"]) -> float:
    """Compute NNIC-k, for neurons divided by the norm of their outputs: max_j |U_j' lambda| over the other patterns.

    U_j spans the columns of D_j X; lambda is the shortest vector with U_s' lambda = the unit weight of every planted s.
    """
    masks = [x @ w >= 0 for w in planted]
    bases, wanted = [], []
    for mask, w in zip(masks, planted, strict=True):
        u, size, v = _compact_svd(mask[:, None] * x)
        weight = size * (v @ w)
        bases.append(u)
        wanted.append(weight / np.linalg.norm(weight))
    dual = np.linalg.lstsq(np.hstack(bases).T, np.concatenate(wanted), rcond=None)[0]
    worst = 0.0
    for mask in patterns.masks():
        if not any((mask == other).all() for other in masks):
            worst = max(worst, float(np.linalg.norm(_compact_svd(mask[:, None] * x)[0].T @ dual)))
    return worst


def _compact_svd(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, size, v = np.linalg.svd(a, full_matrices=False)
    rank = int((size > 1e-12 * size[0]).sum())
    return u[:, :rank], size[:rank], v[:rank]


@dataclass(frozen=True, eq=False)
class Recovery:
    """Weights of least norm of the linear neuron (d,) and the patterns (P, d), and the relative gap of the program."""

    linear: np.ndarray
    blocks: np.ndarray
    gap: float

    def recovers(self, w: Float[np.ndarray, " d"]) -> bool:
        """Tell whether the planted linear neuron ``w`` is all that was found."""
        return bool(np.abs(self.linear - w).max() <= RECOVERED and np.abs(self.blocks).max(initial=0.0) <= RECOVERED)


def recover_linear(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], patterns: Patterns, penalty: float
) -> Recovery:
    """Solve min |X w_0 + sum_j D_j X w_j - y|^2 / 2 + penalty (|w_0| + sum_j |w_j|): ReLU with a skip part, relaxed.

    As ``penalty`` falls the fit becomes exact (the published programs: penalty 0, and 1e-6 with noise). The linear part
    is the block of the pattern of all ones; where a gate has that pattern too, the least norm may be shared between
    both in any way, and is split evenly here.
    """
    ones = distinct_patterns(np.packbits(np.ones((1, len(x)), bool), axis=1), np.zeros((1, x.shape[1])), len(x))
    shared = bool(patterns.masks().all(axis=1).any())
    joined = ones.add(patterns)
    loss = Squared(y[:, None] * 1.0, np.ones(len(x)))
    program = Program.gated(Design(x, joined), loss, penalty, np.empty((len(x), 0)))
    *_, point = minimise_program(program, GroupNorm(penalty), start_point(program), 1e-9)
    blocks = point.blocks[:, :, 0]
    first = blocks[0] / (2 if shared else 1)
    rest = np.vstack([first[None], blocks[1:]]) if shared else blocks[1:]
    return Recovery(first, rest, point.gap)
