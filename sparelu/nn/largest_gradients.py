"""Where a linear layer should grow, without its dense gradient: the largest entries of G' X, tile by tile."""

import math

import torch
from torch import Tensor

from sparelu.topk import StreamingLargest

BLOCK = 1 << 18
"""Entries of the gradient that exist at one time: 1 MB in float32."""

GROUP = 16
"""Rows of a tile that are looked at together: only where their largest entry is large enough, one by one."""


def largest_gradients(
    inputs: Tensor, output_gradients: Tensor, k: int, taken: Tensor, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """Find the ``k`` entries of largest |dL/dW| of y = x W' among those that are not ``taken``.

    ``inputs`` (..., n_in) and ``output_gradients`` dL/dy (..., n_out) are those of one backward pass, and ``taken`` are
    places i n_in + j of living weights W_ij, in increasing order. Returns places in increasing order and the gradients
    there. Memory is that of ``block`` entries, of k, and of a copy of both arguments; the dense gradient has n_out n_in
    entries. Ties keep the earlier place. This is the growth of RigL (Evci et al., 2020, section 3).

    |dL/dW_ij| is at most ||g_i|| ||x_j||, norms over the rows of the batch. Units are gone through from the largest
    norm down, so that the k-th largest entry so far soon rules out inputs of small norm, and at last all units that are
    left: those entries are not formed. The work is at most that of the dense product.

    Raises ``ValueError`` when fewer than ``k`` places are free or a gradient is not finite.
    """
    x = inputs.reshape(-1, inputs.shape[-1])
    g = output_gradients.reshape(-1, output_gradients.shape[-1])
    columns, outputs = x.shape[1], g.shape[1]
    if not 0 <= k <= outputs * columns - len(taken):
        raise ValueError(f"cannot grow {k} weights: {outputs * columns - len(taken)} places are free")
    if not k:
        return taken.new_empty(0), x.new_empty(0)
    reach, spread = _norms(g), _norms(x)
    rows, kept = reach.argsort(descending=True, stable=True), torch.arange(columns, device=x.device)
    g, slack = g.index_select(1, rows).T.contiguous(), 1 + len(x) * torch.finfo(x.dtype).eps
    width = min(columns, max(1, 2 * math.isqrt(block)))
    height = max(1, block // width)
    best = _Largest(k)
    for row in range(0, outputs, height):
        units = rows[row : row + height]
        large = torch.nonzero(spread * (reach[units[0]] * slack) >= best.floor)[:, 0]
        if len(large) < 0.9 * len(kept):  # the copies cost less than the products that they save
            x, spread, kept = x.index_select(1, large), spread[large], kept[large]
        if not len(kept):
            break
        unit, place = _taken(taken, units, columns, kept)
        for column in range(0, len(kept), width):
            tile = g[row : row + height] @ x[:, column : column + width]
            here = (place >= column) & (place < column + tile.shape[1])
            held = unit[here], place[here] - column
            best.offer(tile, held, units * columns, kept[column : column + width])
    return best.result()


def _norms(t: Tensor) -> Tensor:
    """Compute the norms of the columns, in float64."""
    norms = torch.linalg.vector_norm(t, dim=0, dtype=torch.float64)
    if not bool(torch.isfinite(norms).all()):
        _refuse()
    return norms


def _taken(taken: Tensor, units: Tensor, columns: int, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Find the taken places of ``units``: which unit of these, which of the ``kept`` inputs; others are left out."""
    first, last = (torch.searchsorted(taken, start) for start in (units * columns, (units + 1) * columns))
    counts = last - first
    unit = torch.arange(len(units), device=taken.device).repeat_interleave(counts)
    nth = torch.arange(len(unit), device=taken.device) - (counts.cumsum(0) - counts)[unit]
    column = taken[first[unit] + nth] - (units * columns)[unit]
    if len(kept) == columns:
        return unit, column
    place = torch.searchsorted(kept, column).clamp_(max=len(kept) - 1)
    same = kept[place] == column
    return unit[same], place[same]


def _refuse() -> None:
    raise ValueError("a gradient is not finite and cannot say where to grow: skip this batch")


class _Largest:
    """The ``k`` largest magnitudes of a stream of tiles. What may be among them waits until there are k more.

    A ranking of k takes longer than a product of a tile: ranked only then, a stream in no special order is ranked
    about as often as the logarithm of its length over k. Nothing below ``floor`` can be among them any more.
    """

    def __init__(self, k: int) -> None:
        self.best, self.floor = StreamingLargest(k), 0.0
        self.places: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.waiting = 0

    def offer(self, tile: Tensor, held: tuple[Tensor, Tensor], starts: Tensor, columns: Tensor) -> None:
        """Take in a tile of the gradient less what is ``held``: rows of first places ``starts``, and ``columns``."""
        magnitude = tile.abs()
        magnitude[held] = -1.0
        row, column = self._large(magnitude)
        self.places.append(starts[row] + columns[column])
        self.gradients.append(tile[row, column])
        self.waiting += len(row)
        if self.waiting >= max(self.best.k, tile.numel()):
            self._rank()

    def result(self) -> tuple[Tensor, Tensor]:
        """Return places in increasing order, and the gradients there."""
        self._rank()
        return self.best.result()

    def _large(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Find rows and columns of the entries that are not below the floor, first by groups of rows."""
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
