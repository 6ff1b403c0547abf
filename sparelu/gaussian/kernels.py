"""Gaussian moments of pairs of ReLU neurons: closed forms, stable as the correlation goes to +-1.

A neuron is ``s = u.z + b`` with z ~ N(0, I); its size is ``|u|`` and its shift ``h = b / |u|``.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.gaussian.normal import FAR, SQRT_2PI, bivariate_cdf, bivariate_values, cdf, conditional, density

# Above this, sqrt(1 - rho^2) is taken from the difference of the unit vectors: from rho it would have lost
# more than five of its sixteen digits.
NEARLY_PARALLEL = 1 - 1e-5


def arc_cosine(rho: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute ``kappa(rho) = E[(Z1)_+ (Z2)_+]`` for standard normals of correlation ``rho`` in [-1, 1]; twice
    differentiable.

    kappa = (sin t + (pi - t) cos t) / (2 pi), t = arccos rho (Cho and Saul 2009). At ``|rho| = 1`` the second
    derivative 1 / (2 pi sin t) is infinite.
    """
    return _ArcCosine.apply(rho)


class _ArcCosine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rho: Tensor) -> Tensor:
        ctx.save_for_backward(rho)
        q = torch.sqrt((1 - rho) * (1 + rho))
        return (q + rho * (math.pi - torch.atan2(q, rho))) / (2 * math.pi)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (rho,) = ctx.saved_tensors
        return grads[0] * (math.pi - torch.acos(rho)) / (2 * math.pi)


