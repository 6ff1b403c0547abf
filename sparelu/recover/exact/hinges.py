"""The model of exact recovery, f(x) = a.x + sum_j (v_j / 2) (|w_j.x| + e_j w_j.x), and the rows it is fitted to.

Since (t)_+ = (t + |t|) / 2, a ReLU network of one hidden layer is a sum of kinks v_j |w_j.x| / 2 and an affine
part. A kink does not know which side of its hyperplane is active, which takes away the sign ambiguity
(w.x)_+ - (-w.x)_+ = w.x that keeps plain ReLU students in wrong basins, and its columns sign(w.x) x_i are far better
conditioned than gated ones. The orientation e_j is 0 while the kinks are sought and +-1 once it is read off.
The last input is the constant 1, so its weight is the bias.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.data import Rows, Taken

BLOCK = 2048
"""Rows taken at a time: a block of features for 1000 weights in float32 is then 8 MB, about a cache."""
ON_GPU = 16384
"""Rows taken at a time on a GPU, at least: a kernel takes microseconds to start, however short."""
HELD = 2**27
"""Bytes of rows that a fit on some of them copies into memory; more are read from their source block by block."""
HELD_ON_GPU = 2**32
"""Bytes of rows in float64 that are kept on a GPU: a pass over them then waits for no copy."""


def at_a_time(device: str | torch.device, cached: int = BLOCK) -> int:
    """Rows of a block: ``cached`` on a processor, more on a GPU."""
    return cached if torch.device(device).type == "cpu" else max(cached, ON_GPU)


@dataclass(frozen=True, eq=False)
class Kinks:
    """Output signs ``sign`` (k,), weights ``weight`` (k, d + 1), orientations ``tilt`` (k,), ``affine`` (d + 1,).

    All float64 on one device; the support of ``weight`` is its nonzero entries.
    """

    sign: Float[Tensor, " k"]
    weight: Float[Tensor, "k inputs"]
    tilt: Float[Tensor, " k"]
    affine: Float[Tensor, " inputs"]

    @classmethod
    def none(cls, affine: Tensor) -> "Kinks":
        """No kinks: the affine function alone."""
        empty = affine.new_zeros(0)
        return cls(empty, affine.new_zeros(0, affine.numel()), empty, affine)

    def __len__(self) -> int:
        return self.sign.numel()

    @property
    def nonzeros(self) -> int:
        """Weights on inputs; biases are not counted."""
        return int(torch.count_nonzero(self.weight[:, :-1]))

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, " n"]:
        """Values for rows whose last column is 1, in the dtype of ``x``."""
        z = x @ self.weight.T.to(x)
        return x @ self.affine.to(x) + (z.abs() + z * self.tilt.to(x)) @ (self.sign.to(x) / 2)

    def with_kinks(self, sign: Tensor, weight: Tensor) -> "Kinks":
        """With further kinks, not oriented."""
        tilt = torch.cat([self.tilt, torch.zeros_like(sign)])
        return replace(self, sign=torch.cat([self.sign, sign]), weight=torch.cat([self.weight, weight]), tilt=tilt)

    def moved(self, weight: Tensor, affine: Tensor) -> "Kinks":
        """With ``weight`` and ``affine`` added."""
        return replace(self, weight=self.weight + weight, affine=self.affine + affine)

    def take(self, keep: Tensor) -> "Kinks":
        """The kinks of an index or mask alone."""
        return replace(self, sign=self.sign[keep], weight=self.weight[keep], tilt=self.tilt[keep])


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of inputs (n, d) and one target (n,), read in blocks: arrays, memory maps or any reader of rows.

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
        """Columns of a block: the inputs and the constant."""
        return self.x.shape[1] + 1

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive blocks x (b, d + 1) with its column of ones, and y (b,)."""
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
        """All rows in float64, where they are worked on by a GPU and are not too many to stay there."""
        if torch.device(self.device).type == "cpu" or 8 * self.n * self.inputs > HELD_ON_GPU:
            return None
        return self._read(slice(None), torch.float64)

    def rows(self, order: np.ndarray) -> "Sample":
        """The named rows, in increasing order, held in memory up to ``HELD`` bytes; if all, as they are."""
        if len(order) >= self.n:
            return self
        index = np.sort(order)
        x = Taken(self.x, index)
        small = len(order) * self.x.shape[1] * np.dtype(self.x.dtype).itemsize <= HELD
        return replace(self, x=x[:] if small else x, y=self.y[index])

    def without(self, index: Sequence[int]) -> "Sample":
        """All rows but the named ones."""
        return self.rows(np.setdiff1d(np.arange(self.n), np.asarray(index, dtype=np.int64)))

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """All rows at once."""
        return self._read(slice(None), dtype)


