"""The warm start of exact recovery: a wide l1-penalised model with a penalty that follows its own residual.

Minimises  mse + lambda sum sqrt(w^2 + eps^2)  over all weights at once, for targets of unit variance, by L-BFGS. With n
rows the gradient of a weight that should be zero has standard deviation sqrt(mse / n), so lambda is a
few times that (the square-root lasso of Belloni, Chernozhukov & Wang 2011), and eps, which smooths the penalty, a third
of lambda: its curvature lambda / eps is then that of the data at every stage.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.lbfgs import minimise
from sparelu.recover.exact.model.hinges import at_a_time, merge_duplicates
from sparelu.recover.exact.model.relu_model import ReluModel

BLOCK = 1024
SMOOTHING = 1 / 3
ZERO = 2.0
"""Weights below this many eps are zero when a stage ends."""


@dataclass(frozen=True, eq=False)
class ContinuationStep:
    """A continuation step that ended: its model, relative error ``mse``, and evaluations of the gradient."""

    model: ReluModel
    mse: float
    evaluations: int


class _Objective:
    """Value and gradient in one vector: weights (k D), hinges on one axis (D), affine part (D)."""

    def __init__(self, x: Tensor, y: Tensor, sign: Tensor, penalty: float) -> None:
        self.x, self.y, self.half, self.penalty = x, y, sign / 2, penalty
        self.eps = SMOOTHING * penalty
        self.k, self.d = sign.numel(), x.shape[1]
        self.mse, self.evaluations = float("inf"), 0

    def parts(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (k, D), axis (D,), affine (D,)."""
        cut = self.k * self.d
        return vector[:cut].view(self.k, self.d), vector[cut : cut + self.d], vector[cut + self.d :]

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        weight, axis, affine = self.parts(vector)
        slope = torch.zeros_like(vector)
        to_weight, to_axis, to_affine = self.parts(slope)
        n, squares = len(self.y), torch.zeros((), dtype=torch.float64, device=self.x.device)
        rows = at_a_time(self.x.device, BLOCK)
        for start in range(0, n, rows):
            x = self.x[start : start + rows]
            z, size = x @ weight.T, x.abs()
            r = torch.addmv(torch.addmv(x @ affine, size, axis, alpha=0.5), z.abs(), self.half)
            r -= self.y[start : start + rows]
            squares += r @ r
            to_weight.addmm_(z.sign_().mul_(r[:, None]).T, x)
            to_axis += size.T @ r
            to_affine += x.T @ r
        to_weight *= (2 / n) * self.half[:, None]
        to_axis /= n
        to_affine *= 2 / n
        self.mse, self.evaluations = float(squares) / n, self.evaluations + 1
        penalised = vector[: (self.k + 1) * self.d]
        smooth = (penalised.square() + self.eps**2).sqrt_()
        slope[: penalised.numel()] += self.penalty * penalised / smooth
        return self.mse + self.penalty * float(smooth.sum() - self.eps * smooth.numel()), slope


def stage(
    x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], model: ReluModel, penalty: float, steps: int, merge: float
) -> ContinuationStep:
    """Return one continuation step from ``model``, of one output, for float32 rows and targets of unit variance.

    Hinges on a single input start in a block of their own, |x_i| with a free sign, which costs no product. Hinges are
    one when joining them costs less than ``merge`` times the mse. Ends after ``steps`` iterations, or when 20 of them
    gain less than a fiftieth of the squared error.
    """
    several = (model.weight != 0).sum(1) > 1
    axis = _axis_part(model.take(~several))
    wide = model.take(several)
    task = _Objective(x, y, wide.outputs[:, 0].to(x), penalty)
    vector = torch.cat([wide.weight.reshape(-1), axis, model.affine[0]]).to(x)
    vector = minimise(task, vector, steps)
    weight, axis, affine = (part.double() for part in task.parts(vector))
    zero = ZERO * task.eps
    weight, axis = weight * (weight.abs() > zero), axis * (axis.abs() > zero)
    affine[-1] += axis[-1] / 2
    axis[-1] = 0.0
    wide = ReluModel(weight, torch.zeros_like(wide.orientation), wide.outputs, affine[None])
    live = axis.nonzero()[:, 0]
    rows = torch.zeros(live.numel(), axis.numel()).to(axis)
    rows[torch.arange(live.numel()), live] = axis[live].abs()
    found = merge_duplicates(wide.with_hinges(rows, axis[live].sign()[:, None]), merge * task.mse)
    return ContinuationStep(found, task.mse, task.evaluations)


def _axis_part(single: ReluModel) -> Float[Tensor, " inputs"]:
    """Return hinges of one weight each as coefficients of |x_i|."""
    return (single.outputs * single.weight.abs()).sum(0)


def with_random(model: ReluModel, count: int, size: float, negative: float, rng: np.random.Generator) -> ReluModel:
    """Return the model with ``count`` random dense hinges of standard deviation ``size``, both signs among them."""
    weight = size * torch.as_tensor(rng.standard_normal((count, model.weight.shape[1]))).to(model.weight)
    weight[:, -1] *= 0.3
    share = min(max(negative, 0.1), 0.9)
    sign = torch.ones_like(weight[:, :1])
    sign[: round(share * count)] = -1.0
    return model.with_hinges(weight, sign)


def carrying(model: ReluModel, mse: float) -> ReluModel:
    """Return the hinges whose contribution has a variance above ``mse``; duplicates are the last to reach zero.

    For unit Gaussian inputs |z| / 2 has variance (1 - 2 / pi) |w|^2 / 4.
    """
    return model.take((1 - 2 / math.pi) / 4 * model.length.square().sum(1) > mse)


def truncate_weights(model: ReluModel, most: int) -> ReluModel:
    """Return the ``most`` weights of largest size: what a step that lacks a hinge spreads thinly is cut."""
    size = model.weight.abs()
    if int(torch.count_nonzero(size)) <= most:
        return model
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep.view(-1)[size.flatten().topk(most).indices] = True
    return replace(model, weight=model.weight * keep).normalise()
