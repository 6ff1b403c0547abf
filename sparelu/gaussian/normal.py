"""The standard normal distribution in one and two dimensions, differentiable, in float64."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SQRT_2PI = math.sqrt(2 * math.pi)

# Beyond 37 standard deviations the density is below 1e-297: an infinite limit may stand there.
FAR = 37.0

# Gauss-Legendre rules for |rho| up to the bound: each keeps 3e-15 for every h and k (tests/gaussian).
RULES = tuple(
    (bound, *np.polynomial.legendre.leggauss(n))
    for bound, n in ((0.1, 4), (0.3, 6), (0.6, 10), (0.75, 12), (0.925, 20))
)
STEEP_RULE = np.polynomial.legendre.leggauss(20)


def density(x: Tensor) -> Tensor:
    """Return the standard normal density of ``x``."""
    return torch.exp(-0.5 * x * x) / SQRT_2PI


def cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function of ``x``, accurate in both tails."""
    return 0.5 * torch.special.erfc(-x / math.sqrt(2))


def bivariate_cdf(h: Float[Tensor, "..."], k: Float[Tensor, "..."], rho: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute ``P(X <= h, Y <= k)`` for standard normals of correlation ``rho`` in [-1, 1], to 1e-14; twice
    differentiable.

    ``h``, ``k`` and ``rho`` broadcast. At ``|rho| = 1`` the
    derivatives are their limits, that in ``rho`` beyond 1e280 where it is infinite.
    Source: Drezner and Wesolowsky 1990, with the subtraction near ``|rho| = 1`` of Genz 2004, vectorised.

    Raises ``ValueError`` when a correlation is outside [-1, 1].
    """
    if rho.numel() and not bool((rho.detach().abs() <= 1).all()):
        raise ValueError("bivariate_cdf: a correlation is outside [-1, 1] or not a number: divide by the norms first")
    return _BivariateCdf.apply(*torch.broadcast_tensors(h, k, rho))


class _BivariateCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, k: Tensor, rho: Tensor) -> Tensor:
        ctx.save_for_backward(h, k, rho)
        return bivariate_values(h, k, rho, torch.sqrt((1 - rho) * (1 + rho)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, k, rho = ctx.saved_tensors
        q = torch.sqrt((1 - rho) * (1 + rho))
        k_given_h, h_given_k = conditional(h, k, rho, q), conditional(k, h, rho, q)
        g = grads[0]
        joint = density(h) * density(k_given_h) / q.clamp(min=1e-290)
        return g * density(h) * cdf(k_given_h), g * density(k) * cdf(h_given_k), g * joint


def conditional(h: Tensor, k: Tensor, rho: Tensor, q: Tensor) -> Tensor:
    """Compute ``(k - rho h) / q``: the limit ``k`` in units of Y given X = h; ``q = sqrt(1 - rho^2)`` may be zero.

    As (k -+ h)/q +- h q/(1 + |rho|), because 1 - |rho| = q^2/(1 + |rho|) is lost when rho rounds to +-1.
    """
    sign = torch.sign(rho)
    return (k - sign * h) / q.clamp(min=1e-290) + sign * h * q / (1 + rho.abs())


def bivariate_values(
    h: Tensor, k: Tensor, rho: Tensor, q: Tensor, independent: Tensor | None = None, *, straight: float = 0.3
) -> Tensor:
    """Return the values of :func:`bivariate_cdf` from ``rho`` and ``q = sqrt(1 - rho^2)``; all of one shape.

    A ``q`` that is known better than from ``rho`` keeps its accuracy; ``independent`` = Phi(h) Phi(k) where known.

    ``straight``: up to this correlation the density is integrated in rho itself; above, in asin(rho).
    """
    shape = h.shape
    h, k = h.detach().clamp(-FAR, FAR).reshape(-1), k.detach().clamp(-FAR, FAR).reshape(-1)
    rho, q = rho.detach().reshape(-1), q.detach().reshape(-1)
    size = rho.abs()
    out = cdf(h) * cdf(k) if independent is None else independent.reshape(-1)
    below = 0.0
    for bound, nodes, weights in RULES:
        at = torch.nonzero((size >= below) & (size < bound))[:, 0]
        excess = _straight if bound <= straight else _bent
        below = bound
        if at.numel() == h.numel():
            return (out + excess(h, k, rho, nodes, weights)).reshape(shape)
        if at.numel():
            out[at] += excess(h[at], k[at], rho[at], nodes, weights)
    at = torch.nonzero(size >= below)[:, 0]
    if at.numel():
        out[at] = _steep(h[at], k[at], rho[at], q[at])
    return out.reshape(shape)


def _straight(h: Tensor, k: Tensor, rho: Tensor, nodes: np.ndarray, weights: np.ndarray) -> Tensor:
    """Return the excess over independence: d/drho of the cdf is the bivariate density (Plackett), integrated from 0 to
    rho.
    """
    product, mean_square = h * k, 0.5 * (h * h + k * k)
    total = torch.zeros_like(h)
    for x, w in zip(nodes, weights, strict=True):
        r = rho * (0.5 * (1 + float(x)))
        precision = torch.reciprocal(1 - r * r)
        total.add_(torch.exp((r * product - mean_square) * precision).mul_(precision.sqrt_()), alpha=float(w))
    return total.mul_(rho).mul_(1 / (4 * math.pi))


def _bent(h: Tensor, k: Tensor, rho: Tensor, nodes: np.ndarray, weights: np.ndarray) -> Tensor:
    """Integrate with rho = sin t: (1/2 pi) int_0^{asin rho} exp((h k sin t - (h^2 + k^2)/2) / cos^2 t) dt."""
    half = 0.5 * torch.asin(rho)
    product, mean_square = h * k, 0.5 * (h * h + k * k)
    total = torch.zeros_like(h)
    for x, w in zip(nodes, weights, strict=True):
        s = torch.sin(half * (1 + float(x)))
        total.add_(torch.exp((s * product - mean_square) / (1 - s * s)), alpha=float(w))
    return total.mul_(half).mul_(1 / (2 * math.pi))


def _steep(h: Tensor, k: Tensor, rho: Tensor, q: Tensor) -> Tensor:
    """Compute the cdf for ``|rho|`` near one; a negative correlation by P(X <= h, Y <= k) = Phi(h) - P(X <= h, -Y <=
    -k).
    """
    negative = rho < 0
    turned = torch.where(negative, -k, k)
    value = cdf(torch.minimum(h, turned)) - _deficit(h, turned, q)
    return torch.where(negative, cdf(h) - value, value).clamp(min=0)


def _deficit(h: Tensor, k: Tensor, q: Tensor) -> Tensor:
    """Compute what the cdf at rho = sqrt(1 - q^2) lacks of its value at rho = 1.

    With x = sqrt(1 - r^2) for r from rho to 1 and g = (h - k)^2 it is
      (1/2 pi) int_0^q exp(-g/(2 x^2) - h k/2) R(x^2) dx,   R(y) = exp(-h k y / (2 (1 + s)^2)) / s,  s = sqrt(1 - y).
    R = 1 + c y + e y^2 + O(y^3) with c = (4 - h k)/8 and e = (4 - h k)(12 - h k)/128. The polynomial part is
    integrated exactly: J_m = int_0^q x^{2m} exp(-g/(2 x^2)) dx obeys (2m+1) J_m = q^{2m+1} exp(-g/(2 q^2)) - g J_{m-1},
    J_0 = exp(-g/(2 q^2)) (q - sqrt(pi g/2) erfcx(sqrt(g/2)/q)); the smooth rest is left to Gauss-Legendre.
    """
    product, g = h * k, (h - k) ** 2
    c, e = (4 - product) / 8, (4 - product) * (12 - product) / 128
    safe = q.clamp(min=1e-290)
    y = q * q
    j0 = q - torch.sqrt(0.5 * math.pi * g) * torch.special.erfcx(torch.sqrt(0.5 * g) / safe)
    j1 = (q * y - g * j0) / 3
    j2 = (q * y * y - g * j1) / 5
    total = _scaled(j0 + c * j1 + e * j2, -0.5 * (g / (safe * safe).clamp(min=1e-300) + product))
    for x, w in zip(*STEEP_RULE, strict=True):
        t = 0.5 * safe * (1 + float(x))
        y = t * t
        s = torch.sqrt(1 - y)
        rest = torch.exp(-product * y / (2 * (1 + s) ** 2)) / s - (1 + c * y + e * y * y)
        total += _scaled(0.5 * float(w) * safe * rest, -0.5 * (g / y.clamp(min=1e-300) + product))
    return total / (2 * math.pi)


def _scaled(factor: Tensor, exponent: Tensor) -> Tensor:
    """Compute ``factor * exp(exponent)``, zero where the exponential underflows even if the factor overflowed."""
    return torch.where(exponent > -700, factor * torch.exp(exponent), torch.zeros_like(factor))
