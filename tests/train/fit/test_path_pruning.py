"""What stays when a network is cut, and the schedules and scores that decide it, by hand and by enumeration."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.data import Data
from sparelu.train.fit.init import he
from sparelu.train.fit.masked_mlp import MLP
from sparelu.train.fit.path_pruning import gauge_free, selection, within
from sparelu.train.sparsifier.decay import cosine, cubic, removals
from sparelu.train.sparsifier.scores import curved_magnitude, strongest


def net_of(matrices: list[np.ndarray]) -> MLP:
    widths = [matrices[0].shape[0], *(m.shape[1] for m in matrices)]
    rows = np.random.default_rng(0).standard_normal((9, widths[0]))
    data = Data(rows, np.random.default_rng(1).standard_normal((9, widths[-1])))
    net = MLP.started(data, widths[1:-1], 100, he, np.arange(widths[0]), np.random.default_rng(0))
    for place, matrix in zip(net.split(net.value)[0], matrices, strict=True):
        place.copy_(torch.tensor(matrix))
    return net


def test_the_largest_stay_where_all_are_on_paths() -> None:
    net = net_of([np.array([[3.0, 0.1], [0.2, 2.0]]), np.array([[4.0, 0.3], [0.4, 5.0]])])
    kept = selection(net, gauge_free(net).abs(), 4)
    assert kept.tolist() == [True, False, False, True, True, False, False, True]


def test_a_strong_weight_without_a_path_makes_room() -> None:
    # Unit 1 has strong inputs and nearly no output weight: of the four largest, 9 and 8 would lead nowhere.
    net = net_of([np.array([[3.0, 9.0], [2.0, 8.0]]), np.array([[4.0, 1.0], [0.01, 0.02]])])
    kept = selection(net, gauge_free(net).abs(), 4)
    assert net.connected(kept).equal(kept)
    assert int(kept.sum()) == 4


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(3, 20), st.sampled_from([(3,), (5,), (3, 3)]))
def test_k_stay_or_one_fewer_and_all_are_on_paths(seed: int, k: int, hidden: tuple[int, ...]) -> None:
    rng, widths = np.random.default_rng(seed), (4, *hidden, 3)
    net = net_of([rng.standard_cauchy((a, b)) for a, b in itertools.pairwise(widths)])
    kept = selection(net, gauge_free(net).abs(), k)
    assert net.connected(kept).equal(kept)
    assert k - 1 <= int(kept.sum()) <= k, "a further unit takes two weights"


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_with_one_output_products_are_ranked(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((4, 3)), rng.standard_normal((3, 1))
    products = np.abs(w * v[:, 0]).ravel()
    wanted = np.isin(np.arange(12), np.argsort(-products)[:k])
    for scale in (np.ones(3), np.array([1e-3, 1.0, 1e3])):
        net = net_of([w * scale, v / scale[:, None]])
        kept = selection(net, gauge_free(net).abs(), k)
        assert kept[:12].tolist() == wanted.tolist()
        cut = within(net, k).network()
        assert cut.nonzeros == k


def test_within_leaves_a_network_that_fits_alone() -> None:
    net = net_of([np.ones((2, 2)), np.ones((2, 2))])
    assert within(net, 8) is net
    assert within(net, 3).network().nonzeros == 3
    assert net.nonzeros == 8


def test_schedules_by_hand() -> None:
    assert [cubic(p, 100, 20) for p in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [100, 100, 30, 20, 20]
    assert cubic(0.5, 100, 20, 1.0) == 60
    assert [cosine(p, 3.0, 1.0) for p in (0.0, 0.5, 1.0, 7.0)] == pytest.approx([3.0, 2.0, 1.0, 1.0])
    assert removals(0.1, 100, 60) == [90, 81, 73, 66, 60]
    assert removals(0.1, 5, 2) == [4, 3, 2]
    assert removals(0.5, 5, 5) == []


def test_power_one_ranks_by_the_rise_of_a_quadratic_loss() -> None:
    # With noise of variance 1 the mean squared gradient at the optimum is E x_i^2, the curvature.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50000, 6)) * np.array([0.1, 0.3, 1.0, 3.0, 10.0, 0.5])
    w = np.array([9.0, 2.0, -1.0, 0.5, 0.02, 1.5])
    y = x @ w + rng.standard_normal(50000)
    rise = [np.mean((x @ np.where(np.arange(6) == i, 0, w) - y) ** 2) for i in range(6)]
    gradient = (x @ w - y)[:, None] * x
    score = curved_magnitude(torch.tensor(w), torch.tensor((gradient**2).mean(axis=0)), 1.0)
    assert score.argsort().tolist() == np.argsort(rise).tolist()
    assert torch.tensor(w).abs().argsort().tolist() != np.argsort(rise).tolist()
    assert torch.equal(curved_magnitude(torch.tensor(w), torch.ones(6), 0.0), torch.tensor(w).abs())


def test_strongest_among_the_living() -> None:
    score, alive = torch.tensor([5.0, 1.0, 0.0, 3.0, 3.0]), torch.tensor([False, True, True, True, True])
    assert strongest(score, alive, 2).tolist() == [False, False, False, True, True]
    assert strongest(score, alive, 1).tolist() == [False, False, False, True, False]
    assert strongest(score, alive, 9).tolist() == alive.tolist()
