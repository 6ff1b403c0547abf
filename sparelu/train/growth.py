"""Where a linear layer should grow, without its dense gradient: the largest entries of G' X, tile by tile."""

import math

import torch
from torch import Tensor

from sparelu.support import StreamingLargest

BLOCK = 1 << 18
"""Entries of the gradient that exist at one time: 1 MB in float32."""

GROUP = 16
"""Rows of a tile that are looked at together: only where their largest entry is large enough, one by one."""


def largest_gradients(
    inputs: Tensor, output_gradients: Tensor, k: int, taken: Tensor, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The ``k`` entries of largest |dL/dW| of y = x W' among those that are not ``taken``.

    ``inputs`` (..., n_in) and ``output_gradients`` dL/dy (..., n_out) are those of one backward pass, and ``taken`` are
    places i n_in + j of living weights W_ij, in increasing order. Returns places in increasing order and the gradients
    there. Memory is that of ``block`` entries, of k, and of a copy of both arguments; the dense gradient has n_out n_in
    entries. Ties keep the earlier place. This is the growth of RigL (Evci et al., 2020, section 3).

    |dL/dW_ij| is at most ||g_i|| ||x_j||, norms over the rows of the batch. Units and inputs are gone through from the
    largest norm down, so that the k-th largest entry so far soon rules out all tiles of small norms: they are not
    formed. The work is at most that of the dense product.

    Raises ``ValueError`` when fewer than ``k`` places are free or a gradient is not finite.
    """
    x = inputs.reshape(-1, inputs.shape[-1])
    g = output_gradients.reshape(-1, output_gradients.shape[-1])
    columns, outputs = x.shape[1], g.shape[1]
    if not 0 <= k <= outputs * columns - len(taken):
        raise ValueError(f"cannot grow {k} weights: {outputs * columns - len(taken)} places are free")
    if not k:
        return taken.new_empty(0), x.new_empty(0)
    (reach, rows), (spread, order) = (_descending(t) for t in (g, x))
    g, x = g.index_select(1, rows).T.contiguous(), x.index_select(1, order)
    width = min(columns, max(1, 2 * math.isqrt(block)))
    height = max(1, block // width)
    best = _Largest(k, taken)
    for row in range(0, outputs, height):
        for column in range(0, columns, width):
            if reach[row] * spread[column] * (1 + len(x) * torch.finfo(x.dtype).eps) < best.floor:
                break
            tile = g[row : row + height] @ x[:, column : column + width]
            best.offer(tile, rows[row : row + height] * columns, order[column : column + width])
    return best.result()


def _descending(t: Tensor) -> tuple[list[float], Tensor]:
    """Norms of the columns from the largest down, and the order of the columns."""
    norms = torch.linalg.vector_norm(t, dim=0, dtype=torch.float64)
    if not bool(torch.isfinite(norms).all()):
        _refuse()
    order = norms.argsort(descending=True, stable=True)
    return norms[order].tolist(), order


def _refuse() -> None:
    raise ValueError("a gradient is not finite and cannot say where to grow: skip this batch")


class _Largest:
    """The ``k`` largest magnitudes of a stream of tiles. What may be among them waits until there are k more.

    A ranking of k takes longer than a product of a tile: ranked only then, a stream in no special order is ranked
    about as often as the logarithm of its length over k. Nothing below ``floor`` can be among them any more.
    """

    def __init__(self, k: int, taken: Tensor) -> None:
        self.best, self.taken, self.floor = StreamingLargest(k), taken, 0.0
        self.places: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.waiting = 0

    def offer(self, tile: Tensor, starts: Tensor, columns: Tensor) -> None:
        """A tile of the gradient, of rows whose first places are ``starts``, and of ``columns``."""
        at = self._large(tile.abs())
        places = starts[at[0]] + columns[at[1]]
        if len(self.taken):
            found = torch.searchsorted(self.taken, places).clamp_(max=len(self.taken) - 1)
            free = self.taken[found] != places
            at, places = (at[0][free], at[1][free]), places[free]
        self.places.append(places)
        self.gradients.append(tile[at])
        self.waiting += len(places)
        if self.waiting >= max(self.best.k, tile.numel()):
            self._rank()

    def result(self) -> tuple[Tensor, Tensor]:
        """Places in increasing order, and the gradients there."""
        self._rank()
        return self.best.result()

    def _large(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of the entries that are not below the floor, first found by groups of rows."""
        rows, columns = magnitude.shape
        size = GROUP if rows % GROUP == 0 else 1
        groups = magnitude.view(rows // size, size, columns)
        top = groups.amax(1)
        if not math.isfinite(top.max()):
            _refuse()
        group, column = torch.nonzero(top >= self.floor, as_tuple=True)
        which, row = torch.nonzero(groups[group, :, column] >= self.floor, as_tuple=True)
        return group[which] * size + row, column[which]

    def _rank(self) -> None:
        if self.waiting:
            gradients = torch.cat(self.gradients)
            self.best.add(gradients.abs(), torch.cat(self.places), gradients)
            self.places, self.gradients, self.waiting = [], [], 0
            if len(self.best.scores) == self.best.k:
                self.floor = float(self.best.scores.min())
