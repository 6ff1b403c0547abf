"""The start of exact recovery: a wide student with a penalty that follows its own residual.

Minimises  mse + lambda sum sqrt(w^2 + eps^2)  over all weights at once, for targets of unit variance, by L-BFGS. With n
rows the gradient of a weight that should be zero has standard deviation sqrt(mse / n), so lambda is a
few times that (the square-root lasso of Belloni, Chernozhukov & Wang 2011), and eps, which smooths the penalty, a third
of lambda: its curvature lambda / eps is then that of the data at every stage.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.hinges import Kinks, at_a_time, merged

BLOCK = 1024
SMOOTHING = 1 / 3
ZERO = 2.0
"""Weights below this many eps are zero when a stage ends."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage that ended: its kinks, relative error ``mse``, and evaluations of the gradient."""

    kinks: Kinks
    mse: float
    evaluations: int


@runtime_checkable
class Task(Protocol):
    """Value and gradient over one vector; ``mse`` is the error at the last one."""

    mse: float

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]: ...


class _Objective:
    """Value and gradient in one vector: weights (k D), kinks on one axis (D), affine part (D)."""

    def __init__(self, x: Tensor, y: Tensor, sign: Tensor, penalty: float) -> None:
        self.x, self.y, self.half, self.penalty = x, y, sign / 2, penalty
        self.eps = SMOOTHING * penalty
        self.k, self.d = sign.numel(), x.shape[1]
        self.mse, self.evaluations = float("inf"), 0

    def parts(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (k, D), axis (D,), affine (D,)."""
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
    x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], kinks: Kinks, penalty: float, steps: int, merge: float
) -> Stage:
    """One stage of the student from ``kinks``, for float32 rows and targets of unit variance.

    Kinks on a single input start in a block of their own, |x_i| with a free sign, which costs no product. Kinks are one
    when joining them costs less than ``merge`` times the mse. Ends
    after ``steps`` iterations, or when 20 of them gain less than a fiftieth of the squared error.
    """
    several = (kinks.weight != 0).sum(1) > 1
    axis = _axis_part(kinks.take(~several))
    wide = kinks.take(several)
    task = _Objective(x, y, wide.sign.to(x), penalty)
    vector = torch.cat([wide.weight.reshape(-1), axis, kinks.affine]).to(x)
    vector = minimised(task, vector, steps)
    weight, axis, affine = (part.double() for part in task.parts(vector))
    zero = ZERO * task.eps
    weight, axis = weight * (weight.abs() > zero), axis * (axis.abs() > zero)
    affine[-1] += axis[-1] / 2
    axis[-1] = 0.0
    wide = Kinks(wide.sign, weight, torch.zeros_like(wide.sign), affine)
    wide = wide.take((weight != 0).any(1))
    live = axis.nonzero()[:, 0]
    rows = torch.zeros(live.numel(), axis.numel()).to(axis)
    rows[torch.arange(live.numel()), live] = axis[live].abs()
    found = merged(wide.with_kinks(axis[live].sign(), rows), merge * task.mse)
    return Stage(found, task.mse, task.evaluations)


def _axis_part(single: Kinks) -> Float[Tensor, " inputs"]:
    """Kinks of one weight each as coefficients of |x_i|."""
    return (single.sign[:, None] * single.weight.abs()).sum(0) if len(single) else torch.zeros_like(single.affine)


def minimised(task: Task, vector: Tensor, steps: int) -> Tensor:
    """After ``steps`` iterations of L-BFGS, or when 20 of them gain less than a fiftieth of the squared error."""
    vector = vector.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [vector], max_iter=20, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )

    def closure() -> Tensor:
        value, vector.grad = task(vector.detach())
        return torch.tensor(value)

    before = float("inf")
    for _ in range(max(1, steps // 20)):
        value = float(optimiser.step(closure))
        if before - value < 0.02 * task.mse:
            break
        before = value
    return vector.detach()
