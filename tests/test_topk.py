"""Exact selection against a stable sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.topk import SAMPLE, StreamingLargest, largest, largest_mask


def by_sorting(scores: list[float], k: int) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return sorted(order[:k])


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40), st.data())
@settings(max_examples=150, deadline=None)
def test_largest_is_exact_with_ties(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(scores)))
    assert largest(torch.tensor(scores), k).tolist() == by_sorting(scores, k)
    assert int(largest_mask(torch.tensor(scores).reshape(1, -1), k).sum()) == k


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40), st.integers(1, 10), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_streaming_equals_at_once_in_any_order(scores: list[float], size: int, seed: int) -> None:
    k = min(5, len(scores))
    stream = StreamingLargest(k)
    starts = np.random.default_rng(seed).permutation(np.arange(0, len(scores), size))
    for start in starts.tolist():
        index = torch.arange(start, min(start + size, len(scores)))
        stream.add(torch.tensor(scores)[index], index, 10.0 * index)
    indices, values = stream.result()
    assert indices.tolist() == by_sorting(scores, k)
    assert values.tolist() == [10.0 * i for i in by_sorting(scores, k)]


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot keep 3 of 2"):
        largest(torch.ones(2), 3)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        largest(torch.tensor([1.0, float("nan")]), 1)


@pytest.mark.parametrize("form", ["random", "ties", "stripes", "rising", "infinite"])
def test_large_selections_are_those_of_a_stable_sort(form: str) -> None:
    """Whatever the sample that guesses the floor tells: stripes hit just the scores that it looks at, or none."""
    n, g = 5 * SAMPLE + 3, torch.Generator().manual_seed(0)
    scores = torch.rand(n, generator=g)
    if form == "ties":
        scores = (scores * 7).floor()
    if form == "stripes":
        scores[:: n // SAMPLE] += 1
    if form == "rising":
        scores = torch.arange(n, dtype=torch.float64)
    if form == "infinite":
        scores[scores < 0.9] = -torch.inf
    for k in (1, 50, n // 100, n // SAMPLE + SAMPLE, n // 3, n - 1):
        wanted = scores.argsort(descending=True, stable=True)[:k].sort().values
        assert torch.equal(largest(scores, k), wanted)
