"""The normal equations J' J of a refit: a matrix while that is small, else products streamed over the rows.

The columns of J are v_j (sign(w_j.x) + e_j) x_i / 2 for the weights of the support, and x_i for the affine part.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparelu.recover.cholesky import cholesky, factor
from sparelu.recover.exact.hinges import Kinks, Sample

HELD = 3000
"""Columns up to which J' J is held: 72 MB, and as much for its factor."""
PART = 256
"""Rows of a Gram matrix computed at a time: those above the diagonal are left out."""
ITERATIONS = 60
CLOSE = 1e-3
"""Relative residual at which conjugate gradients end: each step of the refit then still gains three digits."""


@dataclass(frozen=True, eq=False)
class Support:
    """Which weights may be nonzero: places (``kink``, ``column``) (p,), and the columns ``affine`` (q,)."""

    kink: Int[Tensor, " p"]
    column: Int[Tensor, " p"]
    affine: Int[Tensor, " q"]

    @classmethod
    def of(cls, mask: Bool[Tensor, "k inputs"], affine: Bool[Tensor, " inputs"] | None = None) -> "Support":
        """From masks of the weights and of the affine part (all of it by default)."""
        kink, column = mask.nonzero(as_tuple=True)
        everywhere = torch.ones(mask.shape[1], dtype=torch.bool, device=mask.device)
        return cls(kink, column, (everywhere if affine is None else affine).nonzero()[:, 0])

    def __len__(self) -> int:
        return self.kink.numel()

    @property
    def alone(self) -> "Support":
        """The affine columns alone."""
        return Support(self.kink[:0], self.column[:0], self.affine)

    def added(self, kinks: Kinks, step: Float[Tensor, " c"]) -> Kinks:
        """``kinks`` moved by ``step`` (p + q,) on the support."""
        weight, affine = self.spread(kinks, step)
        return kinks.moved(weight, affine)

    def spread(self, kinks: Kinks, step: Float[Tensor, " c"]) -> tuple[Tensor, Tensor]:
        """``step`` as dense weights (k, inputs) and affine part (inputs,), zero off the support."""
        weight, affine = (torch.zeros_like(t, dtype=step.dtype) for t in (kinks.weight, kinks.affine))
        weight[self.kink, self.column] = step[: len(self)]
        affine[self.affine] = step[len(self) :]
        return weight, affine

    def gathered(self, weight: Float[Tensor, "k inputs"], affine: Float[Tensor, " inputs"]) -> Float[Tensor, " c"]:
        """The entries on the support: the transpose of :meth:`spread`."""
        return torch.cat([weight[self.kink, self.column], affine[self.affine]])

    def columns(self, gate: Float[Tensor, "k b"], x: Float[Tensor, "b inputs"]) -> Float[Tensor, "c b"]:
        """The columns of J on a block of rows, transposed."""
        inputs = x.T.contiguous()
        return torch.cat([gate[self.kink] * inputs[self.column], inputs[self.affine]])


def gates(kinks: Kinks, x: Float[Tensor, "b inputs"]) -> Float[Tensor, "k b"]:
    """v_j (sign(w_j.x) + e_j) / 2 on a block of rows, transposed, in the dtype of ``x``."""
    sign = (x @ kinks.weight.T.to(x)).sign_().T
    return ((sign + kinks.tilt.to(x)[:, None]) * (kinks.sign.to(x) / 2)[:, None]).contiguous()


class Normal(ABC):
    """J' J of a support, as far as a refit and its tests need it."""

    support: Support
    slack: ClassVar[float] = 1.0
    """How many times too large a squared t by :meth:`variances` may be: drops up to there are tried and measured."""

    @abstractmethod
    def step(self, slope: Float[Tensor, " c"], damping: float) -> tuple[Float[Tensor, " c"], float]:
        """(J'J + damping diag)^-1 slope, and the damping, raised where rounding asks for it."""

    @abstractmethod
    def variances(self) -> Float[Tensor, " c"]:
        """The diagonal of (J'J)^-1: variances per unit of residual variance."""

    @abstractmethod
    def frame(self) -> tuple[Support, Float[Tensor, "f f"]]:
        """Columns that a new one is judged beside, and the Cholesky factor of their Gram matrix."""


def normal(kinks: Kinks, support: Support, sample: Sample) -> Normal:
    """Held up to ``HELD`` columns, streamed beyond."""
    if len(support) + support.affine.numel() <= HELD:
        return Held(support, gram(kinks, support, sample))
    return Streamed.of(kinks, support, sample)


