"""Why do winning tickets win? A teacher, a student with masks, and accelerated gradient descent.

    y_n = (1/K) sum_j (w*_j . x_n)_+ + xi_n,  x_n ~ N(0, I_d),
    f(W) = 1/(2N) sum_n ((1/K) sum_j (w_j . x_n)_+ - y_n)^2,  W = 0 off the mask M.

Zhang, Wang, Liu, Chen and Xiong, Why Lottery Ticket Wins? A Theoretical Perspective of Sample Complexity on Sparse
Neural Networks, 2021. Weights are matrices (neurons, inputs); masks are bool of the same shape. The start from moments
is in :mod:`sparelu.train.analysis.tensor_init`. These are functions and no ``Fitter``: the mask is given here, and a
budget has no place for one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression, linear_sum_assignment

from sparelu.networks.network import Layer, Network
from sparelu.topk import largest_mask

FLOOR = 1e-10
"""Relative errors below this are rounding: no rate is read from them."""

FAR = 1e12
"""A loss so many times the first is divergence."""


def teacher(
    inputs: int,
    neurons: int,
    nonzeros: int,
    rng: np.random.Generator,
    *,
    supports: str = "common",
    orthonormal: bool = False,
) -> Float[np.ndarray, "k d"]:
    """Draw weights (``neurons``, ``inputs``) with ``nonzeros`` in every row, uniform on [-0.5, 0.5].

    ``supports``: one "common" to all rows, "random" ones, or "disjoint" ones. ``orthonormal`` makes the rows of a
    common support orthonormal: the rate of descent depends on the conditioning of the rows more than on their number
    of weights, so that a law of the latter shows only where the former is fixed.

    Raises ``ValueError`` when the inputs do not hold the supports, or the rows cannot be orthonormal.
    """
    if supports not in ("common", "random", "disjoint"):
        raise ValueError(f"supports must be 'common', 'random' or 'disjoint', got {supports!r}")
    needed = nonzeros * neurons if supports == "disjoint" else nonzeros
    if not 1 <= needed <= inputs:
        raise ValueError(f"{supports} supports of {nonzeros} take {needed} inputs and there are {inputs}")
    if orthonormal and (supports != "common" or nonzeros < neurons):
        raise ValueError(f"{neurons} orthonormal rows need one common support of at least {neurons} inputs")
    if supports == "random":
        chosen = np.stack([rng.permutation(inputs)[:nonzeros] for _ in range(neurons)])
    else:
        order = rng.permutation(inputs)
        starts = np.arange(neurons) * nonzeros if supports == "disjoint" else np.zeros(neurons, dtype=int)
        chosen = order[starts[:, None] + np.arange(nonzeros)]
    values = rng.uniform(-0.5, 0.5, (neurons, nonzeros))
    if orthonormal:
        values = np.linalg.qr(values.T)[0].T
    weights = np.zeros((neurons, inputs))
    np.put_along_axis(weights, chosen, values, axis=1)
    return weights


def teacher_outputs(weights: Float[np.ndarray, "k d"], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Compute the mean over the neurons of (w_j . x)_+ for rows ``x``."""
    return np.maximum(x @ weights.T, 0).mean(axis=1)


def teacher_network(weights: Float[np.ndarray, "k d"]) -> Network:
    """Return the same function as a network, for the other verbs and for export."""
    neurons = len(weights)
    return Network((Layer.from_dense(weights), Layer.from_dense(np.full((1, neurons), 1 / neurons))))


