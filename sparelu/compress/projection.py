"""The exact population distance as a function of hidden weights alone: outputs eliminated by their normal equations.

Everything is in coordinates in which the inputs are z ~ N(0, I_r). For hidden neurons (U, b) the best outputs solve
(G + ridge I) A' = C, with G_ij = E[relu_i relu_j] and C_i = E[relu_i f]; a free affine part is projected out of G, C
and f, which is exact because 1, z_1, ..., z_r are orthonormal. By the envelope theorem the gradient of the minimum
is the partial derivative at the best outputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from sparelu.compress.frames import InvariantTarget
from sparelu.gaussian import TwoLayer, first_moments, squared_norm
from sparelu.gaussian.kernels import Neurons, PairMoments, pair_moments
from sparelu.gaussian.networks import BLOCK
from sparelu.gaussian.normal import SQRT_2PI

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From outputs A (k, m): gradients of sum_ic A_ci E[relu_i f_c] in the hidden weights (m, r) and biases (m,)."""


@runtime_checkable
class Target(Protocol):
    """Hold what is approximated: its energy, and its inner products with neurons."""

    @property
    def energy(self) -> float:
        """Return E|f|^2."""

    @property
    def mean(self) -> Tensor:
        """Return E f, (k,)."""

    @property
    def slope(self) -> Tensor:
        """Compute E[f z'], (k, r)."""

    def meet(self, neurons: Neurons) -> tuple[Tensor, Slope]:
        """Compute C (m, k) and the gradients of its combinations."""


