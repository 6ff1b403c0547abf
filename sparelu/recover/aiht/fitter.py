"""Accelerated iterative hard thresholding (Fridovich-Keil and Pilanci, "A Recovery Guarantee for Sparse Neural
Networks", ICLR 2026): the published method, streamed."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Budget, Data
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Iterate, State, Status
from sparelu.recover.aiht.countsketch import CountSketch
from sparelu.recover.aiht.gated_matrix import (
    Gates,
    OwnGates,
    RandomGates,
    SparseVector,
    StreamedRows,
    all_rows,
    batch_rows,
    empty_vector,
    sparse_matrix,
)
from sparelu.recover.aiht.scalar_step import ScalarLayer
from sparelu.recover.aiht.vector_step import Shape, VectorLayer, published_step, sketch_width

THRESHOLD = 0.5
"""Between labels 0 and 1, which two classes are fitted as."""


@dataclass(frozen=True)
class AIHT(Fitter):
    """Iterative hard thresholding on gated inputs, as published.

    One output: weights fused, f(x) = sum_j 1[h_j.x > 0] w_j.x, fitted by the steps of :mod:`.scalar_step`. Two classes
    are labels 0 and 1 with threshold 0.5, here an output bias of -0.5. Several outputs: W1 and W2 in one budget, fitted
    by the steps of :mod:`.vector_step`. Generators h_j start as N(0, I). They become the weights w_j after every step
    from the second epoch on (second step with all rows), or stay (``convex``). Depth: one layer at a time with
    ``nonzeros // layers`` weights, on what the layers beneath put out; the hidden part is kept.

    Limits of the method, and what is done here:

    * Output weights are +1 in the sequential mode, so f is a sum of convex functions and never negative. Kept.
    * A neuron whose weights are all cut has h = 0 and is dead from then on (with several outputs the fill of the first
      batch of an epoch can revive it). Kept; its zero gradient is not computed, which changes nothing.
    * With ``convex`` the fitted function is gated by h and is no ReLU network. The network returned has the weights
      w_j: the same function where h_j is the neuron's own direction. The loss in the history is that of the fitted
      function.
    * There are no biases, so f(0) = 0. Append a column of ones to have them.
    * The published steps for several outputs suit pixels from 0 to 255; for inputs of unit variance they are too small
      and ``step`` should be 0.02 to 0.3.
    * Every step with random gates costs O(n m d). Kept: that is two epochs in the sequential mode, all with ``convex``.
    * The code published holds A_S, n x s, and every row; here rows come in chunks and nothing of size n x s exists.
    * It replaces blocks whose largest entry is 0, blocks of negative weights among them, by the uniform fill; here zero
      blocks alone are filled.
    * It cuts after every neuron by a sketch that later neurons have yet to change, and seeds the global generator for
      the signs; here all of a step is sketched first, and the signs are hashed.
    * Its output dimension is a flag apart from the data; here it is that of the data. Its error is measured on training
      rows; here by the judge on any rows.
    * With several layers and one output the output weights +1 count here; the last layer's share shrinks by them.

    Use it to compare with the published method, or to fit a sum over rows on many processes.

    Not for the fewest rows or the best network: ``exact`` was never behind it on planted networks.
    """

    name: ClassVar[str] = "aiht"
    question: ClassVar[str] = "recover"
    paper: ClassVar[str] = "Fridovich-Keil and Pilanci, A Recovery Guarantee for Sparse Neural Networks, ICLR 2026"
    sums_over_rows: ClassVar[bool] = True

    epochs: int = setting(15, "passes over the rows, for each layer", low=1)
    batch: int = setting(0, "rows of a minibatch; 0 takes all rows at once", low=0)
    convex: bool = setting(False, "keep the random gates fixed, as in the theorem")
    inner: int = setting(10, "gradient steps on the support after each cut (one output)", low=0)
    step: float | None = setting(None, "step size (several outputs); none: the published rule", above=0)
    countsketch: bool = setting(True, "cut by sketched sums of changes (several outputs); else by magnitude")

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Refuse no budget, one that does not fit, and under two nonzeros for a layer with weights on both sides."""
        reason = budget_reason(data, budget)
        if reason is not None:
            return reason
        depth, allowed = len(budget.hidden), budget.count(data.inputs, data.outputs) or 0
        if (depth > 1 or data.outputs > 1) and allowed < 2 * depth:
            return f"{allowed} nonzeros over {depth} hidden layer(s) leave no path: ask for at least {2 * depth}"
        return None

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield after every epoch of every layer. The state holds supports, values and seeds, nothing dense."""
        target = _target(data)
        below = [] if start is None else [_hidden(saved, data.device) for saved in start["below"]]
        for depth in range(len(below), len(budget.hidden)):
            fit = self._begin(data, budget, below, rng, start)
            if start is None:
                done, loss = 0, math.nan
            else:
                done, loss = start["done"], start["loss"]
                yield fit.iterate(done, loss)
            start = None
            for epoch in range(done, self.epochs):
                loss = fit.epoch(epoch, target, rng)
                yield fit.iterate(epoch + 1, loss)
                if not math.isfinite(loss):
                    return Status.diverged
            below.append(fit.trained())
            if not below[depth].live.numel():
                return Status.max_steps
        return Status.max_steps

    def _begin(
        self, data: Data, budget: Budget, below: "list[Hidden]", rng: np.random.Generator, start: State | None
    ) -> "_Fit":
        """Begin the fit of the next layer, new or as ``start`` has it."""
        depth = len(below)
        inputs = below[-1].live.numel() if below else data.inputs
        seed = int(rng.integers(2**63)) if start is None else int(start["seed"])
        x = empty_vector(data.device)
        if start is not None:
            x = SparseVector(start["index"].to(data.device), start["value"].to(data.device))
        shape = Shape(inputs, budget.hidden[depth], 0 if data.outputs == 1 else data.outputs)
        share = min(_share(data, budget, below), shape.weights)
        layer: ScalarLayer | VectorLayer = ScalarLayer(inputs, share, self.inner, x)
        if shape.k:
            step = self.step or published_step(share, shape, data.task == "classification")
            table = None if start is None or start["sketch"] is None else start["sketch"].numpy()
            sketch = CountSketch(sketch_width(share, shape), seed, table) if self.countsketch else None
            layer = VectorLayer(shape, share, step, seed, sketch, x)
        return _Fit(self, data, tuple(below), len(budget.hidden), shape, seed, layer)


def _share(data: Data, budget: Budget, below: "list[Hidden]") -> int:
    """Return how many weights the next layer gets: nonzeros // layers, of which the last pays a single output's +1s."""
    total, depth = budget.count(data.inputs, data.outputs) or 0, len(budget.hidden)
    share = total // depth
    if depth == 1 or data.outputs > 1 or len(below) < depth - 1:
        return share
    left = total - sum(h.weights.index.numel() for h in below)
    return min(share, max(left // 2, left - budget.hidden[-1]))


def _target(data: Data) -> Tensor:
    """Read all targets of this rank: float (n,) for one output, float (n, k), or labels (n,) of int64."""
    y = np.array(data.y[data.own])
    if data.outputs == 1:
        return torch.from_numpy(y.reshape(-1).astype(np.float64)).to(data.device)
    return torch.from_numpy(y.astype(np.int64 if data.task == "classification" else np.float64)).to(data.device)


@dataclass(frozen=True, eq=False)
class Hidden:
    """A trained hidden layer of ``width`` units; entry (j, i) of its weights reads unit ``columns[i]`` beneath."""

    weights: SparseVector
    width: int
    columns: Tensor

    @property
    def live(self) -> Tensor:
        """Return the units that have weights."""
        return torch.unique(self.weights.index // self.columns.numel())

    def matrix(self) -> Tensor:
        """Return the live rows, as CSR."""
        inputs = self.columns.numel()
        row = torch.searchsorted(self.live, self.weights.index // inputs)
        size = (self.live.numel(), inputs)
        return sparse_matrix(size, row, self.weights.index % inputs, self.weights.value)

    def layer(self, inputs: int) -> Layer:
        """Return the layer, over all ``inputs`` units beneath."""
        row, column = self.weights.index // self.columns.numel(), self.weights.index % self.columns.numel()
        return Layer.from_triplets((self.width, inputs), row, self.columns[column], self.weights.value.cpu())

    def state(self) -> State:
        """Return what :func:`_hidden` reads."""
        return {
            "index": self.weights.index,
            "value": self.weights.value,
            "width": self.width,
            "columns": self.columns,
        }


def _hidden(state: State, device: str) -> Hidden:
    index, value, columns = (state[name].to(device) for name in ("index", "value", "columns"))
    return Hidden(SparseVector(index, value), state["width"], columns)


@dataclass
class _Fit:
    """The fit of one layer on the output of the layers ``below``."""

    method: AIHT
    data: Data
    below: tuple[Hidden, ...]
    depth: int
    shape: Shape
    seed: int
    layer: ScalarLayer | VectorLayer

    def gates(self, done: int) -> Gates:
        """Return the gates after ``done`` epochs: random at first and with ``convex``, else the weights."""
        if self.method.convex or done < 2:
            return RandomGates(self.seed, self.shape.m, self.shape.d, self.data.device)
        return OwnGates(self.layer.hidden, self.shape.d)

    def epoch(self, number: int, target: Tensor, rng: np.random.Generator) -> float:
        """Make one pass and return the loss after it over all rows; stop where the loss of a batch is not finite."""
        gates = self.gates(number)
        many = 0 < self.method.batch < self.data.n
        for i, (rows, y) in enumerate(self._batches(rng) if many else [(self._rows(), target)]):
            loss = self.layer.step(rows, y, gates, i == 0 if many else number == 0)
            if not math.isfinite(loss):
                return loss
            if number > 0:
                gates = self.gates(number + 1)
        return self.layer.loss(self._rows(), target, gates)

    def _rows(self) -> StreamedRows:
        own, below = self.data.own, tuple(h.matrix() for h in self.below)
        return StreamedRows(own.stop - own.start, self.shape.d, all_rows(self.data), below, self.data.ranks)

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[StreamedRows, Tensor]]:
        whole = self._rows()
        for x, y in self.data.batches(self.method.batch, rng, torch.float64):
            rows = replace(whole, n=len(x), pieces=batch_rows(x))
            yield rows, y if self.shape.k else y.reshape(-1).to(torch.float64)

    def trained(self) -> Hidden:
        """Return the hidden layer as it stands."""
        columns = self.below[-1].live if self.below else torch.arange(self.data.inputs, device=self.data.device)
        return Hidden(self.layer.hidden, self.shape.m, columns)

    def network(self) -> Network:
        """Return the ReLU network of the layers so far."""
        chain = [*self.below, self.trained()]
        widths = [self.data.inputs, *(h.width for h in chain)]
        layers = [h.layer(inputs) for h, inputs in zip(chain, widths, strict=False)]
        return Network((*layers, self._output(chain[-1])))

    def _output(self, top: Hidden) -> Layer:
        if self.shape.k:
            w2 = self.shape.split(self.layer.x)[1]
            size = (self.shape.k, self.shape.m)
            return Layer.from_triplets(size, w2.index % self.shape.k, w2.index // self.shape.k, w2.value.cpu())
        bias = [-THRESHOLD] if self.data.task == "classification" else None
        ones = torch.ones(top.live.numel(), dtype=torch.float64)
        return Layer.from_triplets((1, self.shape.m), torch.zeros_like(top.live), top.live, ones, bias)

    def iterate(self, done: int, loss: float) -> Iterate:
        """Return the iterate after ``done`` epochs of this layer."""
        progress = (len(self.below) + done / self.method.epochs) / self.depth
        numbers = {"live": float(self.trained().live.numel())}
        return Iterate(progress, loss, self.network, lambda: self._state(done, loss), numbers)

    def _state(self, done: int, loss: float) -> State:
        return {
            "done": done,
            "loss": loss,
            "seed": self.seed,
            "index": self.layer.x.index,
            "value": self.layer.x.value,
            "sketch": self.layer.table(),
            "below": [h.state() for h in self.below],
        }
