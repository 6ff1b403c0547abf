"""Normal equations: streamed against held, and a recovery that never holds them."""

import numpy as np
import pytest
import torch

from sparelu import Budget, fit
from sparelu.datasets.planted import planted, planted_network
from sparelu.recover.exact import normal_equations as equations
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.normal_equations import Held, Streamed, Support, gates, gram


def _case(tilt: float) -> tuple[Kinks, Support, Sample]:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 13)) * (rng.random((6, 13)) < 0.4)
    kinks = Kinks(*(torch.as_tensor(a) for a in (np.repeat([1.0, -1.0], 3), weight, np.full(6, tilt), np.zeros(13))))
    sample = Sample(rng.standard_normal((6000, 12)), rng.standard_normal(6000))
    return kinks, Support.of(kinks.weight != 0), sample


def test_spread_and_gathered_are_inverse_on_the_support() -> None:
    kinks, support, _ = _case(0.0)
    step = torch.arange(1.0, len(support) + 14, dtype=torch.float64)
    weight, affine = support.spread(kinks, step)
    assert torch.equal(support.gathered(weight, affine), step)
    assert int(torch.count_nonzero(weight)) == len(support)


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_streamed_steps_solve_the_held_equations(tilt: float) -> None:
    kinks, support, sample = _case(tilt)
    held, streamed = Held(support, gram(kinks, support, sample)), Streamed.of(kinks, support, sample)
    slope = torch.as_tensor(np.random.default_rng(1).standard_normal(len(support) + 13))
    step, _ = streamed.step(slope, 1e-6)
    exact, _ = held.step(slope, 1e-6)
    left = slope - held.gram @ step
    assert float(left.norm() / slope.norm()) < 0.02
    assert float(slope @ step - step @ held.gram @ step / 2) > 0.99 * float(slope @ exact) / 2


def test_streamed_variances_take_each_kink_by_itself() -> None:
    """The inverse of the Gram matrix with everything between different kinks set to zero; never above the whole one."""
    kinks, support, sample = _case(0.0)
    whole, streamed = gram(kinks, support, sample), Streamed.of(kinks, support, sample)
    group = torch.cat([support.kink, torch.full((13,), -1)])
    blocks = torch.where(group[:, None] == group, whole, 0.0)
    found = streamed.variances()
    torch.testing.assert_close(found, torch.linalg.inv(blocks).diagonal(), rtol=1e-9, atol=0.0)
    assert bool((found <= Held(support, whole).variances() * (1 + 1e-9)).all())
    beside, root = streamed.frame()
    torch.testing.assert_close(root @ root.T, whole[len(support) :, len(support) :])
    assert len(beside) == 0
    row = torch.ones(1, 13).double()
    assert torch.equal(beside.columns(gates(kinks, row), row), row.T)


def test_a_network_is_recovered_without_holding_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "HELD", 0)
    shape = {"inputs": 12, "hidden": (6,), "nonzeros": 20, "seed": 3}
    truth, data = planted_network(**shape), planted(rows=4000, test_rows=500, **shape)
    found = fit(Exact(), data, Budget((10,)), seed=0)
    assert found.status.name == "converged"
    assert found.network.nonzeros == truth.canonical().nonzeros
