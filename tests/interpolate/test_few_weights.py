"""Few-weight interpolants: counts that are provably least, exactness, refusals."""

import numpy as np
import pytest
from sklearn.datasets import load_wine

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.interpolant import interpolate
from sparelu.interpolate.few_weights import FewWeights, lower_bounds
from sparelu.interpolate.points.direct import solve_one_weight, solve_two_neurons
from sparelu.interpolate.points.on_a_line import start_on_a_line
from sparelu.method import Refusal
from sparelu.networks.network import Network
from sparelu.run import fit


def published_shape(seed: int) -> Data:
    """N = 10 points in 50 inputs, uniform on [-1, 1]: the sizes of the published experiment."""
    rng = np.random.default_rng(seed)
    return Data(rng.uniform(-1, 1, (10, 50)), rng.uniform(-1, 1, 10))


def residual(network: Network, data: Data) -> float:
    return float(np.abs(network(data.x).numpy()[:, 0] - data.y).max())


@pytest.mark.parametrize("form", ["two-neuron", "one-weight"])
def test_ten_nonzeros_on_the_published_sizes(form: str) -> None:
    for seed in range(3):
        data = published_shape(seed)
        solution = fit(FewWeights(form=form), data, Budget((20,), nonzeros=10))
        network = solution.network
        assert network.nonzeros + network.biases == 10
        assert residual(network, data) ** 2 < 1e-25
        assert network.hidden == ((2,) if form == "two-neuron" else (10,))
        claims = {c.unit: c for c in solution.certificates}
        assert claims["nonzeros"].value == 10
        assert claims["neurons"].value == 2
        assert all(c.holds for c in solution.certificates)


@pytest.mark.parametrize(("n", "d"), [(11, 5), (21, 10), (5, 2)])
def test_one_weight_each_up_to_twice_the_inputs(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(10):
        x, y = rng.uniform(-1, 1, (n, d)), rng.uniform(-1, 1, n)
        net = solve_one_weight(x, y, rng)
        rank = np.linalg.matrix_rank(np.column_stack([np.maximum(x, 0), np.maximum(-x, 0), np.ones(n)]))
        assert (net is not None) == (rank == n)
        if net is not None:
            found += 1
            assert np.count_nonzero(net.nu) == n
            output = np.maximum(np.column_stack([x, np.ones(n)]) @ net.nu.T, 0) @ net.sign
            assert np.abs(output - y).max() < 1e-11 * net.condition
    assert found > 5


def test_two_neurons_where_labels_have_one_sign_or_are_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (6, 40))
    for y, neurons, weights in ((np.ones(6), 1, 6), (np.array([1.0, 0, -2, 0, -0.5, 1]), 2, 4)):
        net = solve_two_neurons(x, y, rng)
        assert net is not None
        assert net.nu.shape[0] == neurons
        assert np.count_nonzero(net.nu) == weights


