"""Places drawn, compressed and transposed, against dense matrices and counts of all sets."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparelu.nn import support


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [2, 4])
def test_every_set_is_as_likely(k: int) -> None:
    """All 15 sets of 2 (or of 4) among 6 come 200 times each in 3000 draws, within 4 standard deviations."""
    g = generator()
    seen = Counter(tuple(support.random_places(6, k, g).tolist()) for _ in range(3000))
    assert seen.keys() == set(combinations(range(6), k))
    assert all(abs(n - 200) < 4 * 200**0.5 for n in seen.values())


def test_every_free_set_is_as_likely() -> None:
    """2 of the 5 places that are left of 8: 10 sets, 200 times each."""
    g, taken = generator(1), torch.tensor([0, 3, 7])
    seen = Counter(tuple(support.random_free_places(8, 2, taken, g).tolist()) for _ in range(2000))
    assert seen.keys() == set(combinations([1, 2, 4, 5, 6], 2))
    assert all(abs(n - 200) < 4 * 200**0.5 for n in seen.values())


@pytest.mark.parametrize(("size", "k"), [(10, 0), (10, 10), (1000, 501), (10**12, 1000), (7, 1)])
def test_the_number_is_exact(size: int, k: int) -> None:
    places = support.random_places(size, k, generator())
    assert len(places) == k
    assert bool((places.diff() > 0).all())
    assert k == 0 or (int(places[0]) >= 0 and int(places[-1]) < size)


def test_too_many() -> None:
    with pytest.raises(ValueError, match="cannot draw 4 of 3 places"):
        support.random_places(3, 4, generator())


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99), share=st.floats(0, 1))
def test_rows_and_back(rows: int, columns: int, seed: int, share: float) -> None:
    """Compressed rows and their transpose say what the dense matrix says."""
    size = rows * columns
    places = support.random_places(size, round(share * size), generator(seed))
    values = torch.arange(1.0, len(places) + 1)
    dense = torch.zeros(size).index_copy_(0, places, values).reshape(rows, columns)
    indptr, indices = support.compressed(places, (rows, columns))
    assert torch.equal(support.places_of(indptr, indices, columns), places)
    starts, across, order = support.transposed(indptr, indices, columns)
    turned = torch.zeros(size).index_copy_(0, support.places_of(starts, across, rows), values[order.long()])
    assert torch.equal(turned.reshape(columns, rows), dense.T)
    support.check_compressed(indptr, indices, (rows, columns), "it")


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [
        ([0, 2, 1, 3], [0, 1, 2]),
        ([0, 1, 2, 4], [0, 1, 2]),
        ([1, 1, 2, 3], [0, 1, 2]),
        ([0, 1, 2, 3], [0, 1, 4]),
        ([0, 1, 2, 3], [0, -1, 2]),
        ([0, 2, 2, 3], [1, 1, 2]),
        ([0, 2, 2, 3], [1, 0, 2]),
        ([0, 1, 3], [0, 1, 2]),
    ],
)
def test_what_the_kernels_must_not_see(indptr: list[int], indices: list[int]) -> None:
    """Each breaks one rule for a matrix of 3 rows and 4 columns."""
    pair = (torch.tensor(a, dtype=torch.int32) for a in (indptr, indices))
    with pytest.raises(ValueError, match="no compressed rows of a 3 x 4 matrix"):
        support.check_compressed(*pair, (3, 4), "it")


def test_places_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="increase strictly from 0 to at most 11"):
        support.compressed(torch.tensor([3, 12]), (3, 4))
    with pytest.raises(ValueError, match="increase strictly"):
        support.compressed(torch.tensor([3, 3]), (3, 4))
    with pytest.raises(ValueError, match="does not fit int32"):
        support.compressed(torch.tensor([3]), (2**31, 4))
