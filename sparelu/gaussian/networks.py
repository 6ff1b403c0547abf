"""Exact inner products and distances of two-layer ReLU networks under a Gaussian law of the inputs.

No sampling: ``E[f(x) . g(x)]`` is a sum over pairs of neurons, streamed in blocks, so that memory is linear in
the number of neurons; the gradients are closed forms of the same pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.gaussian.kernels import Neurons, PairMoments, pair_moments
from sparelu.gaussian.normal import FAR, cdf, density

# Pairs per block: the dozen float64 buffers of a block stay near the size of a processor's cache.
BLOCK = 2**16
"""Pairs of neurons at a time."""


@dataclass(frozen=True)
class TwoLayer:
    """Hold ``f(x) = out (weight x + bias)_+ + linear x + offset``, all dense float64.

    out (k, n), weight (n, d), bias (n,), linear (k, d), offset (k,).
    """

    out: Float[Tensor, "k n"]
    weight: Float[Tensor, "n d"]
    bias: Float[Tensor, " n"]
    linear: Float[Tensor, "k d"]
    offset: Float[Tensor, " k"]

    @classmethod
    def of(
        cls,
        weight: Float[Tensor, "n d"],
        out: Float[Tensor, "k n"],
        bias: Float[Tensor, " n"] | None = None,
        linear: Float[Tensor, "k d"] | None = None,
        offset: Float[Tensor, " k"] | None = None,
    ) -> "TwoLayer":
        """Build from the parts that exist; the others are zero."""
        n, d = weight.shape
        k = out.shape[0]
        zeros = weight.new_zeros
        return cls(
            out,
            weight,
            zeros(n) if bias is None else bias,
            zeros(k, d) if linear is None else linear,
            zeros(k) if offset is None else offset,
        )

    def __call__(self, x: Float[Tensor, "s d"]) -> Float[Tensor, "s k"]:
        """Return the outputs for rows ``x``."""
        return (x @ self.weight.T + self.bias).clamp(min=0) @ self.out.T + x @ self.linear.T + self.offset


@dataclass(frozen=True)
class NormalInputs:
    """Represent the law ``x = mean + root z``, z ~ N(0, I_r): mean (d,), root (d, r); r < d is a singular
    covariance.
    """

    mean: Float[Tensor, " d"]
    root: Float[Tensor, "d r"]

    @classmethod
    def standard(cls, d: int) -> "NormalInputs":
        """Return N(0, I_d)."""
        return cls(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64))

    @classmethod
    def of(cls, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]) -> "NormalInputs":
        """Build from a mean and a covariance; directions of relative variance below d * 2e-16 are constant.

        Raises ``ValueError`` when the covariance is not symmetric positive semidefinite, or a number is not finite.
        """
        mean, covariance = mean.double(), covariance.double()
        if not bool(torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
            raise ValueError("the mean or the covariance of the inputs has entries that are not finite")
        if not torch.allclose(covariance, covariance.T, rtol=1e-10, atol=1e-12 * float(covariance.abs().max())):
            raise ValueError("the covariance is not symmetric: pass (C + C.T) / 2")
        values, vectors = torch.linalg.eigh(covariance)
        least, rounding = float(values[0]), len(mean) * 2e-16 * max(float(values[-1]), 0.0)
        if least < -1e3 * rounding - 1e-300:
            raise ValueError(
                f"the covariance has the negative eigenvalue {least:.3g}: it must be positive semidefinite"
            )
        keep = values > rounding
        return cls(mean, vectors[:, keep] * values[keep].sqrt())

    def whiten(self, net: TwoLayer) -> TwoLayer:
        """Return the function read as a function of z, differentiable.

        Raises ``ValueError`` when the network reads another number of inputs.
        """
        if net.weight.shape[1] != self.mean.numel():
            raise ValueError(f"the network reads {net.weight.shape[1]} inputs, the law is of {self.mean.numel()}")
        return TwoLayer(
            net.out,
            net.weight @ self.root,
            net.bias + net.weight @ self.mean,
            net.linear @ self.root,
            net.offset + net.linear @ self.mean,
        )


def inner(f: TwoLayer, g: TwoLayer) -> Float[Tensor, ""]:
    """Compute ``E[f(z) . g(z)]`` for z ~ N(0, I), once differentiable in every part of f and g (memory n + m, not n
    m).
    """
    pairs = _Pairs.apply(f.out, f.weight, f.bias, g.out, g.weight, g.bias)
    return pairs + _affine_inner(f, g) + _affine_inner(g, f) + (f.linear * g.linear).sum() + f.offset @ g.offset


def squared_norm(f: TwoLayer) -> Float[Tensor, ""]:
    """Compute ``E|f(z)|^2`` for z ~ N(0, I), once differentiable: half the work of ``inner(f, f)``."""
    pairs = _SelfPairs.apply(f.out, f.weight, f.bias)
    return pairs + 2 * _affine_inner(f, f) + f.linear.square().sum() + f.offset.square().sum()


def squared_distance(f: TwoLayer, g: TwoLayer, law: NormalInputs | None = None) -> Float[Tensor, ""]:
    """Compute ``E|f(x) - g(x)|^2`` under ``law`` (standard normal when None), exact and once differentiable.

    Rounding is about 1e-16 (E|f|^2 + E|g|^2): what cancels below that is returned as zero.

    Raises ``ValueError`` when the inputs or outputs of f and g differ in number.
    """
    if f.weight.shape[1] != g.weight.shape[1] or f.out.shape[0] != g.out.shape[0]:
        raise ValueError(
            f"the networks map {f.weight.shape[1]} -> {f.out.shape[0]} and "
            f"{g.weight.shape[1]} -> {g.out.shape[0]}: only networks of one shape have a distance"
        )
    if law is not None:
        f, g = law.whiten(f), law.whiten(g)
    difference = squared_norm(f) - 2 * inner(f, g) + squared_norm(g)
    return difference.clamp(min=0)


def first_moments(
    weight: Float[Tensor, "n d"], bias: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Compute ``E[(w.z + b)_+]`` and ``p`` with ``E[(w.z + b)_+ z] = p w`` for every neuron; differentiable.

    E = b Phi(h) + |w| phi(h), p = Phi(h), h = b/|w|.
    """
    size = torch.linalg.vector_norm(weight, dim=1)
    h = (bias / size.clamp(min=1e-100)).clamp(-FAR, FAR)
    p = cdf(h)
    return bias * p + size * density(h), p