def residual(kinks: Kinks, sample: Sample) -> Float[Tensor, " n"]:
    """y - f(x) for every row, in float64."""
    return torch.cat([y - kinks(x) for x, y in sample.blocks()])


NEAR = 0.99
"""|cos| below which two kinks are never taken for one."""


def merged(kinks: Kinks, tolerance: float) -> Kinks:
    """Kinks of almost one hyperplane joined, where that changes the function by a mean square below ``tolerance``.

    For unit Gaussian inputs and kinks of lengths a and b at angle t, |z1| + |z2| - |z1 + z2| lives on the wedge between
    the hyperplanes; half of it has mean square (2 / (3 pi)) (ab / (a + b))^2 t^3 to leading order, and for kinks of
    opposite sign, a > b, (2 / (3 pi)) (a b^2 / (a - b)) t^3. Kinks that cancel leave none.
    """
    kinks = kinks.take(kinks.weight.norm(dim=1) > 0)
    size = kinks.weight.norm(dim=1)
    unit = kinks.weight / size[:, None]
    first, second = near_pairs(unit)
    if len(first) == 0:
        return kinks
    side = (unit[first] * unit[second]).sum(1).sign()
    angle = (unit[first] - side[:, None] * unit[second]).norm(dim=1)
    a, b = size[first], size[second]
    long, short = torch.maximum(a, b), torch.minimum(a, b)
    alike = (a * b / (a + b)).square()
    opposite = long * short.square() / (long - short).clamp_min(1e-9 * long)
    same = kinks.sign[first] == kinks.sign[second]
    cost = 2 / (3 * torch.pi) * torch.where(same, alike, opposite) * angle**3
    near_enough = [i for i in cost.argsort().tolist() if float(cost[i]) <= tolerance]
    return _with_pairs_joined(kinks, first[near_enough], second[near_enough])


def without_doubles(kinks: Kinks, sample: Sample) -> Kinks:
    """Kinks of almost one hyperplane joined where fewer rows lie between them than they have weights.

    Such rows decide nothing: the weights of two kinks meet them where those of one would do.
    """
    weight = kinks.weight
    first, second = near_pairs(weight / weight.norm(dim=1, keepdim=True))
    if len(first) == 0:
        return kinks
    between, side = torch.zeros_like(first), (weight[first] * weight[second]).sum(1).sign()
    for x, _ in sample.blocks():
        z = x @ weight.T
        between += (side * z[:, first] * z[:, second] < 0).sum(0)
    few = between < (weight[first] != 0).sum(1) + (weight[second] != 0).sum(1)
    return _with_pairs_joined(kinks, first[few], second[few])


def near_pairs(unit: Float[Tensor, "k inputs"]) -> tuple[Tensor, Tensor]:
    """Pairs of unit vectors, up to sign, of almost one direction."""
    first, second = torch.triu((unit @ unit.T).abs() > NEAR, diagonal=1).nonzero().T
    return first, second


def _with_pairs_joined(kinks: Kinks, first: Tensor, second: Tensor) -> Kinks:
    """With the kinks of every pair joined, the first pairs first; a kink that is gone joins no other."""
    sign, weight = kinks.sign.clone(), kinks.weight.clone()
    size = weight.norm(dim=1)
    alive = torch.ones(len(kinks), dtype=torch.bool, device=weight.device)
    for j, k in zip(first.tolist(), second.tolist(), strict=True):
        if bool(alive[j]) and bool(alive[k]):
            _join(sign, weight, alive, *((j, k) if float(size[j]) >= float(size[k]) else (k, j)))
    return replace(kinks, sign=sign, weight=weight).take(alive)


def _join(sign: Tensor, weight: Tensor, alive: Tensor, keep: int, drop: int) -> None:
    """Add kink ``drop`` to the longer kink ``keep``, in place."""
    side = (weight[keep] @ weight[drop]).sign() * sign[keep] * sign[drop]
    total = weight[keep] + side * weight[drop]
    alive[keep] = bool(total.norm() > 1e-7 * weight[keep].norm())
    alive[drop] = False
    weight[keep] = total
