"""One step of accelerated iterative hard thresholding for a scalar output, on fused weights x = (w_1, ..., w_m)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.aiht.gated_matrix import Gates, Restricted, SparseVector, StreamedRows, block_gradient
from sparelu.topk import StreamingLargest

HALVINGS = 11
"""Step sizes tried for an inner step before it is given up."""


def scalar_step(
    rows: StreamedRows, target: Float[Tensor, " n"], x: SparseVector, gates: Gates, budget: int, inner: int
) -> tuple[SparseVector, float]:
    """Make one step on 1/2 ||A x - b||^2 with ``budget`` nonzeros; return the new x, and the step size it ended with.

    Blumensath, "Accelerated iterative hard thresholding" (2012): a thresholded gradient step with the step size that is
    exact on the support, then ``inner`` gradient steps on the new support.
    """
    r, mu = _residual(Restricted(rows, x.index, gates), x, target)
    moved = hard_threshold(rows, r, x, gates, mu, budget)
    return refine(Restricted(rows, moved.index, gates), moved, target, mu, inner)


def _residual(on_support: Restricted, x: SparseVector, target: Tensor) -> tuple[Float[Tensor, " n"], float]:
    """Compute A x - b, and the step size there; the operator is gone before the next one is made."""
    r, g = on_support(x.value, target)
    return r, step_size(on_support, g)


def step_size(on_support: Restricted, g: Float[Tensor, " s"]) -> float:
    """Compute mu = ||g||^2 / (||A_S g||^2 + 1e-8); with an empty support 1e-14, so that the step only selects."""
    if not g.numel():
        return 1e-14
    forward, _ = on_support(g, adjoint=False)
    return float(g @ g) / (on_support.square(forward) + 1e-8)


def hard_threshold(
    rows: StreamedRows, r: Float[Tensor, " n"], x: SparseVector, gates: Gates, mu: float, budget: int
) -> SparseVector:
    """Compute H_s(x - mu A' r), streamed over blocks of neurons; zeros are never kept."""
    top = StreamingLargest(budget)
    for neurons in gates.blocks():
        value = (x.rows(neurons, rows.inputs) - mu * block_gradient(rows, gates, neurons, r)).flatten()
        index = (neurons[:, None] * rows.inputs + torch.arange(rows.inputs, device=r.device)).flatten()
        live = value != 0
        top.add(value[live].abs(), index[live], value[live])
    return SparseVector(top.indices, top.values.to(r))


def refine(
    on_support: Restricted, x: SparseVector, target: Float[Tensor, " n"], mu: float, inner: int
) -> tuple[SparseVector, float]:
    """Make ``inner`` gradient steps on the support of ``x``; a step that the line search gives up falls back to ``x``.

    A trial is accepted when ||A z+ - b||^2 <= ||A z - b||^2 - 0.9 mu ||g||^2, else mu is halved, and stays so. With
    q = A g and p = A' q in hand the residual moves by -mu q and the gradient by -mu p, so a step reads the rows once.
    """
    r0, g0 = on_support(x.value, target)
    z, r, g = x.value, r0, g0
    size0 = size = on_support.square(r0)
    for _ in range(inner):
        q, p = on_support(g)
        for _ in range(HALVINGS):
            moved = r - mu * q
            after = on_support.square(moved)
            if after <= size - 0.9 * mu * float(g @ g):
                z, r, g, size = z - mu * g, moved, g - mu * p, after
                break
            mu /= 2
        else:
            z, r, g, size = x.value, r0, g0, size0
    return SparseVector(x.index, z), mu


@dataclass
class ScalarLayer:
    """A two-layer network with one output and fused weights over ``inputs`` inputs while it is fitted."""

    inputs: int
    budget: int
    inner: int
    x: SparseVector
    mu: float = 0.0

    @property
    def hidden(self) -> SparseVector:
        """Return the fused weights."""
        return self.x

    def step(self, rows: StreamedRows, target: Tensor, gates: Gates, fresh: bool) -> float:
        """Make one step (``fresh`` has no meaning here); return 0."""
        self.x, self.mu = scalar_step(rows, target, self.x, gates, self.budget, self.inner)
        return 0.0

    def loss(self, rows: StreamedRows, target: Tensor, gates: Gates) -> float:
        """Compute the mean squared error with the given gates."""
        on_support = Restricted(rows, self.x.index, gates)
        r, _ = on_support(self.x.value, target, adjoint=False)
        return on_support.square(r) / rows.total

    def table(self) -> None:
        """Return None: no sketch is kept."""
