"""Several outputs: the kinks are found on one random combination of the outputs, then every output is linear in them.

A combination y.a has the kinks of all outputs, with lengths (V_j.a) |w_j|, none zero for almost every a. Given the
kinks, each output is a linear regression on |w_j.x| and x. The directions come from the combination alone: a refit on
all outputs at once would be more exact under noise, and is not done here.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.found import Found, affine_slack
from sparelu.recover.kinks import Kinks, Sample
from sparelu.recover.orient import orientations
from sparelu.recover.refit import ROUNDING


class _Regression:
    """Least squares of one output after another on |u_j.x| / 2 and x, for unit directions u_j."""

    def __init__(self, unit: Tensor, sample: Sample) -> None:
        self.unit, self.sample = unit, sample
        self.gram = unit.new_zeros(len(unit) + sample.inputs, len(unit) + sample.inputs)
        for columns in self._columns():
            self.gram.addmm_(columns.T, columns)

    def _columns(self) -> Iterator[Tensor]:
        """Blocks of columns (b, k + d + 1)."""
        for x, _ in self.sample.blocks():
            yield torch.cat([(x @ self.unit.T).abs() / 2, x], dim=1)

    def solve(self, y: Tensor, live: Tensor) -> tuple[Tensor, Tensor, float]:
        """Coefficients on the live columns, their variance per unit of error, and the mean squared error.

        Two steps of refinement on the residual bring the normal equations to full precision.
        """
        inverse = torch.linalg.pinv(self.gram[live][:, live], hermitian=True)
        solution, squares = torch.zeros(len(self.gram)).to(y), 0.0
        for _ in range(3):
            slope, squares, start = torch.zeros_like(solution), 0.0, 0
            for columns in self._columns():
                r = y[start : start + len(columns)] - columns @ solution
                slope += columns.T @ r
                squares += float(r @ r)
                start += len(columns)
            solution[live] += inverse @ slope[live]
        variance = torch.ones_like(solution)
        variance[live] = inverse.diagonal()
        return solution, variance, max(squares / len(y), ROUNDING * float(y.var()))


def all_outputs(
    kinks: Kinks, sample: Sample, y: Float[Tensor, "n outs"], power: Float[Tensor, " inputs"], mse: float
) -> Found:
    """Output weights of every kink by least squares, those that noise explains set to zero, and orientations.

    ``mse`` is the error of the combination that the kinks were fitted to. A direction of p weights and length l is
    then known to a mean square of 4 p mse / (n l^2), and V_jo^2 times as much leaks into other weights of an output.
    """
    k, length = len(kinks), kinks.weight.norm(dim=1)
    spread = 4 * (kinks.weight != 0).sum(1) * max(mse, ROUNDING) / (sample.n * length.square())
    work = _Regression(kinks.weight / length[:, None], sample)
    threshold = 2 * math.log(max(k, 20) * y.shape[1]) + 6
    parts = [_output(work, y[:, o], k, spread, threshold) for o in range(y.shape[1])]
    v = torch.stack([solution[:k] for solution, _, _ in parts], dim=1)
    a = torch.stack([solution[k:] for solution, _, _ in parts])
    error, leak = (torch.tensor([part[i] for part in parts]).to(a) for i in (1, 2))
    keep = (v != 0).any(1)
    unit, v = work.unit[keep], v[keep]
    slack = (affine_slack(unit, v, error, power, sample.n).square() + 36 * leak[:, None]).sqrt()
    side = orientations(unit, v, a, slack)
    left = a - (v * side[:, None]).T @ unit / 2
    return Found(unit, side, v, torch.where(left.abs() > slack, left, 0.0))


def _output(work: _Regression, y: Tensor, k: int, spread: Tensor, threshold: float) -> tuple[Tensor, float, float]:
    """Coefficients of one output without the kinks that noise explains, its error, and the leak of the directions."""
    live = torch.ones(len(work.gram), dtype=torch.bool, device=y.device)
    while True:
        solution, variance, error = work.solve(y, live)
        leak = float((solution[:k].square() * spread).sum())
        weak = live[:k] & (solution[:k].square() < threshold * (variance[:k] * error + leak))
        if not bool(weak.any()):
            return solution, error, leak
        live[:k] &= ~weak