def relu_kernel(h: Float[Tensor, "..."], k: Float[Tensor, "..."], rho: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute ``E[(h + Z1)_+ (k + Z2)_+]`` for standard normals of correlation ``rho``; differentiable in all three.

    The derivatives are d/dh = E[1{Z1 > -h} (k + Z2)_+] and d/drho = P(Z1 > -h, Z2 > -k) (Price's theorem).
    """
    return _ReluKernel.apply(*torch.broadcast_tensors(h, k, rho))


class _ReluKernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, k: Tensor, rho: Tensor) -> Tensor:
        ctx.save_for_backward(h, k, rho)
        q = torch.sqrt((1 - rho) * (1 + rho))
        a, b = cdf(conditional(h, k, rho, q)), cdf(conditional(k, h, rho, q))
        edges = h * density(k) * b + k * density(h) * a + q * density(h) * density(conditional(h, k, rho, q))
        return (h * k + rho) * bivariate_values(h, k, rho, q) + edges

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, k, rho = ctx.saved_tensors
        q = torch.sqrt((1 - rho) * (1 + rho))
        both = bivariate_cdf(h, k, rho)
        left, right = density(k) * cdf(conditional(k, h, rho, q)), density(h) * cdf(conditional(h, k, rho, q))
        g = grads[0]
        return g * (k * both + left + rho * right), g * (h * both + right + rho * left), g * both


@dataclass(frozen=True)
class Neurons:
    """Hold ReLU neurons ``(weight z + bias)_+`` on z ~ N(0, I), with what every pair of them needs:
    weight and unit (n, d), bias, size, shift and edge = phi(shift) (n,).

    A neuron without weight (``size`` 0) is the constant ``(bias)_+``: its shift stands at +-:data:`FAR`.
    """

    weight: Tensor
    bias: Tensor
    size: Tensor
    unit: Tensor
    shift: Tensor
    edge: Tensor
    centred: bool

    @classmethod
    def of(cls, weight: Float[Tensor, "n d"], bias: Float[Tensor, " n"]) -> "Neurons":
        """Build from weights (n, d) and biases (n,); gradients are not followed."""
        w, b = weight.detach(), bias.detach()
        size = torch.linalg.vector_norm(w, dim=1)
        safe = size.clamp(min=1e-290)
        shift = (b / safe).clamp(-FAR, FAR)
        return cls(w, b, size, w / safe[:, None], shift, density(shift), not bool(b.any()))

    def __getitem__(self, rows: slice) -> "Neurons":
        return Neurons(
            self.weight[rows],
            self.bias[rows],
            self.size[rows],
            self.unit[rows],
            self.shift[rows],
            self.edge[rows],
            self.centred,
        )


@dataclass(frozen=True)
class PairMoments:
    """Hold moments of every pair (i of f, j of g), shape (n, m), with s = u.z + b before the ReLU.

    value = E[(s_f)_+ (s_g)_+]; both = P(s_f > 0, s_g > 0); the gradient of value is
    d/du_f = both u_g + turn_f u_f^,  d/db_f = gate_f = E[1{s_f > 0} (s_g)_+], and the same with f and g exchanged.
    """

    value: Tensor
    both: Tensor
    turn_f: Tensor
    turn_g: Tensor
    gate_f: Tensor
    gate_g: Tensor


def correlation(f: Neurons, g: Neurons) -> tuple[Tensor, Tensor]:
    """Return the cosines ``rho`` (n, m) between the neurons of f and g, and ``q = sqrt(1 - rho^2)`` without
    cancellation.

    For nearly parallel unit vectors e = |u -+ v| is computed from the difference: |rho| = 1 - e^2/2 and
    q = e sqrt(1 - e^2/4).
    """
    rho = (f.unit @ g.unit.T).clamp(-1, 1)
    q = torch.sqrt((1 - rho) * (1 + rho))
    rows, columns = torch.nonzero(rho.abs() > NEARLY_PARALLEL, as_tuple=True)
    step = max(1, rho.numel() // max(1, f.unit.shape[1]))  # the gathered vectors stay as small as the block
    for start in range(0, rows.numel(), step):
        i, j = rows[start : start + step], columns[start : start + step]
        sign = torch.sign(rho[i, j])
        e2 = (f.unit[i] - sign[:, None] * g.unit[j]).square().sum(dim=1)
        rho[i, j] = sign * (1 - 0.5 * e2)
        q[i, j] = torch.sqrt(e2 * (1 - 0.25 * e2).clamp(min=0))
    return rho, q


def pair_moments(f: Neurons, g: Neurons) -> PairMoments:
    """Return all pair moments of f (n neurons) and g (m neurons), in float64, of memory n m.

    With biases, by Stein's lemma from E[(h + Z1)_+ (k + Z2)_+] = (h k + rho) P + h phi(k) Phi(b) + k phi(h) Phi(a)
    + q phi(h) phi(a), a = (k - rho h)/q, b = (h - rho k)/q, P = Phi2(h, k; rho).
    """
    rho, q = correlation(f, g)
    size_f, size_g = f.size[:, None], g.size[None]
    if f.centred and g.centred and bool((f.size > 0).all()) and bool((g.size > 0).all()):
        both = 0.5 - torch.atan2(q, rho) / (2 * math.pi)
        value = size_f * size_g * (q / (2 * math.pi) + rho * both)
        gate = (1 + rho) / (2 * SQRT_2PI)
        return PairMoments(
            value, both, size_g * q / (2 * math.pi), size_f * q / (2 * math.pi), size_g * gate, size_f * gate
        )
    h, k = (t.contiguous() for t in torch.broadcast_tensors(f.shift[:, None], g.shift[None]))
    both = bivariate_values(h, k, rho, q, cdf(f.shift)[:, None] * cdf(g.shift))
    a, b = conditional(h, k, rho, q), conditional(k, h, rho, q)
    at_f, at_g = f.edge[:, None] * cdf(a), g.edge[None] * cdf(b)
    corner = q * f.edge[:, None] * density(a)
    bias_f, bias_g = f.bias[:, None], g.bias[None]
    value = (
        (bias_f * bias_g + size_f * size_g * rho) * both
        + bias_f * size_g * at_g
        + bias_g * size_f * at_f
        + size_f * size_g * corner
    )
    turn_f = (bias_g - size_g * rho * h) * at_f + size_g * corner
    turn_g = (bias_f - size_f * rho * k) * at_g + size_f * corner
    gate_f = bias_g * both + size_g * (at_g + rho * at_f)
    gate_g = bias_f * both + size_f * (at_f + rho * at_g)
    return PairMoments(value, both, turn_f, turn_g, gate_f, gate_g)


def relu_gram(
    weight: Float[Tensor, "n d"],
    bias: Float[Tensor, " n"],
    other_weight: Float[Tensor, "m d"],
    other_bias: Float[Tensor, " m"],
) -> Float[Tensor, "n m"]:
    """Compute ``E[(w_i.z + b_i)_+ (v_j.z + c_j)_+]`` for z ~ N(0, I), all pairs, float64, without gradients."""
    return pair_moments(Neurons.of(weight, bias), Neurons.of(other_weight, other_bias)).value


def gated_gram(h: Float[Tensor, " d"], g: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
    """Compute ``M(h, g) = E[1{h.z >= 0} 1{g.z >= 0} z z']`` for z ~ N(0, I).

    M = ((pi - t) I + sin t (b b' - c c')) / (2 pi), t the angle, b and c the unit sum and difference of h^ and g^.

    Raises ``ValueError`` when a generator is zero.
    """
    d = h.numel()
    neuron = torch.tensor([0] * d + [1] * d)
    coordinate = torch.arange(d).repeat(2)
    return support_gram(torch.stack([h, g]), neuron, coordinate)[:d, d:]


def support_gram(
    generators: Float[Tensor, "p d"],
    neuron: Int[Tensor, " s"],
    coordinate: Int[Tensor, " s"],
    gate: str = "step",
) -> Float[Tensor, "s s"]:
    """Return the population Gram of the gated columns ``gate(h_j.z) z_i`` at (j, i) = (neuron, coordinate), z ~ N(0,
    I).

    ``gate="step"`` is 1{h.z >= 0}; ``gate="sign"`` is sign(h.z), whose Gram is 4 M - I: zero between orthogonal
    generators. The extreme eigenvalues are the population constants alpha and beta of the support.

    Raises ``ValueError`` for another gate, a zero generator or an index out of range.
    """
    size = torch.linalg.vector_norm(generators, dim=1)
    if gate not in ("step", "sign"):
        raise ValueError(f"gate must be 'step' or 'sign', got {gate!r}")
    if not bool((size > 0).all()):
        raise ValueError(f"generator {int(torch.argmin(size))} is zero and opens no half-space: drop it")
    neurons = Neurons.of(generators.double(), torch.zeros_like(size, dtype=torch.float64))
    rho, q = correlation(neurons, neurons)
    row, column = neuron.long(), coordinate.long()
    p, r = q[row][:, row], rho[row][:, row]
    own = neurons.unit[row, column]
    met = neurons.unit[row][:, column]  # met[s, t] = coordinate of t in the generator of s
    here, there = own[:, None].expand_as(met), own[None].expand_as(met)
    # b = (h^ + g^)/sqrt(2 + 2 rho) and c = (h^ - g^)/sqrt(2 - 2 rho), at the coordinates of the row and of the column
    far, near = (
        (1 + r.abs()),
        p * p / (1 + r.abs()),
    )  # 1 + rho and 1 - rho, whichever is which, without cancellation
    plus, minus = torch.where(r > 0, far, near), torch.where(r > 0, near, far)
    bb = (here + met.T) * (met + there) / (2 * plus).clamp(min=1e-290)
    cc = (here - met.T) * (met - there) / (2 * minus).clamp(min=1e-290)
    same = (column[:, None] == column[None]).double()
    turn = torch.where(p > 0, p * (bb - cc), torch.zeros_like(p))
    gram = ((0.5 - torch.atan2(p, r) / (2 * math.pi)) * same) + turn / (2 * math.pi)
    return gram if gate == "step" else 4 * gram - same