@pytest.mark.parametrize(("n", "d"), [(12, 2), (24, 3), (40, 5)])
def test_elimination_reaches_the_lower_bound_beyond(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    data = Data(rng.uniform(-1, 1, (n, d)), rng.uniform(-1, 1, n))
    network = fit(FewWeights(), data, Budget((60,))).network
    assert network.nonzeros + network.biases == n
    assert residual(network, data) < 1e-9
    assert network.canonical().nonzeros <= network.nonzeros


def test_elimination_on_real_data_and_the_stated_gap() -> None:
    x, y = (np.asarray(a, dtype=float)[::4] for a in load_wine(return_X_y=True))
    data = Data(x, y)
    solution = fit(FewWeights(dead_ends=3), data, Budget((60,)))
    used = solution.network.nonzeros + solution.network.biases
    bound = solution.certificates[0]
    assert bound.value == 45
    assert f"this network has {used}" in bound.claim
    assert 45 <= used < 2 * 45
    assert residual(solution.network, data) < 1e-9


def special(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Points, targets of a planted network (affine, one-weight neurons, hinges), and twice its nonzeros at most."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 7))
    n = int(rng.integers(5 * d + 10, 80))
    x = rng.choice([1.0, 30.0]) * rng.standard_normal((n, d)) + rng.choice([0.0, 2.0])
    kind, w = seed % 3, rng.standard_normal(d) * (rng.random(d) < 0.7)
    if kind == 0:
        return x, x @ w + 0.5, 2 * (int(np.count_nonzero(w)) + 1)
    if kind == 1:
        return x, np.maximum(x, 0) @ w - np.maximum(-x[:, 0], 0), int(np.count_nonzero(w)) + 1
    return x, np.maximum(x @ w + 0.3, 0) - np.maximum(x[:, 1] - x[:, 0], 0), int(np.count_nonzero(w)) + 3


@pytest.mark.parametrize("seed", range(6))
def test_targets_that_fewer_weights_meet_are_found_and_said(seed: int) -> None:
    """No certificate may say that N are needed where a planted network has fewer."""
    x, y, planted = special(seed)
    data = Data(x, y)
    solution = fit(FewWeights(), data, Budget((60,)))
    used = solution.network.nonzeros + solution.network.biases
    assert residual(solution.network, data) < 1e-8 * np.abs(y).max()
    assert used <= planted < len(y)
    assert "these are among the exceptions" in solution.certificates[0].claim
    within = fit(FewWeights(), data, Budget((60,), nonzeros=planted)).network
    assert within.nonzeros <= planted


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_points_of_few_dimensions_among_many_inputs(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    x = rng.standard_normal((18, dimensions)) @ rng.standard_normal((dimensions, 6)) + rng.standard_normal(6)
    data = Data(x, rng.standard_normal(18))
    solution = fit(FewWeights(), data, Budget((60,)))
    network = solution.network
    assert residual(network, data) < 1e-9
    assert network.used_inputs.numel() == dimensions
    assert network.nonzeros + network.biases <= 2 * 18


def test_a_wrong_network_violates_the_certificate() -> None:
    data = published_shape(0)
    wrong = Network.two_layer(np.eye(1, 50), np.array([1.0]))
    assert not lower_bounds(wrong, data)[0].holds


def test_ill_conditioned_columns_still_interpolate() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (8, 12)) * 10.0 ** rng.integers(-6, 6, 12)
    x[1] = x[0] * (1 + 1e-6 * rng.uniform(-1, 1, 12))
    data = Data(x, rng.uniform(-1, 1, 8))
    network = fit(FewWeights(), data, Budget((20,))).network
    assert residual(network, data) < 1e-9


def test_refusals() -> None:
    data = published_shape(0)
    with pytest.raises(Refusal, match="10 distinct points need 10 nonzeros"):
        fit(FewWeights(), data, Budget((20,), nonzeros=9))
    clash = Data(np.array([[0.0, 1], [0, 1], [1, 1]]), np.array([0.0, 1, 2]))
    assert "different targets, the first 0 and 1" in str(FewWeights().refuses(clash, Budget((20,))))
    assert "at least 5" in str(FewWeights().refuses(Data(data.x[:, :1], data.y), Budget((4,))))
    twice = Data(np.vstack([data.x, data.x]), np.concatenate([data.y, data.y]))
    network = fit(FewWeights(), twice, Budget((20,))).network
    assert network.nonzeros + network.biases == 10


@pytest.mark.parametrize("n", [3, 8, 40])
def test_on_a_line_the_start_is_the_sparsest_interpolant_with_two_weights_a_knot(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
    net = start_on_a_line(x, y)
    assert np.abs(net.outputs(np.column_stack([x, np.ones(n)])) - y).max() < 1e-10
    assert net.nonzeros <= 2 * interpolate(x, y).least_knots + 4


def test_on_a_line_a_zero_piece_needs_no_affine_part() -> None:
    x = np.array([-2.0, -1, 0, 1, 2, 3])
    net = start_on_a_line(x, np.array([0.0, 0, 1, 1, 0, 0]))
    assert net.live.any(axis=1).sum() == 3
