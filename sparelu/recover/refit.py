"""Least squares on a given support: Levenberg-Marquardt for kinks, and what each weight explains."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparelu.recover.kinks import Kinks, Sample, residual

ROUNDING = 1e-24
"""Mean squared error, of targets of unit variance, that float64 rounding may leave: no test looks below it."""

PART = 256
"""Rows of a Gram matrix computed at a time: those above the diagonal are left out."""


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

    def added(self, kinks: Kinks, step: Tensor) -> Kinks:
        """``kinks`` moved by ``step`` (p + q,) on the support."""
        weight, affine = kinks.weight.clone(), kinks.affine.clone()
        weight[self.kink, self.column] += step[: len(self)]
        affine[self.affine] += step[len(self) :]
        return replace(kinks, weight=weight, affine=affine)


@dataclass(frozen=True, eq=False)
class Fit:
    """Kinks refitted on a support: mean squared error ``mse``, and the Gram matrix (p + q, p + q) of the columns."""

    kinks: Kinks
    support: Support
    mse: float
    gram: Float[Tensor, "c c"]
    rows: int


def gram(kinks: Kinks, support: Support, sample: Sample) -> Float[Tensor, "c c"]:
    """J' J of the columns v_j (sign(w_j.x) + e_j) x_i / 2 and x_i, in float64.

    Two kinks at a small angle t have columns that differ by a relative mean square of order t: float32 loses them.
    """
    size = len(support) + support.affine.numel()
    total = kinks.affine.new_zeros(size, size)
    half = (kinks.sign / 2)[:, None]
    for x, _ in sample.blocks():
        gate = (((x @ kinks.weight.T).sign().T + kinks.tilt[:, None]) * half).contiguous()
        inputs = x.T.contiguous()
        columns = torch.cat([gate[support.kink] * inputs[support.column], inputs[support.affine]])
        for start in range(0, size, PART):
            part = slice(start, start + PART)
            total[part, : start + PART].addmm_(columns[part], columns[: start + PART].T)
    return total.tril() + total.tril(-1).T


def gradient(kinks: Kinks, support: Support, sample: Sample) -> tuple[Float[Tensor, " c"], float]:
    """J' r and the sum of squares of r, in float64."""
    weights, affine, squares = torch.zeros_like(kinks.weight), torch.zeros_like(kinks.affine), 0.0
    half = kinks.sign / 2
    for x, y in sample.blocks():
        z = x @ kinks.weight.T
        gate = (z.sign() + kinks.tilt) * half
        r = y - x @ kinks.affine - (z * gate).sum(1)
        weights += (gate * r[:, None]).T @ x
        affine += x.T @ r
        squares += float(r @ r)
    return torch.cat([weights[support.kink, support.column], affine[support.affine]]), squares


def refit(kinks: Kinks, support: Support, sample: Sample, steps: int = 12, enough: float = 1e-2) -> Fit:
    """Levenberg-Marquardt on the support until a step gains less than the fraction ``enough``, or ``steps`` steps.

    The function is piecewise linear in the weights, so undamped steps end in a few rounds once the gates are right;
    the Gram matrix is kept while steps gain a factor of ten.
    """
    mask = torch.zeros_like(kinks.weight)
    mask[support.kink, support.column] = 1.0
    kinks = replace(kinks, weight=kinks.weight * mask)
    damping, matrix = 1e-6, gram(kinks, support, sample)
    slope, squares = gradient(kinks, support, sample)
    for _ in range(steps):
        moved = _descend(kinks, support, sample, matrix, slope, squares, damping)
        if moved is None:
            break
        kinks, after, damping = moved
        gain = 1.0 - after / squares
        if gain < 0.9:
            matrix = gram(kinks, support, sample)
        slope, squares = gradient(kinks, support, sample)
        if gain < enough or squares < ROUNDING * sample.n:
            break
    return Fit(kinks, support, squares / sample.n, matrix, sample.n)


def _descend(
    kinks: Kinks, support: Support, sample: Sample, matrix: Tensor, slope: Tensor, squares: float, damping: float
) -> tuple[Kinks, float, float] | None:
    """One accepted step, its sum of squares and the damping for the next; None when no damping helps."""
    for _ in range(9):
        root, damping = _cholesky(matrix, damping)
        moved = support.added(kinks, torch.cholesky_solve(slope[:, None], root)[:, 0])
        after = float(residual(moved, sample).square().sum())
        if after < squares:
            return moved, after, damping / 10
        damping = max(damping * 10, 1e-9)
    return None


def _cholesky(matrix: Tensor, damping: float) -> tuple[Tensor, float]:
    """Cholesky factor of the matrix with its diagonal raised, by more where rounding makes it indefinite."""
    diagonal = matrix.diagonal().clamp_min(1e-14 * float(matrix.diagonal().max()))
    while True:
        root, failed = torch.linalg.cholesky_ex(matrix + torch.diag(damping * diagonal))
        if not int(failed):
            return root, damping
        damping = max(damping * 10, 1e-12)


def factor(matrix: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """Cholesky factor of a Gram matrix, its diagonal raised by no more than rounding asks for."""
    return _cholesky(matrix, 0.0)[0]


def saliency(fit: Fit) -> Float[Tensor, " p"]:
    """Rise of the mean squared error, in units of its sampling variance, when a weight is dropped and the rest refit.

    Hassibi & Stork (1993), optimal brain surgeon: w_i^2 / (H^-1)_ii with H = J' J, over the residual variance: the
    square of the usual t statistic.
    """
    variance = torch.cholesky_inverse(factor(fit.gram)).diagonal()[: len(fit.support)] * max(fit.mse, ROUNDING)
    weight = fit.kinks.weight[fit.support.kink, fit.support.column]
    return weight.square() / variance
