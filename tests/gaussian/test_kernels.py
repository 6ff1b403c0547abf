"""Pair kernels against Monte Carlo, finite differences, autograd and limits."""

import math

import numpy as np
import pytest
import torch

from sparelu.gaussian import (
    arc_cosine,
    cross_hessian,
    first_moments,
    gated_gram,
    own_hessian,
    relu_gram,
    relu_kernel,
    support_gram,
)
from sparelu.gaussian.kernels import Neurons, correlation, pair_moments

D64 = torch.float64


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def _scalar_kernel(u: torch.Tensor, b: torch.Tensor, v: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The kernel of one pair, written on the elementwise function, for autograd."""
    nu, nv = u.norm(), v.norm()
    return nu * nv * relu_kernel(b / nu, c / nv, (u @ v) / (nu * nv))


def test_kappa_at_the_printed_values_and_second_derivative() -> None:
    rho = torch.tensor([-1.0, 0.0, 1.0], dtype=D64)
    assert torch.allclose(arc_cosine(rho), torch.tensor([0.0, 1 / (2 * math.pi), 0.5], dtype=D64), atol=1e-16)
    inside = torch.tensor([-0.99, -0.3, 0.4, 0.999], dtype=D64, requires_grad=True)
    assert torch.autograd.gradcheck(arc_cosine, (inside,), eps=1e-7, atol=1e-8)
    assert torch.autograd.gradgradcheck(arc_cosine, (inside,), eps=1e-7, atol=1e-5, rtol=1e-5)


def test_kernels_agree_with_monte_carlo() -> None:
    w, v, b, c = _normal(1, 4, 3), _normal(2, 5, 3), _normal(3, 4), _normal(4, 5)
    x = _normal(5, 1_000_000, 3)
    f = g = torch.empty(0)
    for times in (0, 1):  # without and with biases; five standard errors, each below 2e-3 of the kernel's scale
        f, g = (x @ w.T + times * b).clamp(min=0), (x @ v.T + times * c).clamp(min=0)
        mean = f.T @ g / len(x)
        error = ((f.square().T @ g.square() / len(x) - mean.square()) / len(x)).sqrt()
        gram = relu_gram(w, times * b, v, times * c)
        assert ((gram - mean).abs() < 5 * error).all()
        scale = (w.norm(dim=1) + times * b.abs())[:, None] * (v.norm(dim=1) + times * c.abs())
        assert (error < 2e-3 * scale).all()
    mean, p = first_moments(w, b)
    assert (mean - f.mean(dim=0)).abs().max() < 5e-3
    assert (p[:, None] * w - f.T @ x / len(x)).abs().max() < 1e-2


def test_the_centred_formula_is_the_biased_one_at_zero() -> None:
    rho = torch.linspace(-1, 1, 41, dtype=D64)
    assert torch.allclose(relu_kernel(0 * rho, 0 * rho, rho), arc_cosine(rho), atol=1e-15)
    w, v, zero = _normal(6, 7, 4), _normal(7, 6, 4), torch.zeros(7, dtype=D64)
    plain = pair_moments(Neurons.of(w, zero), Neurons.of(v, zero[:6]))
    shifted = pair_moments(Neurons.of(w, zero + 1e-300), Neurons.of(v, zero[:6]))
    for name in ("value", "both", "turn_f", "turn_g", "gate_f", "gate_g"):
        assert torch.allclose(getattr(plain, name), getattr(shifted, name), atol=1e-14), name


def test_elementwise_kernel_derivatives() -> None:
    rng = np.random.default_rng(8)
    h, k = (torch.tensor(rng.normal(size=6), requires_grad=True) for _ in range(2))
    rho = torch.tensor(np.tanh(1.5 * rng.normal(size=6)), requires_grad=True)
    assert torch.autograd.gradcheck(relu_kernel, (h, k, rho), eps=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(relu_kernel, (h, k, rho), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9, 1e-13, 0.0])
def test_nothing_is_lost_as_the_correlation_goes_to_one(sign: float, angle: float) -> None:
    """Against the same formulas at fifty digits."""
    import mpmath

    u, e = torch.tensor([[1.0, 0.0]], dtype=D64), torch.tensor([[sign, angle]], dtype=D64)
    b, c = torch.tensor([0.3], dtype=D64), torch.tensor([0.3 * sign + angle], dtype=D64)
    rho, q = correlation(Neurons.of(u, b), Neurons.of(e, c))
    assert abs(float(q) - math.sin(math.atan(angle))) <= 1e-16 + 1e-10 * angle
    both, value = _exact_pair(mpmath, sign, angle)
    moments = pair_moments(Neurons.of(u, b), Neurons.of(e, c))
    assert abs(float(moments.both) - both) < 1e-12 + 1e-7 * angle
    assert abs(float(moments.value) - value) < 1e-14
    assert all(bool(torch.isfinite(t).all()) for t in vars(moments).values())


def _exact_pair(mpmath: object, sign: float, angle: float) -> tuple[float, float]:
    """P(both positive) and E[relu relu] of z1 + 0.3 and sign z1 + angle z2 + 0.3 sign + angle."""
    with mpmath.workdps(40):
        a, s = mpmath.mpf(angle), mpmath.mpf(sign)
        start, shift = -mpmath.mpf("0.3"), a + s * mpmath.mpf("0.3")

        def inner(x: object, order: int) -> object:
            mean = s * x + shift
            if a == 0:
                return (mean > 0) if order == 0 else max(mean, 0)
            t = mean / a
            return mpmath.ncdf(t) if order == 0 else mean * mpmath.ncdf(t) + a * mpmath.npdf(t)

        kink = -s * shift
        knots = sorted({start, mpmath.mpf(12), *(p for m in (-30, -5, 0, 5, 30) if start < (p := kink + m * a) < 12)})
        both = mpmath.quad(lambda x: mpmath.npdf(x) * inner(x, 0), knots)
        value = mpmath.quad(lambda x: mpmath.npdf(x) * (x - start) * inner(x, 1), knots)
        return float(both), float(value)


@pytest.mark.parametrize("biased", [True, False])
def test_pair_gradients_against_autograd(biased: bool) -> None:
    u, v = _normal(9, 3), _normal(10, 3)
    b, c = (_normal(11, 2) if biased else torch.zeros(2, dtype=D64)).unbind()
    parts = [t.clone().requires_grad_() for t in (u, b, v, c)]
    grads = torch.autograd.grad(_scalar_kernel(*parts), parts)
    f, g = Neurons.of(u[None], b[None]), Neurons.of(v[None], c[None])
    m = pair_moments(f, g)
    assert torch.allclose(m.both[0] * v + m.turn_f[0] * f.unit[0], grads[0], atol=1e-13)
    assert torch.allclose(m.both[0] * u + m.turn_g[0] * g.unit[0], grads[2], atol=1e-13)
    assert torch.allclose(torch.cat([m.gate_f[0], m.gate_g[0]]), torch.stack([grads[1], grads[3]]), atol=1e-13)


def test_pair_hessians_against_autograd() -> None:
    u, v, b, c = _normal(12, 2, 3), _normal(13, 4, 3), _normal(14, 2), _normal(15, 4)
    weights = _normal(16, 2, 4)
    own, cross = own_hessian(u, b, v, c, weights), cross_hessian(u, b, v, c)
    for i in range(2):
        expected = torch.zeros(4, 4, dtype=D64)
        for j in range(4):

            def pair(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return _scalar_kernel(x[:3], x[3], y[:3], y[3])

            x, y = torch.cat([u[i], b[i : i + 1]]), torch.cat([v[j], c[j : j + 1]])
            (xx, xy), _ = torch.autograd.functional.hessian(pair, (x, y))
            expected += weights[i, j] * xx
            assert torch.allclose(cross[i, :, j], xy, atol=1e-11)
        assert torch.allclose(own[i], expected, atol=1e-11)


def test_gated_gram_against_monte_carlo_and_limits() -> None:
    h, g = _normal(17, 4), _normal(18, 4)
    x = _normal(19, 1_000_000, 4)
    for gate, factor in (("step", lambda t: (t >= 0).double()), ("sign", torch.sign)):
        weight = factor(x @ h) * factor(x @ g)
        expected = (x * weight[:, None]).T @ x / len(x)
        index = torch.arange(4).repeat(2)
        gram = support_gram(torch.stack([h, g]), torch.tensor([0] * 4 + [1] * 4), index, gate)
        assert (gram[:4, 4:] - expected).abs().max() < 5e-3
    assert torch.allclose(
        gated_gram(h, g), support_gram(torch.stack([h, g]), torch.tensor([0] * 4 + [1] * 4), index)[:4, 4:]
    )
    eye = torch.eye(4, dtype=D64)
    assert torch.allclose(gated_gram(h, 2 * h), 0.5 * eye, atol=1e-15)
    assert torch.allclose(gated_gram(h, -h), 0 * eye, atol=1e-15)


def test_antipodal_generators_make_the_support_gram_singular() -> None:
    """The four columns of one coordinate under h1, -h1, h2, -h2 are exactly dependent."""
    h = _normal(20, 2, 5)
    generators = torch.cat([h, -h])
    four = support_gram(generators, torch.arange(4), torch.zeros(4, dtype=torch.long))
    assert abs(float(torch.linalg.eigvalsh(four)[0])) < 1e-14
    two = support_gram(generators, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.long))
    assert float(torch.linalg.eigvalsh(two)[0]) > 0.05


def test_support_gram_names_what_is_wrong() -> None:
    zero = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="generator 1 is zero"):
        support_gram(torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=D64), zero, zero)
    with pytest.raises(ValueError, match="'step' or 'sign'"):
        support_gram(torch.ones(1, 2, dtype=D64), zero, zero, gate="relu")
