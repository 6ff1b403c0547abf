"""How inputs come: the columns that are worked on, centred and scaled, and the way back to the raw ones.

A constant column, and one that is affine in others on the rows (a copy, a sum, the last level of a one-hot group), adds
no function that the other columns lack, so the search works on a basis of the columns. What is found is written in
the raw columns again; where columns are tied by relations, each neuron is written with the fewest weights it can have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Data, Rows, Scaled, Standardisation
from sparelu.networks.network import Layer, Network
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel

DEPENDENT = 1e-10
"""Share of a column's variance outside the others' span that counts as none: float64 sums leave some 1e-15 of it."""
EXACT = 1e-9
"""Relative size of a coefficient, or of a weight that cancels, that is the rounding of a zero."""


@dataclass(frozen=True)
class InputColumns:
    """Raw columns ``kept`` (k,) of ``total``, less ``centre`` (k,), over ``scale`` (k,); ``relations`` of the others.

    ``relations`` (r, total + 1) has a row for every column that is left out: its values, times 1, plus those of the
    kept ones times their entries, plus the last entry, are zero on all rows.
    """

    total: int
    kept: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    relations: np.ndarray

    @property
    def width(self) -> int:
        """Count the columns that are worked on."""
        return len(self.kept)

    @cached_property
    def tied(self) -> np.ndarray:
        """Mark raw columns of some relation (total,): weights can move between them. A constant is tied to the bias."""
        return (self.relations[:, :-1] != 0).any(axis=0) if len(self.relations) else np.zeros(self.total, dtype=bool)

    def words(self, tied: Sequence[int]) -> str:
        """Return the first relation of the ``tied`` columns as an equation."""
        relation = next(r for r in self.relations if r[list(tied)].any())
        terms = [f"{relation[i]:+.6g} x{i}" for i in np.flatnonzero(relation[:-1])[:6]]
        more = " ..." if np.count_nonzero(relation[:-1]) > 6 else ""
        return f"{' '.join(terms)}{more} {relation[-1]:+.6g} = 0"

    @property
    def centred(self) -> bool:
        """Tell whether some column has a centre."""
        return bool(self.centre.any())

    def rows(self, x: Rows) -> Rows:
        """Return the kept columns of raw rows, neither centred nor scaled."""
        return x if self.width == self.total else ColumnSubset(x, self.kept)

    def sample(self, x: Rows, y: np.ndarray, device: str) -> Sample:
        """Return raw rows and targets as the search reads them."""
        return Sample(self.rows(x), y, device, self.scale, self.centre if self.centred else None)

    def data(self, data: Data) -> Data:
        """Return ``data`` with the inputs that are worked on, centred and scaled when they are read."""
        return replace(data, x=Scaled(self.rows(Wide(data.x)), self.centre, self.scale), names=(), image=None)

    def fold(self, network: Network) -> Network:
        """Return the network of raw columns that equals one of those that are worked on."""
        network = Standardisation(self.centre, self.scale).fold(network)
        skip = None if network.skip is None else self._widened(network.skip)
        return Network((self._widened(network.layers[0]), *network.layers[1:]), skip)

    def _widened(self, layer: Layer) -> Layer:
        rows, indices = layer.outputs_of_values, self.kept[layer.indices.cpu().numpy()]
        return Layer.from_triplets((layer.shape[0], self.total), rows, indices, layer.values, layer.bias)

    def uncentred(self, found: ReluModel) -> ReluModel:
        """Return the same function of scaled columns that keep their means."""
        if not self.centred:
            return found
        shift = torch.as_tensor(self.centre / self.scale).to(found.weight)
        weight, affine = found.weight.clone(), found.affine.clone()
        weight[:, -1] -= weight[:, :-1] @ shift
        affine[..., -1] -= affine[..., :-1] @ shift
        return replace(found, weight=weight, affine=affine)

    def raw(self, found: ReluModel) -> ReluModel:
        """Return the same function of the raw columns, of one of scaled columns that keep their means."""
        scale = torch.as_tensor(np.append(self.scale, 1.0)).to(found.weight)
        weight, affine = self._spread(found.weight / scale), self._spread(found.affine / scale)
        return replace(found, weight=self.sparsest(weight), affine=self.sparsest(affine))

    def _spread(self, rows: Tensor) -> Tensor:
        wide = rows.new_zeros(len(rows), self.total + 1)
        wide[:, torch.as_tensor(np.append(self.kept, self.total))] = rows
        return wide

    def sparsest(self, rows: Tensor) -> Tensor:
        """Return affine functions (k, total + 1) with multiples of the relations added while that saves weights.

        A relation zeroes one weight when its multiple is chosen so; that of most zeros is taken, relation by relation,
        until none helps: the fewest weights where every relation is on columns of its own, as of one-hot groups.
        """
        if not len(self.relations):
            return rows
        wide = rows.cpu().numpy().copy()
        for row in wide:
            while self._shortened(row):
                pass
        return torch.as_tensor(wide).to(rows)

    def _shortened(self, row: np.ndarray) -> bool:
        for relation in self.relations:
            on = np.flatnonzero(relation[:-1])
            at = on[row[on] != 0]
            moves = (row[at] / relation[at])[:, None] * relation
            candidates = np.where(
                np.abs(row - moves) > EXACT * np.maximum(np.abs(row), np.abs(moves)), row - moves, 0.0
            )
            best = min(candidates, key=lambda other: np.count_nonzero(other[:-1]), default=row)
            if np.count_nonzero(best[:-1]) < np.count_nonzero(row[:-1]):
                row[:] = best
                return True
        return False


@dataclass(frozen=True, eq=False)
class Wide:
    """Another source in float64, read when asked."""

    source: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    def __getitem__(self, rows: object) -> np.ndarray:
        return np.asarray(self.source[rows], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ColumnSubset:
    """The columns ``index`` of another source, read when asked."""

    source: Rows
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0], len(self.index))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.source.dtype)

    def __getitem__(self, rows: object) -> np.ndarray:
        return np.asarray(self.source[rows])[..., self.index]


def read_columns(data: Data) -> InputColumns:
    """Choose the columns that are worked on, in two passes over the rows; those that are alike keep the first.

    A column is centred where its mean exceeds its standard deviation, when most of its mean square says nothing.
    """
    mean, sd = data.statistics.mean, data.statistics.sd
    moving = np.flatnonzero(sd > EXACT * np.abs(mean))
    constant = np.setdiff1d(np.arange(data.inputs), moving)
    kept, relations = _basis(data, moving, mean, sd) if data.n > len(moving) else (moving, [])
    for c in constant:
        relations.append(np.zeros(data.inputs + 1))
        relations[-1][[c, -1]] = 1.0, -mean[c]
    centre = np.where(np.abs(mean) > sd, mean, 0.0)[kept]
    scale = np.sqrt((mean[kept] - centre) ** 2 + sd[kept] ** 2)
    return InputColumns(data.inputs, kept, centre, scale, np.array(relations).reshape(-1, data.inputs + 1))


def _basis(data: Data, moving: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Choose the first columns that span all, and a relation for each of the rest: Gram-Schmidt on the correlations."""
    total = np.zeros((len(moving), len(moving)))
    for part, _ in data.chunks():
        x = (np.asarray(part[:, moving], dtype=np.float64) - mean[moving]) / sd[moving]
        total += x.T @ x
    total /= data.n
    free, tied = _independent(total)
    relations = []
    for c, values in tied:
        relation = np.zeros(data.inputs + 1)
        relation[moving[c]] = 1.0
        relation[moving[free]] = -values * sd[moving[c]] / sd[moving[free]]
        relation[np.abs(relation) * np.append(sd, 0.0) <= 1e-6 * sd[moving[c]]] = 0.0
        relation[moving[c]] = 1.0
        relation[-1] = -relation[:-1] @ mean
        relations.append(relation)
    return moving[free], relations


def _independent(gram: np.ndarray) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return columns of a correlation matrix outside the span of those before, and each other one in terms of these.

    One Cholesky factor where all are independent, which is nearly always.
    """
    everything = np.arange(len(gram))
    if np.linalg.eigvalsh(gram)[0] > len(gram) * DEPENDENT:
        return everything, []
    free: list[int] = []
    root = np.zeros_like(gram)  # rows: the free columns in an orthonormal basis of their span
    for c in everything:
        k = len(free)
        own = np.zeros(k)
        if k:
            own = np.linalg.solve(root[:k, :k], gram[free, c])
        left = gram[c, c] - own @ own
        if left > DEPENDENT:
            root[k, :k], root[k, k] = own, np.sqrt(left)
            free.append(int(c))
    tied = [(int(c), np.linalg.solve(gram[np.ix_(free, free)], gram[free, c])) for c in everything if c not in free]
    return np.array(free), tied
