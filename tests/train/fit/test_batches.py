"""Minibatches: every row once, targets standardised, columns dropped, in memory or not."""

import numpy as np
import pytest
import torch

from sparelu.data import Data
from sparelu.train.fit.batches import Feed

ROWS = 23


def numbered() -> Data:
    """Row i holds i in its first column and 100 i in its third; the target is 5 i + 7."""
    i = np.arange(ROWS, dtype=np.float64)
    return Data(np.stack([i, np.zeros(ROWS), 100 * i], axis=1), 5 * i + 7)


def mapped(data: Data, folder) -> Data:
    np.save(folder / "x.npy", data.x)
    return Data(np.load(folder / "x.npy", mmap_mode="r"), data.y, data.task)


@pytest.fixture(params=["in memory", "mapped"])
def data(request: pytest.FixtureRequest, tmp_path) -> Data:
    return numbered() if request.param == "in memory" else mapped(numbered(), tmp_path)


def test_a_pass_has_every_row_once_but_the_last_few(data: Data) -> None:
    feed, rng = Feed(data, torch.arange(3)), np.random.default_rng(0)
    passes = [list(feed.batches(5, rng)) for _ in range(2)]
    assert [len(x) for x, _ in passes[0]] == [5, 5, 5, 5]
    first, second = (torch.cat([x[:, 0] for x, _ in part]).tolist() for part in passes)
    assert len(set(first)) == 20
    assert set(first) <= set(range(ROWS))
    assert first != second


def test_few_rows_make_one_batch(data: Data) -> None:
    [(x, y)] = Feed(data, torch.arange(3)).batches(100, np.random.default_rng(0))
    assert sorted(x[:, 0].tolist()) == list(range(ROWS))
    assert y.shape == (ROWS, 1)


def test_targets_belong_to_their_rows_and_are_standardised(data: Data) -> None:
    feed = Feed(data, torch.arange(3))
    [(x, y)] = feed.batches(ROWS, np.random.default_rng(0))
    assert float(y.mean()) == pytest.approx(0, abs=1e-12)
    assert float(y.std(correction=0)) == pytest.approx(1)
    assert feed.mean is not None
    assert feed.sd is not None
    np.testing.assert_allclose(y[:, 0].numpy() * feed.sd + feed.mean, 5 * x[:, 0].numpy() + 7)


def test_dropped_columns_are_gone(data: Data) -> None:
    feed = Feed(data, torch.tensor([0, 2]))
    feed.keep(torch.tensor([1]))
    x, _ = next(iter(feed.batches(5, np.random.default_rng(0))))
    assert x.shape == (5, 1)
    assert feed.columns.tolist() == [2]
    assert set((x[:, 0] / 100).tolist()) <= set(range(ROWS))


def test_labels_stay_labels(tmp_path) -> None:
    data = Data(np.arange(6.0)[:, None], np.array(list("abcabc")), "classification")
    for given in (data, mapped(data, tmp_path)):
        [(x, y)] = Feed(given, torch.arange(1)).batches(6, np.random.default_rng(0))
        assert y.dtype == torch.int64
        assert (x[:, 0] % 3).tolist() == y.tolist()
