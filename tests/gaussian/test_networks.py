"""Distances of two-layer networks against Monte Carlo, autograd of a dense formula, and identities."""

import numpy as np
import pytest
import torch

from sparelu.gaussian import NormalInputs, TwoLayer, inner, squared_distance, squared_norm
from sparelu.gaussian import networks as module

D64 = torch.float64


def _net(seed: int, n: int, d: int = 3, k: int = 2) -> TwoLayer:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=s) for s in ((k, n), (n, d), (n,), (k, d), (k,))]
    parts[0] /= n
    return TwoLayer(*(torch.from_numpy(p) for p in parts))


def _law(seed: int, d: int = 3) -> tuple[NormalInputs, torch.Tensor]:
    rng = np.random.default_rng(seed)
    root = torch.from_numpy(rng.normal(size=(d, d)))
    mean = torch.from_numpy(rng.normal(size=d))
    return NormalInputs.of(mean, root @ root.T), root


def test_distance_against_monte_carlo() -> None:
    """Four standard errors of 10^6 samples: a wrong term of relative size 1% fails."""
    f, g = _net(0, 6), _net(1, 4)
    law, root = _law(2)
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(1_000_000, 3))) @ root.T + law.mean
    sample = (f(x) - g(x)).square().sum(dim=1)
    exact = float(squared_distance(f, g, law))
    assert abs(exact - float(sample.mean())) < 4 * float(sample.std()) / 1000
    assert float(sample.std()) / 1000 < 0.01 * exact


@pytest.mark.slow
def test_distance_against_ten_million_samples() -> None:
    for seed in range(5):
        f, g = _net(10 + seed, 12, 5), _net(20 + seed, 5, 5)
        law, root = _law(30 + seed, 5)
        rng, total, square = np.random.default_rng(seed), 0.0, 0.0
        for _ in range(20):
            x = torch.from_numpy(rng.normal(size=(500_000, 5))) @ root.T + law.mean
            sample = (f(x) - g(x)).square().sum(dim=1)
            total, square = total + float(sample.sum()), square + float(sample.square().sum())
        mean = total / 1e7
        error = np.sqrt((square / 1e7 - mean**2) / 1e7)
        assert abs(float(squared_distance(f, g, law)) - mean) < 4 * error
        assert error < 3e-3 * mean


def test_gradients_against_finite_differences() -> None:
    f, g = _net(4, 3), _net(5, 2)
    parts = [t.clone().requires_grad_() for t in (*vars(f).values(), *vars(g).values())]

    def distance(*p: torch.Tensor) -> torch.Tensor:
        return squared_distance(TwoLayer(*p[:5]), TwoLayer(*p[5:]), _law(6)[0])

    assert torch.autograd.gradcheck(distance, parts, eps=1e-6, atol=1e-7, rtol=1e-7)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    f, g = _net(7, 50), _net(8, 33)

    def all_of_it() -> list[torch.Tensor]:
        parts = [t.clone().requires_grad_() for t in (*vars(f).values(), *vars(g).values())]
        value = squared_norm(TwoLayer(*parts[:5])) - inner(TwoLayer(*parts[:5]), TwoLayer(*parts[5:]))
        return [value.detach(), *torch.autograd.grad(value, parts)]

    whole = all_of_it()
    monkeypatch.setattr(module, "BLOCK", 60)
    for a, b in zip(whole, all_of_it(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert torch.allclose(squared_norm(f), inner(f, f), atol=1e-12)


def test_memory_is_linear_in_the_neurons() -> None:
    """No block of pairs exceeds its limit: a whole Gram of 1500 x 1500 would be 18 MB a moment."""
    f = _net(9, 1500, 4)
    held: list[int] = []
    original = module.pair_moments

    def watched(a: object, b: object) -> object:
        moments = original(a, b)
        held.append(sum(t.numel() * 8 for t in vars(moments).values()))
        return moments

    module.pair_moments = watched
    try:
        squared_norm(f)
    finally:
        module.pair_moments = original
    assert max(held) <= 6 * 8 * module.BLOCK


def test_neurons_that_the_law_does_not_move_are_constants() -> None:
    """A singular covariance: along the fixed direction a neuron is the constant (w.mean + b)_+."""
    mean, covariance = torch.tensor([1.0, 2.0], dtype=D64), torch.diag(torch.tensor([3.0, 0.0], dtype=D64))
    law = NormalInputs.of(mean, covariance)
    assert law.root.shape == (2, 1)
    one = torch.ones(1, 1, dtype=D64)
    f = TwoLayer.of(torch.tensor([[0.0, 1.0]], dtype=D64), one, torch.tensor([0.5], dtype=D64))
    g = TwoLayer.of(torch.tensor([[0.0, 1.0]], dtype=D64), 0 * one, offset=torch.tensor([2.5], dtype=D64))
    moving = TwoLayer.of(torch.tensor([[1.0, 1.0]], dtype=D64), one, torch.tensor([-0.3], dtype=D64))
    assert float(squared_distance(f, g, law)) < 1e-15
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(400_000, 2))) * covariance.sqrt().diagonal() + mean
    sampled = (f(x) * moving(x)).mean()
    assert abs(float(inner(law.whiten(f), law.whiten(moving)) / sampled) - 1) < 1e-2
    assert float(squared_norm(law.whiten(f))) == pytest.approx(2.5**2, abs=1e-14)


def test_a_split_neuron_is_at_distance_zero() -> None:
    f = _net(11, 4)
    weight = torch.cat([f.weight, 2 * f.weight[:1]])
    out = torch.cat([f.out, 0.25 * f.out[:, :1]], dim=1)
    out[:, 0] *= 0.5
    g = TwoLayer(out, weight, torch.cat([f.bias, 2 * f.bias[:1]]), f.linear, f.offset)
    assert float(squared_distance(f, g)) < 1e-14


def test_bad_laws_and_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="negative eigenvalue"):
        NormalInputs.of(torch.zeros(2, dtype=D64), torch.diag(torch.tensor([1.0, -1.0], dtype=D64)))
    with pytest.raises(ValueError, match="not symmetric"):
        NormalInputs.of(torch.zeros(2, dtype=D64), torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=D64))
    with pytest.raises(ValueError, match="not finite"):
        NormalInputs.of(torch.full((2,), float("nan"), dtype=D64), torch.eye(2, dtype=D64))
    with pytest.raises(ValueError, match="reads 3 inputs"):
        NormalInputs.standard(2).whiten(_net(0, 2))
    with pytest.raises(ValueError, match="3 -> 2 and 4 -> 2"):
        squared_distance(_net(0, 2), _net(0, 2, d=4))
