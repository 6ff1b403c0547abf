"""What the residual asks for: weights by their gradient, kinks by what they explain beyond the present columns."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.exact.hinges import NEAR, Kinks, Sample
from sparelu.recover.exact.least_squares import ROUNDING, Fit
from sparelu.recover.exact.normal_equations import gates

RESOLVED = 1e-6
"""Share of a new column that must lie outside the span of the present ones."""
SEARCH_ROWS = 20000
DIRECTIONS = 128
"""Directions followed at a time."""
RANDOM_STARTS = 30
DISTINCT = 0.9
"""|cos| above which of two new kinks only the stronger joins."""
ROWS_PER_WEIGHT = 10
"""Rows beyond a kink that it needs for each of its weights before one more can join: few rows are met by any."""
RARE = 0.05
"""Share of the rows beyond a kink below which its weights are judged by those rows."""
OFFSETS = 31
"""Places of a kink on one input that are tried: quantiles of that input."""
PAIRS = 100
"""Pairs of inputs with the largest second moment of the residual, whose planes give starts."""


def normalised(r: Tensor) -> tuple[Tensor, float]:
    """A residual in units of its root mean square, which is not taken below rounding."""
    scale = math.sqrt(max(float(r.square().mean()), ROUNDING))
    return (r / scale).float(), scale


def more_weights(
    kinks: Kinks, sample: Sample, r: Float[Tensor, " n"], threshold: float, most: int
) -> tuple[Bool[Tensor, "k inputs"], int, float]:
    """The mask with at most ``most`` weights of largest squared t above ``threshold``; how many; the largest.

    Beside the affine part, a weight of a kink that a share p of the rows lies beyond has a column of mean square
    4 p (1 - p) that of its input, which counts where p is small. Kinks that few rows lie beyond get no more weights.
    """
    mask = kinks.weight != 0
    if len(kinks) == 0:
        return mask, 0, 0.0
    slope, start = torch.zeros(kinks.weight.shape, device=mask.device), 0
    weight, unit = kinks.weight.float(), normalised(r)[0]
    power = torch.zeros(weight.shape[1], device=mask.device)
    above = torch.zeros(len(weight), device=mask.device)
    for x, _ in sample.blocks(dtype=torch.float32):
        side = (x @ weight.T).sign()
        slope += (side * unit[start : start + len(x), None]).T @ x
        power += x.square().sum(0)
        above += (side > 0).sum(0)
        start += len(x)
    beyond = torch.minimum(above, start - above)
    share = torch.where(beyond < RARE * start, 4 * beyond * (start - beyond) / start**2, 1.0)
    power = share[:, None] * power
    t = slope.square() / power.clamp_min(torch.finfo(torch.float32).tiny)
    t[mask | (beyond < ROWS_PER_WEIGHT * (mask.sum(1) + 1))[:, None]] = 0
    top = t.flatten().topk(min(most, t.numel()))
    chosen = top.indices[top.values > threshold]
    mask.view(-1)[chosen] = True
    return mask, len(chosen), float(top.values[0])


def more_kinks(
    fit: Fit,
    sample: Sample,
    r: Float[Tensor, " n"],
    threshold: float,
    most: int,
    rng: np.random.Generator,
    beside: Float[Tensor, "b inputs"] | None = None,
) -> tuple[Kinks, float]:
    """With at most ``most`` new kinks of largest squared t above ``threshold``; the largest t.

    Candidates are the inputs alone, on inputs of kinks with a bias also elsewhere than at zero, the present kinks short
    of one weight, and directions that are stationary for the correlation of the residual with |u.x|. Each is judged by
    what it explains outside the span of the present columns, and none is taken close to another or along the directions
    ``beside``, which join at the same time.
    """
    kinks = fit.kinks
    unit, scale = normalised(r)
    x = torch.cat([x for x, _ in sample.rows(np.arange(min(sample.n, SEARCH_ROWS))).blocks(dtype=torch.float32)])
    near = _shorter(kinks).to(unit), _elsewhere(kinks, x, unit)
    candidates = torch.cat([_axes(x), *near, _stationary(x, unit, rng)])
    candidates = candidates / candidates.norm(dim=1, keepdim=True)
    length, t = _explained(fit, sample, unit, candidates)
    joining = [] if beside is None else (beside / beside.norm(dim=1, keepdim=True)).to(candidates)
    taken = [(other, NEAR) for other in joining]
    chosen: list[int] = []
    for j in t.argsort(descending=True).tolist():
        if float(t[j]) < threshold or len(chosen) >= most:
            break
        if all(abs(float(candidates[j] @ other)) < near for other, near in taken):
            chosen.append(j)
            taken.append((candidates[j], DISTINCT))
    index = torch.tensor(chosen, dtype=torch.int64, device=r.device)
    sign, size = length[index].sign().double(), 2 * scale * length[index].abs().double()
    return kinks.with_kinks(sign, candidates[index].double() * size[:, None]), float(t.max())


def _axes(x: Float[Tensor, "n inputs"]) -> Tensor:
    return torch.eye(x.shape[1])[:-1].to(x)


def _elsewhere(kinks: Kinks, x: Float[Tensor, "n inputs"], r: Float[Tensor, " all"]) -> Float[Tensor, "c inputs"]:
    """On each input that kinks read alone, the place of one more: |x_i - b| of largest correlation with the residual.

    Two kinks of one input at places close by are taken for one in between, and no gradient parts them. Only where some
    kink has a bias. The correlation is partial, given x_i and a constant, to which ``r`` is orthogonal.
    """
    alone = kinks.take((kinks.weight[:, :-1] != 0).sum(1) == 1).weight
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


def _shorter(kinks: Kinks, most: int = 400) -> Float[Tensor, "c inputs"]:
    """Kinks of two to four weights with one of them left out, at most ``most`` of them."""
    counts = (kinks.weight != 0).sum(1)
    j, i = ((kinks.weight != 0) & ((counts > 1) & (counts < 5))[:, None]).nonzero()[:most].T
    rows = kinks.weight[j].clone()
    rows[torch.arange(len(j)), i] = 0.0
    return rows[rows[:, :-1].any(1)]


def _stationary(
    x: Float[Tensor, "n inputs"], r: Float[Tensor, " all"], rng: np.random.Generator, rounds: int = 8
) -> Tensor:
    """Directions after rounds of u <- +- sum_i r_i sign(u.x_i) x_i, each with its own sign.

    Starts are the axes, directions in the planes of pairs of inputs, and random ones. ``r`` has unit variance. Entries
    within four standard deviations of noise are set to zero, the largest excepted.
    """
    r = r[: len(x)] - r[: len(x)].mean()
    start = torch.as_tensor(rng.standard_normal((RANDOM_STARTS, x.shape[1]))).to(x)
    start[:, -1] *= 0.5
    starts = torch.cat([_axes(x), _planes(x, r), start / start.norm(dim=1, keepdim=True)])
    return torch.cat([_iterated(x, r, part, rounds) for part in starts.split(DIRECTIONS)])


def _iterated(x: Tensor, r: Tensor, unit: Tensor, rounds: int) -> Tensor:
    """The directions ``unit`` (b, d + 1) after ``rounds`` rounds; those that vanish are gone."""
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
    """Four directions in the plane of each pair of inputs whose second moment with the residual is not noise.

    A kink of few weights leaves E[r x_i x_i'] of order w_i w_i' / |w| at each pair of its inputs.
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


def _explained(fit: Fit, sample: Sample, r: Float[Tensor, " n"], unit: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficient of each |u.x| alone, and its squared t when regressed together with the present columns.

    For a column f and present columns J, to which r is orthogonal: t^2 = (f'r)^2 / (f'f - f'J (J'J)^-1 J'f).
    Of a long support J has the affine columns alone, which makes t smaller.
    """
    beside, root = fit.normal.frame()
    unit = unit.double()
    cross = unit.new_zeros(len(root), len(unit))
    power, inner, start = unit.new_zeros(len(unit)), unit.new_zeros(len(unit)), 0
    for x, _ in sample.blocks():
        feature = (x @ unit.T).abs()
        cross.addmm_(beside.columns(gates(fit.kinks, x), x), feature)
        power += feature.square().sum(0)
        inner += feature.T @ r[start : start + len(x)].double()
        start += len(x)
    inside = (cross * torch.cholesky_solve(cross, root)).sum(0)
    outside = power - inside
    outside = torch.where(outside > RESOLVED * power, outside, torch.inf)
    return inner / power, inner.square() / outside
