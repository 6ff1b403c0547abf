"""From kinks of kinks to a network of two hidden layers: which side of each kink is active, and what is then linear.

A ReLU network has B_k = sum_j U_kj e_j w_j and a = sum_j c_j e_j w_j, up to one freedom. Where an input p of z_k has a
sign of its own, (p_+ - (q)_+ - ...)_+ = (p - (q)_+ - ...)_+: the kink of p within z_k is not seen, and B_k holds a
multiple of p (:func:`absorbed`). Given the signs e_j, f = sum_k v_k (s_k z_k)_+ + sum_j c'_j h_j with
c'_j = c_j - (1/2) sum_k v_k s_k U_kj for any signs s_k, since (z)_+ = z + (-z)_+ and z is linear in h: networks of one
function. The one of fewest c'_j is taken. What is linear in h costs a neuron for each sign of c', as h >= 0.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.networks.network import Layer, Network
from sparelu.recover.cholesky import factor
from sparelu.recover.exact.model.tolerances import ROUNDING
from sparelu.recover.exact.steps.orientation import orientations
from sparelu.recover.exact.two_layers.hinges import DeepKinks
from sparelu.recover.exact.two_layers.least_squares import DeepFit

SURE = 12.0
"""Standard errors within which two numbers are equal."""
FLIPS = 2
"""Kinks that are turned at a time."""
FAINT = 1e-9
"""Relative rounding of a sum."""
ONE = 1e-4
"""Sine of the angle below which a direction is that of a kink."""


def deviations(fit: DeepFit) -> DeepKinks:
    """Compute the standard error of every weight in its place; 0 for those that are held or zero."""
    variance = torch.cholesky_inverse(factor(fit.gram)).diagonal().clamp_min(0) * max(fit.mse, ROUNDING)
    return fit.model.with_vector(torch.zeros_like(fit.model.vector()).index_copy(0, fit.free, variance.sqrt()))


@dataclass(frozen=True, eq=False)
class _Linear:
    """What linear parts say of the orientations: B and a, and the errors within which they are equal to zero."""

    model: DeepKinks
    slack: Float[Tensor, "k2 inputs"]
    slack_affine: Float[Tensor, " inputs"]

    @classmethod
    def of(cls, fit: DeepFit) -> "_Linear":
        f, sd = fit.model, deviations(fit)
        read, spread = torch.cat([f.inner, f.through[None]]), torch.cat([sd.inner, sd.through[None]])
        own = torch.cat([sd.direct, sd.affine[None]]) + read.abs() @ sd.weight + spread @ f.weight.abs()
        size = torch.cat([f.direct, f.affine[None]]).abs() + read.abs() @ f.weight.abs()
        slack = SURE * own + FAINT * (size + size.max())
        # An input that is absorbed is in the linear part too, with the errors of its kink.
        return cls(f, slack[:-1], slack[-1] + slack[:-1].sum(0))

    def left(self, tilt: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what the orientations do not explain of B, biases left out, and of a, once B is absorbed."""
        f = self.model
        b = f.direct - (f.inner * tilt) @ f.weight
        b = torch.where(b.abs() > self.slack, b, 0.0)
        b[:, -1] = 0.0
        side = -f.inner.sum(1).sign()
        a = f.affine - (f.through * tilt) @ f.weight - (f.sign * side / 2) @ b
        return b, torch.where(a.abs() > self.slack_affine, a, 0.0)

    def cost(self, tilt: Tensor) -> int:
        """Count the numbers that are left, those that are multiples of a first-layer kink left out."""
        b, a = self.left(tilt)
        counts = (b != 0).sum(1)
        for k in counts.nonzero()[:, 0].tolist():
            counts[k] = 1 if _alike(b[k], self.model.weight) is not None else counts[k] + 1
        return int(counts.sum()) + int((a[:-1] != 0).sum())


def turned(fit: DeepFit) -> DeepKinks:
    """Orient the first layer: B and a are zero where that explains them."""
    f, linear = fit.model, _Linear.of(fit)
    read = torch.cat([f.inner, f.through[None]])
    slack = torch.cat([linear.slack, linear.slack_affine[None]])
    start = orientations(f.weight, 2 * read.T, torch.cat([f.direct, f.affine[None]]), slack)
    tilt = flipped(start, linear.cost)
    b, a = linear.left(tilt)
    bias = torch.zeros_like(b)
    bias[:, -1] = (f.direct - (f.inner * tilt) @ f.weight)[:, -1]
    model = replace(f, tilt=tilt, direct=torch.where(bias.abs() > linear.slack, bias, 0.0), affine=a)
    for k in b.any(1).nonzero()[:, 0].tolist():
        model = absorbed(model, k, b[k])
    return model


def _alike(b: Tensor, weight: Tensor) -> int | None:
    """Find the first-layer kink whose hyperplane is that of ``b``."""
    unit = weight[:, :-1] / weight[:, :-1].norm(dim=1, keepdim=True)
    gap = (b[:-1] - (unit @ b[:-1])[:, None] * unit).norm(dim=1)
    near = int(gap.argmin())
    return near if float(gap[near]) <= ONE * float(b.norm()) else None


