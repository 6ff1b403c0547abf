"""The start of recovery with two hidden layers: a wide penalised student of kinks of kinks.

The objective is that of :mod:`.exact.warm_start`, mean squared error + lambda sum sqrt(w^2 + eps^2), over the weights
of both layers: since a first-layer kink can be scaled against what reads it, the sum over both is a penalty on the
square roots of their products, which leaves few of both.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.lbfgs import minimise
from sparelu.recover.exact.model.hinges import at_a_time
from sparelu.recover.exact.two_layers.hinges import PARTS, DeepKinks
from sparelu.recover.exact.warm_start import SMOOTHING, ZERO


class _Objective:
    """Value and gradient over the vector of all weights; the through and affine parts carry no penalty."""

    def __init__(self, x: Tensor, y: Tensor, model: DeepKinks, penalty: float) -> None:
        self.x, self.y, self.model, self.penalty = x, y, model, penalty
        self.eps = SMOOTHING * penalty
        self.penalised = sum(getattr(model, part).numel() for part in PARTS[:3])
        self.mse, self.evaluations = float("inf"), 0

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        slope, squares = torch.zeros_like(vector), 0.0
        f, to, half = self.model.with_vector(vector), self.model.with_vector(slope), self.model.sign / 2
        rows = at_a_time(self.x.device)
        for start in range(0, len(self.y), rows):
            x = self.x[start : start + rows]
            z1 = x @ f.weight.T
            h = z1.abs()
            z2 = torch.addmm(x @ f.direct.T, h, f.inner.T)
            r = x @ f.affine + h @ f.through + z2.abs() @ half - self.y[start : start + rows]
            squares += float(r @ r)
            gate = z2.sign_().mul_(half).mul_(r[:, None])
            back = (gate @ f.inner).addr_(r, f.through)
            to.inner.addmm_(gate.T, h)
            to.direct.addmm_(gate.T, x)
            to.weight.addmm_(back.mul_(z1.sign_()).T, x)
            to.through.addmv_(h.T, r)
            to.affine.addmv_(x.T, r)
        slope *= 2 / len(self.y)
        self.mse, self.evaluations = squares / len(self.y), self.evaluations + 1
        part = vector[: self.penalised]
        smooth = (part.square() + self.eps**2).sqrt_()
        slope[: self.penalised] += self.penalty * part / smooth
        return self.mse + self.penalty * float(smooth.sum() - self.eps * self.penalised), slope


def deep_stage(
    x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], model: DeepKinks, penalty: float, steps: int
) -> tuple[DeepKinks, float]:
    """Take at most ``steps`` iterations of L-BFGS, drop weights that the penalty shrank to zero; return the mse, too.

    ``x`` and ``y`` are float32 rows, y of unit variance; the model comes back in float64.
    """
    task = _Objective(x, y, model.to(torch.float32), penalty)
    vector = minimise(task, task.model.vector(), steps).double()
    small = vector.abs() <= ZERO * task.eps
    small[task.penalised :] = False
    return model.with_vector(torch.where(small, 0.0, vector)), task.mse
