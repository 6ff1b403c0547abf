"""Compressing given networks: distances as claimed, data laws, refits, bad input."""

import numpy as np
import pytest
import torch

from sparelu import run
from sparelu.compress.population import Population, gaussian_law
from sparelu.compress.projection import Form, NetworkTarget, Projection
from sparelu.compress.refit import divergence, refit_outputs
from sparelu.compress.shallow import two_layer
from sparelu.compress.simplex import Simplex
from sparelu.compress.starts import choose_greedily, find_centres, largest_neurons
from sparelu.data import Budget, Data
from sparelu.method import Refusal, SettingError
from sparelu.networks.network import Layer, Network

QUICK = {"restarts": 2, "steps": 30, "screening": 5, "refit_steps": 30}


def wide(seed: int, n: int = 40, d: int = 3, k: int = 2, bias: bool = True) -> Network:
    rng = np.random.default_rng(seed)
    biases = (rng.normal(size=n), rng.normal(size=k)) if bias else (None, None)
    return Network.two_layer(rng.normal(size=(n, d)), rng.normal(size=(k, n)) / n, *biases)


def rows(seed: int, n: int = 300, d: int = 3) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 2, (n, d)) @ rng.normal(size=(d, d))
    return Data(x, x[:, 0])


def mean_gap(a: Network, b: Network, x: np.ndarray) -> float:
    return float((a(torch.from_numpy(x)) - b(torch.from_numpy(x))).square().sum(1).mean())


@pytest.mark.parametrize("bias", [True, False])
def test_the_claimed_distance_is_that_of_the_returned_network(bias: bool) -> None:
    network = wide(0, bias=bias)
    solution = run.compress(Population(**QUICK), network, Budget(hidden=(5,)))
    assert solution.network.hidden == (5,)
    assert (solution.network.biases > 0) == bias
    x = np.random.default_rng(1).normal(size=(400_000, 3))
    assert solution.certificates[0].value == pytest.approx(mean_gap(network, solution.network, x), rel=0.03)


def test_more_neurons_come_nearer_and_beat_what_they_start_from() -> None:
    network = wide(2)
    seen, rng = two_layer(network), np.random.default_rng(0)
    projection = Projection(NetworkTarget.of(seen), Form(True, True, False, torch.zeros(3, dtype=torch.float64)))
    last = np.inf
    for m in (2, 4, 8):
        found = run.compress(Population(**QUICK), network, Budget(hidden=(m,))).certificates[0].value
        chosen = (
            largest_neurons(seen, m),
            find_centres(seen, m, rng),
            choose_greedily(projection.target, projection.form, m, rng),
        )
        assert found < min(projection.loss(*c) for c in chosen)
        assert found < last
        last = found


def test_greedy_selection_is_the_best_single_neuron_first() -> None:
    seen = two_layer(wide(3))
    target, form = NetworkTarget.of(seen), Form(True, True, False, torch.zeros(3, dtype=torch.float64))
    projection = Projection(target, form)
    losses = [projection.loss(seen.weight[i : i + 1], seen.bias[i : i + 1]) for i in range(40)]
    weight, bias = choose_greedily(target, form, 1, np.random.default_rng(0))
    assert projection.loss(weight, bias) == pytest.approx(min(losses), rel=1e-6)
    pairs = [
        projection.loss(torch.stack([weight[0], seen.weight[i]]), torch.stack([bias[0], seen.bias[i]]))
        for i in range(40)
    ]
    assert projection.loss(*choose_greedily(target, form, 2, np.random.default_rng(0))) == pytest.approx(
        min(pairs), rel=1e-5
    )


def test_it_is_never_worse_than_the_closed_form() -> None:
    rng = np.random.default_rng(18)
    network = Network.two_layer(rng.normal(size=(200, 6)), rng.uniform(size=200) / 200)
    for m in (2, 5):
        found = run.compress(Population(restarts=3, steps=10, screening=1), network, Budget(hidden=(m,)))
        closed = run.compress(Simplex(), network, Budget(hidden=(m,)))
        assert found.certificates[1].value <= found.certificates[0].value < closed.certificates[0].value


def test_the_law_of_the_rows_is_used_and_claimed() -> None:
    network, data = wide(4), rows(5)
    law = gaussian_law(data)
    assert np.allclose(law.mean.numpy(), data.x.mean(0))
    assert np.allclose((law.root @ law.root.T).numpy(), np.cov(data.x.T, bias=True))
    solution = run.compress(Population(**QUICK, refit="none"), network, Budget(hidden=(6,)), data)
    x = np.random.default_rng(6).normal(size=(400_000, 3)) @ law.root.numpy().T + law.mean.numpy()
    exact, measured = (c.value for c in solution.certificates)
    standard = run.compress(Population(**QUICK, law="standard"), network, Budget(hidden=(6,)), data).certificates[0]
    assert standard.assumptions[0].text.endswith("standard normal")
    assert exact == pytest.approx(mean_gap(network, solution.network, x), rel=0.05)
    assert measured == pytest.approx(mean_gap(network, solution.network, data.x), rel=1e-9)


def corners(seed: int, n: int) -> np.ndarray:
    """Inputs near the corners of a cube: far from any Gaussian."""
    rng = np.random.default_rng(seed)
    return 2.0 * rng.choice([-1, 1], (n, 3)) + 0.2 * rng.normal(size=(n, 3))


@pytest.mark.parametrize("bias", [True, False])
def test_each_refit_comes_nearer_on_new_rows_of_another_law(bias: bool) -> None:
    network, x = wide(7, bias=bias), corners(8, 400)
    gaps, small = {}, network
    for refit in ("none", "outputs", "all"):
        method = Population(**QUICK, refit=refit)
        small = run.compress(method, network, Budget(hidden=(4,)), Data(x, x[:, 0])).network
        gaps[refit] = mean_gap(network, small, corners(9, 2000))
    assert gaps["all"] < 0.8 * gaps["outputs"] < 0.8 * gaps["none"]
    assert (small.layers[0].biases > 0) == bias


