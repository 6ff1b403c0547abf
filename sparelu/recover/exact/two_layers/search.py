"""The rounds of exact recovery with two hidden layers: a student stage with fresh kinks, then refits on its support.

A round fits the student on the inputs that the residual asks for, tidies it, and lets Levenberg-Marquardt refit, drop
and add single weights. Once the support holds the truth the error falls to the rounding of the labels, and what is
not needed stands out by its t statistic. A start that has not come there in some rounds gives way to another one.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparelu.recover.exact.model.hinges import BLOCK, Sample
from sparelu.recover.exact.model.tolerances import NOISELESS, ROUNDING
from sparelu.recover.exact.two_layers.backward import deep_threshold, without_weak
from sparelu.recover.exact.two_layers.hinges import DeepKinks, live, tidied
from sparelu.recover.exact.two_layers.least_squares import DeepFit, asked, deep_error, deep_refit
from sparelu.recover.exact.two_layers.warm_start import deep_stage

FIRST_PENALTY = 0.35
"""Penalty of the first stage, in units of sd(y) / sqrt(n)."""
FALL = 4.0
"""What the penalty is divided by from stage to stage, at most."""
JOIN = 0.02
"""Kinks are one when joining them costs less than this share of the error of a student."""
STALLED = 0.5
"""After a round that leaves more than this share of the error the penalty falls as fast as it may."""
STALLS = 2
"""Such rounds in a row after which a start gives way to another."""
BOTH_SIGNS = 0.25
"""Share of fresh kinks of either output sign in every second start: moments may show one sign alone."""
WORSE = 2.0
"""A round that ends with so many times the error is undone."""
ROWS_PER_NUMBER = 8
FEWEST_ROWS = 4000


@dataclass(frozen=True)
class DeepPlan:
    """Fresh kinks of a start in each layer, rows of a student, iterations of a stage, rounds of a start, starts.

    ``affine`` is the least squares solution of error ``mse``, from which every start begins.
    """

    widths: tuple[int, int]
    rows: int
    steps: int
    rounds: int
    starts: int
    negative: float
    affine: Tensor
    mse: float


@dataclass(frozen=True, eq=False)
class DeepSearch:
    """Where a search stands; ``done`` when it is exact or its starts are used up.

    ``mse`` is that of ``model`` on all rows, relative to the variance of y; ``best`` the model of least error so far.
    """

    model: DeepKinks
    mse: float
    penalty: float
    best: DeepKinks
    least: float
    start: int = 0
    round: int = 0
    stalls: int = 0
    done: bool = False
    rest: bool = False


def deep_begin(plan: DeepPlan) -> DeepSearch:
    """Begin at the affine least squares solution."""
    model, exact = DeepKinks.none(plan.affine), plan.mse < NOISELESS
    return DeepSearch(model, plan.mse, FIRST_PENALTY / math.sqrt(plan.rows), model, plan.mse, done=exact, rest=exact)


def deep_advance(
    search: DeepSearch, rows: Sample, order: np.ndarray, plan: DeepPlan, rng: np.random.Generator
) -> DeepSearch:
    """Return the next state. ``rows`` holds targets of unit variance, ``order`` a permutation of its rows."""
    active = _active(search.model, rows)
    few = _narrowed(rows, active, order)
    sample = few.rows(np.arange(plan.rows))
    joined = _with_fresh(search, active, plan, rng).columns(active)
    student, mse = deep_stage(*sample.tensors(torch.float32), joined, search.penalty, plan.steps)
    x = sample.tensors(torch.float64)[0]
    student = tidied(student, x, JOIN * mse)
    fit = _polished(student, x, few)
    after, loose = deep_error(fit.model, few), deep_error(student, few)
    model, error = (fit.model, after) if after < loose else (student, loose)
    return _judged(search, model.spread(active, rows.inputs), error, plan)


def _narrowed(rows: Sample, active: Tensor, order: np.ndarray) -> Sample:
    """Hold the inputs ``active`` of all rows, in the order ``order``, in memory."""
    index = active[:-1].cpu().numpy()
    scale = None if rows.scale is None else rows.scale[index]
    parts = [np.asarray(rows.x[i : i + BLOCK])[:, index] for i in range(0, rows.n, BLOCK)]
    return replace(rows, x=np.concatenate(parts)[order], y=rows.y[order], scale=scale)


def _judged(search: DeepSearch, model: DeepKinks, error: float, plan: DeepPlan) -> DeepSearch:
    if error > WORSE * search.mse:
        model, error = search.model, search.mse
    if error < search.least:
        search = replace(search, best=model, least=error)
    if error < NOISELESS:
        return replace(search, model=model, mse=error, done=True, rest=True)
    stalled = error > STALLED * search.mse
    stalls = search.stalls + 1 if stalled else 0
    if search.round + 1 < plan.rounds and stalls < STALLS:
        slow, floor = search.penalty / FALL, math.sqrt(error / plan.rows)
        penalty = slow if stalled else max(slow, min(floor, search.penalty / 2))
        return replace(search, model=model, mse=error, penalty=penalty, round=search.round + 1, stalls=stalls)
    if search.start + 1 < plan.starts:
        return restarted(search, plan)
    return replace(search, model=search.best, mse=search.least, done=True)


def restarted(search: DeepSearch, plan: DeepPlan) -> DeepSearch:
    """Begin at another random start, the best model kept; one that is exact gives way to another exact one."""
    return replace(
        search,
        model=DeepKinks.none(plan.affine),
        mse=plan.mse,
        penalty=FIRST_PENALTY / math.sqrt(plan.rows),
        least=max(search.least, NOISELESS),
        start=search.start + 1,
        round=0,
        stalls=0,
        done=False,
    )


def _active(model: DeepKinks, rows: Sample) -> Tensor:
    """Find the inputs that the model reads, and those whose moments with the residual noise does not explain."""
    d = rows.inputs
    read = (model.weight != 0).any(0) | (model.direct != 0).any(0)
    second, power, first = (torch.zeros(*s).to(model.affine) for s in ((d, d), (d,), (d,)))
    squares = 0.0
    for x, y in rows.blocks():
        r = y - model(x)
        second.addmm_((x * r[:, None]).T, x)
        first += x.T @ r
        power += x.square().sum(0)
        squares += float(r @ r)
    scale = math.sqrt(max(squares / rows.n, ROUNDING)) * power.clamp_min(1e-300).sqrt()
    straight = (first / scale).abs()
    if not model.widths[0]:  # least squares has taken the first moment of the residual: look at its coefficients
        straight = model.affine.abs() * power.sqrt() / math.sqrt(max(squares / rows.n, ROUNDING))
    bent = (second / (scale[:, None] * (power / rows.n).clamp_min(1e-300).sqrt())).abs()
    few = math.sqrt(2 * math.log(d) + 8), math.sqrt(4 * math.log(d) + 8)
    # Products x_i x_i have a kurtosis of their own.
    bent.diagonal().div_(2.0)
    want = read | (straight > few[0]) | (bent > few[1]).any(1)
    want[-1] = True
    return want.nonzero()[:, 0]


def _with_fresh(search: DeepSearch, active: Tensor, plan: DeepPlan, rng: np.random.Generator) -> DeepKinks:
    """Add small random kinks in both layers on the active inputs, so small that they add little to the residual."""
    model = search.model
    start = not model.widths[0]
    k1, k2 = plan.widths if start else (max(4, plan.widths[0] // 2), max(4, plan.widths[1] // 2))
    d, level = active.numel(), math.sqrt(search.mse)
    size = math.sqrt(level)

    def normal(*shape: int) -> Tensor:
        return torch.as_tensor(rng.standard_normal(shape)).to(model.affine)

    wide = DeepKinks.none(model.affine[active]).affine.new_zeros(k1, model.affine.numel())
    wide[:, active] = normal(k1, d) * size / math.sqrt(d * k1)
    read = 0.1 * size * normal(model.sign.numel(), k1)
    model = model.with_first(wide, 0.3 * size * normal(k1), read)
    total = model.through.numel()
    direct = model.affine.new_zeros(k2, model.affine.numel())
    direct[:, active] = 0.3 * level * normal(k2, d) / math.sqrt(d * k2)
    sign = torch.ones(k2).to(direct)
    negative = min(max(plan.negative, BOTH_SIGNS), 1 - BOTH_SIGNS) if search.start % 2 else plan.negative
    sign[: round(negative * k2)] = -1.0
    return model.with_second(sign, 0.3 * level * normal(k2, total) / math.sqrt(total * k2), direct)


def _rows_for(mask: Tensor, rows: Sample) -> Sample:
    return rows.rows(np.arange(max(FEWEST_ROWS, ROWS_PER_NUMBER * int(mask.sum()))))


def _polished(model: DeepKinks, x: Tensor, rows: Sample, most: int = 12) -> DeepFit:
    """Refit, drop and add weights while that helps."""
    mask, best = live(model), math.inf
    fit = deep_refit(model, mask, _rows_for(mask, rows))
    for _ in range(most):
        fit = without_weak(fit, _rows_for(fit.mask, rows), x)
        if fit.mse > 0.9 * best or fit.mse < NOISELESS:
            break
        best = fit.mse
        mask = _grown(fit, _rows_for(fit.mask, rows))
        fit = deep_refit(fit.model, mask, _rows_for(mask, rows))
    return fit


def _grown(fit: DeepFit, sample: Sample) -> Tensor:
    """Add the weights that the residual asks for to the mask."""
    t, mse = asked(fit.model, sample)
    t[fit.mask] = 0.0
    top = t.topk(min(max(10, int(fit.mask.sum()) // 10), t.numel()))
    mask = fit.mask.clone()
    mask[top.indices[top.values > deep_threshold(fit.model, mse)]] = True
    return mask


def settling(model: DeepKinks, rows: Sample, order: np.ndarray) -> Sample:
    """Return rows enough to settle the support of a model, for most models."""
    return rows.rows(order[: max(FEWEST_ROWS, ROWS_PER_NUMBER * int(live(model).sum()))])


def refit_fully(model: DeepKinks, sample: Sample, x: Tensor) -> DeepFit:
    """Refit the model to the end, without what the rows do not need."""
    return without_weak(deep_refit(model, live(model), sample, steps=20), sample, x)
