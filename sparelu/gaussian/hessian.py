"""Second derivatives of the Gaussian pair kernel ``E[(u.z + b)_+ (v.z + c)_+]``, in closed form.

With extended vectors x = (z, 1), U = (u, b), V = (v, c):
  d2/dU dV = E[1{s > 0} 1{t > 0} x x'],   d2/dU dU = E[delta(s) (t)_+ x x'],   s = U.x, t = V.x.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.gaussian.kernels import Neurons, correlation
from sparelu.gaussian.normal import bivariate_values, cdf, conditional, density


def own_hessian(
    weight: Float[Tensor, "n d"],
    bias: Float[Tensor, " n"],
    other: Float[Tensor, "m d"],
    other_bias: Float[Tensor, " m"],
    coefficients: Float[Tensor, "n m"],
) -> Float[Tensor, "n e e"]:
    """Compute ``sum_j coefficients_ij d2 K(i, j) / dU_i dU_i`` for every neuron i, e = d + 1 (weight, then bias).

    Given s = 0, z = -h u^ + y e + (the rest), e the unit part of v orthogonal to u, t = |v| q (a + y) with
    a = (k - rho h)/q, and the density of s at 0 is phi(h)/|u|. With m0 = E(a + y)_+ = a Phi(a) + phi(a),
    m1 = E[(a + y)_+ y] = Phi(a), m2 = E[(a + y)_+ y^2] = m0 + phi(a):
    E[(t)_+ z z' | s = 0] = |v| q (m0 (I - u^u^' + h^2 u^u^') - h m1 (u^e' + e u^') + (m2 - m0) e e').
    At parallel vectors (q = 0) e is zero, which is the limit of the centred case.
    """
    f, g = Neurons.of(weight, bias), Neurons.of(other, other_bias)
    rho, q = correlation(f, g)
    h = f.shift[:, None].expand_as(rho)
    a = conditional(h, g.shift[None].expand_as(rho), rho, q)
    scale = coefficients * (f.edge / f.size)[:, None] * g.size[None]
    m0 = q * a * cdf(a) + q * density(a)
    c0, c1, c2 = scale * m0, scale * q * cdf(a), scale * q * density(a)
    e = _orthogonal(f, g, rho, q)
    d = weight.shape[1]
    u = f.unit
    hessian = weight.new_zeros(len(bias), d + 1, d + 1)
    total = c0.sum(dim=1)
    z = -total[:, None] * f.shift[:, None] * u + torch.einsum("ij,ijd->id", c1, e)
    mixed = torch.einsum("ij,ijd->id", -c1 * h, e)
    uu = u[:, :, None] * u[:, None, :]
    hessian[:, :d, :d] = (
        total[:, None, None] * (torch.eye(d, dtype=weight.dtype) - uu)
        + (total * f.shift**2)[:, None, None] * uu
        + u[:, :, None] * mixed[:, None]
        + mixed[:, :, None] * u[:, None]
        + torch.einsum("ij,ijd,ije->ide", c2, e, e)
    )
    hessian[:, :d, d] = z
    hessian[:, d, :d] = z
    hessian[:, d, d] = total
    return hessian


def cross_hessian(
    weight: Float[Tensor, "n d"],
    bias: Float[Tensor, " n"],
    other: Float[Tensor, "m d"],
    other_bias: Float[Tensor, " m"],
) -> Float[Tensor, "n e m e"]:
    """Compute ``E[1{s_i > 0} 1{t_j > 0} x x']`` for every pair, e = d + 1: the mixed second derivatives of the kernel.

    By Stein's lemma twice, with P = Phi2(h, k; rho) and b, c the unit sum and difference of the directions:
    E[.. z z'] = P I - h phi(h) Phi(a) u^u^' - k phi(k) Phi(b') v^v^' + q phi(h) phi(a) (b b' - c c'),
    E[.. z] = phi(h) Phi(a) u^ + phi(k) Phi(b') v^.
    """
    f, g = Neurons.of(weight, bias), Neurons.of(other, other_bias)
    rho, q = correlation(f, g)
    h, k = (t.contiguous() for t in torch.broadcast_tensors(f.shift[:, None], g.shift[None]))
    a = conditional(h, k, rho, q)
    at_f, at_g = f.edge[:, None] * cdf(a), g.edge[None] * cdf(conditional(k, h, rho, q))
    corner = q * f.edge[:, None] * density(a)
    both = bivariate_values(h, k, rho, q)
    u, v = f.unit[:, None], g.unit[None]
    plus, minus = u + v, u - v
    b = plus / torch.linalg.vector_norm(plus, dim=2, keepdim=True).clamp(min=1e-290)
    c = minus / torch.linalg.vector_norm(minus, dim=2, keepdim=True).clamp(min=1e-290)
    n, m, d = len(bias), len(other_bias), weight.shape[1]
    out = weight.new_zeros(n, d + 1, m, d + 1)
    out[:, :d, :, :d] = (
        torch.einsum("ij,de->idje", both, torch.eye(d, dtype=weight.dtype))
        - torch.einsum("ij,id,ie->idje", h * at_f, f.unit, f.unit)
        - torch.einsum("ij,jd,je->idje", k * at_g, g.unit, g.unit)
        + torch.einsum("ij,ijd,ije->idje", corner, b, b)
        - torch.einsum("ij,ijd,ije->idje", corner, c, c)
    )
    first = at_f[:, :, None] * u + at_g[:, :, None] * v
    out[:, :d, :, d] = first.permute(0, 2, 1)
    out[:, d, :, :d] = first
    out[:, d, :, d] = both
    return out


def _orthogonal(f: Neurons, g: Neurons, rho: Tensor, q: Tensor) -> Tensor:
    """Return the unit part of every direction of g orthogonal to that of f, (n, m, d); zero where they are parallel."""
    rest = g.unit[None] - rho[:, :, None] * f.unit[:, None]
    rest = rest - (rest * f.unit[:, None]).sum(dim=2, keepdim=True) * f.unit[:, None]
    size = torch.linalg.vector_norm(rest, dim=2, keepdim=True)
    return torch.where(q[:, :, None] > 0, rest / size.clamp(min=1e-290), torch.zeros_like(rest))
