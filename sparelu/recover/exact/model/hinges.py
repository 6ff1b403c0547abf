"""The rows of a fit, and hinges that are one on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.data import Rows, Taken
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.model.tolerances import SMALL_ANGLE

BLOCK = 2048
"""Rows taken at a time: a block of features for 1000 weights in float32 is then 8 MB, about a cache."""
ON_GPU = 16384
"""Rows taken at a time on a GPU, at least: a kernel takes microseconds to start, however short."""
HELD = 2**27
"""Bytes of rows that a fit on some of them copies into memory; more are read from their source block by block."""
HELD_ON_GPU = 2**32
"""Bytes of rows in float64 that are kept on a GPU: a pass over them then waits for no copy."""


def at_a_time(device: str | torch.device, cached: int = BLOCK) -> int:
    """Return the rows of a block: ``cached`` on a processor, more on a GPU."""
    return cached if torch.device(device).type == "cpu" else max(cached, ON_GPU)


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of inputs (n, d) and targets (n, outs), read in blocks: arrays, memory maps or any reader of rows.

    Inputs have ``centre`` (d,) taken off and are divided by ``scale`` (d,) when they are read, in float64 where they
    have a centre: the difference of float32 numbers near a large mean keeps its digits.
    """

    x: Rows
    y: np.ndarray
    device: str = "cpu"
    scale: np.ndarray | None = None
    centre: np.ndarray | None = None

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def inputs(self) -> int:
        """Count the columns of a block: the inputs and the constant."""
        return self.x.shape[1] + 1

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield consecutive blocks x (b, d + 1) with its column of ones, and y (b, outs)."""
        rows, kept = at_a_time(self.device), self._on_gpu
        for start in range(0, self.n, rows):
            piece = slice(start, start + rows)
            if kept is None:
                yield self._read(piece, dtype)
            else:
                yield kept[0][piece].to(dtype), kept[1][piece].to(dtype)

    def _read(self, piece: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(np.asarray(self.x[piece])).to(self.device, dtype if self.centre is None else torch.float64)
        if self.centre is not None:
            x = (x - torch.as_tensor(self.centre).to(x)).to(dtype)
        if self.scale is not None:
            x = x / torch.as_tensor(self.scale).to(x)
        y = torch.as_tensor(self.y[piece]).to(self.device, dtype)
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1), y

    @cached_property
    def _on_gpu(self) -> tuple[Tensor, Tensor] | None:
        """Return all rows in float64, where they are worked on by a GPU and are not too many to stay there."""
        if torch.device(self.device).type == "cpu" or 8 * self.n * self.inputs > HELD_ON_GPU:
            return None
        return self._read(slice(None), torch.float64)

    def rows(self, order: np.ndarray) -> "Sample":
        """Return the named rows, in increasing order, held in memory up to ``HELD`` bytes; if all, as they are."""
        if len(order) >= self.n:
            return self
        index = np.sort(order)
        x = Taken(self.x, index)
        small = len(order) * self.x.shape[1] * np.dtype(self.x.dtype).itemsize <= HELD
        return replace(self, x=x[:] if small else x, y=self.y[index])

    def without(self, index: Sequence[int]) -> "Sample":
        """Return all rows but the named ones."""
        return self.rows(np.setdiff1d(np.arange(self.n), np.asarray(index, dtype=np.int64)))

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return all rows at once."""
        return self._read(slice(None), dtype)


def residual(model: ReluModel, sample: Sample) -> Float[Tensor, "n outs"]:
    """Return y - f(x) for every row, in float64."""
    return torch.cat([y - model(x) for x, y in sample.blocks()])


