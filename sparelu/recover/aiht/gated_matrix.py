"""Streamed products with the gated matrix A = [D_1 X ... D_m X], D_j = Diag(1[X h_j > 0]), of recovery by hard
thresholding.

Column (j, i) of A, index j d + i, is input i where generator h_j is active. A is never formed, nor any n x s part of
it: every product reads the rows in chunks, and recomputes the gates of a chunk when it needs them.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.data import Data
from sparelu.runtime.distributed import ALONE, Ranks

CELLS = 2**18
"""Numbers held at a time in a chunk of rows: 2 MB, which stays in a core's cache."""

BLOCK = 2**17
"""Weights of a block of neurons held at a time: 1 MB."""

HELD = 2**21
"""Numbers of generators held at a time while a support is multiplied: 16 MB."""

GROUP = 64
"""Neurons whose random numbers come from one stream."""

DENSE = 4
"""A gradient on a support is computed for whole rows and columns while these hold at most so many times the support."""

Pieces = Callable[[int, Tensor | None], Iterator[Tensor]]


@dataclass(frozen=True)
class SparseVector:
    """The nonzeros of a long vector: increasing ``index`` and ``value``."""

    index: Int[Tensor, " s"]
    value: Float[Tensor, " s"]

    def between(self, start: int, stop: int) -> "SparseVector":
        """Return the entries ``start`` to ``stop - 1``, renumbered from 0."""
        low, high = (int(i) for i in torch.searchsorted(self.index, torch.tensor([start, stop]).to(self.index)))
        return SparseVector(self.index[low:high] - start, self.value[low:high])

    def rows(self, neurons: Int[Tensor, " b"], columns: int) -> Float[Tensor, "b columns"]:
        """Return the named rows (increasing) of the vector read as a matrix with ``columns`` columns, dense."""
        place = torch.searchsorted(neurons, self.index // columns)
        found = neurons[place.clamp(max=neurons.numel() - 1)] == self.index // columns
        out = self.value.new_zeros(neurons.numel(), columns)
        out[place[found], (self.index % columns)[found]] = self.value[found]
        return out


def empty_vector(device: str | torch.device) -> SparseVector:
    """Return the zero vector."""
    index = torch.empty(0, dtype=torch.int64, device=device)
    return SparseVector(index, torch.empty(0, dtype=torch.float64, device=device))


@dataclass(frozen=True)
class StreamedRows:
    """``n`` rows of ``inputs`` numbers, read in chunks through the ``below`` hidden layers, trained before.

    ``pieces(size, columns)`` yields consecutive chunks of the raw rows, transposed, in float64. The rows are those of
    this process, one of ``ranks``.
    """

    n: int
    inputs: int
    pieces: Pieces
    below: tuple[Tensor, ...] = ()
    ranks: Ranks = ALONE

    @property
    def total(self) -> float:
        """Count the rows of all ranks."""
        return self.ranks.total(self.n)

    def chunks(self, cells: int, columns: Tensor | None = None) -> Iterator[tuple[slice, Float[Tensor, "d c"]]]:
        """Yield row numbers and transposed rows (their ``columns`` alone), ``CELLS / cells`` rows at a time."""
        size, start = max(2, min(4096, CELLS // max(cells, 1))), 0
        for x in self.pieces(size, None if self.below else columns):
            for weight in self.below:
                x = (weight @ x).clamp_(min=0)
            if self.below and columns is not None:
                x = x[columns]
            yield slice(start, start + x.shape[1]), x
            start += x.shape[1]


def all_rows(data: Data) -> Pieces:
    """Return the pieces of this rank's rows of ``data``."""

    def pieces(size: int, columns: Tensor | None) -> Iterator[Tensor]:
        kept = slice(None) if columns is None else columns.cpu().numpy()
        for x, _ in data.chunks(size):
            yield torch.from_numpy(np.array(x[:, kept].T, dtype=np.float64, order="C")).to(data.device)

    return pieces


def batch_rows(x: Float[Tensor, "b d"]) -> Pieces:
    """Return the pieces of a batch in memory."""

    def pieces(size: int, columns: Tensor | None) -> Iterator[Tensor]:
        for part in x.split(size) if len(x) else ():
            yield (part if columns is None else part[:, columns]).T.contiguous()

    return pieces


def sparse_matrix(
    shape: tuple[int, int], row: Int[Tensor, " s"], column: Int[Tensor, " s"], value: Float[Tensor, " s"]
) -> Tensor:
    """Build a CSR matrix from triplets in increasing order of (row, column)."""
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=value.device)
    starts[1:] = torch.bincount(row, minlength=shape[0]).cumsum(0)
    with warnings.catch_warnings():  # torch announces once that its CSR support is in beta
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(starts, column, value, size=shape)


class Gates(ABC):
    """Generators h_j, of which the neurons in no block are zero: their columns of A vanish.

    ``dense`` says that they have no zeros.
    """

    dense: ClassVar[bool]

    @property
    @abstractmethod
    def columns(self) -> Tensor | None:
        """Return the inputs that decide the gates; None: all."""

    @abstractmethod
    def blocks(self) -> Iterator[Tensor]:
        """Yield the numbers of the neurons with a generator, increasing, a block at a time."""

    @abstractmethod
    def matrix(self, neurons: Tensor, columns: Tensor | None) -> Tensor:
        """Return the generators of ``neurons`` as rows, dense or CSR, over ``columns`` (None: all inputs)."""


@dataclass(frozen=True)
class RandomGates(Gates):
    """Generators h_j ~ N(0, I), made again from ``seed`` whenever they are needed."""

    dense: ClassVar[bool] = True
    seed: int
    width: int
    inputs: int
    device: str

    @property
    def columns(self) -> None:
        return None

    def blocks(self) -> Iterator[Tensor]:
        size = max(GROUP, BLOCK // self.inputs // GROUP * GROUP)
        for start in range(0, self.width, size):
            yield torch.arange(start, min(start + size, self.width), device=self.device)

    def matrix(self, neurons: Tensor, columns: Tensor | None) -> Tensor:
        h = group_random(self.seed, 0, neurons, self.inputs, np.random.Generator.standard_normal)
        return h if columns is None else h[:, columns]


def group_random(
    seed: int, stream: int, neurons: Int[Tensor, " b"], width: int, draw: Callable[..., np.ndarray]
) -> Float[Tensor, "b width"]:
    """Draw rows of a random matrix that depend on ``seed``, ``stream`` and the neuron alone.

    ``draw(generator, size=)`` makes the rows of one group of ``GROUP`` neurons from a generator of its own.
    """
    groups, place = torch.unique(neurons // GROUP, return_inverse=True)
    made = np.empty((neurons.numel(), width))
    for i, group in enumerate(groups.tolist()):
        key = np.array([seed, group << 8 | stream], dtype=np.uint64)
        wanted = (place == i).nonzero()[:, 0]
        rows = draw(np.random.Generator(np.random.Philox(key=key)), size=(GROUP, width))
        made[wanted.cpu().numpy()] = rows[(neurons[wanted] % GROUP).cpu().numpy()]
    return torch.from_numpy(made).to(neurons.device)


@dataclass(frozen=True)
class OwnGates(Gates):
    """The weights of an earlier iterate as generators: h_j = w_j."""

    dense: ClassVar[bool] = False
    weights: SparseVector
    inputs: int

    @property
    def columns(self) -> Tensor:
        return torch.unique(self.weights.index % self.inputs)

    def blocks(self) -> Iterator[Tensor]:
        live = torch.unique(self.weights.index // self.inputs)
        if live.numel():
            yield from live.split(max(1, BLOCK // self.inputs))

    def matrix(self, neurons: Tensor, columns: Tensor | None) -> Tensor:
        row, column = self.weights.index // self.inputs, self.weights.index % self.inputs
        keep = torch.isin(row, neurons)
        row = torch.searchsorted(neurons, row[keep])
        column = column[keep] if columns is None else torch.searchsorted(columns, column[keep])
        width = self.inputs if columns is None else columns.numel()
        return sparse_matrix((neurons.numel(), width), row, column, self.weights.value[keep])


class Restricted:
    """A_S, the columns ``index`` (increasing) of A on some rows, as an operator.

    Dense generators are held for ``HELD`` numbers at a time: of a longer support one group of neurons follows another,
    and their generators are made anew in every pass.
    """

    def __init__(self, rows: StreamedRows, index: Int[Tensor, " s"], gates: Gates) -> None:
        self.rows, self.size, self.gates = rows, index.numel(), gates
        column = index % rows.inputs
        self.columns: Tensor | None = None
        if gates.columns is not None:
            self.columns = torch.unique(torch.cat([gates.columns, column]))
            column = torch.searchsorted(self.columns, column)
        self.width = rows.inputs if self.columns is None else self.columns.numel()
        neurons, row = torch.unique(index // rows.inputs, return_inverse=True)
        most = max(1, HELD // self.width) if gates.dense else max(1, neurons.numel())
        self.groups = [
            _Group(
                neurons[start : start + most],
                slice(*torch.searchsorted(row, torch.tensor([start, start + most]).to(row)).tolist()),
            )
            for start in range(0, neurons.numel(), most)
        ]
        self.row, self.column = row % most, column
        self._h = gates.matrix(neurons, self.columns) if len(self.groups) == 1 else None

    def __call__(
        self, z: Float[Tensor, " s"], target: Float[Tensor, " n"] | None = None, adjoint: bool = True
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " s"]]:
        """Compute q = A_S z - target for the rows here, and A_S' q (zeros without ``adjoint``) over all ranks."""
        q = z.new_zeros(self.rows.n) if target is None else -target
        p = torch.zeros_like(z)
        together = len(self.groups) == 1
        for group in self.groups:
            self._pass(group, z, q, p if adjoint and together else None)
        for group in self.groups if adjoint and not together else ():
            self._pass(group, None, q, p)
        return q, self.rows.ranks.sum(p) if adjoint else p

    def _pass(self, group: "_Group", z: Tensor | None, q: Tensor, p: Tensor | None) -> None:
        """Pass over the rows once: add A z of the group to ``q``, and put A' q of the group into ``p``."""
        live, part = group.neurons.numel(), group.places
        row, column, size = self.row[part], self.column[part], part.stop - part.start
        h = self.gates.matrix(group.neurons, self.columns) if self._h is None else self._h
        w = None if z is None else sparse_matrix((live, self.width), row, column, z[part])
        dense = live * self.width <= DENSE * size
        total = q.new_zeros((live, self.width) if dense else size)
        for rows, x in self.rows.chunks(self.width + 3 * live + (0 if dense else 2 * size), self.columns):
            gate = (h @ x > 0).to(q.dtype)
            if w is not None:
                q[rows] += ((w @ x) * gate).sum(0)
            if p is not None:
                gate *= q[rows]
                if dense:
                    total.addmm_(gate, x.T)
                else:
                    total += gate[row].mul_(x[column]).sum(1)
        if p is not None:
            p[part] = total[row, column] if dense else total

    def square(self, q: Float[Tensor, " n"]) -> float:
        """Sum ||q||^2 over all ranks."""
        return self.rows.ranks.total(float(q @ q))


@dataclass(frozen=True, eq=False)
class _Group:
    """Neurons of a support, and their places in it."""

    neurons: Int[Tensor, " b"]
    places: slice


def block_gradient(
    rows: StreamedRows, gates: Gates, neurons: Int[Tensor, " b"], r: Float[Tensor, " n"]
) -> Float[Tensor, "b d"]:
    """Compute A' r over all ranks, for the columns of ``neurons``."""
    h = gates.matrix(neurons, None)
    total = r.new_zeros(neurons.numel(), rows.inputs)
    for part, x in rows.chunks(rows.inputs + neurons.numel() // 4):
        total += ((h @ x > 0) * r[part]) @ x.T
    return rows.ranks.sum(total)
