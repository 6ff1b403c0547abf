"""The reweighted l^1 method: its proximal step, the published mistakes, budgets, and elimination afterwards."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.experiments.evaluate import evaluate
from sparelu.interpolate.curves.interpolant import interpolate
from sparelu.interpolate.points.path_prox import WARM, PathNetwork, PathPenalty
from sparelu.interpolate.points.refit import LiveNetwork, keep_largest, refit_live
from sparelu.interpolate.reweighted import Reweighted
from sparelu.run import fit


def published_task() -> Data:
    return Data(np.array([-2.0, -1, 0, 1, 2, 3])[:, None], np.array([0.0, 0, 1, 1, 0, 0]))


def network(seed: int, rate: float = 0.01) -> PathNetwork:
    draw = torch.Generator().manual_seed(seed)
    w, b, v = (torch.randn(s, generator=draw, dtype=torch.float64) for s in ((6, 3), (6,), (1, 6)))
    return PathNetwork(w, b, v, torch.zeros(1, dtype=torch.float64), rate)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(9)
    return tuple(torch.randn(20, k, generator=draw, dtype=torch.float64) for k in (3, 1))


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_the_proximal_step_against_scalar_arithmetic(p: float) -> None:
    net = network(0)
    penalty = PathPenalty(p, 5.0, True)
    x, y = batch()
    for _ in range(WARM):
        net.step(x, y, penalty, False)
    plain = network(0)
    for _ in range(WARM + 1):
        before = plain.products(True).detach().clone()
        plain.step(x, y, PathPenalty(p, 0.0, True), False) if plain.count >= WARM else plain.step(x, y, penalty, False)
    net.step(x, y, penalty, False)
    after, bare = net.products(True).detach(), plain.products(True).detach()
    for k in range(6):
        for i in range(4):
            shrink = 5.0 * 0.01 * p * abs(float(before[k, i])) ** (p - 1)
            want = max(abs(float(bare[k, i])) - shrink, 0.0)
            assert abs(float(after[k, i])) == pytest.approx(want, rel=1e-9, abs=1e-12)
            assert want == 0 or np.sign(float(after[k, i])) == np.sign(float(bare[k, i]))


def test_balance_and_final_zeros() -> None:
    net, penalty = network(1), PathPenalty(0.4, 1.0, True)
    x, y = batch()
    dead = torch.zeros(6, 4, dtype=torch.bool)
    for _ in range(60):
        net.step(x, y, penalty, False)
        live = net.products(True).detach() != 0
        assert not bool((live & dead).any())
        dead = ~live if net.count > WARM else dead
        if net.count > WARM:
            incoming = torch.cat([net.w, net.b[:, None]], dim=1).norm(dim=1)
            assert torch.allclose(incoming, net.v.abs()[0], atol=1e-12)
    assert 0 < int(dead.sum()) < dead.numel()


def test_adam_and_loss_are_those_of_torch() -> None:
    net, x_y = network(2), batch()
    module = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1, bias=False)).double()
    with torch.no_grad():
        for own, theirs in zip((net.w, net.b, net.v), module.parameters(), strict=True):
            theirs.copy_(own)
    adam = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(WARM):
        loss = torch.nn.functional.mse_loss(module(x_y[0]), x_y[1])
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert net.step(*x_y, PathPenalty(0.4, 1.0, True), False) == pytest.approx(float(loss.detach()), rel=1e-12)


def test_p_one_is_not_p_seven_tenths() -> None:
    """The published curve called p = 1 is that of the p = 0.7 model; the two differ."""
    rng = np.random.default_rng(0)
    data = Data(rng.uniform(-1, 1, (10, 50)), rng.uniform(-1, 1, 10))
    counts = {
        p: fit(Reweighted(p=p, epochs=500, raw=True), data, Budget((100,))).history[-1]["products"] for p in (0.7, 1.0)
    }
    assert counts[1.0] > 2 * counts[0.7]


@pytest.mark.parametrize("seed", [0, 1])
def test_elimination_reaches_the_least_weights_in_a_tenth_of_the_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wide = Data(rng.uniform(-1, 1, (10, 50)), rng.uniform(-1, 1, 10))
    found = fit(Reweighted(epochs=500, raw=True, finish="eliminate"), wide, Budget((100,)), seed=seed).network
    assert found.nonzeros + found.biases == 10
    assert evaluate(found, wide).mse < 1e-25


def test_elimination_on_the_published_task() -> None:
    data = published_task()
    method = Reweighted(epochs=1000, raw=True, biases=False, strength=0.003, finish="eliminate")
    found = fit(method, data, Budget((80,)), seed=21).network
    assert found.hidden == (3,)
    assert evaluate(found, data).mse < 1e-25


def test_refit_meets_as_many_points_as_weights() -> None:
    rng = np.random.default_rng(3)
    live = LiveNetwork(np.diag([1.0, -1, 1]), np.array([0.1, 0.2, -0.1]), np.array([[1.0, 1, -1]]), np.zeros(1))
    data = Data(rng.uniform(-1, 1, (40, 3)), rng.normal(size=40))
    before = np.mean((live.hidden(data.x) @ live.v[0] - data.y) ** 2)
    after = refit_live(live, data, np.zeros(1), np.ones(1))
    assert np.mean((after.hidden(data.x) @ after.v[0] - data.y) ** 2) < before
    assert np.array_equal(after.w != 0, live.w != 0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_keeping_the_largest_counts_as_the_network_does(outputs: int) -> None:
    rng = np.random.default_rng(4)
    live = LiveNetwork(rng.normal(size=(8, 5)), rng.normal(size=8), rng.normal(size=(outputs, 8)), np.zeros(outputs))
    for allowed in (4, 9, 20):
        kept = keep_largest(live, 0.0, allowed)
        used = np.count_nonzero(kept.w) + (np.count_nonzero(kept.v) if outputs > 1 else 0)
        assert used <= allowed
        assert used > allowed - 1 - outputs


def test_minibatches_and_classes() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((200, 4))
    data = Data(x, (np.abs(x[:, 0]) > 0.7).astype(int), "classification")
    solution = fit(Reweighted(epochs=30, batch=50), data, Budget((10,), nonzeros=8))
    assert solution.network.nonzeros <= 8
    assert evaluate(solution.network, data).accuracy > 0.8
    assert "one target" in str(Reweighted(finish="eliminate").refuses(data, Budget((10,))))


def test_p_is_chosen_below_p_star_where_it_is_known() -> None:
    x = np.sort(np.random.default_rng(7).uniform(size=60))
    convex = Data(x[:, None], np.exp(4 * x))
    low, _ = interpolate(x, convex.y).critical.overall
    assert Reweighted().exponent(convex) == pytest.approx(min(0.4, 0.9 * low))
    assert Reweighted(p=0.8).exponent(convex) == 0.8
    slopes = np.cumsum(np.random.default_rng(7).exponential(size=59))
    rough = Data(x[:, None], np.concatenate([[0], np.cumsum(slopes * np.diff(x))]))
    low, high = interpolate(x, rough.y).critical.overall
    assert low < high < 0.4
    assert Reweighted().exponent(rough) == pytest.approx(0.9 * low)
    wide = Data(np.eye(3), np.arange(3.0))
    assert Reweighted().exponent(wide) == 0.4
