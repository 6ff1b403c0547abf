"""Another first-layer kink for a bent one that reads a single other: the same function, perhaps in fewer weights.

z = u |r| + b bends along three lines of a plane: r = 0, n1 = b + u r = 0 where r > 0, and n2 = b - u r = 0 where r < 0.
Any of them can be the kink of the first layer and the other two the zeros of z: with n1,
z' = n2 - (n1 + sign(u) |n1|) / 2 is n2 on one side of n1 = 0 and n2 - n1 = -2 u r on the other. What |z| and |z'|
differ by is linear in |r|, |n1| and x.
"""

import itertools
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.tolerances import NOISELESS
from sparelu.recover.exact.two_layers.backward import oriented_fit, support, without_weak
from sparelu.recover.exact.two_layers.hinges import DeepKinks, without_dead
from sparelu.recover.exact.two_layers.least_squares import DeepFit, deep_refit
from sparelu.recover.exact.two_layers.relu_model import deep_network

FAINT = 1e-6
"""Size, in standard deviations of the labels, of a kink that rounding may leave."""


def other(model: DeepKinks, k: int, second: bool) -> DeepKinks:
    """Put n1 (or n2) in the place of the bent kink ``k``, which reads one kink r; c and a are to be refitted."""
    (j,) = model.inner[k].nonzero(as_tuple=True)
    u, b = model.inner[k, j], model.direct[k]
    ends = b + u * model.weight[j[0]], b - u * model.weight[j[0]]
    own, rest = ends[::-1] if second else ends
    reads = torch.zeros_like(model.inner[:, :1])
    reads[k] = -u.sign() / 2
    wide = model.with_first(own[None], torch.zeros_like(model.through[:1]), reads)
    wide.inner[k, j] = 0.0
    wide.direct[k] = rest - own / 2
    return wide


def exchanged(fit: DeepFit, sample: Sample, x: Float[Tensor, "n inputs"]) -> tuple[DeepFit, int]:
    """Exchange kinks of a fit that is exact while that takes weights of its network away; return how many remain."""
    least, moved = _size(fit, sample), True
    while moved:
        moved = False
        single = ((fit.model.inner != 0).sum(1) == 1).nonzero()[:, 0].tolist()
        for k, second in itertools.product(single, (False, True)):
            after = _tried(other(fit.model, k, second), sample, x)
            if after.mse < NOISELESS and (own := _size(after, sample)) < least:
                fit, least, moved = after, own, True
                break
    return fit, least


def _size(fit: DeepFit, sample: Sample) -> int:
    """Count the weights of the oriented network, those that pass by included."""
    found = deep_network(oriented_fit(fit, sample).model, 1.0, torch.ones_like(fit.model.affine))
    return found.nonzeros + found.skip_nonzeros


def _tried(model: DeepKinks, sample: Sample, x: Tensor) -> DeepFit:
    """Fit c and a by least squares, leave out what is then dead; refit and prune where that is exact."""
    rows, y = sample.tensors(torch.float64)
    h = model.features(rows)
    bent = model(rows) - h @ model.through - rows @ model.affine
    columns = torch.cat([h, rows], dim=1)
    # GPUs have no solver for columns that depend on each other.
    solution = torch.linalg.lstsq(columns.cpu(), (y - bent)[:, None].cpu(), driver="gelsd").solution[:, 0].to(y)
    c = solution[: h.shape[1]]
    size = c.abs() * model.weight.norm(dim=1)
    model = replace(model, through=torch.where(size > FAINT, c, 0.0), affine=solution[h.shape[1] :])
    model = without_dead(model)
    fit = deep_refit(model, support(model), sample, steps=6)
    return without_weak(fit, sample, x) if fit.mse < NOISELESS else fit
