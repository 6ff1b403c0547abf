"""The normal distribution functions against mpmath, SciPy, finite differences and limits."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import ndtr, owens_t

from sparelu.gaussian.normal import bivariate_cdf, cdf


def _tensors(*values: object) -> list[torch.Tensor]:
    return [torch.as_tensor(v, dtype=torch.float64) for v in values]


def _by_quadrature(h: float, k: float, rho: float) -> float:
    with mpmath.workdps(30):
        q = mpmath.sqrt(1 - mpmath.mpf(rho) ** 2)
        knots = [mpmath.mpf(-40), mpmath.mpf(h)]
        knots += [p for s in (-8, -2, 0, 2, 8) if -40 < (p := k / mpmath.mpf(rho) + s * q) < h]
        return float(mpmath.quad(lambda x: mpmath.npdf(x) * mpmath.ncdf((k - rho * x) / q), sorted(knots)))


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.3), (0.3, 0.75), (0.75, 0.925), (0.925, 0.999), (0.999, 1 - 1e-9)])
def test_bivariate_cdf_agrees_with_quadrature_in_thirty_digits(low: float, high: float) -> None:
    rng = np.random.default_rng(int(1000 * low))
    for _ in range(12):
        h, k = rng.normal(size=2) * rng.choice([0.3, 1.0, 3.0])
        if rng.random() < 0.4:
            k = h + 1e-3 * rng.normal()
        rho = float(rng.choice([-1, 1]) * rng.uniform(low, high))
        assert abs(float(bivariate_cdf(*_tensors(h, k, rho))) - _by_quadrature(h, k, rho)) < 1e-14


def test_bivariate_cdf_agrees_with_owens_t_on_many_points() -> None:
    rng = np.random.default_rng(0)
    h, k = rng.normal(size=(2, 20000)) * 2
    rho = np.tanh(rng.normal(size=20000) * 2)
    q = np.sqrt(1 - rho**2)
    owen = 0.5 * (ndtr(h) + ndtr(k)) - owens_t(h, (k - rho * h) / (h * q)) - owens_t(k, (h - rho * k) / (k * q))
    owen -= 0.5 * (h * k < 0)
    assert np.abs(bivariate_cdf(*_tensors(h, k, rho)).numpy() - owen).max() < 1e-13


def test_bivariate_cdf_at_its_limits() -> None:
    h, k = _tensors([0.3, -2.0, 1.0, 9.0], [0.4, 1.0, 1.0, -50.0])
    one = torch.ones(4, dtype=torch.float64)
    assert torch.allclose(bivariate_cdf(h, k, one), cdf(torch.minimum(h, k)), atol=1e-16)
    assert torch.allclose(bivariate_cdf(h, k, -one), (cdf(h) - cdf(-k)).clamp(min=0), atol=1e-16)
    assert torch.allclose(bivariate_cdf(h, k, 0 * one), cdf(h) * cdf(k), atol=1e-16)
    far = torch.full_like(h, torch.inf)
    assert torch.allclose(bivariate_cdf(far, k, 0.95 * one), cdf(k), atol=1e-16)
    assert float(bivariate_cdf(-far, k, 0.99 * one).max()) < 1e-290


def test_bivariate_cdf_first_and_second_derivatives() -> None:
    points = _tensors([0.4, -1.0, 0.2, 0.5], [0.1, 0.7, -0.3, 0.5], [0.2, -0.6, 0.9, -0.97])
    points = [p.requires_grad_() for p in points]
    assert torch.autograd.gradcheck(bivariate_cdf, points, eps=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(bivariate_cdf, points, eps=1e-6, atol=1e-6)


def test_derivatives_at_full_correlation_are_limits() -> None:
    h, k, rho = (t.requires_grad_() for t in _tensors([0.3, 0.3, 0.5], [0.7, 0.7, 0.5], [1.0, -1.0, 1.0]))
    by_h, by_k, by_rho = torch.autograd.grad(bivariate_cdf(h, k, rho).sum(), (h, k, rho))
    slope = torch.exp(-0.5 * h.detach() ** 2) / np.sqrt(2 * np.pi)
    assert torch.allclose(by_h, slope * torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64))
    assert torch.allclose(by_k[:1], torch.zeros(1, dtype=torch.float64))
    assert by_rho[:2].abs().max() == 0
    assert by_rho[2] > 1e280


def test_bivariate_cdf_refuses_what_is_no_correlation() -> None:
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        bivariate_cdf(*_tensors(0.0, 0.0, 1.0 + 1e-9))
    with pytest.raises(ValueError, match="not a number"):
        bivariate_cdf(*_tensors(0.0, 0.0, float("nan")))
