"""Networks of two hidden layers come back; what cannot be proved is said."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.two_layers.equality import same_form
from sparelu.run import fit


def teacher(out: tuple[float, float] = (1.0, 1.0)) -> Network:
    """A bent kink on two planes, and a neuron that is linear in one of them."""
    w, u = np.zeros((2, 4)), np.zeros((2, 2))
    w[0, :2], w[1, 2:] = (1.0, -0.7), (0.8, 0.5)
    u[0], u[1, 1] = (1.0, -1.2), 0.9
    return Network.from_dense([w, u, np.array([out])])


def rows(truth: Network, n: int = 1500, noise: float = 0.0) -> tuple[Data, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * n, truth.inputs))
    y = truth(x).numpy()[:, 0]
    return Data(x[:n], y[:n] + noise * y.std() * rng.standard_normal(n)), x[n:]


def decibel(solution: Solution, truth: Network, x: np.ndarray) -> float:
    y = truth(x).numpy()
    error = ((solution.network(x).numpy() - y) ** 2).mean()
    return float(20 * np.log10(np.abs(y).max()) - 10 * np.log10(max(error, 1e-300)))


@pytest.mark.parametrize("out", [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)], ids=str)
def test_a_planted_network_comes_back(out: tuple[float, float]) -> None:
    """The first case is met in six weights of the first layer before one kink takes the place of another."""
    truth = teacher(out)
    data, held = rows(truth)
    solution = fit(Exact(), data, Budget((3, 3)))
    assert solution.status is Status.converged
    assert same_form(solution.network, truth)
    assert solution.network.skip is None
    assert decibel(solution, truth, held) > 150


def test_noise_proves_nothing_and_a_small_budget_is_kept_and_said() -> None:
    truth = teacher()
    data, held = rows(truth, 1000, noise=0.05)
    solution = fit(Exact(cycles=1, iterations=100), data, Budget((3, 3), nonzeros=6))
    assert solution.status is Status.best_found
    assert solution.network.nonzeros <= 6
    assert decibel(solution, truth, held) > 15


def test_several_outputs_at_depth_are_refused() -> None:
    data = Data(np.zeros((50, 2)), np.ones((50, 2)))
    assert "one output" in (Exact().refuses(data, Budget((2, 2))) or "")


def test_a_resumed_fit_ends_in_the_same_bits() -> None:
    truth = teacher()
    data, _ = rows(truth, 600, noise=0.1)
    budget, method = Budget((2, 2)), Exact(cycles=1, iterations=20)
    whole, rng = [], np.random.default_rng(3)
    for iterate in method.steps(data, budget, rng):
        whole.append((iterate.state(), rng.bit_generator.state))
    state, bits = whole[1]
    rng.bit_generator.state = bits
    *_, last = method.steps(data, budget, rng, state)
    for a, b in zip(last.state()["found"]["weights"], whole[-1][0]["found"]["weights"], strict=True):
        assert torch.equal(a, b)