def merge_duplicates(model: ReluModel, tolerance: float, precision: Float[Tensor, " outs"] | None = None) -> ReluModel:
    """Return the model with hinges of almost one hyperplane joined, each at a cost below ``tolerance``.

    The cost is the mean square by which all outputs change, weighed with ``precision`` (1 by default). For unit
    Gaussian inputs and hinges A |u.x| / 2, B |u'.x| / 2 (A and B over the outputs) at angle t, the common direction of
    least error leaves t^2 (|A|^2 |B|^2 - (A.B)^2) / (4 |A + B|^2) to first order, zero where A and B are parallel. Then
    there is the wedge between the hyperplanes, (2 / (3 pi)) t^3 |A|^2 |B|^2 / |A + B|^2, or where A.B < 0 and |A| > |B|
    (2 / (3 pi)) t^3 |A| |B|^2 / (|A| - |B|). Hinges that cancel leave none.
    """
    model = model.normalise()
    unit = model.weight / model.weight.norm(dim=1, keepdim=True)
    first, second = near_pairs(unit)
    if len(first) == 0:
        return model
    size = model.length * (1.0 if precision is None else precision.sqrt())
    side = (unit[first] * unit[second]).sum(1).sign()
    angle = (unit[first] - side[:, None] * unit[second]).norm(dim=1)
    a, b = size[first], size[second]
    inner, total = (a * b).sum(1), (a + b).square().sum(1)
    long, short = torch.maximum(a.norm(dim=1), b.norm(dim=1)), torch.minimum(a.norm(dim=1), b.norm(dim=1))
    tiny = 1e-18 * long.square()
    product = (long * short).square()
    wedge = torch.where(
        inner >= 0, product / torch.maximum(total, tiny), long * short.square() / (long - short).clamp_min(1e-9 * long)
    )
    apart = (product - inner.square()).clamp_min(0) / (4 * torch.maximum(total, tiny))
    # Of parallel A and B the difference is rounding.
    apart = torch.where(product - inner.square() > 1e-12 * product, apart, 0.0)
    cost = apart * angle**2 + 2 / (3 * torch.pi) * wedge * angle**3
    cheap = [i for i in cost.argsort().tolist() if float(cost[i]) <= tolerance]
    return join_pairs(model, first[cheap], second[cheap])


def merge_indistinct(model: ReluModel, sample: Sample) -> ReluModel:
    """Return the model with hinges of almost one hyperplane joined where fewer rows lie between than they have weights.

    Such rows decide nothing: the weights of two hinges meet them where those of one would do.
    """
    weight = model.weight
    first, second = near_pairs(weight / weight.norm(dim=1, keepdim=True))
    if len(first) == 0:
        return model
    between, side = torch.zeros_like(first), (weight[first] * weight[second]).sum(1).sign()
    for x, _ in sample.blocks():
        z = x @ weight.T
        between += (side * z[:, first] * z[:, second] < 0).sum(0)
    few = between < (weight[first] != 0).sum(1) + (weight[second] != 0).sum(1)
    return join_pairs(model, first[few], second[few])


def near_pairs(unit: Float[Tensor, "k inputs"]) -> tuple[Tensor, Tensor]:
    """Return pairs of unit vectors, up to sign, of almost one direction."""
    first, second = torch.triu((unit @ unit.T).abs() > SMALL_ANGLE, diagonal=1).nonzero().T
    return first, second


def join_pairs(model: ReluModel, first: Tensor, second: Tensor) -> ReluModel:
    """Return the model with the hinges of every pair joined, the first pairs first; what is gone joins no other.

    The direction is the mean of both, with the weights of least error B.(A + B) / |A + B|^2 for that of B.
    """
    weight, outputs = model.weight.clone(), model.outputs.clone()
    alive = torch.ones(len(model), dtype=torch.bool, device=weight.device)
    for j, k in zip(first.tolist(), second.tolist(), strict=True):
        if not (bool(alive[j]) and bool(alive[k])):
            continue
        own, other = weight[j].norm(), weight[k].norm()
        a, b = outputs[j] * own, outputs[k] * other
        total = (a + b).square().sum()
        side = (weight[j] @ weight[k]).sign()
        share = (b @ (a + b)) / total.clamp_min(1e-300)
        weight[j] = (1 - share) * weight[j] / own + share * side * weight[k] / other
        outputs[j] = a + b
        alive[j] = bool(total > 1e-14 * torch.maximum(a.square().sum(), b.square().sum()))
        alive[k] = False
    return replace(model, weight=weight, outputs=outputs).take(alive).normalise()
