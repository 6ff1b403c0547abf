"""The rounds of exact recovery: student stages with a falling penalty, and refits that drop, merge and add.

A state is a plain value; :func:`advance` makes the next one, so a search can be written down and resumed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparelu.recover.growth import more_kinks, more_weights
from sparelu.recover.kinks import Kinks, Sample, merged, residual
from sparelu.recover.refit import ROUNDING, Fit, Support, refit, saliency
from sparelu.recover.student import stage

FIRST_PENALTY = 0.35
"""Penalty of the first stage, in units of sd(y) / sqrt(n)."""
SAMPLING = 3.0
"""Penalty over sqrt(mse / n) in later stages."""
EXPLAINED = 2.2
"""A stage whose penalty ends above this many sqrt(mse / n) lacks no kink; below, fresh students join."""
FEW = 150
"""Up to so many weights refits are cheap, and are tried early; above, the student goes on while it explains more."""
FEWEST_ROWS = 8000
NOISELESS = 1e-12
"""Relative error below which labels are exact, if only in float32."""
MERGE = 30.0
"""Refitted kinks are one when joining them costs less than this many mse / n."""
STUDENT_MERGE = 0.02
"""Students of the first cycle are one when joining them costs less than this many mse."""
MOST_REFITS = 8
"""Refits in a row before the student is asked again."""


@dataclass(frozen=True)
class Plan:
    """What a search may use: ``width`` students at the start, iterations of a stage, cycles.

    The student has ``rows`` rows at first, and twice as many in every later cycle, up to ``most_rows``.
    """

    width: int
    rows: int
    most_rows: int
    steps: int
    cycles: int
    negative: float


@dataclass(frozen=True, eq=False)
class Search:
    """Where a search stands.

    ``phase`` is "student", "refit", "done" or "stuck"; ``round`` counts rounds within the phase, ``cycle`` phases of
    the student, which uses ``rows`` rows; ``mse`` is relative to the variance of y; ``full`` says that refits use all
    rows; ``best`` and ``size`` are the least mse and the last number of weights within the phase, ``settled`` the mse
    when nothing was left to do.
    """

    kinks: Kinks
    mask: Tensor
    phase: str
    penalty: float
    mse: float
    cycle: int = 0
    round: int = 0
    full: bool = False
    best: float = 1e300
    rows: int = 0
    size: int = -1
    settled: float = 1e300


def begin(affine: Tensor, plan: Plan, rng: np.random.Generator) -> Search:
    """Small random students around the affine least squares solution."""
    kinks = _fresh(Kinks.none(affine), plan.width, 0.1 / math.sqrt(affine.numel()), plan.negative, rng)
    return Search(kinks, kinks.weight != 0, "student", FIRST_PENALTY / math.sqrt(plan.rows), 1.0, rows=plan.rows)


def _fresh(kinks: Kinks, count: int, size: float, negative: float, rng: np.random.Generator) -> Kinks:
    """With ``count`` random dense students of standard deviation ``size``, both signs among them."""
    weight = size * torch.as_tensor(rng.standard_normal((count, kinks.affine.numel()))).to(kinks.affine)
    weight[:, -1] *= 0.3
    share = min(max(negative, 0.1), 0.9)
    sign = torch.ones(count).to(weight)
    sign[: round(share * count)] = -1.0
    return kinks.with_kinks(sign, weight)


def advance(search: Search, rows: Sample, order: np.ndarray, plan: Plan, rng: np.random.Generator) -> Search:
    """The next state. ``rows`` holds targets of unit variance, ``order`` a permutation of its rows."""
    if search.phase == "student":
        return _student_round(search, rows.rows(order[: search.rows]), plan, rng)
    return _refit_round(search, rows, order, plan, rng)


def _student_round(search: Search, sample: Sample, plan: Plan, rng: np.random.Generator) -> Search:
    x, y = sample.tensors(torch.float32)
    done = stage(
        x, y, search.kinks, search.penalty, plan.steps, STUDENT_MERGE if search.cycle == 0 else MERGE / sample.n
    )
    kappa = search.penalty * math.sqrt(sample.n / max(done.mse, 1e-300))
    kinks = _largest(done.kinks, 3 * search.size + 200) if search.size > 0 else done.kinks
    few = kinks.nonzeros <= FEW
    stages = (2 if few else 4) - min(search.cycle, 1)
    last = search.round >= stages or (few and kappa > 5 and done.mse < 1e-2)
    if last or (kappa < EXPLAINED and search.round >= 1):
        return replace(
            search, kinks=kinks, mask=kinks.weight != 0, phase="refit", round=0, mse=done.mse, best=1e300, size=-1
        )
    return replace(search, kinks=kinks, penalty=search.penalty / 3, round=search.round + 1, mse=done.mse)


def _largest(kinks: Kinks, most: int) -> Kinks:
    """With the ``most`` weights of largest size alone: what a stage that lacks a kink spreads thinly is cut."""
    size = kinks.weight.abs()
    if int(torch.count_nonzero(size)) <= most:
        return kinks
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep.view(-1)[size.flatten().topk(most).indices] = True
    return replace(kinks, weight=kinks.weight * keep).take(keep.any(1))


def _refit_round(search: Search, rows: Sample, order: np.ndarray, plan: Plan, rng: np.random.Generator) -> Search:
    size = int(search.mask.sum())
    count = rows.n if search.full else min(rows.n, max(FEWEST_ROWS, 8 * (size + rows.inputs)))
    sample = rows.rows(order[:count])
    fit, dropped = _prune(search, sample)
    kinks, mse, r = fit.kinks, fit.mse, residual(fit.kinks, sample)
    mask, weights, strongest = more_weights(kinks, sample, r, _threshold(kinks), max(10, size // 10))
    grown, strength = more_kinks(fit, sample, r, _threshold(kinks), max(3, len(kinks) // 10), rng)
    added = weights + len(grown) - len(kinks)
    same = kinks.nonzeros == search.size and mse > 0.99 * search.best
    marginal = max(strongest, strength) < 3 * _threshold(kinks)
    if added + dropped == 0 or (same and marginal):
        return _settled(search, fit, sample.n == rows.n, plan, rng)
    if (search.round >= 2 and mse > 0.8 * search.best) or search.round >= MOST_REFITS:
        return _back_to_student(search, kinks, mse, plan, rng)
    mask = torch.cat([mask, grown.weight[len(kinks) :] != 0])
    best = min(search.best, mse)
    return replace(search, kinks=grown, mask=mask, mse=mse, round=search.round + 1, best=best, size=kinks.nonzeros)


def _settled(search: Search, fit: Fit, full: bool, plan: Plan, rng: np.random.Generator) -> Search:
    """Nothing to drop or add: go on with all rows, then ask the student once more, unless that gained nothing."""
    kinks, mse = fit.kinks, fit.mse
    mask = kinks.weight != 0
    if not full:
        return replace(search, kinks=kinks, mask=mask, mse=mse, full=True, round=0, best=1e300)
    if mse > NOISELESS and mse < 0.9 * search.settled and search.cycle + 1 < plan.cycles:
        return replace(_back_to_student(search, kinks, mse, plan, rng), settled=mse)
    return replace(search, kinks=kinks, mask=mask, mse=mse, phase="done")


def _back_to_student(search: Search, kinks: Kinks, mse: float, plan: Plan, rng: np.random.Generator) -> Search:
    if search.cycle + 1 >= plan.cycles:
        return replace(search, kinks=kinks, mask=kinks.weight != 0, mse=mse, phase="stuck")
    count = max(20, (3 * len(kinks)) // 10)
    size = math.sqrt(mse / (count * kinks.affine.numel()))
    more = _fresh(kinks, count, size, plan.negative, rng)
    sample = min(2 * search.rows, plan.most_rows)
    penalty = SAMPLING * math.sqrt(mse / sample)
    return Search(
        more,
        more.weight != 0,
        "student",
        penalty,
        mse,
        search.cycle + 1,
        rows=sample,
        size=search.size,
        settled=search.settled,
    )


def _threshold(kinks: Kinks) -> float:
    """Squared t statistic that noise alone rarely reaches among all k D candidates: 2 log(k D) + 6."""
    return 2 * math.log(max(len(kinks), 20) * kinks.affine.numel()) + 6


def _prune(search: Search, sample: Sample) -> tuple[Fit, int]:
    """Refit; drop weights below the threshold and merge kinks, and refit again, until nothing changes.

    Weights of small t can be needed together (two kinks of one direction share what either would carry), so a drop
    that costs twice what its t statistics say is made smaller.
    """
    fit, dropped = refit(search.kinks, Support.of(search.mask), sample), 0
    for _ in range(4):
        t = saliency(fit)
        threshold = _threshold(fit.kinks)
        order = t.argsort()
        weak = order[: int((t < threshold).sum())]
        while True:
            kinks = _without(fit, weak)
            gone = len(fit.support) - int(torch.count_nonzero(kinks.weight))
            if gone == 0:
                return fit, dropped
            after = refit(kinks, Support.of(kinks.weight != 0), sample, steps=6, enough=0.1)
            allowed = 2 * max(fit.mse, ROUNDING) * (1 + threshold * gone / sample.n)
            if after.mse <= allowed or len(weak) == 0:
                break
            weak = weak[: len(weak) // 4]
        if after.mse > allowed:
            return fit, dropped
        fit, dropped = after, dropped + gone
    return fit, dropped


def _without(fit: Fit, weak: Tensor) -> Kinks:
    """The kinks without the weights at places ``weak`` of the support, merged."""
    weight = fit.kinks.weight.clone()
    weight[fit.support.kink[weak], fit.support.column[weak]] = 0.0
    return merged(replace(fit.kinks, weight=weight), MERGE * max(fit.mse, ROUNDING) / fit.rows)
