"""Exact reductions: known superfluous neurons go, every point of the box keeps its value."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu import run
from sparelu.compress.merge import Box, Merge, prune_on_rows, reduce_on
from sparelu.data import Budget, Data
from sparelu.method import Refusal
from sparelu.networks.network import Network

UNBOUNDED = Box(np.full(3, -np.inf), np.full(3, np.inf))
UNIT = Box(np.full(3, -1.0), np.full(3, 1.0))


def values(network: Network, x: np.ndarray) -> np.ndarray:
    return network(torch.from_numpy(x)).numpy()


def corners_and_inside(seed: int = 0) -> np.ndarray:
    inside = np.random.default_rng(seed).uniform(-1, 1, (500, 3))
    return np.vstack([inside, list(itertools.product((-1.0, 1.0), repeat=3))])


def shallow(kept: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neurons that cut the unit box."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(kept, 3)), 0.1 * rng.normal(size=kept), rng.normal(size=(2, kept))


def test_duplicates_and_collinear_neurons_go_everywhere() -> None:
    w, b, v = shallow()
    wide = Network.two_layer(
        np.vstack([w, w[:2], 3 * w[1:]]), np.hstack([v, v[:, :2], v[:, 1:]]), np.r_[b, b[:2], 3 * b[1:]]
    )
    small = reduce_on(wide, UNBOUNDED)
    assert small.hidden == (4,)
    x = 10 * np.random.default_rng(2).normal(size=(500, 3))
    assert np.abs(values(wide, x) - values(small, x)).max() < 1e-12


def test_dead_and_always_active_neurons_go_on_the_box_alone() -> None:
    w, b, v = shallow()
    reach = 1.001 * np.abs(w).sum(axis=1)
    wide = Network.two_layer(np.vstack([w, w, w]), np.hstack([v, v, v]), np.r_[b, -reach, reach])
    assert reduce_on(wide, UNBOUNDED).hidden == (12,)
    small = reduce_on(wide, UNIT)
    assert small.hidden == (4,)
    assert small.skip is not None
    x = corners_and_inside()
    assert np.abs(values(wide, x) - values(small, x)).max() < 1e-12
    assert np.abs(values(wide, 3 * x) - values(small, 3 * x)).max() > 0.1


def test_a_neuron_that_fires_at_one_corner_stays() -> None:
    w, b, v = shallow()
    just = -np.abs(w).sum(axis=1) * (1 - 1e-9)
    wide = Network.two_layer(np.vstack([w, w[:1]]), np.hstack([v, v[:, :1]]), np.r_[b, just[:1]])
    assert reduce_on(wide, UNIT).hidden == (5,)


def test_deeper_always_active_neurons_are_expressed_by_a_basis() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(6, 3))
    basis = rng.normal(size=(2, 6))
    second = np.vstack([rng.normal(size=(3, 6)), basis, rng.normal(size=(4, 2)) @ basis])
    bias = np.r_[0.1 * rng.normal(size=3), np.full(6, 200.0)]
    wide = Network.from_dense(
        [first, second, rng.normal(size=(2, 9))], [0.1 * rng.normal(size=6), bias, rng.normal(size=2)]
    )
    small = reduce_on(wide, UNIT)
    assert small.hidden == (6, 5)
    x = corners_and_inside()
    assert np.abs(values(wide, x) - values(small, x)).max() < 1e-10


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), depth=st.integers(1, 3), half=st.floats(0.1, 3))
def test_no_point_of_the_box_changes(seed: int, depth: int, half: float) -> None:
    rng = np.random.default_rng(seed)
    widths = [3, *rng.integers(2, 9, size=depth), 2]
    weights = [rng.normal(size=(b, a)) * (rng.uniform(size=(b, a)) < 0.7) for a, b in itertools.pairwise(widths)]
    wide = Network.from_dense(weights, [2 * rng.normal(size=w.shape[0]) for w in weights])
    small = reduce_on(wide, Box(np.full(3, -half), np.full(3, half)))
    assert all(a <= b for a, b in zip(small.hidden, wide.hidden, strict=True))
    x = half * corners_and_inside(seed)
    expected = values(wide, x)
    assert np.abs(expected - values(small, x)).max() < 1e-10 * (1 + np.abs(expected).max())


@pytest.mark.parametrize("outputs", [1, 2])
def test_pruning_on_rows_leaves_a_neuron_for_each_row_and_output(outputs: int) -> None:
    rng = np.random.default_rng(4)
    wide = Network.two_layer(rng.normal(size=(60, 3)), rng.normal(size=(outputs, 60)), rng.normal(size=60))
    x = rng.normal(size=(10, 3))
    small = prune_on_rows(wide, x)
    assert small.hidden[0] <= 10 * outputs
    assert np.abs(values(wide, x) - values(small, x)).max() < 1e-9
    norms = [float((n.layers[1].dense().norm(dim=0) * n.layers[0].dense().norm(dim=1)).sum()) for n in (wide, small)]
    assert norms[1] <= norms[0]
    assert np.abs(values(wide, x + 1) - values(small, x + 1)).max() > 1e-3


def test_pruning_on_rows_of_a_deep_network() -> None:
    rng = np.random.default_rng(5)
    shapes = [(40, 3), (30, 40), (1, 30)]
    wide = Network.from_dense([rng.normal(size=s) for s in shapes], [rng.normal(size=s[0]) for s in shapes])
    x = rng.normal(size=(8, 3))
    small = prune_on_rows(wide, x)
    assert small.hidden[1] <= 8
    assert np.abs(values(wide, x) - values(small, x)).max() < 1e-8 * np.abs(values(wide, x)).max()


def test_the_method_its_claims_and_its_refusals() -> None:
    w, b, v = shallow()
    wide = Network.two_layer(np.vstack([w, w, -w]), np.hstack([v, v, v]), np.r_[b, b, -1.001 * np.abs(w).sum(axis=1)])
    x = np.random.default_rng(6).uniform(-1, 1, (200, 3))
    data = Data(x, x[:, 0])
    solution = run.compress(Merge(), wide, Budget(hidden=(4,)), data)
    assert solution.network.hidden == (4,)
    assert "8 neurons removed" in solution.certificates[0].claim
    assert solution.certificates[0].value < 1e-12
    assert np.allclose(data.ranges[0], x.min(axis=0))
    assert run.compress(Merge(low=-1, high=1), wide, Budget(hidden=(4,))).network.hidden == (4,)
    same = run.compress(Merge(), Network.two_layer(w, v, b), Budget(hidden=(4,)))
    assert "unchanged" in same.certificates[0].claim
    with pytest.raises(Refusal, match=r"\(4,\) neurons are left"):
        run.compress(Merge(), wide, Budget(hidden=(3,)), data)
    with pytest.raises(Refusal, match="needs the data"):
        run.compress(Merge(rows=True), wide, Budget(hidden=(12,)))
    with pytest.raises(Refusal, match="above high"):
        run.compress(Merge(low=1, high=0), wide, Budget(hidden=(12,)))
    few = data.take(range(3))
    rows = run.compress(Merge(rows=True), wide, Budget(hidden=(6,)), few)
    assert rows.network.hidden[0] <= 6
    assert np.abs(values(wide, few.x) - values(rows.network, few.x)).max() < 1e-9
