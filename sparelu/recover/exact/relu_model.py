"""From kinks to a network: output weights by least squares, orientation, budget."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.networks.network import Layer, Network
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.least_squares import ROUNDING, Fit, refit, saliency
from sparelu.recover.exact.normal_equations import Support
from sparelu.recover.exact.orientation import Orientations, find_orientations


@dataclass(frozen=True, eq=False)
class Found:
    """f(x) = affine x + sum_j outputs_j (|w_j.x| + e_j w_j.x) / 2: ``weight`` (k, d + 1), ``tilt`` e (k,)."""

    weight: Float[Tensor, "k inputs"]
    tilt: Float[Tensor, " k"]
    outputs: Float[Tensor, "k outs"]
    affine: Float[Tensor, "outs inputs"]

    @property
    def nonzeros(self) -> int:
        """Weights on inputs and output weights."""
        return int(torch.count_nonzero(self.weight[:, :-1])) + int(torch.count_nonzero(self.outputs))

    def take(self, keep: Tensor) -> "Found":
        """The kinks that a mask or an index ``keep`` names."""
        return replace(self, weight=self.weight[keep], tilt=self.tilt[keep], outputs=self.outputs[keep])

    def times(self, scale: Float[Tensor, " outs"]) -> "Found":
        """With every output larger by ``scale``."""
        return replace(self, outputs=self.outputs * scale, affine=self.affine * scale[:, None])

    def network(self) -> Network:
        """The ReLU network; what orientation does not explain is its skip part.

        A kink of orientation 0 becomes (w.x)_+ and half its linear function goes to the skip part.
        """
        side = torch.where(self.tilt == 0, 1.0, self.tilt)
        moved = (self.outputs * ((self.tilt - side) / 2)[:, None]).T @ self.weight
        skip = (self.affine + moved).cpu()
        w = (self.weight * side[:, None]).cpu()
        bias = w[:, -1] if bool(w[:, -1].any()) else None
        constant = skip[:, -1] if bool(skip[:, -1].any()) else None
        linear = Layer.from_dense(skip[:, :-1]) if bool(skip[:, :-1].any()) else None
        return Network((Layer.from_dense(w[:, :-1], bias), Layer.from_dense(self.outputs.T.cpu(), constant)), linear)

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outs"]:
        """Values for rows whose last column is 1."""
        z = x @ self.weight.T
        return x @ self.affine.T + (z.abs() + z * self.tilt) @ self.outputs / 2

    def on(self, scale: Float[Tensor, " inputs"]) -> "Found":
        """The same function of inputs that are larger by ``scale`` (1 for the constant)."""
        return replace(self, weight=self.weight / scale, affine=self.affine / scale)


def scalar(kinks: Kinks, scale: float) -> Found:
    """Of one output whose targets were divided by ``scale``."""
    return Found(kinks.weight * scale, kinks.tilt, kinks.sign[:, None], kinks.affine[None] * scale)


def affine_slack(
    weight: Tensor, outputs: Tensor, mse: Tensor, power: Tensor, rows: int
) -> Float[Tensor, "outs inputs"]:
    """Six standard deviations of an entry of the affine part minus the terms that orientation adds to it.

    An affine weight has variance mse / (n E x_i^2); a kink weight, whose column is half as long, four times that, and
    half of it enters.
    """
    touching = (weight != 0).double().T @ (outputs != 0).double()
    floor = mse.clamp_min(100 * ROUNDING)[:, None]
    return 6 * ((1 + touching.T) * floor / (rows * power)).sqrt()


def _fitted_slack(fit: Fit) -> Float[Tensor, "1 inputs"]:
    """The same with the variances of this fit, which are larger where kinks lie close together."""
    variance = fit.normal.variances() * max(fit.mse, ROUNDING)
    size = len(fit.support)
    total = torch.zeros_like(fit.kinks.affine)
    total[fit.support.affine] += variance[size:]
    total.index_add_(0, fit.support.column, variance[:size] / 4)
    return 6 * total.sqrt()[None]


def orient_scalar(fit: Fit, sample: Sample) -> tuple[Fit, Orientations | None]:
    """Read off the orientations, put affine entries that are then explained to zero, and refit.

    The oriented fit is kept only where it explains the rows as well; else there are no orientations.
    """
    kinks = fit.kinks
    outputs = kinks.sign[:, None]
    power = torch.stack([x.square().sum(0) for x, _ in sample.blocks()]).sum(0) / sample.n
    slack = torch.maximum(
        affine_slack(kinks.weight, outputs, torch.tensor([fit.mse]).to(power), power, fit.rows), _fitted_slack(fit)
    )
    signs = find_orientations(kinks.weight, outputs, kinks.affine[None], slack)
    left = kinks.affine - (kinks.sign * signs.signs) @ kinks.weight / 2
    needed = left.abs() > slack[0]
    turned = replace(kinks, tilt=signs.signs, affine=torch.where(needed, left, 0.0))
    again = refit(turned, Support.of(kinks.weight != 0, needed), sample, steps=6)
    if again.mse <= fit.mse * (1 + 60 / math.sqrt(fit.rows)) + 100 * ROUNDING:
        return again, signs
    return fit, None


def within(kinks: Kinks, allowed: int | None, width: int) -> Kinks:
    """The ``width`` longest kinks, and of their weights the ``allowed`` largest."""
    if len(kinks) > width:
        kinks = kinks.take(kinks.weight.norm(dim=1).argsort(descending=True)[:width].sort().values)
    size = kinks.weight[:, :-1].abs()
    if allowed is None or kinks.nonzeros <= allowed:
        return kinks
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep.view(-1)[size.flatten().topk(allowed).indices] = True
    weight = torch.cat([kinks.weight[:, :-1] * keep, kinks.weight[:, -1:]], dim=1)
    kinks = replace(kinks, weight=weight)
    return kinks.take(keep.any(1))


def trimmed(kinks: Kinks, sample: Sample, allowed: int | None, width: int) -> Fit:
    """Refit on all rows, after dropping the weights of least saliency, a fifth of the excess at a time."""
    kinks = within(kinks, None, width)
    fit = refit(kinks, Support.of(kinks.weight != 0), sample)
    while allowed is not None and fit.kinks.nonzeros > allowed:
        on_input = fit.support.column < sample.inputs - 1
        value = torch.where(on_input, saliency(fit), torch.inf)
        excess = fit.kinks.nonzeros - allowed
        gone = value.argsort()[: max(1, excess // 5)]
        weight = fit.kinks.weight.clone()
        weight[fit.support.kink[gone], fit.support.column[gone]] = 0.0
        kinks = replace(fit.kinks, weight=weight)
        kinks = kinks.take((weight[:, :-1] != 0).any(1))
        fit = refit(kinks, Support.of(kinks.weight != 0), sample, steps=4)
    return fit
