"""One step of iterative hard thresholding for a vector output: W1 (m, d) and W2 (m, k) share one sparse vector.

Entry j d + i of the vector is W1[j, i], entry m d + j k + c is W2[j, c]; the budget is joint.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.recover.aiht.countsketch import CountSketch
from sparelu.recover.aiht.gated_matrix import BLOCK, Gates, SparseVector, StreamedRows, group_random, sparse_matrix
from sparelu.runtime.distributed import ALONE, Ranks
from sparelu.topk import StreamingLargest


@dataclass(frozen=True)
class Shape:
    """Inputs d, neurons m, outputs k."""

    d: int
    m: int
    k: int

    @property
    def weights(self) -> int:
        """Return the length of the joint vector."""
        return self.m * (self.d + self.k)

    def split(self, x: SparseVector) -> tuple[SparseVector, SparseVector]:
        """Return W1 and W2 as vectors of their own."""
        return x.between(0, self.m * self.d), x.between(self.m * self.d, self.weights)


@dataclass(frozen=True)
class Surrogate:
    """Uniform stand-ins for blocks that are zero: +-1/sqrt(d m) in W1 and +-1/sqrt(m k) in W2, made from ``seed``."""

    seed: int

    def fill(self, block: Float[Tensor, "b c"], neurons: Int[Tensor, " b"], stream: int, width: int) -> None:
        """Replace the zero rows of ``block`` in place; ``width`` is m c."""
        zero = ~block.any(dim=1)
        drawn = group_random(self.seed, stream, neurons, block.shape[1], _uniform)
        block[zero] = drawn[zero] / width**0.5


def _uniform(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, size)


def gated_outputs(rows: StreamedRows, x: SparseVector, gates: Gates, shape: Shape) -> Float[Tensor, "n k"]:
    """Compute sum_j D_j X w1_j w2_j'."""
    w1, w2 = shape.split(x)
    out = x.value.new_zeros(rows.n, shape.k)
    row = w1.index // shape.d
    neurons = torch.unique(row[torch.isin(row, w2.index // shape.k)])
    if not neurons.numel():
        return out
    keep = torch.isin(row, neurons)
    size = (neurons.numel(), shape.d)
    below = sparse_matrix(size, torch.searchsorted(neurons, row[keep]), (w1.index % shape.d)[keep], w1.value[keep])
    above, h = w2.rows(neurons, shape.k), gates.matrix(neurons, None)
    for part, batch in rows.chunks(shape.d + 3 * neurons.numel()):
        out[part] = ((below @ batch) * (h @ batch > 0)).T @ above
    return out


def output_residual(
    out: Float[Tensor, "n k"], target: Float[Tensor, "n k"] | Int[Tensor, " n"], ranks: Ranks = ALONE
) -> tuple[Float[Tensor, "n k"], float]:
    """Compute (out - b) / N and mean squared error; for labels (softmax(out) - onehot) / N and cross-entropy in nats.

    N rows on all ``ranks``, of which n are here.
    """
    total = ranks.total(len(out))
    if target.is_floating_point():
        gap = out - target
        return gap / total, ranks.total(float(gap.square().sum())) / (total * out.shape[1])
    loss = float(torch.nn.functional.cross_entropy(out, target, reduction="sum"))
    gap = torch.softmax(out, dim=1)
    gap[torch.arange(len(out), device=out.device), target] -= 1
    return gap / total, ranks.total(loss) / total


def moves(
    rows: StreamedRows,
    r: Float[Tensor, "n k"],
    x: SparseVector,
    gates: Gates,
    shape: Shape,
    step: float,
    fill: Surrogate | None,
) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]]:
    """Yield index, new value and change of all weights that may be nonzero after a gradient step, in blocks of neurons.

    With G_j = X' D_j R the gradients are dW1_j = G_j w2_j and dW2_j = G_j' w1_j. Here the k columns of R are summed by
    w2_j before X' is applied, and X is multiplied by w1_j before R', so that G_j is never formed.
    """
    w1, w2 = shape.split(x)
    for neurons in _blocks(w1, w2, shape, fill is not None):
        a, b = w1.rows(neurons, shape.d), w2.rows(neurons, shape.k)
        if fill is not None:
            fill.fill(a, neurons, 1, shape.d * shape.m)
            fill.fill(b, neurons, 2, shape.k * shape.m)
        h = gates.matrix(neurons, None)
        da, db = torch.zeros_like(a), torch.zeros_like(b)
        for part, batch in rows.chunks(shape.d + neurons.numel() // 4):
            gate = (h @ batch > 0).to(a.dtype)
            da += (gate * (b @ r[part].T)) @ batch.T
            db += (gate * (a @ batch)) @ r[part]
        rows.ranks.sum(da)
        rows.ranks.sum(db)
        yield (neurons[:, None] * shape.d + torch.arange(shape.d).to(neurons)).flatten(), *_moved(a, da, step)
        start = shape.m * shape.d
        yield (start + neurons[:, None] * shape.k + torch.arange(shape.k).to(neurons)).flatten(), *_moved(b, db, step)


def _moved(w: Tensor, gradient: Tensor, step: float) -> tuple[Tensor, Tensor]:
    delta = -step * gradient.flatten()
    return w.flatten() + delta, delta


def _blocks(w1: SparseVector, w2: SparseVector, shape: Shape, everything: bool) -> Iterator[Tensor]:
    """Yield the neurons with a weight, or all of them: the others have zero weights and zero gradients."""
    size = max(1, BLOCK // (shape.d + shape.k))
    if everything:
        for start in range(0, shape.m, size):
            yield torch.arange(start, min(start + size, shape.m), device=w1.index.device)
        return
    live = torch.unique(torch.cat([w1.index // shape.d, w2.index // shape.k]))
    if live.numel():
        yield from live.split(size)


def vector_step(
    rows: StreamedRows,
    r: Float[Tensor, "n k"],
    x: SparseVector,
    gates: Gates,
    shape: Shape,
    budget: int,
    step: float,
    fill: Surrogate | None,
    sketch: CountSketch | None,
) -> SparseVector:
    """Make a gradient step of fixed size, cut to ``budget`` weights.

    With a ``sketch`` the weights that stay are those of largest estimated sum of all changes applied so far, those of
    this step included; without, those of largest magnitude. In the first case the gradient is computed twice, so that
    every choice is made by the same, complete sketch.
    """
    if sketch is not None:
        for index, _, delta in moves(rows, r, x, gates, shape, step, fill):
            sketch.add(index.cpu().numpy(), delta.cpu().numpy())
    top = StreamingLargest(budget)
    for index, value, _ in moves(rows, r, x, gates, shape, step, fill):
        live = value != 0
        index, value = index[live], value[live]
        score = value if sketch is None else torch.from_numpy(sketch.estimate(index.cpu().numpy())).to(value)
        top.add(score.abs(), index, value)
    return SparseVector(top.indices, top.values.to(r))


def published_step(budget: int, shape: Shape, labels: bool) -> float:
    """Return 0.001 for cross-entropy; for squared error 2 if s < 6 m^0.536, else 0.005."""
    if labels:
        return 0.001
    return 2.0 if budget < 6 * shape.m**0.536 else 0.005


@dataclass
class VectorLayer:
    """A two-layer network with ``shape.k`` outputs while it is fitted; ``sketch`` None: choose by magnitude."""

    shape: Shape
    budget: int
    step_size: float
    seed: int
    sketch: CountSketch | None
    x: SparseVector

    @property
    def hidden(self) -> SparseVector:
        """Return W1."""
        return self.shape.split(self.x)[0]

    def step(self, rows: StreamedRows, target: Tensor, gates: Gates, fresh: bool) -> float:
        """Make a step, zero blocks filled when ``fresh``; return the loss before it. If that is not finite, none."""
        r, loss = output_residual(gated_outputs(rows, self.x, gates, self.shape), target, rows.ranks)
        if math.isfinite(loss):
            fill = Surrogate(self.seed) if fresh else None
            self.x = vector_step(rows, r, self.x, gates, self.shape, self.budget, self.step_size, fill, self.sketch)
        return loss

    def loss(self, rows: StreamedRows, target: Tensor, gates: Gates) -> float:
        """Compute the mean squared error over rows and outputs, or cross-entropy in nats."""
        return output_residual(gated_outputs(rows, self.x, gates, self.shape), target, rows.ranks)[1]

    def table(self) -> Tensor | None:
        """Return what the sketch has summed."""
        return None if self.sketch is None else torch.from_numpy(self.sketch.table.copy())


def sketch_width(budget: int, shape: Shape) -> int:
    """Return int(s max(1, log(length / s)))."""
    return int(budget * max(1.0, math.log(shape.weights / budget)))