def test_refit_of_classes_lowers_the_divergence() -> None:
    network, data = wide(9, k=3), rows(10)
    labelled = Data(data.x, np.arange(300) % 3, "classification")
    x = torch.from_numpy(data.x)
    gap = {}
    for refit in ("none", "all"):
        small = run.compress(Population(**QUICK, refit=refit), network, Budget(hidden=(3,)), labelled).network
        p, q = torch.softmax(network(x), 1), torch.softmax(small(x), 1)
        gap[refit] = float((p * (p / q).log()).sum(1).mean())
        assert float(divergence(small(x), network(x))) == pytest.approx(gap[refit], rel=1e-9)
    assert gap["all"] < gap["none"]


def test_outputs_by_least_squares_match_scipy() -> None:
    from scipy.linalg import lstsq

    net, data = two_layer(wide(11, n=5)), rows(12)
    x = torch.from_numpy(data.x)
    wanted = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 2)))
    design = np.column_stack([(x @ net.weight.T + net.bias).clamp(min=0).numpy(), np.ones(300)])
    expected = lstsq(design, (wanted - x @ net.linear.T).numpy())[0]
    fitted = refit_outputs(net, x, wanted)
    assert np.allclose(fitted.out.numpy(), expected[:-1].T)
    assert np.allclose(fitted.offset.numpy(), expected[-1])


def test_affine_parts_survive_and_can_be_added() -> None:
    network = wide(13)
    skip = Layer.from_dense(np.array([[1.0, 0.0, -2.0], [0.0, 3.0, 0.0]]), np.array([0.5, 0.0]))
    with_skip = Network(network.layers, skip)
    budget = Budget(hidden=(5,))
    kept = run.compress(Population(**QUICK), with_skip, budget)
    assert kept.network.skip is not None
    plain, free = (run.compress(Population(**QUICK, affine=a), network, budget) for a in ("keep", "free"))
    assert plain.network.skip is None
    assert free.certificates[0].value < plain.certificates[0].value
    assert kept.certificates[0].value == pytest.approx(free.certificates[0].value, rel=0.5)


def test_constant_inputs_are_a_singular_covariance_and_do_no_harm() -> None:
    network, data = wide(14, d=4), rows(15)
    still = Data(np.column_stack([data.x, np.full(300, 2.0)]), data.y)
    solution = run.compress(Population(**QUICK, refit="none"), network, Budget(hidden=(8,)), still)
    exact = solution.certificates[0].value
    energy = float(network(torch.from_numpy(still.x)).square().sum(1).mean())
    assert exact < 0.05 * energy
    assert mean_gap(network, solution.network, still.x) < 0.1 * energy


def test_float32_networks_stay_float32_and_are_claimed_as_returned() -> None:
    network = wide(16).to(dtype=torch.float32)
    solution = run.compress(Population(**QUICK), network, Budget(hidden=(5,)))
    assert solution.network.dtype is torch.float32
    x = np.random.default_rng(1).normal(size=(400_000, 3)).astype(np.float32)
    assert solution.certificates[0].value == pytest.approx(mean_gap(network, solution.network, x), rel=0.03)


def test_what_is_small_enough_comes_back_and_what_does_not_fit_is_refused() -> None:
    network = wide(17)
    same = run.compress(Population(), network, Budget(hidden=(40,)))
    assert same.network is network
    assert "unchanged" in same.certificates[0].claim
    idle = Network.two_layer(np.vstack([np.zeros((9, 3)), np.eye(3)]), np.ones(12))
    live = run.compress(Population(), idle, Budget(hidden=(4,)))
    assert live.network.hidden == (3,)
    assert "3 neurons are within 4" in live.certificates[0].claim
    with pytest.raises(Refusal, match="3 inputs, the data have 2"):
        run.compress(Population(), network, Budget(hidden=(4,)), rows(0, d=2))
    with pytest.raises(Refusal, match="give `hidden` alone"):
        run.compress(Population(), network, Budget(hidden=(4,), nonzeros=5))
    deep = Network.from_dense([np.ones((3, 3)), np.ones((3, 3)), np.ones((1, 3))])
    with pytest.raises(Refusal, match="2 hidden layers"):
        run.compress(Population(), deep, Budget(hidden=(2,)))
    with pytest.raises(SettingError, match="one of none, outputs, all"):
        Population(refit="some")


def test_repeated_directions_and_constant_rows_are_no_reason_to_warn() -> None:
    rng = np.random.default_rng(20)
    weight = np.repeat(rng.normal(size=(3, 4)), 5, axis=0)
    copies = Network.two_layer(weight, rng.normal(size=15), None)
    found = run.compress(Population(restarts=2, steps=20, screening=5), copies, Budget(hidden=(5,)))
    assert found.certificates[0].value < 1e-10
    same = Data(np.ones((30, 4)), np.arange(30.0))
    found = run.compress(Population(restarts=2, steps=20, screening=5), wide(21, d=4), Budget(hidden=(5,)), same)
    assert found.certificates[0].value < 1e-10


def test_the_last_fit_ends_nearer_from_more_starts_on_the_rows_kept_apart() -> None:
    network, x = wide(7), corners(8, 400)
    gaps = []
    for starts in (1, 4):
        method = Population(**QUICK, refit_starts=starts)
        small = run.compress(method, network, Budget(hidden=(2,)), Data(x, x[:, 0]), seed=3).network
        gaps.append(mean_gap(network, small, corners(9, 2000)))
    assert gaps[1] < gaps[0] * 1.05
