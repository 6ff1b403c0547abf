"""Folds: every row once, equal sizes, equal shares of the classes, fixed by the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.data import Data, DataError
from sparelu.experiments.trials.folds import fold_numbers, fold_split


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=12, max_size=80), folds=st.integers(2, 7), seed=st.integers(0, 99))
def test_sizes_and_classes_differ_by_at_most_one(labels: list[int], folds: int, seed: int) -> None:
    y = np.array([0, 1, *labels])
    data = Data(np.zeros((len(y), 2)), y, "classification")
    numbers = fold_numbers(data, folds, seed)
    sizes = np.bincount(numbers, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for label in np.unique(y):
        counts = np.bincount(numbers[y == label], minlength=folds)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_row_is_held_out_once_and_the_seed_decides(task: str) -> None:
    data = Data(np.arange(46.0).reshape(23, 2), np.arange(23) % 3, task)
    splits = [fold_split(data, 4, i, 5) for i in range(4)]
    held = np.concatenate([s.test.x[:, 0] for s in splits])
    assert sorted(held) == list(data.x[:, 0])
    for s in splits:
        assert not set(s.train.x[:, 0]) & set(s.test.x[:, 0])
        assert s.train.n + s.test.n == 23
        assert (s.train.classes, s.test.classes) == (data.classes, data.classes)
    assert np.array_equal(fold_numbers(data, 4, 5), fold_numbers(data, 4, 5))
    assert not np.array_equal(fold_numbers(data, 4, 5), fold_numbers(data, 4, 6))


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (0, 0), (24, 0), (4, 4), (4, -1)])
def test_wrong_numbers_are_named(folds: int, fold: int) -> None:
    data = Data(np.zeros((23, 2)), np.arange(23.0))
    with pytest.raises(DataError, match="folds of 23 rows: ask for 2 to 23|no fold"):
        fold_split(data, folds, fold, 0)
