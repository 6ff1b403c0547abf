"""Least squares on a given support, the Wald test of what is in it, and the test of another support."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.cholesky import factor
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.normal_equations import (
    Gradient,
    NormalEquations,
    errors,
    gradient,
    normal_equations,
)
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import CONVERGED, NOISELESS, RISE, ROUNDED, ROUNDING, universal_threshold
from sparelu.recover.levenberg_marquardt import levenberg_marquardt

FEWEST = 2000
"""Candidates of a threshold at least: a small problem is no licence to add noise."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A model refitted on a support: its gradient, with the error of every output, and the normal equations."""

    support: Support
    slope: Gradient
    equations: NormalEquations

    @property
    def model(self) -> ReluModel:
        return self.slope.model

    @property
    def rows(self) -> int:
        return self.slope.rows

    @property
    def noise(self) -> Float[Tensor, " outs"]:
        """Return the mean squared error of every output, not below what rounding leaves."""
        return self.slope.noise

    @property
    def mse(self) -> float:
        """Return the geometric mean of the errors of all outputs."""
        return math.exp(float(self.slope.mse.clamp_min(1e-300).log().mean()))

    @property
    def thresholds(self) -> Float[Tensor, " outs"]:
        """Return squared t statistics that noise rarely reaches, of every output.

        An error below ``ROUNDING`` is no noise but what the steps leave: all of it, n mse, can be due to one number.
        """
        k, inputs = self.model.weight.shape
        candidates = max(FEWEST, k * (inputs + (self.noise.numel() if self.noise.numel() > 1 else 0)))
        noise = universal_threshold(candidates, 1.0)
        left = torch.where(self.slope.mse < ROUNDING, self.rows * self.slope.mse / ROUNDING, 0.0)
        return torch.where(self.slope.mse < NOISELESS, left.clamp_min(max(noise, ROUNDED)), noise)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The problem of one support on some rows (:class:`~sparelu.recover.levenberg_marquardt.Problem`)."""

    support: Support
    sample: Sample

    def equations(self, point: Gradient) -> NormalEquations:
        return normal_equations(point.model, self.support, self.sample)

    def solve(self, point: Gradient, equations: NormalEquations, damping: float) -> tuple[ReluModel, float, float]:
        return equations.solve(point, damping)

    def evaluate(self, numbers: ReluModel, before: Gradient) -> Gradient:
        return gradient(numbers, self.sample, 1 / before.noise)


def refit(
    model: ReluModel,
    sample: Sample,
    support: Support | None = None,
    *,
    steps: int = 12,
    enough: float = 1e-2,
    before: NormalEquations | None = None,
) -> Fit:
    """Return Levenberg-Marquardt on ``support`` (by default the nonzeros), to a step that gains less than ``enough``.

    The equations ``before`` serve for the first steps: of a larger support, near enough to it.
    """
    support = Support.of(model) if support is None else support
    model, problem = support.apply(model), _Problem(support, sample)
    single = model.affine.shape[0] == 1
    precision = model.affine.new_ones(1) if single else 1 / errors(model, sample).clamp_min(ROUNDING)
    start = gradient(model, sample, precision)
    point, equations = levenberg_marquardt(problem, start, before, steps=steps, enough=enough)
    return Fit(support, point, equations)


def regress(model: ReluModel, sample: Sample) -> ReluModel:
    """Return the model whose output weights and affine parts are those of linear regression; all may be nonzero."""
    k = len(model)
    total = model.affine.new_zeros(k + sample.inputs, k + sample.inputs)
    target = model.affine.new_zeros(k + sample.inputs, model.affine.shape[0])
    for x, y in sample.blocks():
        z = x @ model.weight.T
        columns = torch.cat([(z.abs() + z * model.orientation) / 2, x], dim=1)
        total.addmm_(columns.T, columns)
        target.addmm_(columns.T, y)
    size = total.diagonal().clamp_min(1e-300).sqrt()
    solved = torch.cholesky_solve(target / size[:, None], factor(total / size / size[:, None])) / size[:, None]
    return replace(model, outputs=solved[:k], affine=solved[k:].T.contiguous()).normalise()


@dataclass(frozen=True, eq=False)
class WaldStatistics:
    """Squared t statistics of weights (k, inputs) and output weights (k, outs), infinite elsewhere."""

    weight: Float[Tensor, "k inputs"]
    outputs: Float[Tensor, "k outs"]

    def flat(self) -> Float[Tensor, " c"]:
        return torch.cat([self.weight.flatten(), self.outputs.flatten()])


def wald(fit: Fit, in_units: bool = True) -> WaldStatistics:
    """Return what dropping each number and refitting the others costs: the square of its t statistic.

    In units of its threshold, or as it is. Hassibi and Stork (1993), optimal brain surgeon: w^2 / (H^-1)_ii with
    H = J'J, over the residual variance.
    """
    variances, model, outputs = fit.equations.variances(fit.slope), fit.model, fit.thresholds
    weights = torch.where(model.outputs != 0, outputs, 0.0).amax(1, keepdim=True).clamp_min(1e-30)
    if not in_units:
        weights, outputs = torch.ones_like(weights), torch.ones_like(outputs)
    on = fit.support.weight & (variances.weight > 0), fit.support.outputs & (variances.outputs > 0)
    return WaldStatistics(
        torch.where(on[0], model.weight.square() / variances.weight / weights, torch.inf),
        torch.where(on[1], model.outputs.square() / variances.outputs / outputs, torch.inf),
    )


def all_t(fit: Fit) -> Float[np.ndarray, " p"]:
    """Return |t| of every number of the support that has one."""
    t = wald(fit, in_units=False).flat()
    return t[t.isfinite()].sqrt().cpu().numpy()


def criterion(fit: Fit) -> float:
    """Return sum_o log mse_o + tau p / n: what a change of the support must lower.

    Risk inflation (Foster and George 1994), the criterion of Schwarz with the threshold tau of one number for log n.
    """
    return float(fit.noise.log().sum()) + float(fit.thresholds.max()) * fit.support.size / fit.rows


def accept(fit: Fit, after: Fit) -> bool:
    """Return whether a fit of fewer numbers stands for ``fit``: no output costs more than what is gone allows.

    That is twice the threshold a number, for what is weak alone may be needed together, and the convergence of refits.
    """
    gone = fit.support.size - after.support.size
    rise = CONVERGED + 2 * float(fit.thresholds.max()) * gone / fit.rows
    return bool((after.slope.mse <= fit.noise * (1 + rise)).all())


def explains_as_well(after: Fit, fit: Fit) -> bool:
    """Return whether another form of a fit meets every output as well, up to ``RISE`` / sqrt(n)."""
    rise = 1 + RISE / math.sqrt(fit.rows)
    return bool((after.slope.mse <= fit.slope.mse * rise + 100 * ROUNDING).all())
