"""One kink that stands for two of almost one hyperplane, taken apart.

|u.x| + |c x_i| with u close to the axis i is almost |(u + c e_i).x|: a student that merges the two is at a local
optimum that no gradient leaves, since the two columns differ on a thin wedge alone. The change
|w.x - c x_i| + |c x_i| - |w.x| that splitting makes to the function is therefore tried for a few c. A
negative c is a kink of the other sign: |w.x + |c| x_i| - |c x_i|.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.recover.exact.forward import normalised
from sparelu.recover.exact.hinges import Kinks, Sample

SHARES = (0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, -0.1, -0.3, -1.0, -3.0)
"""Shares of the weight w_i that go to the axis; a negative share goes there with the other sign."""
SPLIT_ROWS = 10000
"""Rows on which splits are tried first; on all rows where those show none."""


def more_splits(
    kinks: Kinks, sample: Sample, r: Float[Tensor, " n"], threshold: float, most: int
) -> tuple[Kinks, float]:
    """With at most ``most`` kinks split; the largest gain.

    A gain is what the sum of squares of the residual ``r`` falls by, in units of its mean; those above ``threshold``
    count. The parts that stay keep their place, the axes come last.
    """
    w = kinks.weight
    several = (w[:, :-1] != 0).sum(1) > 1
    j, i = ((w != 0) & several[:, None])[:, :-1].nonzero().T
    if len(j) == 0:
        return kinks, 0.0
    unit, scale = normalised(r)
    for rows in sorted({min(sample.n, SPLIT_ROWS), sample.n}):
        gain, share = _gains(kinks, sample.rows(np.arange(rows)), unit, scale, j, i)
        if float(gain.max()) > threshold:
            break
    weight, used = w.clone(), set[int]()
    sign: list[Tensor] = []
    axes: list[Tensor] = []
    for o in gain.argsort(descending=True).tolist():
        kink = int(j[o])
        if float(gain[o]) < threshold or len(axes) >= most:
            break
        if kink in used:
            continue
        used.add(kink)
        c = float(share[o] * w[kink, i[o]])
        weight[kink, i[o]] -= c
        axes.append(torch.zeros_like(w[0]).index_fill(0, i[o], abs(c)))
        sign.append(kinks.sign[kink] * share[o].sign())
    parts = replace(kinks, weight=weight)
    return (parts.with_kinks(torch.stack(sign), torch.stack(axes)) if axes else parts), float(gain.max())


def _gains(
    kinks: Kinks, sample: Sample, unit: Float[Tensor, " n"], scale: float, j: Int[Tensor, " p"], i: Int[Tensor, " p"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Largest gain of splitting kink j at weight i, and the share that has it; the residual is ``scale unit``.

    With f the change and v/2 its coefficient, |r|^2 - |r - v f / 2|^2 = v r.f - |f|^2 / 4.
    """
    w, sign = kinks.weight.float(), kinks.sign.float()
    gains, start = torch.zeros(len(SHARES), len(j), device=w.device), 0
    for x, _ in sample.blocks(dtype=torch.float32):
        inputs, inner, r = x[:, i] / scale, (x @ w.T)[:, j] / scale, unit[start : start + len(x)]
        start += len(x)
        for row, value in zip(gains, SHARES, strict=True):
            moved = value * w[j, i] * inputs
            axis = moved.abs() if value > 0 else -moved.abs()
            f = (inner - moved).abs() + axis - inner.abs()
            row += sign[j] * (r @ f) - f.square().sum(0) / 4
    best = gains.max(dim=0)
    return best.values, torch.tensor(SHARES, device=w.device)[best.indices].to(kinks.weight)
