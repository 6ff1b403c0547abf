"""Exact recovery finds planted networks: signs, biases, pairs, several outputs, noise; and says when it did not."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status
from sparelu.recover.exact.fitter import Exact
from sparelu.run import fit
from tests.contract.checks import CHECKS
from tests.contract.table import PROBLEMS


def psnr(found: Network, truth: Network, x: np.ndarray) -> float:
    """Peak signal-to-noise ratio on rows that no fit has seen, in float64."""
    y = truth(x.astype(np.float64)).numpy()
    error = (found.to(torch.float64)(x.astype(np.float64)).numpy() - y) ** 2
    return float(20 * np.log10(np.abs(y).max()) - 10 * np.log10(max(error.mean(), 1e-300)))


def same_support(found: Network, truth: Network) -> bool:
    a, b = found.oriented(1e-6).layers[0], truth.oriented().layers[0]
    return a.shape == b.shape and a.indices.tolist() == b.indices.tolist() and a.indptr.tolist() == b.indptr.tolist()


def violated(solution: Solution) -> str:
    """The premises that do not hold for the claim that the network is exact."""
    return "; ".join(a.text for a in solution.certificates[0].assumptions if a.state == "violated")


def gaussian(truth: Network, n: int = 3000, seed: int = 0) -> tuple[Data, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal((2 * n, truth.inputs))
    return Data(x[:n], truth(x[:n]).numpy()[:, 0]), x[n:]


@pytest.mark.parametrize(
    "law",
    [
        {"output_weights": "published"},
        {"output_weights": "sign"},
        {"output_weights": "real"},
        {"output_weights": "sign", "biases": 0.5},
        {"law": "uniform"},
        {"law": "correlated"},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_networks_come_back(law: dict, seed: int) -> None:
    shape = {"inputs": 20, "hidden": (6,), "nonzeros": 18, "seed": seed}
    data = planted(rows=4000, test_rows=2000, **shape, **law)
    truth = planted_network(**shape, **{k: v for k, v in law.items() if k != "law"})
    solution = fit(Exact(), data, Budget((6,)))
    assert solution.status is Status.converged
    assert same_support(solution.network, truth)
    assert solution.network.nonzeros == truth.canonical().nonzeros
    assert solution.network.skip_nonzeros == truth.canonical().skip_nonzeros
    assert psnr(solution.network, truth, np.asarray(data.test.x)) > 150


def test_an_antipodal_pair_is_one_kink_and_a_linear_part() -> None:
    w = np.zeros((4, 6))
    w[0, 0], w[1, 0], w[2, 1:4], w[3, 4] = 2.0, -3.0, (1.0, -1.0, 0.5), 1.0
    truth = Network.two_layer(w, np.ones(4))
    data, held = gaussian(truth)
    solution = fit(Exact(), data, Budget((4,)))
    assert same_support(solution.network, truth)
    assert (solution.network.nonzeros, solution.network.skip_nonzeros) == (5, 1)
    assert psnr(solution.network, truth, held) > 150


def test_collinear_neurons_are_one() -> None:
    w = np.zeros((3, 6))
    w[0, :2], w[1, :2], w[2, 3:5] = (1.0, 2.0), (0.5, 1.0), (1.0, -2.0)
    truth = Network.two_layer(w, np.array([1.0, 1.0, -1.0]))
    data, held = gaussian(truth)
    solution = fit(Exact(), data, Budget((3,)))
    assert solution.network.hidden == (2,)
    assert psnr(solution.network, truth, held) > 150


def test_a_budget_below_the_truth_is_kept_and_said() -> None:
    data = planted(inputs=20, rows=4000, test_rows=1000, hidden=(6,), nonzeros=18, seed=0)
    solution = fit(Exact(), data, Budget((6,), nonzeros=12))
    assert solution.network.nonzeros == 12
    assert solution.status is Status.best_found
    assert "budget" in violated(solution)


def test_a_budget_above_the_truth_is_not_used_up() -> None:
    data = planted(inputs=20, rows=4000, test_rows=1000, hidden=(6,), nonzeros=18, seed=0)
    solution = fit(Exact(), data, Budget((6,), nonzeros=40))
    assert solution.network.nonzeros == 18
    assert solution.status is Status.converged


def test_several_outputs_share_their_neurons() -> None:
    rng = np.random.default_rng(8)
    w, v = np.zeros((4, 8)), np.zeros((3, 4))
    w[0, :2], w[1, 2:5], w[2, 5], w[3, 6:8] = (1.0, -2.0), (1.0, 1.0, 0.5), 1.5, (0.7, 0.6)
    v[0, :2], v[1, 1:3], v[2, 3] = (1.0, -1.0), (0.5, 2.0), -1.0
    truth = Network.two_layer(w, v)
    x = rng.standard_normal((6000, 8))
    solution = fit(Exact(), Data(x[:4000], truth(x[:4000]).numpy()), Budget((4,)))
    assert solution.network.nonzeros == truth.nonzeros
    assert solution.network.skip is None
    assert same_support(solution.network, truth)
    assert psnr(solution.network, truth, x[4000:]) > 150


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.3])
def test_noise_costs_less_than_twice_least_squares_on_the_true_support(noise: float) -> None:
    """The reference is SciPy's least squares for the weights of the planted network, started from them."""
    w = np.zeros((4, 12))
    w[0, :3], w[1, 3:6], w[2, 6:8], w[3, 9:12] = (1.0, -1.0, 0.8), (0.9, 1.2, 1.0), (1.0, 2.0), (-1.0, 1.0, 0.7)
    truth = Network.two_layer(w, np.ones(4))
    data, _ = gaussian(truth)
    y = data.y + noise * data.y.std() * np.random.default_rng(9).standard_normal(data.n)
    solution = fit(Exact(), Data(data.x, y), Budget((4,)))
    assert same_support(solution.network, truth)
    place = np.nonzero(w)

    def misfit(values: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(w)
        moved[place] = values
        return np.maximum(data.x @ moved.T, 0).sum(1) - y

    oracle = np.zeros_like(w)
    oracle[place] = least_squares(misfit, w[place]).x
    best = np.linalg.norm(oracle - w)
    a, b = solution.network.oriented(1e-6), truth.oriented()
    assert float((a.layers[0].values - b.layers[0].values).norm()) < 2 * best


def test_labels_without_a_small_network_are_not_called_recovered() -> None:
    """A product of inputs is no network of this width: it stays far off, and the error says by how much."""
    rng = np.random.default_rng(10)
    x = rng.standard_normal((2000, 5))
    y = np.sin(3 * x[:, 0]) * x[:, 1] * x[:, 2]
    solution = fit(Exact(cycles=1), Data(x, y), Budget((3,)))
    assert solution.network.hidden[0] <= 3
    assert solution.status is Status.best_found
    assert solution.history[-1]["loss"] > 0.1 * y.var()


def test_more_rows_than_asked_are_not_used() -> None:
    truth = planted_network(inputs=8, hidden=(2,), nonzeros=4, seed=0)
    data, x = gaussian(truth)
    solution = fit(Exact(most=1000), data, Budget((2,)))
    assert psnr(solution.network, truth, x) > 150
    evidence = {a.text: a.evidence for a in solution.certificates[0].assumptions}
    assert "on 100 rows" in evidence["rows kept apart are met to rounding"]
    assert evidence["labels outnumber what is fitted"].startswith("900 labels")


def test_inputs_of_any_scale_are_served() -> None:
    w = np.zeros((3, 6))
    w[0, :2], w[1, 2:5], w[2, 5] = (1.0, 2.0), (0.5, 1.0, -1.0), 1.0
    scale = np.array([1e-3, 255.0, 1.0, 10.0, 0.1, 1e4])
    truth = Network.two_layer(w / scale, np.array([1.0, 1.0, -1.0]))
    x = scale * np.random.default_rng(12).standard_normal((6000, 6))
    solution = fit(Exact(), Data(x[:3000], truth(x[:3000]).numpy()[:, 0]), Budget((3,)))
    assert same_support(solution.network, truth)
    assert psnr(solution.network, truth, x[3000:]) > 150


def test_refusals_say_why() -> None:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((200, 5))
    labels = Data(x, (x[:, 0] > 0).astype(int), "classification")
    assert "classes" in (Exact().refuses(labels, Budget((3,))) or "")
    few = Data(x[:5], x[:5, 0])
    assert "5 rows" in (Exact().refuses(few, Budget((3,))) or "")
    assert "hidden layers" in (Exact().refuses(Data(x, x[:, 0]), Budget((3, 3, 3))) or "")


def test_duplicated_and_constant_columns_do_not_stop_it() -> None:
    w = np.zeros((2, 5))
    w[0, :2], w[1, 2] = (1.0, -1.0), 2.0
    truth = Network.two_layer(w, np.ones(2))
    data, held = gaussian(truth)
    x = np.column_stack([data.x, data.x[:, 2], np.full(data.n, 3.0)])
    solution = fit(Exact(cycles=2), dataclasses.replace(data, x=x, names=()), Budget((2,)))
    x_held = np.column_stack([held, held[:, 2], np.full(len(held), 3.0)])
    y = truth(held).numpy()[:, 0]
    assert np.abs(solution.network(x_held).numpy()[:, 0] - y).max() < 1e-6


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("problem", ["planted", "two targets"])
def test_laws_of_a_fitter(check, problem: str) -> None:
    check(Exact(), *PROBLEMS[problem]())
