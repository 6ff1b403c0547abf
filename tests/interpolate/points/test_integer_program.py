"""The fast methods against mixed-integer programs and enumeration that prove the least counts."""

from math import comb

import numpy as np
import pytest

from sparelu.data import Budget, Data
from sparelu.interpolate.few_weights import FewWeights
from sparelu.interpolate.points.integer_program import least_neurons, least_nonzeros, patterns, span_bound
from sparelu.run import fit


def problem(n: int, d: int) -> Data:
    rng = np.random.default_rng(10 * n + d)
    return Data(rng.uniform(-1, 1, (n, d)), rng.uniform(-1, 1, n))


@pytest.mark.parametrize(("n", "d"), [(4, 1), (5, 2), (6, 3)])
def test_patterns_are_all_that_random_hyperplanes_show(n: int, d: int) -> None:
    xbar = np.column_stack([problem(n, d).x, np.ones(n)])
    listed = {tuple(p) for p in patterns(xbar)}
    rng = np.random.default_rng(0)
    seen = {tuple(p) for p in (xbar @ rng.standard_normal((d + 1, 20_000)) > 0).T if p.any()}
    assert seen <= listed
    assert len(listed) == 2 * sum(comb(n - 1, k) for k in range(d + 1)) - 1


@pytest.mark.parametrize(("n", "d"), [(4, 1), (5, 1), (4, 2), (5, 2), (4, 3)])
def test_few_weights_attain_what_enumeration_proves(n: int, d: int) -> None:
    data = problem(n, d)
    network = fit(FewWeights(), data, Budget((20,))).network
    assert network.nonzeros + network.biases == span_bound(data.x, data.y) == n


def test_span_bound_sees_targets_that_are_special() -> None:
    x = np.array([[-1.0], [0.3], [0.5], [2.0]])
    assert span_bound(x, np.maximum(x[:, 0], 0)) == 1
    assert span_bound(x, np.maximum(x[:, 0] - 0.4, 0)) == 2


@pytest.mark.parametrize(("n", "d"), [(4, 1), (4, 2)])
def test_the_program_finds_and_proves_the_least_nonzeros(n: int, d: int) -> None:
    data = problem(n, d)
    proof = least_nonzeros(data.x, data.y, size=20.0)
    assert proof.least == proof.bound == n
    outputs = np.maximum(np.column_stack([data.x, np.ones(n)]) @ proof.nu.T, 0) @ proof.sign
    assert np.abs(outputs - data.y).max() < 1e-6


@pytest.mark.parametrize(("n", "d"), [(4, 3), (5, 2)])
def test_the_program_proves_the_least_neurons(n: int, d: int) -> None:
    data = problem(n, d)
    proof = least_neurons(data.x, data.y, size=20.0)
    assert proof.least == proof.bound
    network = fit(FewWeights(form="two-neuron"), data, Budget((20,))).network
    assert proof.least <= network.hidden[0]
    assert proof.least >= (data.y > 0).any() + (data.y < 0).any()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(8, 1), (8, 2), (8, 3)])
def test_eight_points_have_their_least_neurons_proved(n: int, d: int) -> None:
    data = problem(n, d)
    proof = least_neurons(data.x, data.y, seconds=1500.0)  # a minute of the processor
    assert proof.least == proof.bound >= -(-n // (d + 1))
    outputs = np.maximum(np.column_stack([data.x, np.ones(n)]) @ proof.nu.T, 0) @ proof.sign
    assert np.abs(outputs - data.y).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_points_on_a_line_are_within_three_of_the_proved_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = Data(rng.uniform(-1, 1, (8, 1)), rng.uniform(-1, 1, 8))
    proof = least_nonzeros(data.x, data.y, seconds=200.0)
    network = fit(FewWeights(), data, Budget((20,))).network
    assert proof.least == proof.bound
    assert proof.bound <= network.nonzeros + network.biases <= proof.bound + 3


def test_a_bound_on_the_weights_decides_what_is_least() -> None:
    # Two of the points are near each other, so that few neurons need large weights.
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (8, 1)), rng.uniform(-1, 1, 8)
    assert least_neurons(x, y, size=100.0).least == 7
    assert least_neurons(x, y).least == 5


def test_an_impossible_size_is_named() -> None:
    data = problem(4, 1)
    with pytest.raises(ValueError, match="raise `size`"):
        least_neurons(data.x, data.y, size=1e-3)