@dataclass(frozen=True, eq=False)
class Held(Normal):
    """The matrix itself: memory (p + q)^2."""

    support: Support
    gram: Float[Tensor, "c c"]

    def step(self, slope: Tensor, damping: float) -> tuple[Tensor, float]:
        root, damping = cholesky(self.gram, damping)
        return torch.cholesky_solve(slope[:, None], root)[:, 0], damping

    def variances(self) -> Tensor:
        return torch.cholesky_inverse(factor(self.gram)).diagonal()

    def frame(self) -> tuple[Support, Tensor]:
        return self.support, factor(self.gram)


@dataclass(frozen=True, eq=False)
class Streamed(Normal):
    """Products with J' J, a pass over the rows each: memory linear in p, and the (inputs, inputs) moments of the rows.

    Sign gates square to 1, so the columns of one kink are correlated as their inputs are, and two kinks are nearly
    orthogonal unless their hyperplanes are close. Variances take each kink by itself, as if the others were orthogonal,
    and new columns are judged beside the affine ones alone.
    """

    support: Support
    kinks: Kinks
    sample: Sample
    moments: Float[Tensor, "inputs inputs"]
    diagonal: Float[Tensor, " c"]
    slack = 100.0

    @classmethod
    def of(cls, kinks: Kinks, support: Support, sample: Sample) -> "Streamed":
        """With the moments of the rows and the diagonal, from one pass."""
        moments = torch.zeros(sample.inputs, sample.inputs).to(kinks.affine)
        gated = torch.zeros_like(kinks.weight)
        for x, _ in sample.blocks():
            moments.addmm_(x.T, x)
            gated.addmm_(gates(kinks, x).square_(), x.square())
        return cls(support, kinks, sample, moments, support.gathered(gated, moments.diagonal()).clamp_min(1e-300))

    def step(self, slope: Tensor, damping: float) -> tuple[Tensor, float]:
        """By conjugate gradients, products in float32."""
        diagonal = self.diagonal
        solution, r = torch.zeros_like(slope), slope.clone()
        z = r / diagonal
        direction, product = z, float(r @ z)
        enough = CLOSE**2 * product
        for _ in range(ITERATIONS):
            if product <= enough:
                break
            image = self._product(direction) + damping * diagonal * direction
            size = product / float(direction @ image)
            solution += size * direction
            r -= size * image
            z = r / diagonal
            before, product = product, float(r @ z)
            direction = z + (product / before) * direction
        return solution, damping

    def variances(self) -> Tensor:
        found, size = torch.empty_like(self.diagonal), self.moments.diagonal().clamp_min(1e-300).sqrt()
        for places in self._groups():
            column = torch.cat([self.support.column, self.support.affine])[places]
            scale = self.diagonal[places].sqrt() / size[column]
            own = self.moments[column][:, column] * scale * scale[:, None]
            found[places] = torch.cholesky_inverse(factor(own)).diagonal()
        return found

    def frame(self) -> tuple[Support, Tensor]:
        column = self.support.affine
        return self.support.alone, factor(self.moments[column][:, column])

    def _groups(self) -> Iterator[Tensor]:
        """The places of each kink in the support, then those of the affine part."""
        counts = torch.bincount(self.support.kink, minlength=len(self.kinks)).tolist()
        places = torch.arange(len(self.diagonal), device=self.diagonal.device)
        return (part for part in places.split([*counts, self.support.affine.numel()]) if part.numel())

    def _product(self, vector: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        """J' J vector."""
        weight, affine = (t.float() for t in self.support.spread(self.kinks, vector))
        to_weight, to_affine = torch.zeros_like(weight), torch.zeros_like(affine)
        for x, _ in self.sample.blocks(dtype=torch.float32):
            gate = gates(self.kinks, x)
            image = (gate * (weight @ x.T)).sum(0) + x @ affine
            to_weight.addmm_(gate * image, x)
            to_affine += x.T @ image
        return self.support.gathered(to_weight, to_affine).to(vector)


def gram(kinks: Kinks, support: Support, sample: Sample) -> Float[Tensor, "c c"]:
    """J' J in float64.

    Two kinks at a small angle t have columns that differ by a relative mean square of order t: float32 loses them.
    """
    size = len(support) + support.affine.numel()
    total = kinks.affine.new_zeros(size, size)
    for x, _ in sample.blocks():
        columns = support.columns(gates(kinks, x), x)
        for start in range(0, size, PART):
            part = slice(start, start + PART)
            total[part, : start + PART].addmm_(columns[part], columns[: start + PART].T)
    return total.tril() + total.tril(-1).T
