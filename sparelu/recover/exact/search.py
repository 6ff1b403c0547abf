"""The rounds of exact recovery: a warm start with a falling penalty, then add-drop local search.

    model = warm_start(rows)                             # l1 continuation on one combination of the outputs
    repeat:
        fit = refit(model, rows)                         # Levenberg-Marquardt
        fit = eliminate(fit, rows)                       # Wald test, duplicates; verified by refits
        model = add_strongest(fit, rows)                 # score test: weights, output weights, splits, hinges
    until stationary, or the error stalls; else warm_start(rows) from the model

A state is a plain value; :func:`advance` makes the next one, so a search can be written down and resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample, merge_duplicates, residual
from sparelu.recover.exact.model.least_squares import Fit, criterion, refit, regress
from sparelu.recover.exact.model.normal_equations import errors
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import CONVERGED, MERGE, NOISELESS, ROUNDED_ERROR, ROUNDING, SMALL_ANGLE
from sparelu.recover.exact.moments import moments
from sparelu.recover.exact.steps.backward import eliminate
from sparelu.recover.exact.steps.forward import add_hinges, add_strongest, scale_residual, score_outputs, score_weights
from sparelu.recover.exact.steps.forward_splits import add_splits
from sparelu.recover.exact.steps.outliers import find_outliers
from sparelu.recover.exact.steps.rare_activations import SHARE, drop_undecided, explain_few
from sparelu.recover.exact.warm_start import carrying, stage, truncate_weights, with_random

FIRST_PENALTY = 0.35
"""Penalty of the first continuation step, in units of sd(y) / sqrt(n)."""
SAMPLING = 3.0
"""Penalty over sqrt(mse / n) in later warm starts."""
EXPLAINED = 2.2
"""A step whose penalty ends above this many sqrt(mse / n) lacks no hinge; below, fresh ones join."""
FEW = 150
"""Up to so many weights refits are cheap, and are tried early; above, the penalty falls while that explains more."""
FEWEST_ROWS = 8000
DECAY = 3.0
"""What the penalty is divided by from step to step."""
COMPLETE = 0.55
"""Share of that decay, squared, by which the error of a penalised model must fall that lacks no hinge."""
FRESH = 0.2
"""Hinges that join before a further step where some are lacking, as a share of those there."""
FIRST_MERGE = 1.0
"""The same as ``MERGE`` before the first refit, in units of mse: a warm start spreads a hinge over several."""
UNDECIDED = 10
"""Rows that are excluded, at most: what more of them lie beyond is sought."""
PROGRESS = 0.1
"""Fall of the criterion that makes a cycle better than those before."""
IDLE = 2
"""Cycles in a row without progress after which the search ends."""
MOST_REFITS = 8
"""Rounds of local search in a row before the next warm start."""
TRIMS = 5
"""Searches that leave out other rows than the one before, at most; two or three end at the same rows."""
POLISH = 50
"""Steps of a refit of what is exact but for rounding, as ill-conditioned columns need."""
ROWS_PER_STUDENT = 65
"""Rows of the first warm start for each of its hinges, at least."""
STUDENTS_PER_RANK = 6
"""Hinges at the start for each eigenvalue that they leave in the second moment (1 to 9 hinges for each are seen)."""


@dataclass(frozen=True, eq=False)
class SearchOptions:
    """What a search may use: ``students`` hinges at the start, exactly or at most; ``rows`` of the first warm start.

    It has twice as many rows in every later cycle. ``steps`` are iterations of a continuation step, ``cycles`` warm
    starts. ``floor`` is the relative mean square of the rounding of the labels of each output: an error as small asks
    for nothing.
    """

    students: int
    exactly: bool
    rows: int
    steps: int
    cycles: int
    floor: Float[Tensor, " outs"]


@dataclass(frozen=True, eq=False)
class Search:
    """Where a search stands.

    ``phase`` is "warm start", "local search" or "done"; ``round`` counts rounds within the phase, ``cycle`` warm
    starts, which use ``rows`` rows; ``mse``, and ``linear_mse`` of the affine part alone, are relative to the
    variance of y; ``full`` says that refits use all rows; ``best`` and ``size`` are the least mse and the last number
    of weights within the phase, ``settled`` the mse when nothing was left to do. ``student`` is the model of the warm
    start, of the combination ``mix`` of the outputs. ``kept`` is the best model of all refits by ``score``, and
    ``stationary`` says whether nothing was left to do there: an extra cycle that ends worse loses nothing; ``idle``
    counts those in a row, ``mark`` is the score when the last warm start began. ``excluded`` are the rows that are
    left out, since all others are met without them (:mod:`.steps.rare_activations`), ``outliers`` those of wrong labels
    (:mod:`.steps.outliers`), for which the search began anew ``trims`` times.
    """

    model: ReluModel
    support: Support
    student: ReluModel
    mix: Float[Tensor, " outs"]
    phase: str
    penalty: float
    mse: float
    negative: float
    rows: int
    linear_mse: float
    cycle: int = 0
    round: int = 0
    full: bool = False
    best: float = 1e300
    size: int = -1
    settled: float = 1e300
    kept: ReluModel | None = None
    score: float = math.inf
    stationary: bool = False
    idle: int = 0
    mark: float = math.inf
    excluded: Sequence[int] = ()
    outliers: Sequence[int] = ()
    trims: int = 0

    @property
    def left_out(self) -> list[int]:
        """Return all rows that no fit meets, in order."""
        return sorted([*self.outliers, *self.excluded])


def begin(rows: Sample, order: np.ndarray, options: SearchOptions, rng: np.random.Generator) -> Search:
    """Return small random hinges around the affine least squares solution of one combination of the outputs."""
    mix = _mix(torch.ones_like(options.floor), rng)
    target = _combine(rows, mix)
    used = min(max(options.rows, ROWS_PER_STUDENT * options.students), rows.n)
    first = moments(target.rows(order[:used]))
    width = options.students if options.exactly else min(options.students, STUDENTS_PER_RANK * first.rank + 20)
    used = min(max(options.rows, ROWS_PER_STUDENT * width), used)
    linear = ReluModel.linear(first.affine[None])
    student = with_random(linear, width, 0.1 / math.sqrt(rows.inputs), first.negative, rng)
    model = linear if len(mix) == 1 else regress(ReluModel.linear(first.affine.new_zeros(len(mix), rows.inputs)), rows)
    penalty, support = FIRST_PENALTY / math.sqrt(used), Support.of(model)
    return Search(model, support, student, mix, "warm start", penalty, 1.0, first.negative, used, first.mse)


def advance(
    search: Search, rows: Sample, order: np.ndarray, options: SearchOptions, rng: np.random.Generator
) -> Search:
    """Return the next state. ``rows`` holds targets of unit variance, ``order`` a permutation of its rows."""
    kept = rows.without(search.left_out)
    own = order[order < kept.n]
    after = (_continue_warm_start if search.phase == "warm start" else _search_locally)(search, kept, own, options, rng)
    return _without_outliers(after, rows, order, options, rng) if after.phase == "done" else after


def _without_outliers(
    search: Search, rows: Sample, order: np.ndarray, options: SearchOptions, rng: np.random.Generator
) -> Search:
    """Return the search begun again on all ``rows`` but those whose labels are wrong; as it is if these are the same.

    A search that ends exact on all rows, or all but a few that hinges may explain, has none.
    """
    if search.trims == TRIMS or (search.mse <= NOISELESS and not search.outliers):
        return search
    found = find_outliers(search.model, rows)
    if not len(found) or np.array_equal(found, search.outliers):
        return search
    kept = rows.without(found.tolist())
    fresh = begin(kept, order[order < kept.n], options, rng)
    return replace(fresh, linear_mse=search.linear_mse, outliers=found.tolist(), trims=search.trims + 1)


def _mix(precision: Float[Tensor, " outs"], rng: np.random.Generator) -> Float[Tensor, " outs"]:
    """Return a random combination of outputs in units of their noise; almost surely it has the hinges of all."""
    if len(precision) == 1:
        return torch.ones_like(precision)
    mix = torch.as_tensor(rng.standard_normal(len(precision))).to(precision) * precision.sqrt()
    return mix / mix.norm()


def _combine(rows: Sample, mix: Float[Tensor, " outs"]) -> Sample:
    """Return the rows with the combination of their targets."""
    return rows if len(mix) == 1 else replace(rows, y=rows.y @ mix.cpu().numpy()[:, None])


def _continue_warm_start(
    search: Search, rows: Sample, order: np.ndarray, options: SearchOptions, rng: np.random.Generator
) -> Search:
    sample = _combine(rows, search.mix).rows(order[: search.rows])
    x, y = sample.tensors(torch.float32)
    spread = float(y.std()) if len(search.mix) > 1 else 1.0
    unit = torch.full_like(search.mix[:1], 1 / spread)
    done = stage(
        x, y[:, 0] / spread, search.student.scale_outputs(unit), search.penalty, options.steps, MERGE / sample.n
    )
    kappa = search.penalty * math.sqrt(sample.n / max(done.mse, 1e-300))
    student = truncate_weights(done.model, 3 * search.size + 200) if search.size > 0 else done.model
    few = student.nonzeros <= FEW
    stages = (2 if few else 3) - min(search.cycle, 1)
    last = search.round >= stages or (few and kappa > 5 and done.mse < 1e-2)
    # The error of a penalised model that lacks nothing is the bias of the penalty, which falls with its square.
    complete = search.round > 0 and search.mse > COMPLETE * DECAY**2 * done.mse
    if last or (kappa < EXPLAINED and search.round >= 1 and not complete):
        student = merge_duplicates(student, FIRST_MERGE * done.mse) if search.cycle == 0 else student
        student = carrying(student, done.mse) if complete and not few else student
        student = truncate_weights(student, sample.n // 2)  # more weights than rows meet any labels
        model = _draft(search.model, student, rows.rows(order[: max(search.rows, FEWEST_ROWS)]))
        return replace(
            search,
            model=model,
            support=Support.of(model),
            student=student,
            phase="local search",
            round=0,
            mse=done.mse,
            best=1e300,
            size=-1,
        )
    if not (few or complete) and search.cycle == 0:
        count = max(5, int(FRESH * len(student)))
        student = with_random(student, count, math.sqrt(done.mse / (count * rows.inputs)), search.negative, rng)
    student = student.scale_outputs(1 / unit)
    return replace(search, student=student, penalty=search.penalty / DECAY, round=search.round + 1, mse=done.mse)


def _draft(model: ReluModel, student: ReluModel, rows: Sample) -> ReluModel:
    """Return the model of all outputs on the hinges of the warm start, and of ``model`` where it lost some."""
    if model.affine.shape[0] == 1:
        return student
    unit, own = (m.weight / m.weight.norm(dim=1, keepdim=True) for m in (student, model))
    lost = own[((own @ unit.T).abs() < SMALL_ANGLE).all(1)]
    weight = torch.cat([unit, lost])
    outputs = weight.new_ones(len(weight), model.affine.shape[0])
    return regress(ReluModel.linear(torch.zeros_like(model.affine)).with_hinges(weight, outputs), rows)


def _search_locally(
    search: Search, rows: Sample, order: np.ndarray, options: SearchOptions, rng: np.random.Generator
) -> Search:
    count = rows.n if search.full else min(rows.n, max(FEWEST_ROWS, 8 * (search.support.size + rows.inputs)))
    sample = rows.rows(order[:count])
    start = refit(search.model, sample, search.support)
    fit = eliminate(start, sample)
    if _is_exact(fit) and not _is_met(fit, options):
        fit = refit(fit.model, sample, fit.support, steps=POLISH, enough=CONVERGED)
    met = _is_met(fit, options)
    model, support, strongest = (fit.model, fit.support, 0.0) if met else _add(fit, sample, rng)
    changed = start.support.size - fit.support.size + support.size - fit.support.size
    same = fit.model.nonzeros == search.size and fit.mse > 0.99 * search.best
    stationary = changed == 0 or (same and strongest < 3)
    stalled = (search.round >= 2 and fit.mse > 0.8 * search.best) or search.round >= MOST_REFITS
    if (stationary or stalled) and not (met and sample.n < rows.n):
        spared = _exclude_rows(search, fit, rows, options, rng)
        if spared is not None:
            return spared
    if stationary:
        return _settle(search, fit, sample.n == rows.n, rows, options, rng)
    if sample.n == rows.n:
        search = _remember(search, fit, stationary=False)
    if stalled:
        return _warm_start_again(_remember(search, fit, stationary=False), fit, rows, options, rng)
    best = min(search.best, fit.mse)
    return replace(
        search, model=model, support=support, mse=fit.mse, round=search.round + 1, best=best, size=fit.model.nonzeros
    )


def _is_met(fit: Fit, options: SearchOptions) -> bool:
    """Return whether the errors are the rounding of the labels, or of float64."""
    floor = options.floor.clamp_min(ROUNDING)
    return bool((fit.slope.mse <= (1 + ROUNDED_ERROR / math.sqrt(fit.rows)) * floor).all())


def _is_exact(fit: Fit) -> bool:
    """Return whether rounding is all that is left of every output, if not yet at its smallest."""
    return float(fit.slope.mse.max()) <= NOISELESS


def _add(fit: Fit, sample: Sample, rng: np.random.Generator) -> tuple[ReluModel, Support, float]:
    """Return the model and the support with what the residual asks for; the strongest, in units of its threshold."""
    model, tau, k = fit.model, fit.thresholds, len(fit.model)
    unit, scale = scale_residual(residual(model, sample))
    most = max(10, model.nonzeros // 10)
    own = torch.where(model.outputs != 0, tau, 0.0).amax(1, keepdim=True).clamp_min(1.0)
    weights, first = add_strongest(score_weights(model, sample, unit, scale) / own, most)
    outputs, second = add_strongest(score_outputs(fit) / tau, most)
    parts, third = add_splits(model, sample, unit, scale, float(tau.max()), max(10, k // 5))
    hinges, fourth = add_hinges(fit, sample, unit, scale, max(3, k // 10), rng, beside=parts.weight[k:])
    grown = parts.with_hinges(hinges.weight, hinges.outputs)
    support = Support(
        torch.cat([fit.support.weight | weights, grown.weight[k:] != 0]),
        torch.cat([fit.support.outputs | outputs, grown.outputs[k:] != 0]),
        fit.support.affine,
    )
    return grown, support, max(first, second, third, fourth)


def _exclude_rows(
    search: Search, fit: Fit, rows: Sample, options: SearchOptions, rng: np.random.Generator
) -> Search | None:
    """Return the search with hinges that few rows lie beyond, and rows that decide none excluded; None if no gain."""
    met = _is_met(fit, options)
    fewer, beyond = drop_undecided(fit.model, rows) if met else (fit.model, np.zeros(0, dtype=np.int64))
    if met and len(fewer) == len(fit.model):
        return None
    mix, target = search.mix, _combine(rows, search.mix)
    own = replace(options, floor=(options.floor.clamp_min(ROUNDING) @ mix.square())[None])
    rounded = math.sqrt(float(own.floor))
    found = explain_few(fit.model.combine(mix), target, lambda after: _is_met(after, own), rounded, rng)
    if found is not None:
        single, unmet = found
        model = _draft(fit.model, single, rows.without(unmet.tolist()))
        spared = _exclude(search, model, unmet, rows) if len(unmet) else None
        if spared is not None:
            return spared
        after = refit(model, rows)
        shorter = after.model.nonzeros < fit.model.nonzeros and _is_met(after, options)
        if shorter or after.mse <= 0.9 * float(errors(fit.model, rows).clamp_min(1e-300).log().mean().exp()):
            return _restart_local(search, after.model)
    return _exclude(search, fewer, beyond, rows) if met else None


def _exclude(search: Search, model: ReluModel, unmet: np.ndarray, rows: Sample) -> Search | None:
    """Return the search begun again on all ``rows`` but the ``unmet`` ones; None where these are too many."""
    if len(search.excluded) + len(unmet) > min(UNDECIDED, SHARE * rows.n):
        return None
    out = np.asarray(search.left_out, dtype=np.int64)
    own = np.setdiff1d(np.arange(rows.n + len(out)), out)
    excluded = sorted([*search.excluded, *own[unmet].tolist()])
    return replace(_restart_local(search, model), excluded=excluded, kept=None, score=math.inf)


def _restart_local(search: Search, model: ReluModel) -> Search:
    """Return local search of ``model`` begun anew, on all rows."""
    return replace(search, model=model, support=Support.of(model), full=True, round=0, best=1e300, size=-1)


def _remember(search: Search, fit: Fit, stationary: bool) -> Search:
    """Return the search with this fit as the one to return, unless an earlier one is better."""
    score = criterion(fit)
    if score > search.score or (score == search.score and not stationary):
        return search
    return replace(search, kept=fit.model, score=score, stationary=stationary)


def _settle(
    search: Search, fit: Fit, full: bool, rows: Sample, options: SearchOptions, rng: np.random.Generator
) -> Search:
    """Go on with all rows once nothing is left to drop or add, then from a warm start, unless that gained nothing."""
    if not full:
        return replace(search, model=fit.model, support=fit.support, mse=fit.mse, full=True, round=0, best=1e300)
    search = _remember(search, fit, stationary=True)
    if not _is_exact(fit) and fit.mse < 0.9 * search.settled and search.cycle + 1 < options.cycles:
        return replace(_warm_start_again(search, fit, rows, options, rng), settled=fit.mse)
    return _end(search, fit.mse)


def _end(search: Search, mse: float) -> Search:
    """Return the best model of the whole search."""
    assert search.kept is not None
    return replace(search, model=search.kept, support=Support.of(search.kept), mse=mse, phase="done")


def _warm_start_again(
    search: Search, fit: Fit, rows: Sample, options: SearchOptions, rng: np.random.Generator
) -> Search:
    """Return the model with fresh hinges on twice the rows, for another combination of the outputs."""
    idle = 0 if search.score < search.mark - PROGRESS else search.idle + 1
    if search.cycle + 1 >= options.cycles or idle >= IDLE:
        if search.full:
            return _end(search, fit.mse)
        assert search.kept is not None
        return _restart_local(search, search.kept)  # in noise few rows show few of the weights
    mix = _mix(1 / fit.noise, rng)
    student, target = fit.model.combine(mix), _combine(rows, mix)
    mse = fit.mse if len(mix) == 1 else float(errors(student, target)) / max(float(target.y.var()), 1e-300)
    count = max(20, (3 * len(student)) // 10)
    spread = 1.0 if len(mix) == 1 else float(target.y.std())
    size = spread * math.sqrt(mse / (count * rows.inputs))
    used = min(2 * search.rows, rows.n)
    return replace(
        search,
        model=fit.model,
        support=fit.support,
        student=with_random(student, count, size, search.negative, rng),
        mix=mix,
        phase="warm start",
        penalty=SAMPLING * math.sqrt(mse / used),
        mse=fit.mse,
        cycle=search.cycle + 1,
        round=0,
        full=False,
        best=1e300,
        rows=used,
        idle=idle,
        mark=search.score,
    )