def absorbed(model: DeepKinks, k: int, b: Float[Tensor, " inputs"]) -> DeepKinks:
    """Make b.x in z_k + b.x a first-layer kink, where all else in z_k has the other sign; else leave b with B_k.

    With s U_kj <= 0, (s z)_+ = (-sum |U_kj| h_j + p)_+ = (-sum |U_kj| h_j + p_+)_+ for p = s b.x, and p_+ is half a
    kink of orientation 1. The model keeps |z|, so v s (z_new - z_old) / 2 moves between c, a and z.
    """
    like = _alike(b, model.weight)
    others = model.inner[k].clone()
    if like is not None:
        others[like] = 0.0
    side = -float(others.sum().sign())
    if side == 0 or bool((side * others > 0).any()):
        linear = model.affine + model.sign[k] * side / 2 * b
        return replace(model, direct=model.direct.index_add(0, torch.tensor([k]), b[None]), affine=linear)
    p, half = side * b, float(model.sign[k]) / 4
    if like is not None and float(p @ model.weight[like] * model.tilt[like]) > 0:
        gain = float(p.norm() / model.weight[like].norm())
        inner, through = model.inner.clone(), model.through.clone()
        inner[k, like] += side * gain / 2
        through[like] += half * gain
        return replace(model, inner=inner, through=through)
    reads = torch.zeros_like(model.inner[:, :1])
    reads[k] = side / 2
    wide = model.with_first(p[None], torch.full_like(model.through[:1], half), reads)
    return replace(wide, tilt=torch.cat([model.tilt, torch.ones_like(model.tilt[:1])]))


def flipped(side: Tensor, cost: Callable[[Tensor], Any]) -> Tensor:
    """Find the signs of least cost that turning up to ``FLIPS`` at a time leads to."""
    best, moved = cost(side), True
    while moved:
        moved = False
        for count in range(1, FLIPS + 1):
            for chosen in itertools.combinations(range(side.numel()), count):
                other = side.clone()
                other[list(chosen)] *= -1
                value = cost(other)
                if value < best:
                    side, best, moved = other, value, True
    return side


def faced(fit: DeepFit) -> DeepKinks:
    """Orient the second layer of an oriented model too, for the fewest weights that pass by it."""
    f, sd = fit.model, deviations(fit)
    size = f.inner.abs().T @ torch.ones_like(f.sign)
    slack = SURE * (sd.through + sd.inner.sum(0) / 2) + FAINT * (f.through.abs() + size)
    wide = torch.cat([f.inner, torch.zeros_like(f.inner[:, :1])], dim=1)
    own, room = (torch.cat([part, torch.ones_like(part[:1])])[None] for part in (f.through, slack))

    def cost(s: Tensor) -> tuple[int, int]:
        left = f.through - (f.sign * s) @ f.inner / 2
        return int((left.abs() > slack).sum()), int((left < -slack).sum())

    side = flipped(orientations(wide, f.sign[:, None], own, room), cost)
    left = f.through - (f.sign * side) @ f.inner / 2
    # z enters through |z| alone: turning it is free.
    return replace(
        f,
        through=torch.where(left.abs() > slack, left, 0.0),
        inner=f.inner * side[:, None],
        direct=f.direct * side[:, None],
        affine=f.affine - (f.sign * side) @ f.direct / 2,
        side=torch.ones_like(side),
    )


def deep_network(model: DeepKinks, scale: float, units: Float[Tensor, " inputs"]) -> Network:
    """Build the ReLU network, with outputs times ``scale`` and inputs larger by ``units``; output weights are +-1.

    Kinks of orientation 0 become pairs of neurons, and what the second layer reads of x itself two neurons a kink;
    an oriented model that recovers a network has neither.
    """
    first, second, out = [], [], []
    w, u, b, c = (t.cpu().numpy() for t in (model.weight / units, model.inner, model.direct / units, model.through))
    tilt, side, sign = (t.cpu().numpy() for t in (model.tilt, model.side, model.sign))
    affine = (model.affine / units).cpu().numpy() * scale
    reads: list[np.ndarray] = []
    for j in range(len(w)):  # (|t| + e t) = 2 (e t)_+, or (t)_+ + (-t)_+
        for e in [tilt[j]] if tilt[j] else [1.0, -1.0]:
            first.append(e * w[j] * (2.0 if tilt[j] else 1.0))
            reads.append(np.append(u[:, j], c[j]))
    for k in np.flatnonzero(b[:, :-1].any(axis=1)).tolist():  # t = (t)_+ - (-t)_+
        for e in (1.0, -1.0):
            first.append(e * np.append(b[k, :-1], 0.0))
            reads.append(e * np.eye(len(sign) + 1)[k])
    table = np.array(reads).reshape(-1, len(sign) + 1).T
    for k in range(len(sign)):  # v (|z| + s z) / 2 = v (s z)_+, or v (z)_+ / 2 + v (-z)_+ / 2
        for s in [side[k]] if side[k] else [1.0, -1.0]:
            size = scale if side[k] else scale / 2
            second.append(s * size * np.append(table[k], b[k, -1]))
            out.append(sign[k])
    for s in (1.0, -1.0):
        passing = np.maximum(s * table[-1], 0.0)
        if passing.any():
            second.append(scale * np.append(passing, 0.0))
            out.append(s)
    return _assembled(first, second, out, affine)


def _assembled(first: list[np.ndarray], second: list[np.ndarray], out: list[float], affine: np.ndarray) -> Network:
    w = np.array(first).reshape(-1, len(affine))
    u = np.array(second).reshape(-1, len(w) + 1)
    layers = (
        Layer.from_dense(w[:, :-1], w[:, -1] if w[:, -1].any() else None),
        Layer.from_dense(u[:, :-1], u[:, -1] if u[:, -1].any() else None),
        Layer.from_dense(np.array(out).reshape(1, -1), affine[-1:] if affine[-1] else None),
    )
    return Network(layers, Layer.from_dense(affine[None, :-1]) if affine[:-1].any() else None)
