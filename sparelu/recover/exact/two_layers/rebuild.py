"""An exact function of two hidden layers, written anew: the sparsest first layer, then the second layer on top of it.

Kinks of kinks have many forms of one function. It bends along the hyperplanes of the first layer and along the pieces
of the second, which are sums of them: so the first layer is a basis of the span of all, and where its neurons read few
inputs it is the sparsest basis, which the greedy algorithm finds (Edmonds 1971, matroids). Given its hyperplanes q the
function is a network of one hidden layer in the features (q.x)_+ and (-q.x)_+, and is recovered as such.
"""

import itertools
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.model.tolerances import NOISELESS
from sparelu.recover.exact.search import SearchOptions, advance, begin
from sparelu.recover.exact.two_layers.hinges import DeepKinks

READS = 6
"""Kinks that a bent one reads, up to which its 2^reads pieces are looked at."""
INDEPENDENT = 1e-4
"""Sine of the angle to the span of others from which a direction is not in it."""
FAINT = 1e-6
"""Entries of a unit vector that are rounding."""
STUDENTS, CYCLES, STEPS = 20, 4, 400
"""Students of the second layer besides three for each feature, cycles of its search, iterations of a stage."""


def bends(model: DeepKinks) -> Float[Tensor, "p inputs"]:
    """Return unit normals of the hyperplanes that the model bends along, rounding set to zero."""
    found = [model.weight]
    for u, b in zip(model.inner, model.direct, strict=True):
        (reads,) = u.nonzero(as_tuple=True)
        if len(reads) <= READS:
            signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=len(reads)))).to(u)
            found.append(b + (signs.reshape(-1, len(reads)) * u[reads]) @ model.weight[reads])
    rows = torch.cat(found)
    rows = rows[rows.norm(dim=1) > 0]
    unit = rows / rows.norm(dim=1, keepdim=True)
    unit = torch.where(unit.abs() > FAINT, unit, 0.0)
    return unit / unit.norm(dim=1, keepdim=True)


def sparsest_basis(rows: Float[Tensor, "p inputs"], most: int) -> Float[Tensor, "q inputs"]:
    """Choose at most ``most`` of ``rows``, those of few nonzeros first, each not in the span of those before."""
    basis, chosen = rows.new_zeros(0, rows.shape[1]), []
    for i in (rows != 0).sum(1).argsort(stable=True).tolist():
        left = rows[i]
        for _ in range(2):
            left = left - (basis @ left) @ basis
        if float(left.norm()) > INDEPENDENT:
            basis = torch.cat([basis, left[None] / left.norm()])
            chosen.append(i)
        if len(chosen) == most:
            break
    return rows[chosen]


def rebuilt(deep: DeepKinks, width: int, sample: Sample, floor: float, rng: np.random.Generator) -> DeepKinks:
    """Recover the second layer on the sparsest first layer of ``deep``.

    It has as many kinks as that of ``deep``, or up to ``width`` where that is not exact. ``floor`` is the rounding of
    the labels of ``sample``, which has all inputs.
    """
    normals = bends(deep)
    for most in sorted({min(deep.widths[0], width), width}):
        planes = sparsest_basis(normals, most)
        model, error = _second_layer(_features(sample, planes), floor, rng)
        if error < NOISELESS:
            break
    return _compose(model, planes)


def _second_layer(rows: Sample, floor: float, rng: np.random.Generator) -> tuple[ReluModel, float]:
    """Return a network of one hidden layer in the features of both sides, and its error.

    A neuron shows one side of its hyperplane: the network is recovered again on the sides that are read most, and that
    one is kept if it is as exact.
    """
    both, error = _recover(rows, floor, rng)
    size, sides = both.weight[:, :-1].abs().sum(0), rows.inputs // 2
    shown = ((size > 0) & (size >= size.roll(sides))).nonzero()[:, 0]
    if not len(shown):
        return both, error
    one, least = _recover(replace(rows, x=np.asarray(rows.x)[:, shown.cpu().numpy()]), floor, rng)
    if least >= NOISELESS and least > error:
        return both, error
    columns = torch.cat([shown, torch.full_like(shown[:1], 2 * sides)])
    weight, affine = both.weight.new_zeros(len(one), rows.inputs), torch.zeros_like(both.affine)
    weight[:, columns], affine[:, columns] = one.weight, one.affine
    return replace(one, weight=weight, affine=affine), least


def _recover(rows: Sample, floor: float, rng: np.random.Generator) -> tuple[ReluModel, float]:
    """Return a network of one hidden layer, and its error."""
    level = torch.tensor([floor]).double().to(rows.device)
    options = SearchOptions(3 * rows.inputs + STUDENTS, True, min(rows.n, 10000), STEPS, CYCLES, level)
    order = rng.permutation(rows.n)
    search = begin(rows, order, options, rng)
    while search.phase != "done":
        search = advance(search, rows, order, options, rng)
    return search.model, search.mse


def _features(sample: Sample, planes: Tensor) -> Sample:
    """Return (q.x)_+ of the rows for every plane, then (-q.x)_+."""
    parts = [(x @ planes.T).cpu().numpy() for x, _ in sample.blocks()]
    z = np.concatenate(parts)
    return replace(
        sample, x=np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)], axis=1), y=sample.y[:, None], scale=None
    )


def _compose(model: ReluModel, planes: Tensor) -> DeepKinks:
    """Write u (q.x)_+ + w (-q.x)_+ = (u + w) / 2 |q.x| + (u - w) / 2 q.x, for every hinge and for the affine part."""
    q = len(planes)
    read = torch.cat([model.weight, model.affine])
    inner, direct = (read[:, :q] + read[:, q:-1]) / 2, (read[:, :q] - read[:, q:-1]) / 2 @ planes
    direct[:, -1] += read[:, -1]
    zero, sign = torch.zeros_like(model.orientation), model.outputs[:, 0]
    return DeepKinks(planes, torch.zeros_like(planes[:, 0]), inner[-1], inner[:-1], direct[:-1], sign, zero, direct[-1])
