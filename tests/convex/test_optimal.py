import numpy as np
import pytest
import torch

from sparelu.catalogue import certifier, fitter
from sparelu.convex.arrangement import enumerate_patterns
from sparelu.convex.directions import search_directions
from sparelu.convex.dual_bound import bound_one_sign, bound_price
from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.run import certify, fit


def _data(n: int = 50, d: int = 2, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return Data(x, np.abs(x[:, 0]) - 0.7 * np.maximum(x.sum(axis=1), 0) + 0.1 * rng.standard_normal(n))


def _trained(data: Data, penalty: float, steps: int, outputs: int = 1, loss=None) -> tuple[Network, float]:
    """A network of torch, trained with its own weight decay; its objective as torch computes it."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(data.inputs, 30), torch.nn.ReLU(), torch.nn.Linear(30, outputs)
    ).double()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    x, y = torch.as_tensor(data.x), torch.as_tensor(data.y)
    for step in range(steps + 1):
        optimiser.zero_grad()
        fit_loss = ((module(x)[:, 0] - y) ** 2).mean() / 2 if loss is None else loss(module(x), y)
        objective = fit_loss + penalty / 2 * sum((p**2).sum() for p in module.parameters())
        objective.backward()
        if step < steps:
            optimiser.step()
    return Network.from_module(module), float(objective.detach())


def _numbers(claim: str) -> tuple[float, float, float]:
    least, known = claim.split("the least is from ")[1].split(";")[0].split(" to ")
    return float(claim.split("objective ")[1].split()[0]), float(least), float(known)


@pytest.mark.parametrize("steps", [3, 800])
def test_distance_of_a_network_trained_elsewhere(steps: int) -> None:
    """With rank three the bound is exact: the optimum of ``convex`` lies between the bound and the best known."""
    data = _data()
    network, objective = _trained(data, 0.01, steps)
    claim = certify(certifier("optimal", penalty=0.01), network, data)
    found, least, known = _numbers(claim.claim)
    assert found == pytest.approx(objective, rel=1e-8)
    best = fit(fitter("convex", penalty=0.01, rounds=20), data, Budget((100,))).history[-1]["loss"]
    assert least <= best * (1 + 1e-8)
    assert best <= known * (1 + 1e-8)
    assert claim.value == pytest.approx(objective - least, abs=1e-8)
    assert best - least < 0.1 * best
    assert claim.holds
    assert not claim.vacuous


def test_higher_ranks_are_bounded_by_a_relaxation() -> None:
    data = _data(80, 8, 1)
    network, objective = _trained(data, 0.02, 800)
    claim = certify(certifier("optimal", penalty=0.02), network, data)
    found, least, known = _numbers(claim.claim)
    assert found == pytest.approx(objective, rel=1e-8)
    assert 0 < least < known <= found
    assert least > 0.4 * known
    assert "relaxation" in claim.assumptions[0].evidence


@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers_are_judged_by_cross_entropy(classes: int) -> None:
    plain = _data(60, 2, 2)
    data = Data(plain.x, np.digitize(np.asarray(plain.y), [0.0, 0.6][: classes - 1]), "classification")
    loss = torch.nn.functional.cross_entropy
    if classes == 2:
        network, objective = _trained(
            data, 0.02, 500, loss=lambda f, y: torch.nn.functional.softplus(-(2 * y - 1) * f[:, 0]).mean()
        )
    else:
        network, objective = _trained(data, 0.02, 500, outputs=3, loss=lambda f, y: loss(f, y))
    claim = certify(certifier("optimal", penalty=0.02), network, data)
    found, least, _ = _numbers(claim.claim)
    assert found == pytest.approx(objective, rel=1e-8)
    assert 0 < least < objective


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_relaxation_is_never_below_the_exact_maximum(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, theta = (
        rng.standard_normal((25, d)) + (seed % 2),
        rng.standard_normal((25, 1)) * rng.exponential(size=(25, 1)) ** 3,
    )
    exact, met = bound_price(x, theta, enumerate_patterns(x), rng)
    loose = max(bound_one_sign(x, theta[:, 0]), bound_one_sign(x, -theta[:, 0]))
    assert met <= exact <= met * 1.001
    assert exact <= loose * (1 + 1e-8) <= 3 * exact


def test_several_outputs_are_bounded_together() -> None:
    rng = np.random.default_rng(3)
    x, theta = rng.standard_normal((30, 5)), rng.standard_normal((30, 3))
    upper, _ = bound_price(x, theta, None, rng)
    for _ in range(50):
        v = rng.standard_normal(3)
        found, _ = search_directions(x, theta @ (v / np.linalg.norm(v)), rng.standard_normal((40, 5)))
        assert found.max() <= upper


def test_the_optimum_itself_has_no_distance() -> None:
    data = _data(40, 2, 5)
    solution = fit(fitter("convex", penalty=0.02, rounds=20), data, Budget((100,)))
    claim = certify(certifier("optimal", penalty=0.02), solution.network, data)
    assert claim.value < 0.01 * _numbers(claim.claim)[0]
    again = certify(certifier("optimal", penalty=0.02, patterns=0), solution.network, data)
    assert again.value < 1e-5


def test_what_it_cannot_judge_is_refused_by_name() -> None:
    method, data = certifier("optimal"), _data()
    deep = Network.from_dense([np.ones((3, 2)), np.ones((3, 3)), np.ones((1, 3))])
    assert "2 hidden layers" in (method.refuses(deep, data) or "")
    assert "reads 4 inputs" in (method.refuses(Network.two_layer(np.ones((2, 4)), np.ones(2)), data) or "")
    assert "needs the data" in (method.refuses(deep, None) or "")
    assert "3 outputs" in (method.refuses(Network.two_layer(np.ones((2, 2)), np.ones((3, 2))), data) or "")