@dataclass(frozen=True)
class NetworkTarget:
    """Hold a two-layer network; its moments with m neurons are kept for one step, in memory m n."""

    net: TwoLayer
    energy: float
    mean: Float[Tensor, " k"]
    slope: Float[Tensor, "k r"]

    @classmethod
    def of(cls, net: TwoLayer) -> "NetworkTarget":
        """Build it with its energy computed once, over all pairs."""
        mean, p = first_moments(net.weight, net.bias)
        slope = (net.out * p) @ net.weight + net.linear
        return cls(net, float(squared_norm(net)), net.out @ mean + net.offset, slope)

    def cross(self, neurons: Neurons) -> Float[Tensor, "m k"]:
        """Compute E[relu_i f], streamed: memory m + n."""
        mean, pull = first_parts(neurons)
        total = mean[:, None] * self.net.offset + pull @ self.net.linear.T
        for columns, moments in self._moments(neurons):
            total += moments.value @ self.net.out[:, columns].T
        return total

    def _moments(self, neurons: Neurons) -> Iterator[tuple[slice, PairMoments]]:
        every = Neurons.of(self.net.weight, self.net.bias)
        step = max(1, BLOCK // max(1, len(neurons.bias)))
        for first in range(0, len(self.net.bias), step):
            columns = slice(first, min(first + step, len(self.net.bias)))
            yield columns, pair_moments(neurons, every[columns])

    def meet(self, neurons: Neurons) -> tuple[Tensor, Slope]:
        net, kept = self.net, list(self._moments(neurons))
        mean, pull = first_parts(neurons)
        cross = mean[:, None] * net.offset + pull @ net.linear.T
        for columns, moments in kept:
            cross += moments.value @ net.out[:, columns].T

        def slope(out: Tensor) -> tuple[Tensor, Tensor]:
            w, b = _first_slope(neurons, out.T @ net.offset, out.T @ net.linear)
            for columns, m in kept:
                weights = out.T @ net.out[:, columns]
                w += (weights * m.both) @ net.weight[columns] + (weights * m.turn_f).sum(1)[:, None] * neurons.unit
                b += (weights * m.gate_f).sum(1)
            return w, b

        return cross, slope


@dataclass(frozen=True)
class LawTarget:
    """Represent the invariant part of a law of targets, for students without biases."""

    law: InvariantTarget

    @property
    def energy(self) -> float:
        return self.law.energy

    @property
    def mean(self) -> Tensor:
        return torch.full((1,), self.law.total / SQRT_2PI, dtype=torch.float64)

    @property
    def slope(self) -> Tensor:
        return 0.5 * self.law.pull[None]

    def meet(self, neurons: Neurons) -> tuple[Tensor, Slope]:
        scale = self.law.share * self.law.total
        cross = scale * neurons.size + 0.25 * neurons.weight @ self.law.pull

        def slope(out: Tensor) -> tuple[Tensor, Tensor]:
            return out[0][:, None] * (scale * neurons.unit + 0.25 * self.law.pull), torch.zeros_like(neurons.bias)

        return cross[:, None], slope


@dataclass(frozen=True)
class Form:
    """Hold what the student may have: ``bias`` in its neurons, an output ``offset``, a ``linear`` part.

    Without free biases a neuron's bias is ``u . shift``: the mean of the inputs seen through its weights.
    """

    bias: bool
    offset: bool
    linear: bool
    shift: Float[Tensor, " r"]


@dataclass(frozen=True)
class Projection:
    """Hold the minimum over outputs of the squared distance from ``target``, as a function of hidden weights."""

    target: Target
    form: Form

    def unpack(self, parameters: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit neurons (u, b) and the lengths that were divided out, from (m, r) or, with free biases, (m, r
        + 1).
        """
        r = len(self.form.shift)
        rows = torch.from_numpy(parameters).reshape(-1, r + (1 if self.form.bias else 0))
        length = torch.linalg.vector_norm(rows, dim=1)
        unit = rows / length[:, None]
        weight = unit[:, :r].contiguous()
        bias = unit[:, r].contiguous() if self.form.bias else weight @ self.form.shift
        return weight, bias, length

    def solve(self, weight: Tensor, bias: Tensor) -> TwoLayer:
        """Return the student with the best outputs for these hidden neurons."""
        return self._solved(Neurons.of(weight, bias))[1]

    def loss(self, weight: Tensor, bias: Tensor) -> float:
        """Return the squared distance with the best outputs."""
        return self._solved(Neurons.of(weight, bias))[0]

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and gradient in the parameters, as SciPy's minimisers want them."""
        weight, bias, length = self.unpack(parameters)
        neurons = Neurons.of(weight, bias)
        value, student, own, slope = self._solved(neurons)
        out = student.out
        weights = out.T @ out
        w = 2 * ((weights * own.both) @ weight + (weights * own.turn_f).sum(1)[:, None] * neurons.unit)
        b = 2 * (weights * own.gate_f).sum(1)
        for part, scale in (
            (_first_slope(neurons, out.T @ student.offset, out.T @ student.linear), 2.0),
            (slope(out), -2.0),
        ):
            w, b = w + scale * part[0], b + scale * part[1]
        if self.form.bias:
            rows, grad = torch.cat([weight, bias[:, None]], 1), torch.cat([w, b[:, None]], 1)
        else:
            rows, grad = weight, w + b[:, None] * self.form.shift
        grad = (grad - (grad * rows).sum(1, keepdim=True) * rows) / length[:, None]
        return value, grad.reshape(-1).numpy()

    def _solved(self, neurons: Neurons, *, ridge: float = 1e-10) -> tuple[float, TwoLayer, PairMoments, Slope]:
        """Solve for the best outputs of the neurons; return the loss, the network, its moments and the slope.

        ``ridge`` is the weight of |A|^2 beside G of unit neurons: it keeps outputs of nearly equal neurons below 1e5
        times their need.
        """
        own = pair_moments(neurons, neurons)
        cross, slope = self.target.meet(neurons)
        gram, energy = own.value, self.target.energy
        mean, pull = first_parts(neurons)
        if self.form.offset:
            gram, cross = gram - mean[:, None] * mean, cross - mean[:, None] * self.target.mean
            energy -= float(self.target.mean.square().sum())
        if self.form.linear:
            gram, cross = gram - pull @ pull.T, cross - pull @ self.target.slope.T
            energy -= float(self.target.slope.square().sum())
        size = ridge * float(own.value.diagonal().mean())
        out = _solve(gram + size * torch.eye(len(gram), dtype=gram.dtype), cross).T
        linear, offset = torch.zeros(len(out), len(self.form.shift), dtype=out.dtype), torch.zeros_like(out[:, 0])
        if self.form.offset:
            offset = self.target.mean - out @ mean
        if self.form.linear:
            linear = self.target.slope - out @ pull
        value = (
            energy
            - 2 * float((out.T * cross).sum())
            + float((out @ gram * out).sum())
            + size * float(out.square().sum())
        )
        return value, TwoLayer(out, neurons.weight, neurons.bias, linear, offset), own, slope


def descend_neurons(
    projection: Projection, weight: Tensor, bias: Tensor, steps: int, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor, float]:
    """Descend by L-BFGS from the neurons (m, r), (m,); return the neurons of unit length that it ends at, and their
    squared distance.

    ``tolerance`` is the largest gradient entry at which it stops, relative to the target's energy.
    """
    start = torch.cat([weight, bias[:, None]], 1) if projection.form.bias else weight
    scale = max(projection.target.energy, 1e-300)

    def scaled(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = projection(parameters)
        return value / scale, grad / scale

    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 30, "gtol": tolerance, "ftol": 1e-15}
    found = minimize(scaled, start.numpy().reshape(-1), jac=True, method="L-BFGS-B", options=options)
    w, b, _ = projection.unpack(found.x)
    return w, b, float(found.fun) * scale


def _solve(gram: Tensor, cross: Tensor) -> Tensor:
    """Solve a positive definite system; eigenvalues that rounding made negative are left out."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not int(failed):
        return torch.cholesky_solve(cross, factor)
    values, vectors = torch.linalg.eigh(gram)
    keep = values > 1e-14 * values[-1]
    return vectors[:, keep] @ ((vectors[:, keep].T @ cross) / values[keep, None])


def first_parts(neurons: Neurons) -> tuple[Tensor, Tensor]:
    """Compute E[relu_i] (m,) and E[relu_i z] (m, r)."""
    mean, p = first_moments(neurons.weight, neurons.bias)
    return mean, p[:, None] * neurons.weight


def _first_slope(neurons: Neurons, at_mean: Tensor, at_pull: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``at_mean . mean + <at_pull, pull>`` (see :func:`first_parts`) in the weights and
    biases.
    """
    weight, bias = neurons.weight.clone().requires_grad_(), neurons.bias.clone().requires_grad_()
    mean, p = first_moments(weight, bias)
    total = (at_mean * mean).sum() + (p * (at_pull * weight).sum(1)).sum()
    w, b = torch.autograd.grad(total, (weight, bias))
    return w, b
