"""The score test: which weights, output weights and hinges the residual asks for."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.least_squares import Fit
from sparelu.recover.exact.model.normal_equations import gates
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.model.tolerances import RESOLVED, ROUNDING, SMALL_ANGLE

SEARCH_ROWS = 20000
"""Rows on which directions of new hinges are sought; all rows judge them."""
DIRECTIONS = 128
"""Directions followed at a time."""
RANDOM_STARTS = 30
DISTINCT = 0.9
"""|cos| above which of two new hinges only the stronger joins."""
ROWS_PER_WEIGHT = 10
"""Rows beyond a hinge that it needs for each of its weights before one more can join: few rows are met by any."""
RARE = 0.05
"""Share of the rows beyond a hinge below which its weights are judged by those rows."""
OFFSETS = 31
"""Places of a hinge on one input that are tried: quantiles of that input."""
PAIRS = 100
"""Pairs of inputs with the largest second moment of the residual, whose planes give starts."""
SEARCHED = 3
"""Outputs whose residual is searched for new hinges in one round, those with most structure first."""


def scale_residual(r: Float[Tensor, "n outs"]) -> tuple[Float[Tensor, "n outs"], Float[Tensor, " outs"]]:
    """Return a residual in units of its root mean square by output, in float32; and those, not below rounding."""
    scale = r.square().mean(0).clamp_min(ROUNDING).sqrt()
    return (r / scale).float(), scale


def score_weights(
    model: ReluModel, sample: Sample, unit: Float[Tensor, "n outs"], scale: Float[Tensor, " outs"]
) -> Float[Tensor, "k inputs"]:
    """Return the squared t statistic of adding each weight that is 0; 0 for the others.

    ``unit`` times ``scale`` is the residual. Beside the affine part, a weight of a hinge that a share p of the rows
    lies beyond has a column of mean square 4 p (1 - p) that of its input, which counts where p is small. Hinges that
    few rows lie beyond get no more weights.
    """
    slope = torch.zeros(model.weight.shape, device=unit.device)
    weight, read = model.weight.float(), (model.outputs / scale).float()
    read = read / read.norm(dim=1, keepdim=True)
    power = torch.zeros(weight.shape[1], device=unit.device)
    above, start = torch.zeros(len(weight), device=unit.device), 0
    for x, _ in sample.blocks(dtype=torch.float32):
        side = (x @ weight.T).sign_()
        above += (side > 0).sum(0)
        slope.addmm_(side.mul_(unit[start : start + len(x)] @ read.T).T, x)
        power += x.square().sum(0)
        start += len(x)
    on = model.weight != 0
    beyond = torch.minimum(above, start - above)
    share = torch.where(beyond < RARE * start, 4 * beyond * (start - beyond) / start**2, 1.0)
    t = slope.square() / (share[:, None] * power).clamp_min(torch.finfo(torch.float32).tiny)
    t[on | (beyond < ROWS_PER_WEIGHT * (on.sum(1) + 1))[:, None]] = 0
    return t


def score_outputs(fit: Fit) -> Float[Tensor, "k outs"]:
    """Return the squared t statistic of adding each output weight that is 0; 0 for the others."""
    if fit.support.outputs.all():
        return torch.zeros_like(fit.model.outputs)
    inner = fit.slope.outputs / fit.slope.precision
    t = inner.square() / fit.equations.outside(fit.slope) / fit.noise
    return torch.where(fit.support.outputs, 0.0, t)


def add_strongest(t: Float[Tensor, "k c"], most: int) -> tuple[Bool[Tensor, "k c"], float]:
    """Return the mask of at most ``most`` of the largest statistics above 1, their threshold; and the largest."""
    mask = torch.zeros_like(t, dtype=torch.bool)
    if t.numel() == 0:
        return mask, 0.0
    top = t.flatten().topk(min(most, t.numel()))
    mask.view(-1)[top.indices[top.values > 1]] = True
    return mask, float(top.values[0])


def add_hinges(
    fit: Fit,
    sample: Sample,
    unit: Float[Tensor, "n outs"],
    scale: Float[Tensor, " outs"],
    most: int,
    rng: np.random.Generator,
    beside: Float[Tensor, "b inputs"],
) -> tuple[ReluModel, float]:
    """Return the model of at most ``most`` new hinges of largest squared t above the threshold, without an affine part.

    And the largest t, in units of the threshold. Candidates are the inputs alone, on inputs of hinges with a bias also
    elsewhere than at zero, the present hinges short of one weight, and directions that are stationary for the
    correlation of the residual with |u.x|: of each output, or of the most structured of many and of a combination.
    Each is judged by what it explains outside the span of the present columns, and none is taken close to another or
    along the directions ``beside``, which join at the same time.
    """
    x = torch.cat([x for x, _ in sample.rows(np.arange(min(sample.n, SEARCH_ROWS))).blocks(dtype=torch.float32)])
    thresholds, model, taken = fit.thresholds, fit.model, [(other.float(), SMALL_ANGLE) for other in _unit(beside)]
    weights, outputs, strongest = [model.weight[:0]], [model.outputs[:0]], 0.0
    for mix in _mixtures(x, unit, rng):
        candidates = _candidates(model, x, unit @ mix, rng)
        coefficients, t = _explain(fit, sample, unit, mix, candidates)
        t = t / float(thresholds[mix != 0].max())
        strongest = max(strongest, float(t.max()))
        chosen: list[int] = []
        for j in t.argsort(descending=True).tolist():
            if float(t[j]) < 1 or len(chosen) >= most:
                break
            if all(abs(float(candidates[j] @ other)) < near for other, near in taken):
                chosen.append(j)
                taken.append((candidates[j], DISTINCT))
        weights.append(candidates[chosen].double())
        outputs.append(2 * scale * coefficients[chosen])
    weight, reach = torch.cat(weights), torch.cat(outputs)
    return ReluModel(
        weight, torch.zeros_like(weight[:, 0]), reach, torch.zeros_like(model.affine)
    ).normalise(), strongest


def _unit(rows: Float[Tensor, "k inputs"]) -> Float[Tensor, "k inputs"]:
    return rows / rows.norm(dim=1, keepdim=True)


def _mixtures(x: Float[Tensor, "n inputs"], unit: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """Return combinations of the outputs to search: each, or of many the most structured ones and a random one."""
    outs = unit.shape[1]
    each = list(torch.eye(outs).to(unit))
    if outs == 1:
        return each
    order = structure(x, unit[: len(x)]).argsort(descending=True)[:SEARCHED].tolist()
    mix = torch.as_tensor(rng.standard_normal(outs)).to(unit)
    return [*(each[o] for o in order), mix / mix.norm()]


def structure(x: Float[Tensor, "n inputs"], unit: Float[Tensor, "n outs"]) -> Float[Tensor, " outs"]:
    """Return how far the second moment E[r x x'] of every residual stands out: its largest eigenvalue times sqrt(n).

    Of noise that is 2 sqrt(d) for unit inputs (Wigner).
    """
    inner = x[:, :-1] - x[:, :-1].mean(0)
    inner = inner / inner.square().mean(0).clamp_min(1e-30).sqrt()
    found = []
    for r in (unit - unit.mean(0)).T:
        second = (inner * r[:, None]).T @ inner / math.sqrt(len(x))
        found.append(torch.linalg.eigvalsh(second).abs().amax())
    return torch.stack(found)


def _candidates(model: ReluModel, x: Tensor, r: Float[Tensor, " all"], rng: np.random.Generator) -> Tensor:
    near = _shorten(model).to(x), _offset(model, x, r)
    return _unit(torch.cat([_axes(x), *near, _follow(x, r, rng)]))


def _axes(x: Float[Tensor, "n inputs"]) -> Tensor:
    return torch.eye(x.shape[1])[:-1].to(x)


def _offset(model: ReluModel, x: Float[Tensor, "n inputs"], r: Float[Tensor, " all"]) -> Float[Tensor, "c inputs"]:
    """Return on each input that hinges read alone one more hinge: |x_i - b| of largest correlation with the residual.

    Two hinges of one input at places close by are taken for one in between, and no gradient parts them. Only where some
    hinge has a bias. The correlation is partial, given x_i and a constant, to which ``r`` is orthogonal.
    """
    alone = model.take((model.weight[:, :-1] != 0).sum(1) == 1).weight
    inputs = alone[:, :-1].any(0).nonzero()[:, 0] if bool(alone[:, -1].any()) else alone.new_zeros(0, dtype=torch.int64)
    level = torch.arange(1, OFFSETS + 1, device=r.device) / (OFFSETS + 1)
    candidates = r.new_zeros(len(inputs), x.shape[1])
    for row, i, column in zip(candidates, inputs.tolist(), x[:, inputs].T, strict=True):
        place = column.quantile(level)
        feature = (column[:, None] - place).abs()
        line = torch.stack([torch.ones_like(column), column], dim=1)
        feature -= line @ torch.linalg.lstsq(line, feature).solution
        size = feature.square().sum(0).clamp_min(torch.finfo(torch.float32).tiny)
        best = ((feature.T @ r[: len(x)]).square() / size).argmax()
        row[i], row[-1] = 1.0, -place[best]
    return candidates


def _shorten(model: ReluModel, most: int = 400) -> Float[Tensor, "c inputs"]:
    """Return hinges of two to four weights with one of them left out, at most ``most`` of them."""
    on = model.weight != 0
    counts = on.sum(1)
    j, i = (on & ((counts > 1) & (counts < 5))[:, None]).nonzero()[:most].T
    rows = model.weight[j].clone()
    rows[torch.arange(len(j)), i] = 0.0
    return rows[rows[:, :-1].any(1)]


def _follow(
    x: Float[Tensor, "n inputs"], r: Float[Tensor, " all"], rng: np.random.Generator, rounds: int = 8
) -> Tensor:
    """Return directions after rounds of u <- +- sum_i r_i sign(u.x_i) x_i, each with its own sign.

    Starts are the axes, directions in the planes of pairs of inputs, and random ones. ``r`` has unit variance. Entries
    within four standard deviations of noise are set to zero, the largest excepted.
    """
    r = r[: len(x)] - r[: len(x)].mean()
    start = torch.as_tensor(rng.standard_normal((RANDOM_STARTS, x.shape[1]))).to(x)
    start[:, -1] *= 0.5
    starts = torch.cat([_axes(x), _planes(x, r), _unit(start)])
    return torch.cat([_iterate(x, r, part, rounds) for part in starts.split(DIRECTIONS)])


def _iterate(x: Tensor, r: Tensor, unit: Tensor, rounds: int) -> Tensor:
    """Return the directions ``unit`` (b, inputs) after ``rounds`` rounds; those that vanish are gone."""
    z = x @ unit.T
    sign = ((z.abs() - z.abs().mean(0)).T @ r).sign()
    for _ in range(rounds):
        unit = sign[:, None] * ((z.sign() * r[:, None]).T @ x)
        large = unit.abs().amax(1, keepdim=True)
        unit = unit * (unit.abs() > (0.999 * large).clamp(max=4 * math.sqrt(len(x))))
        unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(1e-30)
        z = x @ unit.T
    return unit[unit.norm(dim=1) > 0.5]


def _planes(x: Float[Tensor, "n inputs"], r: Float[Tensor, " n"]) -> Float[Tensor, "c inputs"]:
    """Return four directions in the plane of each pair of inputs whose second moment with the residual is not noise.

    A hinge of few weights leaves E[r x_i x_i'] of order w_i w_i' / |w| at each pair of its inputs.
    """
    inner = x[:, :-1]
    t = ((inner * r[:, None]).T @ inner).abs().triu(1) / math.sqrt(len(x))
    top = t.flatten().topk(min(PAIRS, t.numel()))
    chosen = top.indices[top.values > 4]
    first, second = chosen // len(t), chosen % len(t)
    planes, place = [], torch.arange(len(chosen), device=x.device)
    for angle in (math.pi / 8, 3 * math.pi / 8, 5 * math.pi / 8, 7 * math.pi / 8):
        unit = x.new_zeros(len(chosen), x.shape[1])
        unit[place, first], unit[place, second] = math.cos(angle), math.sin(angle)
        planes.append(unit)
    return torch.cat(planes)


def _explain(fit: Fit, sample: Sample, r: Tensor, mix: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients (c, outs) of each |u.x| alone, and its squared t beside the present columns for ``mix``.

    For a column f, present columns J and P the projection on their complement: t^2 = (f'P r)^2 / f'P f. Of a long
    support J has the affine columns alone, which makes t smaller.
    """
    beside, root = fit.equations.frame()
    unit = unit.double()
    cross, own = unit.new_zeros(len(root), len(unit)), unit.new_zeros(len(root), r.shape[1])
    power, inner, start = unit.new_zeros(len(unit)), unit.new_zeros(len(unit), r.shape[1]), 0
    for x, _ in sample.blocks():
        feature, left = (x @ unit.T).abs(), r[start : start + len(x)].double()
        columns = beside.columns(gates(fit.model, x)[0].T.contiguous(), x)
        cross.addmm_(columns, feature)
        own.addmm_(columns, left)
        power += feature.square().sum(0)
        inner.addmm_(feature.T, left)
        start += len(x)
    solved = torch.cholesky_solve(cross, root)
    outside = power - (cross * solved).sum(0)
    outside = torch.where(outside > RESOLVED * power, outside, torch.inf)
    return inner / power[:, None], ((inner - solved.T @ own) @ mix.double()).square() / outside
