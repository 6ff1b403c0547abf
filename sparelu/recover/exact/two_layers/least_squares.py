"""Least squares on a given support for kinks of kinks: Levenberg-Marquardt, saliencies, and what the residual asks for.

The derivatives of the model of :mod:`.hinges`, with g1 = sign(z1) + e and g2 = v (sign(z2) + s) / 2, are
h_j for c_j, x_i for a_i, g2_k h_j for U_kj, g2_k x_i for B_ki, and (c_j + sum_k g2_k U_kj) g1_j x_i for w_ji. The
largest weight of every w_j is held: scaling w_j against what reads it changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.cholesky import cholesky, factor
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.tolerances import ROUNDING
from sparelu.recover.exact.two_layers.hinges import DeepKinks


@dataclass(frozen=True, eq=False)
class DeepFit:
    """A refitted model: its ``mask`` over the vector of weights, ``mse``, and the Gram matrix of the ``free`` weights.

    ``free`` are the places of the mask that are not held.
    """

    model: DeepKinks
    mask: Bool[Tensor, " numbers"]
    free: Tensor
    mse: float
    gram: Float[Tensor, "p p"]
    rows: int


class _Slopes:
    """Residual and factors of the derivatives on one block of rows."""

    def __init__(self, model: DeepKinks, x: Tensor, y: Tensor) -> None:
        z1 = x @ model.weight.T
        first = z1.sign() + model.tilt
        self.x, self.h = x, z1 * first
        z2 = self.h @ model.inner.T + x @ model.direct.T
        self.gate = (z2.sign() + model.side) * (model.sign / 2)
        self.back = (self.gate @ model.inner + model.through) * first
        self.r = y - x @ model.affine - self.h @ model.through - (z2 * self.gate).sum(1)

    def inner_products(self) -> Tensor:
        """Compute J' r over all weights."""
        pulled, passed = self.back * self.r[:, None], self.gate * self.r[:, None]
        parts = (pulled.T @ self.x, passed.T @ self.h, passed.T @ self.x, self.h.T @ self.r, self.x.T @ self.r)
        return torch.cat([part.reshape(-1) for part in parts])

    def squares(self) -> Tensor:
        """Compute the squared column norms of J, over all weights."""
        x, h, back, gate = (part.square() for part in (self.x, self.h, self.back, self.gate))
        return torch.cat(
            [(back.T @ x).reshape(-1), (gate.T @ h).reshape(-1), (gate.T @ x).reshape(-1), h.sum(0), x.sum(0)]
        )


class _Places:
    """Where the free weights lie in the five parts, to build columns of J alone."""

    def __init__(self, model: DeepKinks, free: Tensor) -> None:
        k1, k2 = model.widths
        d = model.affine.numel()
        ends = torch.tensor([0, k1 * d, k2 * k1, k2 * d, k1, d], device=free.device).cumsum(0)
        parts = [free[(free >= a) & (free < b)] - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
        self.weight = (parts[0] // d, parts[0] % d)
        self.inner = (parts[1] // max(k1, 1), parts[1] % max(k1, 1))
        self.direct = (parts[2] // d, parts[2] % d)
        self.through, self.affine = parts[3], parts[4]

    def columns(self, s: _Slopes) -> Tensor:
        """Return the free columns of J as rows (p, b)."""
        x, h, back, gate = (part.T.contiguous() for part in (s.x, s.h, s.back, s.gate))
        return torch.cat(
            [
                back[self.weight[0]] * x[self.weight[1]],
                gate[self.inner[0]] * h[self.inner[1]],
                gate[self.direct[0]] * x[self.direct[1]],
                h[self.through],
                x[self.affine],
            ]
        )


def _slopes(model: DeepKinks, sample: Sample) -> Iterator[_Slopes]:
    for x, y in sample.blocks():
        yield _Slopes(model, x, y)


def held(model: DeepKinks) -> Bool[Tensor, " numbers"]:
    """Mark the largest weight of every first-layer kink, as a mask of the vector."""
    mask = torch.zeros_like(model.vector(), dtype=torch.bool)
    size = model.weight[:, :-1].abs()
    if size.numel():
        mask[torch.arange(len(size), device=size.device) * model.affine.numel() + size.argmax(1)] = True
    return mask


def _gram(model: DeepKinks, free: Tensor, sample: Sample) -> Tensor:
    total, places = model.affine.new_zeros(len(free), len(free)), _Places(model, free)
    for s in _slopes(model, sample):
        columns = places.columns(s)
        total.addmm_(columns, columns.T)
    return total


def _gradient(model: DeepKinks, sample: Sample) -> tuple[Tensor, float]:
    slope, squares = torch.zeros_like(model.vector()), 0.0
    for s in _slopes(model, sample):
        slope += s.inner_products()
        squares += float(s.r @ s.r)
    return slope, squares


def deep_error(model: DeepKinks, sample: Sample) -> float:
    """Compute the mean squared error on the rows."""
    return sum(float((y - model(x)).square().sum()) for x, y in sample.blocks()) / sample.n


def deep_refit(
    model: DeepKinks, mask: Bool[Tensor, " numbers"], sample: Sample, steps: int = 12, enough: float = 1e-2
) -> DeepFit:
    """Refit the support by at most ``steps`` Levenberg-Marquardt steps, until one gains less than ``enough``."""
    model = model.with_vector(torch.where(mask, model.vector(), 0.0))
    free = (mask & ~held(model)).nonzero()[:, 0]
    damping, matrix = 1e-4, _gram(model, free, sample)
    slope, squares = _gradient(model, sample)
    for _ in range(steps):
        moved = _descend(model, free, sample, matrix, slope[free], squares, damping)
        if moved is None:
            break
        model, after, damping = moved
        gain = 1.0 - after / squares
        if gain < 0.99:
            matrix = _gram(model, free, sample)
        slope, squares = _gradient(model, sample)
        if gain < enough or squares < ROUNDING * sample.n:
            break
    return DeepFit(model, mask, free, squares / sample.n, matrix, sample.n)


def _descend(
    model: DeepKinks, free: Tensor, sample: Sample, matrix: Tensor, slope: Tensor, squares: float, damping: float
) -> tuple[DeepKinks, float, float] | None:
    """Take a step that is accepted; return its sum of squares and the next damping too; None when none helps."""
    vector = model.vector()
    for _ in range(9):
        root, damping = cholesky(matrix, damping)
        moved = model.with_vector(vector.index_add(0, free, torch.cholesky_solve(slope[:, None], root)[:, 0]))
        after = deep_error(moved, sample) * sample.n
        if after < squares:
            return moved, after, damping / 10
        damping = max(damping * 10, 1e-9)
    return None


def deep_saliency(fit: DeepFit) -> Float[Tensor, " p"]:
    """Compute the squared t statistic of every free weight (:func:`.model.least_squares.wald`)."""
    variance = torch.cholesky_inverse(factor(fit.gram)).diagonal() * max(fit.mse, ROUNDING)
    return fit.model.vector()[fit.free].square() / variance


def asked(model: DeepKinks, sample: Sample) -> tuple[Float[Tensor, " numbers"], float]:
    """Compute the squared t statistic of adding each weight alone, 0 for nonzeros; and the mean squared error."""
    slope, power, squares = torch.zeros_like(model.vector()), torch.zeros_like(model.vector()), 0.0
    for s in _slopes(model, sample):
        slope += s.inner_products()
        power += s.squares()
        squares += float(s.r @ s.r)
    mse = max(squares / sample.n, ROUNDING)
    t = slope.square() / (power * mse).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(model.vector() != 0, 0.0, t), mse
