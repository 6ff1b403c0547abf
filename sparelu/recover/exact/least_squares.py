"""Least squares on a given support: Levenberg-Marquardt for kinks, and what each weight explains."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.hinges import Kinks, Sample, residual
from sparelu.recover.exact.normal_equations import Normal, Support, normal

ROUNDING = 1e-24
"""Mean squared error, of targets of unit variance, that float64 rounding may leave: no test looks below it."""


NOTHING = 1e-9
"""Share of the squared error that a step must promise to be tried."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Kinks refitted on a support: mean squared error ``mse``, and the normal equations of the columns."""

    kinks: Kinks
    mse: float
    normal: Normal
    rows: int

    @property
    def support(self) -> Support:
        """The support that the kinks were fitted on."""
        return self.normal.support


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
    return support.gathered(weights, affine), squares


def refit(kinks: Kinks, support: Support, sample: Sample, steps: int = 12, enough: float = 1e-2) -> Fit:
    """Levenberg-Marquardt on the support until a step gains less than the fraction ``enough``, or ``steps`` steps.

    The function is piecewise linear in the weights, so undamped steps end in a few rounds once the gates are right: a
    step that ends where its linear model promised, to the fraction ``enough``, is the last. The normal equations
    are kept while steps gain a factor of ten, and after the last.
    """
    mask = torch.zeros_like(kinks.weight)
    mask[support.kink, support.column] = 1.0
    kinks = replace(kinks, weight=kinks.weight * mask)
    damping, equations = 1e-6, normal(kinks, support, sample)
    slope, squares = gradient(kinks, support, sample)
    for _ in range(steps):
        moved = _descend(kinks, equations, sample, slope, squares, damping)
        if moved is None:
            break
        kinks, after, promised, damping = moved
        gain = 1.0 - after / squares
        slope, squares = gradient(kinks, support, sample)
        if gain < enough or abs(after - promised) < enough * after or squares < ROUNDING * sample.n:
            break
        if gain < 0.9:
            equations = normal(kinks, support, sample)
    return Fit(kinks, squares / sample.n, equations, sample.n)


def _descend(
    kinks: Kinks, equations: Normal, sample: Sample, slope: Tensor, squares: float, damping: float
) -> tuple[Kinks, float, float, float] | None:
    """One accepted step, its sum of squares, the one promised, and the damping for the next; None if none gains."""
    for _ in range(9):
        step, damping = equations.step(slope, damping)
        promise = float(slope @ step)
        if promise < NOTHING * squares:
            break
        moved = equations.support.added(kinks, step)
        after = float(residual(moved, sample).square().sum())
        if after < squares:
            return moved, after, squares - promise, damping / 10
        damping = max(damping * 10, 1e-9)
    return None


def saliency(fit: Fit) -> Float[Tensor, " p"]:
    """Rise of the mean squared error, in units of its sampling variance, when a weight is dropped and the rest refit.

    Hassibi & Stork (1993), optimal brain surgeon: w_i^2 / (H^-1)_ii with H = J' J, over the residual variance: the
    square of the usual t statistic.
    """
    variance = fit.normal.variances()[: len(fit.support)] * max(fit.mse, ROUNDING)
    weight = fit.kinks.weight[fit.support.kink, fit.support.column]
    return weight.square() / variance
