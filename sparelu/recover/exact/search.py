"""The rounds of exact recovery: student stages with a falling penalty, and refits that drop, merge, split and add.

A state is a plain value; :func:`advance` makes the next one, so a search can be written down and resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparelu.recover.exact.forward import more_kinks, more_weights
from sparelu.recover.exact.forward_splits import more_splits
from sparelu.recover.exact.hinges import Kinks, Sample, merged, residual, without_doubles
from sparelu.recover.exact.least_squares import ROUNDING, Fit, refit, saliency
from sparelu.recover.exact.normal_equations import Support
from sparelu.recover.exact.rare_activations import SHARE, but_for_few, undecided
from sparelu.recover.exact.warm_start import stage

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
ROUNDED = 144.0
"""Squared t statistic of a weight that rounding does not explain; that of a planted weight is some 10^13."""
ROUNDED_ERROR = 8.0
"""An error is the rounding of the labels up to so many standard deviations of a mean square above it."""
MERGE = 30.0
"""Kinks are one when joining them costs less than this many mse / n."""
FALL = 3.0
"""What the penalty is divided by from stage to stage."""
COMPLETE = 0.55
"""Share of that fall, squared, by which the error of a student must fall that lacks no kink."""
FRESH = 0.2
"""Students that join before a further stage where kinks are lacking, as a share of the kinks."""
STUDENT_MERGE = 1.0
"""The same before the first refit, in units of mse: a student spreads a kink of many weights over several."""
CLOSE = 1e-3
"""Gain of a refit step at which its error is that of the least squares, for the test of a drop."""
UNDECIDED = 10
"""Rows that are set aside, at most: what more of them lie beyond is sought."""
PROGRESS = 0.1
"""Fall of log mse, less what the weights cost, that makes a cycle better than those before."""
IDLE = 2
"""Cycles in a row without progress after which the search ends."""
MOST_REFITS = 8
"""Refits in a row before the student is asked again."""


@dataclass(frozen=True)
class Plan:
    """What a search may use: ``width`` students at the start, iterations of a stage, cycles.

    The student has ``rows`` rows at first, and twice as many in every later cycle, up to ``most_rows``. ``floor`` is
    the relative mean square of the rounding of the labels: an error as small asks for nothing.
    """

    width: int
    rows: int
    most_rows: int
    steps: int
    cycles: int
    negative: float
    floor: float = 0.0


@dataclass(frozen=True, eq=False)
class Search:
    """Where a search stands.

    ``phase`` is "student", "refit" or "done"; ``round`` counts rounds within the phase, ``cycle`` phases of
    the student, which uses ``rows`` rows; ``mse`` is relative to the variance of y; ``full`` says that refits use all
    rows; ``best`` and ``size`` are the least mse and the last number of weights within the phase, ``settled`` the mse
    when nothing was left to do. ``kept`` are the best kinks of all refits by ``score``, and ``rest`` says whether
    nothing was left to do there: an extra cycle that ends worse loses nothing; ``idle`` counts those in a row, ``mark``
    is the score when the student was last asked. ``aside`` are the rows that are left out, since all others are met
    without them (:mod:`.few_rows`).
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
    kept: Kinks | None = None
    score: float = math.inf
    rest: bool = False
    idle: int = 0
    mark: float = math.inf
    aside: Sequence[int] = ()


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
    rows = rows.without(search.aside)
    order = order[order < rows.n]
    if search.phase == "student":
        return _student_round(search, rows.rows(order[: search.rows]), plan, rng)
    return _refit_round(search, rows, order, plan, rng)


