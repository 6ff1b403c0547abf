"""Shuffled minibatches of the input columns that a network still reads."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Data


@dataclass
class Feed:
    """Minibatches of ``data``: inputs (b, columns left) and targets, regression targets with mean 0 and deviation 1.

    Rows in memory are copied once with the columns in use, and again whenever columns go, so that a nearly pruned
    network reads little. Rows that are not in memory are read batch by batch.
    """

    data: Data
    columns: Tensor
    _x: Tensor | None = field(default=None, init=False)
    _y: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def __post_init__(self) -> None:
        stats, regression = self.data.statistics, self.data.task == "regression"
        self.mean = stats.y_mean if regression else None
        self.sd = np.where(stats.y_sd > 0, stats.y_sd, 1.0) if regression else None
        if self.data.in_memory:
            x = np.take(np.asarray(self.data.x[self.data.own]), self.columns.cpu().numpy(), axis=1)
            self._x = torch.as_tensor(x, dtype=self.data.dtype, device=self.data.device)
            self._y = self._targets(self.data.targets())

    def keep(self, places: Tensor) -> None:
        """Drop the columns that are not at ``places`` of those left."""
        if places.numel() < self.columns.numel():
            self.columns = self.columns[places]
            self._x = None if self._x is None else self._x.index_select(1, places)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one pass in random order; rows that do not fill the last batch are left out, unless they are all rows.

        Of every batch a rank yields the rows that are its own.
        """
        if self._x is None:
            for x, y in self.data.batches(size, rng, whole=True):
                yield x.index_select(1, self.columns), self._targets(y)
            return
        order = torch.as_tensor(rng.permutation(self.data.n), device=self.data.device)
        for i in range(max(1, self.data.n // size)):
            rows = self.data.ranks.held(order[i * size : (i + 1) * size], self.data.own)
            yield self._x.index_select(0, rows), self._y.index_select(0, rows)

    def _targets(self, y: Tensor) -> Tensor:
        if self.mean is None or self.sd is None:
            return y
        return (y - torch.as_tensor(self.mean).to(y)) / torch.as_tensor(self.sd).to(y)
