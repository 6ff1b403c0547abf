"""Data, splits, standardisation and budgets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sparelu.data import CHUNK, Budget, Data, DataError, labels
from sparelu.networks.network import Network


def test_labels_are_encoded_and_come_back() -> None:
    data = Data(np.ones((4, 1)), np.array(["b", "a", "c", "b"]), "classification")
    assert data.classes == ("a", "b", "c")
    assert np.asarray(data.y).tolist() == [1, 0, 2, 1]
    assert data.outputs == 3
    assert labels(torch.tensor([[0.0, 3.0, 1.0]]), data.classes).tolist() == ["b"]
    assert labels(torch.tensor([[-1.0], [2.0]]), ("no", "yes")).tolist() == ["no", "yes"]


@pytest.mark.parametrize(
    ("x", "y", "task", "words"),
    [
        (np.ones(3), np.ones(3), "regression", "two dimensions"),
        (np.ones((3, 1)), np.ones(2), "regression", "3 rows and y 2"),
        (np.ones((0, 1)), np.ones(0), "regression", "empty"),
        (np.ones((3, 1)), np.ones(3), "ranking", "task must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, y, task: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Data(x, y, task)


def test_unusable_numbers_are_named() -> None:
    x = np.ones((9, 2))
    x[3, 1] = x[7, 1] = np.nan
    with pytest.raises(DataError, match="2 row.*3, 7.*'price'"):
        _ = Data(x, np.arange(9.0), names=("age", "price")).statistics
    with pytest.raises(DataError, match="target.*row.* 8"):
        _ = Data(np.ones((9, 1)), np.array([*range(8), np.inf])).statistics
    with pytest.raises(DataError, match="constant"):
        _ = Data(np.eye(4), np.full(4, 2.5)).statistics
    with pytest.raises(DataError, match="one class only"):
        _ = Data(np.eye(4), np.array(["a"] * 4), "classification").statistics


def test_statistics_pool_over_chunks() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((CHUNK + 1000, 2)) * [1, 100] + [5, -1e4]
    stats = Data(x, x[:, 0]).statistics
    assert np.allclose(stats.mean, x.mean(0), rtol=1e-12)
    assert np.allclose(stats.sd, x.std(0), rtol=1e-10)


def test_batches_cover_every_row_once() -> None:
    data = Data(np.arange(10.0)[:, None], np.arange(10.0))
    rng = np.random.default_rng(0)
    seen = torch.cat([x[:, 0] for x, _ in data.batches(3, rng)])
    assert sorted(seen.tolist()) == list(range(10))
    assert seen.tolist() != list(range(10))
    assert [len(x) for x, _ in data.batches(4)] == [4, 4, 2]


def test_a_memory_map_is_shuffled_in_chunks(tmp_path: Path) -> None:
    rows = 2 * CHUNK + 10
    file = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(rows, 1))
    file[:, 0] = np.arange(rows)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Data(mapped, np.arange(rows, dtype=np.float32))
    assert not data.in_memory
    parts = [(x[:, 0], y[:, 0]) for x, y in data.batches(CHUNK, np.random.default_rng(1))]
    assert all(torch.equal(a, b) for a, b in parts)
    assert sorted(torch.cat([a for a, _ in parts]).tolist()) == list(range(rows))
    assert all(len(torch.unique(a // CHUNK)) == 1 for a, _ in parts)
    split = data.split(0.25, 0)
    assert split.train.n + split.test.n == rows
    assert split.train.statistics.mean.shape == (1,)


def test_splits_are_disjoint_stated_and_repeatable() -> None:
    data = Data(np.arange(50.0)[:, None], np.arange(50.0))
    one, same, other = data.split(0.2, 1), data.split(0.2, 1), data.split(0.2, 2)
    train, test = set(np.asarray(one.train.y)), set(np.asarray(one.test.y))
    assert len(test) == 10
    assert not train & test
    assert np.array_equal(np.asarray(one.test.y), np.asarray(same.test.y))
    assert not np.array_equal(np.asarray(one.test.y), np.asarray(other.test.y))
    assert "seed 1" in one.how
    with pytest.raises(DataError, match="leaves 0 of 50"):
        data.split(0.001, 0)


def test_folding_equals_standardising() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((60, 3)) * [1, 10, 0] + [0, 500, 7], rng.standard_normal((60, 2)) * 4 + 9
    data = Data(x, y)
    scaled, way = data.standardised()
    assert np.allclose(np.asarray(scaled.x).mean(0), 0, atol=1e-12)
    assert np.allclose(np.asarray(scaled.y).std(0), 1)
    net = Network.two_layer(rng.standard_normal((4, 3)), rng.standard_normal((2, 4)), rng.standard_normal(4))
    folded = way.fold(net)
    want = net(np.asarray(scaled.x)).numpy() * np.asarray(data.y).std(0) + np.asarray(data.y).mean(0)
    assert np.allclose(folded(x).numpy(), want, atol=1e-9)
    assert folded.nonzeros == net.nonzeros


@pytest.mark.parametrize(
    ("given", "count"),
    [({"nonzeros": 7}, 7), ({"density": 0.1}, 12), ({"sparsity": 0.9}, 12), ({"compression": 10.0}, 12), ({}, None)],
)
def test_the_four_words_for_one_budget(given: dict, count: int | None) -> None:
    assert Budget((20,), **given).count(6, 1) == count


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nonzeros": 3, "density": 0.1}, "nonzeros and density"),
        ({"nonzeros": 0}, "at least 1"),
        ({"density": 1.5}, "from 0 to 1"),
        ({"hidden": (0,)}, "at least 1"),
    ],
)
def test_impossible_budgets_are_refused(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Budget(**{"hidden": (5,), **given})


def test_a_budget_counts_what_the_network_counts() -> None:
    assert Budget((4,)).weights(3, 1) == 12
    assert Budget((4,)).weights(3, 2) == 20
    assert Budget((4, 5)).weights(3, 1) == 12 + 20 + 5
    with pytest.raises(ValueError, match="99 nonzeros does not fit 12 weights"):
        Budget((4,), nonzeros=99).count(3, 1)