def _student_round(search: Search, sample: Sample, plan: Plan, rng: np.random.Generator) -> Search:
    x, y = sample.tensors(torch.float32)
    done = stage(x, y, search.kinks, search.penalty, plan.steps, MERGE / sample.n)
    kappa = search.penalty * math.sqrt(sample.n / max(done.mse, 1e-300))
    kinks = _largest(done.kinks, 3 * search.size + 200) if search.size > 0 else done.kinks
    few = kinks.nonzeros <= FEW
    stages = (2 if few else 3) - min(search.cycle, 1)
    last = search.round >= stages or (few and kappa > 5 and done.mse < 1e-2)
    # The error of a student that lacks nothing is the bias of the penalty, which falls with its square.
    complete = search.round > 0 and search.mse > COMPLETE * FALL**2 * done.mse
    if last or (kappa < EXPLAINED and search.round >= 1 and not complete):
        kinks = merged(kinks, STUDENT_MERGE * done.mse) if search.cycle == 0 else kinks
        kinks = _carrying(kinks, done.mse) if complete and not few else kinks
        kinks = _largest(kinks, sample.n // 2)  # more weights than rows meet any labels
        return replace(
            search, kinks=kinks, mask=kinks.weight != 0, phase="refit", round=0, mse=done.mse, best=1e300, size=-1
        )
    if not (few or complete) and search.cycle == 0:
        count = max(5, int(FRESH * len(kinks)))
        kinks = _fresh(kinks, count, math.sqrt(done.mse / (count * x.shape[1])), plan.negative, rng)
    return replace(search, kinks=kinks, penalty=search.penalty / FALL, round=search.round + 1, mse=done.mse)


def _carrying(kinks: Kinks, mse: float) -> Kinks:
    """Without the kinks that carry less than the error ``mse``: students that double others are the last to vanish.

    For unit Gaussian inputs |z| / 2 has variance (1 - 2 / pi) |w|^2 / 4.
    """
    return kinks.take((1 - 2 / math.pi) / 4 * kinks.weight.square().sum(1) > mse)


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
    kinks, mse = fit.kinks, fit.mse
    met = _met(mse, sample.n, plan)
    grown, mask, strongest = (kinks, kinks.weight != 0, 0.0) if met else _grown(fit, sample, rng)
    changed = dropped + int(mask.sum()) - int(torch.count_nonzero(kinks.weight))
    same = kinks.nonzeros == search.size and mse > 0.99 * search.best
    at_rest = changed == 0 or (same and strongest < 3 * _threshold(kinks, mse))
    stalled = (search.round >= 2 and mse > 0.8 * search.best) or search.round >= MOST_REFITS
    if (at_rest or stalled) and not (met and sample.n < rows.n):
        spared = _but_for_few(search, fit, rows, plan, rng)
        if spared is not None:
            return spared
    if at_rest:
        return _settled(search, fit, sample.n == rows.n, plan, rng)
    if sample.n == rows.n:
        search = _remembered(search, fit, rest=False)
    if stalled:
        return _back_to_student(_remembered(search, fit, rest=False), kinks, mse, plan, rng)
    best = min(search.best, mse)
    return replace(search, kinks=grown, mask=mask, mse=mse, round=search.round + 1, best=best, size=kinks.nonzeros)


def _met(mse: float, rows: int, plan: Plan) -> bool:
    """Whether an error is the rounding of the labels, or of float64."""
    return mse <= (1 + ROUNDED_ERROR / math.sqrt(rows)) * max(plan.floor, ROUNDING)


def _but_for_few(search: Search, fit: Fit, rows: Sample, plan: Plan, rng: np.random.Generator) -> Search | None:
    """With the kinks that few rows lie beyond, and rows that decide none set aside; None where that is no gain."""
    met = _met(fit.mse, fit.rows, plan)
    fewer, beyond = undecided(fit.kinks, rows) if met else (fit.kinks, np.zeros(0, dtype=np.int64))
    if met and len(fewer) == len(fit.kinks):
        return None
    rounded = math.sqrt(max(plan.floor, ROUNDING))
    found = but_for_few(fit, rows, lambda after: _met(after.mse, after.rows, plan), rounded, rng)
    if found is not None:
        kinks, unmet = found
        spared = _with_aside(search, kinks, unmet, rows) if len(unmet) else None
        if spared is not None:
            return spared
        after = refit(kinks, Support.of(kinks.weight != 0), rows)
        shorter = after.kinks.nonzeros < fit.kinks.nonzeros and _met(after.mse, after.rows, plan)
        if shorter or after.mse <= 0.9 * float(residual(fit.kinks, rows).square().mean()):
            return _again(search, after.kinks)
    return _with_aside(search, fewer, beyond, rows) if met else None


def _with_aside(search: Search, kinks: Kinks, unmet: np.ndarray, rows: Sample) -> Search | None:
    """Begun again on all ``rows`` but the ``unmet`` ones; None where these are too many."""
    if len(search.aside) + len(unmet) > min(UNDECIDED, SHARE * rows.n):
        return None
    own = np.setdiff1d(np.arange(rows.n + len(search.aside)), np.asarray(search.aside, dtype=np.int64))
    aside = sorted([*search.aside, *own[unmet].tolist()])
    return replace(_again(search, kinks), aside=aside, kept=None, score=math.inf)


def _again(search: Search, kinks: Kinks) -> Search:
    """Refits of ``kinks`` begun anew, on all rows."""
    return replace(search, kinks=kinks, mask=kinks.weight != 0, full=True, round=0, best=1e300, size=-1)


def _grown(fit: Fit, sample: Sample, rng: np.random.Generator) -> tuple[Kinks, Tensor, float]:
    """With the weights, splits and kinks that the residual asks for; the mask; the strongest of them."""
    kinks, threshold, count = fit.kinks, _threshold(fit.kinks, fit.mse), len(fit.kinks)
    r = residual(kinks, sample)
    mask, _, weight = more_weights(kinks, sample, r, threshold, max(10, kinks.nonzeros // 10))
    parts, gain = more_splits(kinks, sample, r, threshold, max(10, count // 5))
    added, strength = more_kinks(fit, sample, r, threshold, max(3, count // 10), rng, beside=parts.weight[count:])
    grown = parts.with_kinks(added.sign[count:], added.weight[count:])
    return grown, torch.cat([mask, grown.weight[count:] != 0]), max(weight, gain, strength)


def _remembered(search: Search, fit: Fit, rest: bool) -> Search:
    """With this fit as the one to return, unless an earlier one is better: log mse + p log n / n, as of Schwarz."""
    n, floor = fit.rows, max(fit.mse, ROUNDING)
    score = math.log(floor) + len(fit.support) * math.log(n) / n
    if score > search.score or (score == search.score and not rest):
        return search
    return replace(search, kept=fit.kinks, score=score, rest=rest)


def _settled(search: Search, fit: Fit, full: bool, plan: Plan, rng: np.random.Generator) -> Search:
    """Nothing to drop or add: go on with all rows, then ask the student once more, unless that gained nothing."""
    kinks, mse = fit.kinks, fit.mse
    mask = kinks.weight != 0
    if not full:
        return replace(search, kinks=kinks, mask=mask, mse=mse, full=True, round=0, best=1e300)
    search = _remembered(search, fit, rest=True)
    if mse > NOISELESS and mse < 0.9 * search.settled and search.cycle + 1 < plan.cycles:
        return replace(_back_to_student(search, kinks, mse, plan, rng), settled=mse)
    return _ended(search, mse)


def _ended(search: Search, mse: float) -> Search:
    """The best kinks of the whole search."""
    assert search.kept is not None
    return replace(search, kinks=search.kept, mask=search.kept.weight != 0, mse=mse, phase="done")


def _back_to_student(search: Search, kinks: Kinks, mse: float, plan: Plan, rng: np.random.Generator) -> Search:
    idle = 0 if search.score < search.mark - PROGRESS else search.idle + 1
    if search.cycle + 1 >= plan.cycles or idle >= IDLE:
        if search.full:
            return _ended(search, mse)
        assert search.kept is not None
        return _again(search, search.kept)  # in noise few rows show few of the weights
    count = max(20, (3 * len(kinks)) // 10)
    size = math.sqrt(mse / (count * kinks.affine.numel()))
    more = _fresh(kinks, count, size, plan.negative, rng)
    rows = min(2 * search.rows, plan.most_rows)
    penalty = SAMPLING * math.sqrt(mse / rows)
    return replace(
        search,
        kinks=more,
        mask=more.weight != 0,
        phase="student",
        penalty=penalty,
        mse=mse,
        cycle=search.cycle + 1,
        round=0,
        full=False,
        best=1e300,
        rows=rows,
        idle=idle,
        mark=search.score,
    )


def _threshold(kinks: Kinks, mse: float) -> float:
    """Squared t statistic that noise alone rarely reaches among all k D candidates: 2 log(k D) + 6.

    The rounding of labels is no noise, it depends on the inputs: more is asked for there.
    """
    noise = 2 * math.log(max(len(kinks), 20) * kinks.affine.numel()) + 6
    return max(noise, ROUNDED) if mse < NOISELESS else noise


def _prune(search: Search, sample: Sample) -> tuple[Fit, int]:
    """Refit; drop weights below the threshold and merge kinks, and refit again, until nothing changes."""
    fit = refit(search.kinks, Support.of(search.mask), sample)
    size = len(fit.support)
    for _ in range(4):
        smaller = _dropped(fit, sample) or _joined(fit, sample)
        if smaller is None:
            break
        fit = smaller
    return fit, size - len(fit.support)


def _dropped(fit: Fit, sample: Sample) -> Fit | None:
    """Without weights below the threshold, of near kinks one; None when nothing can go.

    Weights of small t can be needed together (two kinks of one direction share what either would carry), so a drop
    that costs twice what its t statistics say is made smaller.
    """
    t = saliency(fit)
    order = t.argsort()
    weak = order[: int((t < fit.normal.slack * _threshold(fit.kinks, fit.mse)).sum())]
    cost = MERGE * max(fit.mse, ROUNDING) / fit.rows
    while True:
        weight = fit.kinks.weight.clone()
        weight[fit.support.kink[weak], fit.support.column[weak]] = 0.0
        smaller = _if_as_good(fit, merged(replace(fit.kinks, weight=weight), cost), sample)
        if smaller is not None or len(weak) == 0:
            return smaller
        weak = weak[: len(weak) // 4]


def _joined(fit: Fit, sample: Sample) -> Fit | None:
    """With kinks that may be one joined, where rounding is all that is left; None when there are none."""
    return _if_as_good(fit, without_doubles(fit.kinks, sample), sample) if fit.mse < NOISELESS else None


def _if_as_good(fit: Fit, kinks: Kinks, sample: Sample) -> Fit | None:
    """A refit of part of the support, if its error rises by less than twice what the threshold allows."""
    gone = len(fit.support) - int(torch.count_nonzero(kinks.weight))
    if gone == 0:
        return None
    after = refit(kinks, Support.of(kinks.weight != 0), sample, steps=6, enough=CLOSE)
    rise = CLOSE + 2 * _threshold(fit.kinks, fit.mse) * gone / sample.n
    return after if after.mse <= max(fit.mse, ROUNDING) * (1 + rise) else None
