"""Norms of products with ReLUs between: less than the product of norms, because (t)_+ is half a linear map.

A ReLU acts on a vector, and on a difference of two, as a diagonal matrix D with entries in [0, 1]: D = (I + E)/2 with
|E| <= 1. So |M_L D_{L-1} ... D_1 M_1| <= 2^{1-L} times the sum over all ways to cut the product M_L ... M_1 into
consecutive blocks of the product of the blocks' norms (Combettes and Pesquet 2020): E stands at a cut, I elsewhere.
"""

from collections.abc import Sequence

import numpy as np

DEPTH_LIMIT = 8
"""Layers up to which the sum is formed: L^3 / 6 norms."""

SCALES = (0.1, 0.3, 1.0, 3.0)
"""Values of the constant input that biases are weights from, in units of |x|; the best is taken."""


def bound_product(factors: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the bounds of |(M_L D ... D M_1)_k| for every row k of M_L, (K,), and of the norm; ``factors`` are M_1 ...
    M_L.
    """
    depth, sums = len(factors), [1.0]
    rows, norm = np.zeros(len(factors[-1])), 0.0
    for end in range(1, depth + 1):
        block, total = factors[end - 1], 0.0
        for start in range(end - 1, -1, -1):
            block = block if start == end - 1 else block @ factors[start]
            total += float(np.linalg.norm(block, 2)) * sums[start]
            if end == depth:
                rows = rows + np.linalg.norm(block, axis=1) * sums[start]
        sums.append(total)
        norm = total
    return rows * 2.0 ** (1 - depth), norm * 2.0 ** (1 - depth)


def bound_difference(
    reference: Sequence[tuple[np.ndarray, np.ndarray]], network: Sequence[tuple[np.ndarray, np.ndarray]], norm: float
) -> tuple[np.ndarray, float]:
    """Return the bounds of |F_k - f_k|, (k,), and of |F - f|_2 for |x| <= ``norm``; layers as (weights, biases) from
    the input up.

    F - f = sum_l W_L D ... D (W_l - P_l) D P_{l-1} ... D P_1 x, with biases as weights from a constant unit.
    """
    rows, length, last = np.full(len(reference[-1][1]), np.inf), np.inf, len(reference) - 1
    if len(reference) > DEPTH_LIMIT:
        return rows, length
    for scale in SCALES:
        constant = scale * norm if norm > 0 else 1.0
        w = [_with_constant(a, b / constant, i == last) for i, (a, b) in enumerate(reference)]
        p = [_with_constant(a, b / constant, i == last) for i, (a, b) in enumerate(network)]
        found = [bound_product([*p[:i], w[i] - p[i], *w[i + 1 :]]) for i in range(len(w))]
        size = float(np.hypot(norm, constant))
        rows = np.minimum(rows, size * np.sum([f[0] for f in found], axis=0))
        length = min(length, size * sum(f[1] for f in found))
    return rows, length


def _with_constant(w: np.ndarray, b: np.ndarray, last: bool) -> np.ndarray:
    top = np.column_stack([w, b])
    return top if last else np.vstack([top, np.append(np.zeros(w.shape[1]), 1.0)])
