"""The best M-neuron networks for a target whose weights point everywhere alike: simplex, tilted frame, antipodal pair.

Target: f(x) = sum_i a_i (w_i.x)_+ without biases, x ~ N(0, I_d). What of it does not depend on the draw of the
directions is its part of spherical degree 0 and 1,
    f0(x) = total gamma_d |x| + (pull.x)/2,   total = sum_i a_i |w_i|,   pull = sum_i a_i w_i,
and everything below is the exact theory of f0 (docs/simplex_proof.md has the proofs).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import helmert
from scipy.optimize import minimize_scalar
from torch import Tensor

from sparelu.gaussian import TwoLayer, arc_cosine

C0 = 1 / (2 * math.pi)
"""Degree-0 energy of a unit ReLU as d -> infinity: E[(Z)_+]^2."""
G1 = 0.25 - C0
"""Energy of a unit ReLU beyond degree one, as d -> infinity."""


class Regime(Enum):
    """Say which arrangement has the smallest loss."""

    simplex = "equal norms on a regular simplex"
    tilted = "equal norms on a simplex tilted towards the pull"
    antipodal = "orthonormal neurons and an antipodal pair that carries the linear part"


@dataclass(frozen=True)
class Optimum:
    """Hold a regime with its loss, the norm ``radius`` of an equal-norm neuron and the cosine ``rho`` of two of
    them.
    """

    regime: Regime
    loss: float
    radius: float
    rho: float


@dataclass(frozen=True)
class InvariantTarget:
    """Hold f0 above: ``total``, ``pull`` (d,), and whether the dimension is taken as it is or as infinite."""

    total: float
    pull: Float[Tensor, " d"]
    infinite: bool = False

    @classmethod
    def of(cls, net: TwoLayer) -> "InvariantTarget":
        """Return the degree-0 and degree-1 part of a scalar network without biases."""
        sizes = torch.linalg.vector_norm(net.weight, dim=1)
        return cls(float(net.out[0] @ sizes), net.out[0] @ net.weight + 2 * net.linear[0])

    @property
    def inputs(self) -> int:
        """Return the dimension of the inputs."""
        return len(self.pull)

    @property
    def size(self) -> float:
        """Return the length of the pull."""
        return float(torch.linalg.vector_norm(self.pull))

    @property
    def share(self) -> float:
        """Compute E[(v.x)_+ f0] = share total for a unit v and no pull: c_0^2 as d -> infinity."""
        return C0 if self.infinite else degree_zero_share(self.inputs)

    @property
    def energy(self) -> float:
        """Compute E[f0^2]."""
        return self.share * self.total**2 + self.size**2 / 4

    def inner(self, student: TwoLayer) -> Float[Tensor, ""]:
        """Compute E[student f0], differentiable; the student has no biases and no affine part."""
        sizes = torch.linalg.vector_norm(student.weight, dim=1)
        return self.share * self.total * (student.out[0] @ sizes) + 0.25 * (student.out[0] @ student.weight) @ self.pull


def degree_zero_share(d: int) -> float:
    """Compute ``d g^2`` with g = E[(u.e)_+] = Gamma(d/2) / (2 sqrt(pi) Gamma((d+1)/2)) for u uniform on the sphere."""
    return d * math.exp(2 * (math.lgamma(d / 2) - math.lgamma((d + 1) / 2))) / (4 * math.pi)


def gram_sum(neurons: int, rho: float) -> float:
    """Compute ``S = M/2 + M (M - 1) kappa(rho)``: squared norm of M unit neurons of common cosine rho."""
    kappa = float(arc_cosine(torch.tensor(rho, dtype=torch.float64)))
    return neurons / 2 + neurons * (neurons - 1) * kappa


def equal_norms(target: InvariantTarget, neurons: int) -> Optimum:
    """Return the smallest loss of any M neurons with positive outputs: simplex without, tilted frame with a pull.

    Attained for M <= d, and at M = d + 1 without pull; a strict lower bound otherwise.
    Loss = energy - max_c (share total M + (t/4) M c)^2 / S_M(rho), rho = (M c^2 - 1)/(M - 1), c the cosine of every
    neuron with the pull, t = |pull|. A negative total is that of -f0.
    """
    if neurons == 1:
        return _at_cosine(target, 1, 1.0)
    if target.size == 0:
        return _at_cosine(target, neurons, 0.0)
    lowest = _best(lambda c: -_at_cosine(target, neurons, c).loss)
    return _at_cosine(target, neurons, lowest)


def _at_cosine(target: InvariantTarget, m: int, c: float) -> Optimum:
    """Place M neurons of equal norm and angles, each at cosine ``c`` to the pull: the best norm and its loss."""
    rho = (m * c * c - 1) / (m - 1) if m > 1 else 1.0
    reach = target.share * abs(target.total) * m + 0.25 * target.size * m * c
    norm = gram_sum(m, rho)
    regime = Regime.tilted if c > 0 else Regime.simplex
    return Optimum(regime, target.energy - reach * reach / norm, reach / norm, rho)


def _best(gain: Callable[[float], float]) -> float:
    """Return the maximiser in [0, 1] of a smooth function: a grid, then Brent's method between the grid's
    neighbours.
    """
    grid = np.linspace(0, 1, 401)
    values = [gain(float(c)) for c in grid]
    best = int(np.argmax(values))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 400)]
    found = minimize_scalar(lambda c: -gain(c), bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    return float(found.x) if -found.fun >= values[best] else float(grid[best])


def antipodal(target: InvariantTarget, neurons: int) -> Optimum | None:
    """Place M - 1 orthonormal even parts with the linear part matched by a +- pair; None where the pull is too short.

    Loss = share total^2 - (share total)^2 / (c_0^2 + g(1)/(M-1)), whatever the pull; the pair needs
    t >= radius sqrt(M - 1), and M - 1 orthonormal directions need M <= d + 1.
    """
    m = neurons
    reach = target.share * abs(target.total)
    if m < 2 or m > target.inputs + 1:
        return None
    radius = reach / ((m - 1) * C0 + G1)
    if target.size < radius * math.sqrt(m - 1):
        return None
    loss = target.share * target.total**2 - reach**2 / (C0 + G1 / (m - 1))
    return Optimum(Regime.antipodal, loss, radius, 0.0)


def optimum(target: InvariantTarget, neurons: int) -> Optimum:
    """Return the best of the attainable regimes; at M = d + 1 there is no tilted frame, and the simplex ignores the
    pull.

    Raises ``ValueError`` when none is attained: M > d + 1.
    """
    if neurons > target.inputs + 1:
        raise ValueError(
            f"{neurons} neurons of equal angles need {neurons - 1} inputs, there are {target.inputs}: "
            "`population` searches where no frame exists"
        )
    equal = equal_norms(target, neurons) if neurons <= target.inputs else _at_cosine(target, neurons, 0.0)
    pair = antipodal(target, neurons)
    return equal if pair is None or equal.loss <= pair.loss else pair


def build_frame(target: InvariantTarget, neurons: int, rng: np.random.Generator) -> TwoLayer:
    """Return a network that attains :func:`optimum`, turned at random about the pull.

    Raises ``ValueError`` as :func:`optimum` does.
    """
    best = optimum(target, neurons)
    m, sign = neurons, 1.0 if target.total >= 0 else -1.0
    basis = _basis(sign * target.pull.numpy(), min(m, target.inputs), rng)
    signs = np.ones(m)
    if best.regime is Regime.antipodal:
        weights = _pair_frame(basis[: m - 1], best.radius, target.size)
        signs[-1] = -1.0
    else:
        corners = np.sqrt(m / (m - 1)) * helmert(m).T if m > 1 else np.zeros((1, 0))
        if best.regime is Regime.simplex:
            weights = best.radius * corners @ basis[: m - 1]
        else:
            c2 = (1 + (m - 1) * best.rho) / m
            weights = best.radius * (np.sqrt(c2) * basis[0] + np.sqrt(1 - c2) * corners @ basis[1:m])
    return TwoLayer.of(torch.from_numpy(weights), torch.from_numpy(sign * signs)[None])


def _pair_frame(basis: np.ndarray, radius: float, size: float) -> np.ndarray:
    """Place M - 2 orthogonal neurons and the pair, from M - 1 orthonormal rows of which the first is along the pull.

    pull = radius sum_j v_j + q v: the orthonormal frame is turned so that this combination lies along the pull; the
    pair has norms (q + radius)/2 and (q - radius)/2 and opposite outputs, so its even part has weight ``radius``.
    """
    m1 = len(basis)
    q = math.sqrt(max(size**2 - radius**2 * (m1 - 1), 0.0))
    lengths = np.append(np.full(m1 - 1, radius), q) / size
    turn = np.linalg.qr(np.column_stack([lengths, np.eye(m1)[:, : m1 - 1]]))[0]
    turn[:, 0] *= np.sign(turn[:, 0] @ lengths)
    directions = turn @ basis
    pair = np.stack([0.5 * (q + radius) * directions[-1], -0.5 * (q - radius) * directions[-1]])
    return np.vstack([radius * directions[:-1], pair])


def _basis(first: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return the orthonormal rows, random but for the first, which is along ``first`` unless that is zero."""
    columns = rng.standard_normal((len(first), rows))
    if first.any():
        columns[:, 0] = first
    q, r = np.linalg.qr(columns)
    return (q * np.sign(np.diag(r))).T
