"""The score test of splits: one hinge that stands for two of almost one hyperplane, taken apart.

|u.x| + |c x_i| with u close to the axis i is almost |(u + c e_i).x|: a model that merges the two is at a local
optimum that no gradient leaves, since the two columns differ on a thin wedge alone. The change
|w.x - c x_i| + |c x_i| - |w.x| that splitting makes to the function is therefore tried for a few c. A
negative c is a hinge of the other sign: |w.x + |c| x_i| - |c x_i|.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel

SHARES = (0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, -0.1, -0.3, -1.0, -3.0)
"""Shares of the weight w_i that go to the axis; a negative share goes there with the other sign."""
SPLIT_ROWS = 10000
"""Rows on which splits are tried first; on all rows where those show none."""


def add_splits(
    model: ReluModel,
    sample: Sample,
    unit: Float[Tensor, "n outs"],
    scale: Float[Tensor, " outs"],
    threshold: float,
    most: int,
) -> tuple[ReluModel, float]:
    """Return the model with at most ``most`` hinges split, and the largest gain, in units of ``threshold``.

    A gain is what the sum of squares of the residual ``unit`` times ``scale`` falls by, in units of its mean. The parts
    that stay keep their place, the axes come last.
    """
    w = model.weight
    several = (w[:, :-1] != 0).sum(1) > 1
    j, i = ((w != 0) & several[:, None])[:, :-1].nonzero().T
    if len(j) == 0:
        return model, 0.0
    for rows in sorted({min(sample.n, SPLIT_ROWS), sample.n}):
        gain, share = _gains(model, sample.rows(np.arange(rows)), unit, scale, j, i)
        gain = gain / threshold
        if float(gain.max()) > 1:
            break
    weight, used = w.clone(), set[int]()
    axes, outputs = [w[:0]], [model.outputs[:0]]
    for o in gain.argsort(descending=True).tolist():
        hinge = int(j[o])
        if float(gain[o]) < 1 or len(used) >= most:
            break
        if hinge in used:
            continue
        used.add(hinge)
        c = float(share[o] * w[hinge, i[o]])
        weight[hinge, i[o]] -= c
        axes.append(torch.zeros_like(w[:1]).index_fill(1, i[o], abs(c)))
        outputs.append(model.outputs[hinge, None] * share[o].sign())
    return replace(model, weight=weight).with_hinges(torch.cat(axes), torch.cat(outputs)), float(gain.max())


def _gains(
    model: ReluModel,
    sample: Sample,
    unit: Float[Tensor, "n outs"],
    scale: Float[Tensor, " outs"],
    j: Int[Tensor, " p"],
    i: Int[Tensor, " p"],
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Return the largest gain of splitting hinge j at weight i, and the share that has it.

    With f the change and V/2 its coefficients in units of the noise, |r|^2 - |r - V f / 2|^2 = f.(r V) - |V f|^2 / 4.
    """
    w, read = model.weight.float(), (model.outputs / scale).float()
    strength, read = read.square().sum(1)[j], read.T
    gains, start = torch.zeros(len(SHARES), len(j), device=w.device), 0
    for x, _ in sample.blocks(dtype=torch.float32):
        inputs, inner = x[:, i], (x @ w.T)[:, j]
        r = (unit[start : start + len(x)] @ read)[:, j]
        start += len(x)
        for row, value in zip(gains, SHARES, strict=True):
            moved = value * w[j, i] * inputs
            axis = moved.abs() if value > 0 else -moved.abs()
            f = (inner - moved).abs() + axis - inner.abs()
            row += (r * f).sum(0) - strength * f.square().sum(0) / 4
    best = gains.max(dim=0)
    return best.values, torch.tensor(SHARES, device=w.device)[best.indices].to(model.weight)
