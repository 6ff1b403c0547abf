"""Where a student starts: the teacher from Hermite moments of the rows.

With u_j = w_j / |w_j| and H_k the Hermite tensors, Stein's lemma gives for x ~ N(0, I)
    E[y H_k(x)] = (c_k / K) sum_j |w_j| u_j^(x)k,   c_k = E[(z)_+ He_k(z)] = He_{k-2}(0) / sqrt(2 pi) for k >= 2,
that is c_1 = 1/2, c_2 = 1/sqrt(2 pi), c_3 = 0, c_4 = -1/sqrt(2 pi). The third moment, which the method was published
with for other activations, vanishes for ReLU: the fourth takes its place.

Zhang et al., Why Lottery Ticket Wins?, 2021, appendix; Zhong et al., Recovery guarantees for one-hidden-layer neural
networks, 2017, algorithms 1 and 2.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

BLOCK = 4096
"""Rows at a time: memory is that of a block, whatever their number."""


def hermite_coefficient(order: int) -> float:
    """Compute c_k = E[(z)_+ He_k(z)] for z ~ N(0, 1), with He_k of leading coefficient 1."""
    if order < 2:
        return (1 / math.sqrt(2 * math.pi), 0.5)[order]
    at_zero = np.polynomial.hermite_e.hermeval(0.0, np.eye(order - 1)[-1])
    return float(at_zero) / math.sqrt(2 * math.pi)


def tensor_start(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    mask: Bool[np.ndarray, "k d"],
    rng: np.random.Generator,
    *,
    order: int = 4,
) -> Float[np.ndarray, "k d"]:
    """Compute a start within ``mask`` from the rows alone, inputs N(0, I).

    The top K eigenvectors of M2 = E[y H_2] span the teacher's rows; in coordinates z that make M2 the identity on them,
    the rows are the orthonormal components of -E[y H_4]. Neurons go to the rows of the mask that hold most of their
    norm. Departures from the paper:

    * Its third-order tensor is here one random contraction of the fourth. The whole fourth is decomposed instead: all
      components have the same sign, and none is lost to a contraction nearly orthogonal to it.
    * Its lengths are the least squares of M1 on the directions, which blow up where two of these nearly agree. Lengths
      come from M2 and only signs from M1. For 5 neurons on 20 inputs and 2000 rows the median relative error is 0.70
      against 1.25, and the worst of 20 trials 1.0 against 7e9; with many rows the two are alike.

    Raises ``ValueError`` for an ``order`` whose moment vanishes or that is not 4, and for a second moment without K
    positive eigenvalues.
    """
    if hermite_coefficient(order) == 0:
        raise ValueError(f"the moment of order {order} of a ReLU network under normal inputs is zero: use order 4")
    if order != 4:
        raise ValueError(f"the start is made from the moment of order 4, not {order}")
    live = mask.any(axis=0)
    inputs, neurons = x[:, live], len(mask)
    first, second, rest = low_moments(inputs, y)
    values, vectors = np.linalg.eigh(second)
    values, span = values[-neurons:], vectors[:, -neurons:]
    if live.sum() < neurons or values[0] <= 0:
        raise ValueError(f"the second moment has not {neurons} positive eigenvalues: give more rows or fewer neurons")
    whiten = span / np.sqrt(values)
    components = orthogonal_components(-fourth_moment(inputs @ whiten, rest, whiten.T @ whiten), neurons, rng)
    # With B = whiten, v_j = (c_2 |w_j| / K)^(1/2) B' u_j. Undone, v_j gives (c_2 |w_j| / K)^(1/2) u_j up to sign; and
    # B' M1 = sum_j |w_j| B' u_j / 2K is a sum of the orthogonal v_j, each with the sign of the sense it should have.
    halves = span @ (np.sqrt(values)[:, None] * components.T)
    halves *= np.sign(components @ (whiten.T @ first))
    found = np.zeros(mask.shape)
    found[:, live] = (halves * np.linalg.norm(halves, axis=0)).T * neurons / hermite_coefficient(2)
    return _within(found, mask)


def low_moments(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"], Float[np.ndarray, " n"]]:
    """Estimate M1 = E[y x], M2 = E[y (x x' - I)], and what of y is left for higher moments.

    Hermite polynomials of different degrees are orthogonal: what is found of lower degree may be taken off y and no
    higher moment changes, but its sample is less noisy.
    """
    rest = y - y.mean()
    first = rest @ x / len(y)
    rest = rest - x @ first
    second = (x.T * rest) @ x / len(y) - rest.mean() * np.eye(x.shape[1])
    second = (second + second.T) / 2
    return first, second, rest - 0.5 * (((x @ second) * x).sum(axis=1) - np.trace(second))


def fourth_moment(
    z: Float[np.ndarray, "n k"], y: Float[np.ndarray, " n"], covariance: Float[np.ndarray, "k k"]
) -> Float[np.ndarray, "k k k k"]:
    """Estimate E[y H_4] of normal inputs z of covariance G: z^(x)4, less G z z over six pairs, plus G G over three."""
    k = z.shape[1]
    power = np.zeros((k * k, k * k))
    for start in range(0, len(y), BLOCK):
        block = z[start : start + BLOCK]
        pairs = (block[:, :, None] * block[:, None]).reshape(len(block), -1)
        power += (pairs.T * y[start : start + BLOCK]) @ pairs
    second = (z.T * y) @ z / len(y)
    return (
        (power / len(y)).reshape(k, k, k, k)
        - _pairings(covariance, second)
        - _pairings(second, covariance)
        + y.mean() * _pairings(covariance, covariance)
    )


def _pairings(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute a_ij b_kl + a_ik b_jl + a_il b_jk."""
    return np.einsum("ij,kl->ijkl", a, b) + np.einsum("ik,jl->ijkl", a, b) + np.einsum("il,jk->ijkl", a, b)


def orthogonal_components(
    tensor: Float[np.ndarray, "k k k k"], count: int, rng: np.random.Generator, *, starts: int = 10, steps: int = 100
) -> Float[np.ndarray, "count k"]:
    """Find unit vectors v_j of sum_j l_j v_j^(x)4, l_j > 0, by the power method from random starts, largest l first.

    Anandkumar et al., Tensor decompositions for learning latent variable models, 2014, algorithm 1, for order four.
    ``starts`` times k random starts are made for every direction, and ``steps`` from each.
    """
    k, found = len(tensor), []
    tensor = tensor.copy()
    for _ in range(count):
        v = rng.standard_normal((starts * k, k))
        for _ in range(steps):
            v /= np.linalg.norm(v, axis=1, keepdims=True)
            flat = (v[:, :, None] * v[:, None]).reshape(len(v), -1)
            v = np.einsum("si,sij->sj", v, (flat @ tensor.reshape(k * k, k * k)).reshape(-1, k, k))
        sizes = np.linalg.norm(v, axis=1)
        best = v[np.argmax(sizes)] / sizes.max()
        tensor -= sizes.max() * np.einsum("i,j,k,l->ijkl", best, best, best, best)
        found.append(best)
    return np.array(found)


def _within(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Match neurons to rows of the mask so that most of their squared norm stays, and cut them to these."""
    held = mask.astype(float) @ (weights**2).T
    order = linear_sum_assignment(held, maximize=True)[1]
    return np.where(mask, weights[order], 0.0)
