"""The places of the nonzeros of a large matrix: drawn, counted into rows, transposed, all in memory of their number.

A place is i n + j for row i and column j of n columns, int64. Compressed rows are ``indptr`` (rows + 1) and
``indices`` (nonzeros), int32, increasing in each row.
"""

import numpy as np
import torch
from jaxtyping import Int
from scipy import sparse
from torch import Tensor

INT32_MAX = torch.iinfo(torch.int32).max

WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of so many bytes: the bits of a float of that size."""

BLOCK = 1 << 18
"""Places that are turned into columns at one time."""


def random_places(size: int, k: int, generator: torch.Generator) -> Int[Tensor, " k"]:
    """Draw ``k`` of ``size`` places, each set of them as likely as any other, in increasing order.

    Numbers that came twice are drawn again, once, until all differ: nothing in that tells one place from another, so
    that all sets are as likely. Memory is that of ``k`` numbers, in one array.
    Raises ``ValueError`` when ``k`` is outside 0..``size``.
    """
    if not 0 <= k <= size:
        raise ValueError(f"cannot draw {k} of {size} places")
    if 2 * k > size:
        left_out = random_places(size, size - k, generator)
        free = torch.ones(size, dtype=torch.bool)
        free[left_out] = False
        return free.nonzero()[:, 0]
    places = torch.randint(size, (k,), generator=generator)
    numbers = places.numpy()
    while True:
        numbers.sort()
        again = np.flatnonzero(numbers[1:] == numbers[:-1])
        if not len(again):
            return places
        numbers[again] = torch.randint(size, (len(again),), generator=generator).numpy()


def random_free_places(size: int, k: int, taken: Int[Tensor, " t"], generator: torch.Generator) -> Int[Tensor, " k"]:
    """Draw ``k`` places that are not among ``taken`` (increasing), drawn and ordered as by :func:`random_places`.

    The r-th free place is r plus the number of taken ones before it: taken[i] - i of the free ones lie before taken[i].
    """
    ranks = random_places(size - len(taken), k, generator)
    return ranks + torch.searchsorted(taken - torch.arange(len(taken)), ranks, right=True)


def rows_of(indptr: Int[Tensor, " r1"]) -> Int[Tensor, " nnz"]:
    """Return the row of every nonzero, in the integers of ``indptr``."""
    counts = indptr.diff()
    return torch.arange(len(counts), dtype=indptr.dtype, device=indptr.device).repeat_interleave(counts)


def places_of(indptr: Int[Tensor, " r1"], indices: Int[Tensor, " nnz"], columns: int) -> Int[Tensor, " nnz"]:
    """Convert compressed rows to places, in increasing order."""
    return rows_of(indptr).long().mul_(columns).add_(indices)


def compressed(places: Int[Tensor, " nnz"], shape: tuple[int, int]) -> tuple[Int[Tensor, " r1"], Int[Tensor, " nnz"]]:
    """Convert places in increasing order to ``indptr`` and ``indices``.

    Raises ``ValueError`` when they do not increase, lie outside ``shape``, or are too many for int32.
    """
    rows, columns = shape
    if max(rows, columns, len(places)) > INT32_MAX:
        raise ValueError(f"a layer of shape {shape} with {len(places)} nonzeros does not fit int32 indices")
    if len(places) and (
        bool((places[1:] <= places[:-1]).any()) or int(places[0]) < 0 or int(places[-1]) >= rows * columns
    ):
        raise ValueError(f"places must increase strictly from 0 to at most {rows * columns - 1}")
    indices = torch.empty(len(places), dtype=torch.int32, device=places.device)
    for start in range(0, len(places), BLOCK):
        indices[start : start + BLOCK] = places[start : start + BLOCK] % columns
    return row_starts(places, shape).int(), indices


def row_starts(places: Int[Tensor, " nnz"], shape: tuple[int, int]) -> Int[Tensor, " r1"]:
    """Count how many of the places, which increase, lie before each row, and in all."""
    return torch.searchsorted(places, torch.arange(shape[0] + 1, device=places.device) * shape[1])


def transposed(
    indptr: Int[Tensor, " r1"], indices: Int[Tensor, " nnz"], columns: int
) -> tuple[Int[Tensor, " c1"], Int[Tensor, " nnz"], Int[Tensor, " nnz"]]:
    """Return ``indptr`` and ``indices`` of the transposed matrix, and the order that takes the values to theirs."""
    numbers = np.arange(len(indices), dtype=np.int32)
    matrix = sparse.csr_array(
        (numbers, indices.cpu().numpy(), indptr.cpu().numpy()), (len(indptr) - 1, columns)
    ).tocsc()
    found = (torch.from_numpy(a.astype(np.int32, copy=False)) for a in (matrix.indptr, matrix.indices, matrix.data))
    starts, rows, order = (a.to(indices.device) for a in found)
    return starts, rows, order


def check_compressed(indptr: Tensor, indices: Tensor, shape: tuple[int, int], name: str) -> None:
    """Raise ``ValueError`` when the arrays are not compressed rows of a matrix of ``shape``.

    The kernels read them unchecked: a wrong one would read memory of others.
    """
    rows, columns = shape
    good = (
        indptr.dtype == indices.dtype == torch.int32
        and indptr.shape == (rows + 1,)
        and indices.ndim == 1
        and int(indptr[0]) == 0
        and int(indptr[-1]) == len(indices)
        and not bool((indptr.diff() < 0).any())
    )
    if good and len(indices):
        good = int(indices.min()) >= 0 and int(indices.max()) < columns
        good = good and not bool((places_of(indptr, indices, columns).diff() <= 0).any())
    if not good:
        raise ValueError(
            f"{name}: indptr and indices are no compressed rows of a {rows} x {columns} matrix: int32, indptr rising "
            "from 0 to the number of indices, and these increasing in each row"
        )