def rows(
    weights: Float[np.ndarray, "k d"], n: int, rng: np.random.Generator, noise: float = 0.0
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Draw ``n`` standard normal inputs and their outputs, with normal ``noise`` relative to the root mean square.

    The theorem has bounded noise.
    """
    x = rng.standard_normal((n, weights.shape[1]))
    y = teacher_outputs(weights, x)
    if noise:
        y = y + noise * np.sqrt(np.mean(y**2)) * rng.standard_normal(n)
    return x, y


def effective_width(mask: Bool[np.ndarray, "k d"]) -> float:
    """Compute what replaces the number of inputs in the theorems, from the row counts r_j and which rows overlap.

    (sum_jk (1 + delta_jk) sqrt(r_j + r_k))^2 / (8 K^4), delta_jk = 1 where rows j and k share an input: r when all rows
    have the same r inputs, (r / 4) (1 + 1/K)^2 when they are disjoint.
    """
    count = mask.sum(axis=1)
    overlap = mask.astype(int) @ mask.astype(int).T > 0
    total = ((1 + overlap) * np.sqrt(count[:, None] + count[None])).sum()
    return float(total**2 / (8 * len(mask) ** 4))


def widened(mask: Bool[np.ndarray, "k d"], kept: int, rng: np.random.Generator) -> Bool[np.ndarray, "k d"]:
    """Widen the mask to ``kept`` inputs in every row: those it has, and others in one random order for all rows.

    Raises ``ValueError`` when a row has more already, or there are not so many inputs.
    """
    if not mask.sum(axis=1).max() <= kept <= mask.shape[1]:
        raise ValueError(f"rows of {mask.sum(axis=1).max()} of {mask.shape[1]} inputs cannot be widened to {kept}")
    place = np.empty(mask.shape[1])
    place[rng.permutation(mask.shape[1])] = np.arange(mask.shape[1])
    rank = np.where(mask, -1, place)
    wide = np.zeros_like(mask)
    np.put_along_axis(wide, np.argsort(rank, axis=1)[:, :kept], True, axis=1)
    return wide


def narrowed(weights: Float[np.ndarray, "k d"], dropped: float) -> Bool[np.ndarray, "k d"]:
    """Return the support of ``weights`` without the share ``dropped`` of the smallest."""
    nonzeros = int(np.count_nonzero(weights))
    return largest_mask(torch.from_numpy(np.abs(weights)), nonzeros - round(dropped * nonzeros)).numpy()


def nearby(
    weights: Float[np.ndarray, "k d"], mask: Bool[np.ndarray, "k d"], distance: float, rng: np.random.Generator
) -> Float[np.ndarray, "k d"]:
    """Move ``weights`` within the mask by ``distance`` times their norm in a random direction within the mask.

    The paper's experiments start so.
    """
    direction = np.where(mask, rng.standard_normal(weights.shape), 0.0)
    step = distance * np.linalg.norm(weights) / np.linalg.norm(direction)
    return np.where(mask, weights, 0.0) + step * direction


def matching(weights: Float[np.ndarray, "k d"], target: Float[np.ndarray, "k d"]) -> Int[np.ndarray, " k"]:
    """Order the rows of ``weights`` so that they are nearest to ``target``: neurons have no names."""
    distances = ((target[:, None] - weights[None]) ** 2).sum(axis=2)
    return linear_sum_assignment(distances)[1]


def relative_error(weights: Float[np.ndarray, "k d"], target: Float[np.ndarray, "k d"]) -> float:
    """Compute |P W - W*|_F / |W*|_F with the best order P of the neurons."""
    return float(np.linalg.norm(weights[matching(weights, target)] - target) / np.linalg.norm(target))


def loss_and_gradient(
    weights: Float[np.ndarray, "k d"], x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, "k d"]]:
    """Compute f(W) and its gradient 1/(N K) sum_n (f_W(x_n) - y_n) 1[w_j . x_n > 0] x_n."""
    return _gradient(weights, x, y)


def _gradient(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    z = x @ weights.T
    residual = np.maximum(z, 0).mean(axis=1) - y
    loss = 0.5 * float(residual @ residual) / len(y)
    return loss, ((z > 0) * residual[:, None]).T @ x / z.size


@dataclass(frozen=True, eq=False)
class Descent:
    """The ``weights`` at the end; ``losses`` before every step; relative ``errors`` (steps + 1,) of a known target.

    The neurons keep the order that fits the target best at the start.
    """

    weights: Float[np.ndarray, "k d"]
    losses: Float[np.ndarray, " steps"]
    errors: Float[np.ndarray, " states"]


def descend(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    mask: Bool[np.ndarray, "k d"],
    start: Float[np.ndarray, "k d"],
    *,
    step: float | None = None,
    momentum: float = 0.8,
    steps: int = 1500,
    batches: int = 1,
    target: Float[np.ndarray, "k d"] | None = None,
    enough: float = 0.0,
) -> Descent:
    """Descend by momentum within the mask: W <- W - ``step`` M o grad f(W) + ``momentum`` (W - W_before).

    ``step`` is K where none is given. ``batches`` disjoint parts of the rows take turns; the paper takes a new one for
    every step, one of all rows is what its experiments do. It ends early where the error to ``target`` is ``enough``,
    and where the loss is :data:`FAR` times the first. Momentum cannot make a step contract faster than sqrt(momentum).

    Raises ``ValueError`` for a start off the mask, or fewer rows than batches.
    """
    if start[~mask].any():
        raise ValueError("the start has weights off the mask: multiply it by the mask")
    if not 1 <= batches <= len(y):
        raise ValueError(f"{len(y)} rows cannot be split into {batches} batches")
    live = np.asarray(mask.any(axis=0))  # what no neuron reads takes no part
    m, w = mask[:, live], start[:, live].copy()
    parts = list(zip(np.array_split(x[:, live], batches), np.array_split(y, batches), strict=True))
    step = len(w) if step is None else step
    distance = _distance(target, start, live)
    before, errors = w, [distance(w)]
    losses: list[float] = []
    for t in range(steps):
        loss, slope = _gradient(w, *parts[t % batches])
        if errors[-1] <= enough or not loss < FAR * (losses or [loss])[0]:
            break
        before, w = w, w - step * slope * m + momentum * (w - before)
        losses.append(loss)
        errors.append(distance(w))
    found = np.zeros_like(start)
    found[:, live] = w
    return Descent(found, np.array(losses), np.array(errors if target is not None else []))


def _distance(target: np.ndarray | None, start: np.ndarray, live: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return the relative error as a function of the live columns, dead ones included; infinite without a target."""
    if target is None:
        return lambda w: np.inf
    truth = target[matching(target, start)]
    near, lost, size = truth[:, live], float((truth[:, ~live] ** 2).sum()), float(np.linalg.norm(truth))
    return lambda w: float(np.sqrt(((w - near) ** 2).sum() + lost)) / size


def rate(errors: Float[np.ndarray, " states"]) -> float:
    """Estimate the factor by which a step shrinks the error, by a line through the logarithms of the later half.

    What lies below :data:`FLOOR` times the first is left out. Raises ``ValueError`` when fewer than ten are left.
    """
    small = np.flatnonzero(errors < FLOOR * errors[0])
    falling = errors[: small[0]] if small.size else errors
    later = falling[len(falling) // 2 :]
    if len(later) < 10:
        raise ValueError(f"{len(errors)} errors hold no rate: ten are needed above {FLOOR:g} times the first")
    return float(np.exp(np.polyfit(np.arange(len(later)), np.log(later), 1)[0]))


def threshold(samples: Int[np.ndarray, " cells"], share: Float[np.ndarray, " cells"]) -> float:
    """Find the number of samples at which half of the trials succeed, from the ``share`` that does at each number.

    Shares are made to rise with the samples by least squares, and crossed on a logarithmic scale. Raises ``ValueError``
    when they do not pass from below a half to above it.
    """
    order = np.argsort(samples)
    n, p = np.log(samples[order]), isotonic_regression(share[order]).x
    below, above = np.flatnonzero(p < 0.5), np.flatnonzero(p > 0.5)
    if not below.size or not above.size:
        raise ValueError(f"the shares at {len(p)} numbers of samples do not pass a half: take a wider range")
    i, j = below[-1], above[0]
    return float(np.exp(n[i] + (n[j] - n[i]) * (0.5 - p[i]) / (p[j] - p[i])))