def _affine_inner(f: TwoLayer, g: TwoLayer) -> Tensor:
    """Compute E[(neurons of f) . (affine part of g)]."""
    mean, p = first_moments(f.weight, f.bias)
    return (f.out @ mean) @ g.offset + ((f.out * p) @ f.weight * g.linear).sum()


class _Pairs(torch.autograd.Function):
    """Hold sum_ij (out_f,i . out_g,j) E[relu_i relu_j] with its gradients, over blocks of pairs."""

    @staticmethod
    def forward(ctx: Any, out_f: Tensor, w_f: Tensor, b_f: Tensor, out_g: Tensor, w_g: Tensor, b_g: Tensor) -> Tensor:
        f, g = Neurons.of(w_f, b_f), Neurons.of(w_g, b_g)
        into_f = [torch.zeros_like(t) for t in (out_f, w_f, b_f)] if any(ctx.needs_input_grad[:3]) else None
        into_g = [torch.zeros_like(t) for t in (out_g, w_g, b_g)] if any(ctx.needs_input_grad[3:]) else None
        total = out_f.new_zeros(())
        for rows, columns in _blocks(len(b_f), len(b_g)):
            moments = pair_moments(f[rows], g[columns])
            weights = out_f.detach()[:, rows].T @ out_g.detach()[:, columns]
            total += (weights * moments.value).sum()
            if into_f is not None:
                _collect(into_f, rows, f[rows], g[columns], out_g[:, columns], weights, moments)
            if into_g is not None:
                _collect(into_g, columns, g[columns], f[rows], out_f[:, rows], weights.T, _exchanged(moments))
        ctx.save_for_backward(*(into_f or ()), *(into_g or ()))
        ctx.sides = (into_f is not None, into_g is not None)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [grad * t for t in ctx.saved_tensors]
        first = saved[:3] if ctx.sides[0] else [None] * 3
        second = saved[-3:] if ctx.sides[1] else [None] * 3
        return (*first, *second)


class _SelfPairs(torch.autograd.Function):
    """Represent the pair sum of a network with itself: blocks above the diagonal count twice."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, w: Tensor, b: Tensor) -> Tensor:
        f = Neurons.of(w, b)
        into = [torch.zeros_like(t) for t in (out, w, b)] if any(ctx.needs_input_grad) else None
        total = out.new_zeros(())
        side = max(1, int(BLOCK**0.5))
        for rows in _slices(len(b), side):
            for columns in _slices(len(b), side, rows.start):
                moments = pair_moments(f[rows], f[columns])
                times = 1.0 if rows == columns else 2.0
                weights = times * out.detach()[:, rows].T @ out.detach()[:, columns]
                total += (weights * moments.value).sum()
                if into is not None:
                    _collect(into, rows, f[rows], f[columns], times * out[:, columns], weights, moments)
                    _collect(
                        into,
                        columns,
                        f[columns],
                        f[rows],
                        times * out[:, rows],
                        weights.T,
                        _exchanged(moments),
                    )
        ctx.save_for_backward(*(into or ()))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad * t for t in ctx.saved_tensors)


def _collect(
    into: list[Tensor],
    rows: slice,
    f: Neurons,
    g: Neurons,
    out_g: Tensor,
    weights: Tensor,
    moments: PairMoments,
) -> None:
    """Add the gradients with respect to the neurons ``rows`` of f from one block."""
    out, w, b = into
    out[:, rows] += out_g.detach() @ moments.value.T
    w[rows] += (weights * moments.both) @ g.weight + (weights * moments.turn_f).sum(dim=1)[:, None] * f.unit
    b[rows] += (weights * moments.gate_f).sum(dim=1)


def _exchanged(moments: PairMoments) -> PairMoments:
    m = moments
    return PairMoments(m.value.T, m.both.T, m.turn_g.T, m.turn_f.T, m.gate_g.T, m.gate_f.T)


def _blocks(n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Return the blocks of at most :data:`BLOCK` pairs; the shorter side is kept whole when it fits."""
    width = min(m, max(1, BLOCK // max(1, min(n, int(BLOCK**0.5)))))
    height = max(1, BLOCK // max(1, width))
    for rows in _slices(n, height):
        for columns in _slices(m, width):
            yield rows, columns


def _slices(n: int, step: int, start: int = 0) -> Iterator[slice]:
    for first in range(start, n, step):
        yield slice(first, min(first + step, n))
