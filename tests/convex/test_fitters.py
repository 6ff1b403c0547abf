import itertools

import numpy as np
import pytest
import torch

from sparelu.catalogue import fitter
from sparelu.convex.arrangement import enumerate_patterns
from sparelu.convex.directions import price_directions, price_gates, search_directions
from sparelu.convex.relu import price_cones
from sparelu.convex.solver.program import Design
from sparelu.data import Budget, Data, DataError
from sparelu.estimators import SparseReLURegressor
from sparelu.method import Refusal
from sparelu.outcome import Status
from sparelu.run import fit
from tests.convex.problems import make_design, make_loss, solve_by_cvxpy


def _data(n: int = 40, d: int = 2, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return Data(x, np.abs(x[:, 0]) - 0.5 * np.maximum(x[:, -1] + 0.3, 0) + 0.1 * rng.standard_normal(n))


def _objective(network, x: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Half the mean squared error plus weight decay of all weights and biases, by torch."""
    module = network.to_module()
    with torch.no_grad():
        error = module(torch.as_tensor(x))[:, 0] - torch.as_tensor(y)
        decay = sum(float((p**2).sum()) for p in module.parameters())
    return float((error**2).mean()) / 2 + penalty / 2 * decay


def test_the_optimum_over_all_patterns_is_that_of_the_program_with_all_of_them() -> None:
    data = _data(14, 2)
    solution = fit(fitter("convex", penalty=0.02, patterns=10, rounds=20), data, Budget((100,)))
    x = np.column_stack([data.x, np.ones(data.n)])
    everything = enumerate_patterns(x)
    assert everything is not None
    design = Design(x, everything)
    loss = make_loss(design, "squared")
    object.__setattr__(loss, "y", np.asarray(data.y)[:, None])
    best = solve_by_cvxpy(design, loss, 0.02, np.ones((14, 1)), "relu")
    assert solution.status is Status.converged
    assert _objective(solution.network, data.x, data.y, 0.02) == pytest.approx(best, rel=1e-7)
    (claim,) = solution.certificates
    assert claim.value <= 1e-8
    assert [a.state for a in claim.assumptions] == ["checked", "checked"]
    assert solution.history[-1]["patterns"] < len(everything)


def test_no_trained_network_is_better() -> None:
    data = _data(60, 2, 1)
    solution = fit(fitter("convex", penalty=0.01, patterns=30, rounds=20), data, Budget((100,)))
    best = _objective(solution.network, data.x, data.y, 0.01)
    assert best == pytest.approx(solution.history[-1]["lower_bound"], rel=1e-8)
    for seed in range(3):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1)).double()
        optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
        x, y = torch.as_tensor(data.x), torch.as_tensor(data.y)
        for _ in range(600):
            optimiser.zero_grad()
            loss = ((module(x)[:, 0] - y) ** 2).mean() / 2
            loss = loss + 0.005 * sum((p**2).sum() for p in module.parameters())
            loss.backward()
            optimiser.step()
        assert best < float(loss.detach()) < 1.5 * best


def test_patterns_that_are_priced_above_the_penalty_are_added_until_none_is_found() -> None:
    data = _data(50, 5, 2)
    few = fit(fitter("convex", penalty=0.01, patterns=20, rounds=0), data, Budget((100,)))
    more = fit(fitter("convex", penalty=0.01, patterns=20, rounds=30), data, Budget((100,)))
    assert more.history[-1]["patterns"] > few.history[-1]["patterns"] == 20
    assert more.history[-1]["loss"] < few.history[-1]["loss"]
    states = {s.certificates[0].assumptions[1].state for s in (few, more)}
    assert states == {"taken on trust"}
    assert "none was looked for" in few.certificates[0].assumptions[1].evidence
    assert "local searches met a largest price of " in more.certificates[0].assumptions[1].evidence


@pytest.mark.parametrize("name", ["convex", "gated"])
def test_a_penalty_above_the_largest_useful_gives_the_empty_network_and_the_number(name: str) -> None:
    data = _data()
    solution = fit(fitter(name, penalty=5.0), data, Budget((10,)))
    assert solution.network.hidden == (0,)
    claim = " ".join(c.claim for c in solution.certificates)
    largest = float(claim.split("optimal from penalty ")[1].split()[0])
    for factor, neurons in ((1.001, 0), (0.99, 1)):
        at = fit(fitter(name, penalty=factor * largest), data, Budget((10,)))
        assert min(at.network.hidden[0], 1) == neurons


def test_gated_outputs_are_those_of_its_network_and_its_gap_is_claimed() -> None:
    data = _data(40, 4, 3)
    solution = fit(fitter("gated", penalty=0.01, patterns=60), data, Budget((200,)))
    gap, distance = solution.certificates
    assert gap.value <= 1e-9
    assert distance.value > 0  # the weights of the decomposition are larger than those of the gates
    assert solution.history[-1]["loss"] < _objective(solution.network, data.x, data.y, 0.01)
    joint = fit(
        fitter("gated", penalty=0.01, patterns=40, joint=True),
        Data(data.x, np.column_stack([data.y, -np.asarray(data.y)])),
        Budget((400,)),
    )
    outputs = joint.network(data.x).numpy()
    assert outputs[:, 0] == pytest.approx(-outputs[:, 1], abs=1e-7)


def test_estimators_and_budgets() -> None:
    data = _data(80, 3, 4)
    settings = {"patterns": 60, "tolerance": 1e-7}
    model = SparseReLURegressor("convex", hidden=(3,), nonzeros=5, settings=settings, random_state=0)
    model.fit(data.x, data.y)
    assert model.nnz_ <= 5
    assert len(model.network_.canonical().layers[0].rows) <= 3
    assert model.score(data.x, data.y) > 0.2


def test_bad_input_is_refused_by_name() -> None:
    data = _data()
    with pytest.raises(ValueError, match="penalty must be a number above 0"):
        fitter("convex", penalty=0.0)
    with pytest.raises(Refusal, match="GiB and the machine has"):
        fit(fitter("convex", patterns=10**12), data, Budget((10,)))
    with pytest.raises(Refusal, match="hidden layers"):
        fit(fitter("gated"), data, Budget((10, 10)))
    with pytest.raises(DataError, match="one class only"):
        fit(fitter("convex"), Data(data.x, np.zeros(data.n), "classification"), Budget((10,)))


@pytest.mark.parametrize("seed", range(3))
def test_prices_of_all_cones_are_the_largest_over_directions(seed: int) -> None:
    """The exact maximum against a fine grid of directions on the sphere, and local searches against both."""
    rng = np.random.default_rng(seed)
    x, theta = rng.standard_normal((12, 3)), rng.standard_normal(12)
    everything = enumerate_patterns(x)
    assert everything is not None
    exact = float(price_cones(x, everything, theta, 0.0).max())
    angles = itertools.product(np.linspace(0, np.pi, 200), np.linspace(0, 2 * np.pi, 400))
    grid = np.array([[np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)] for a, b in angles])
    prices = price_directions(x, theta, grid)
    assert prices.max() <= exact * (1 + 1e-12)
    assert prices.max() >= exact * 0.999
    found, u = search_directions(x, theta, rng.standard_normal((200, 3)))
    assert exact * 0.999 <= found.max() <= exact * (1 + 1e-12)
    assert found == pytest.approx(price_directions(x, theta, u), rel=1e-12)
    gated, g = search_directions(x, theta, rng.standard_normal((200, 3)), gates=True)
    assert gated == pytest.approx(price_gates(x, theta, g), rel=1e-12)
    assert gated.max() >= exact * (1 - 1e-9)
    assert make_design(12, 3, 5).x.shape == (12, 3)
