"""Exact recovery: the very network that made the data, found by penalised students and certified refits."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sparelu.data import Budget, Data, Taken
from sparelu.identifiability import condition, unsuited
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.recover.exact.certificate import DELTA, Evidence, SearchFacts, rows_kept_apart, weigh
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.inputs import read_columns
from sparelu.recover.exact.label_precision import label_rounding
from sparelu.recover.exact.least_squares import ROUNDING, Fit, refit, saliency
from sparelu.recover.exact.moments import moments
from sparelu.recover.exact.normal_equations import Support
from sparelu.recover.exact.orientation import Orientations
from sparelu.recover.exact.outputs_least_squares import Places, refit_jointly
from sparelu.recover.exact.outputs_search import (
    all_t,
    cut,
    drafted,
    oriented_jointly,
    score,
    settled,
    trimmed_jointly,
    unexplained,
)
from sparelu.recover.exact.relu_model import Found, orient_scalar, scalar, trimmed, within
from sparelu.recover.exact.search import NOISELESS, ROUNDED, Plan, Search, advance, begin
from sparelu.recover.exact.two_layers.fit import deep_steps

ROWS_PER_STUDENT = 65
"""Rows of the first student for each of its neurons, at least."""
COMBINATIONS = 3
"""Combinations of several outputs that are searched at most."""
GAIN = 1e-2
"""What a further combination must take off the sum of log mse_o."""
FAR = 1e3
"""Means of labels below so many sd come back before the last fit: a constant that is zero is then found to be zero."""
STUDENTS_PER_RANK = 6
"""Students at the start for each eigenvalue that kinks leave in the second moment (1 to 9 kinks for each are seen)."""


@dataclass(frozen=True)
class Exact(Fitter):
    """Recovers a network of one hidden layer: output weights of any sign and size, biases, an affine part.

    The model is a sum of kinks and an affine part (:mod:`.kinks`). Student stages with a falling penalty find the
    kinks (:mod:`.student`); refits on the support drop weights and merge kinks by their t statistics, and add weights
    and kinks that the residual asks for, until nothing is left to do on all rows (:mod:`.search`); the orientation
    of each neuron is read off the affine part (:mod:`.orient`). Without a number of nonzeros in the budget it finds
    the number; with one, the weights of least saliency are dropped. ``hidden`` only bounds the number of neurons.
    Several outputs share their kinks: one combination of them starts the search, all are fitted and tested jointly
    (:mod:`.joint`, :mod:`.outputs`), and combinations of what is left are searched again while that helps.

    Departs from the paper, which thresholds gradient steps on fixed random gates: no gates are drawn, the kinks move.
    Converged means exact: rows that no fit has seen are met to the rounding of their labels, the search was at rest,
    the budget cut nothing, and the inputs are neither on a grid nor linear in each other (:mod:`.evidence`). Anything
    else, noise included, is ``best_found``; the first certificate says how far off it is and why, the second whether
    rows decide such a support (:mod:`sparelu.identifiability`).
    Memory does not grow with the rows beyond ``most``, nor with ``hidden`` beyond three times the inputs: a student is
    dense (its neurons times the inputs, in 40 vectors of L-BFGS), and a refit of p numbers holds a (p, p) matrix up to
    p = 3000, beyond which it streams (:mod:`.normal`).
    """

    name: ClassVar[str] = "exact"
    question: ClassVar[str] = "recover"
    scales_inputs: ClassVar[bool] = True
    paper: ClassVar[str] = "Fridovich-Keil and Pilanci, A Recovery Guarantee for Sparse Neural Networks, ICLR 2026"

    most: int = setting(1_000_000, "rows used at most, drawn at random: more take memory and tell little", low=100)
    rows: int = setting(10000, "rows of the penalised student in its first cycle, at least", low=100)
    iterations: int = setting(400, "most L-BFGS iterations of one student stage", low=20)
    cycles: int = setting(8, "most returns from refits to the student", low=1)
    students: int | None = setting(
        None, "students at the start; none: 1.5 hidden + 20, at most 3 inputs and 6 rank + 20", low=1
    )

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Labels that are classes, depth, a budget that does not fit, or too few rows for it."""
        if data.task != "regression":
            return "it recovers from regression targets: choose a training method for classes"
        reason = budget_reason(data, budget, needed=False, depth=(1, 2))
        if reason is not None:
            return reason
        if len(budget.hidden) == 2 and data.outputs > 1:
            return f"two hidden layers are recovered from one output, got {data.outputs}: fit the outputs one by one"
        wanted = data.inputs + 1 + (budget.count(data.inputs, data.outputs) or 0)
        if data.n < wanted:
            return (
                f"{data.n} rows do not decide it: at least {wanted} are needed, one for each number "
                f"(the affine part has {data.inputs + 1})"
            )
        return None

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """One student stage or one refit a round; the last round trims to the budget and orients."""
        if len(budget.hidden) == 2:
            return (yield from deep_steps(self, data, budget, rng, start))
        run = _Run.begun(self, data, budget, rng) if start is None else _Run.restored(self, data, budget, start)
        if start is None:
            run.search = begin(run.affine, run.plan, rng)
        else:
            yield run.iterate()
        while run.found is None:
            if run.search.phase == "done":
                run.finish(rng)
            else:
                run.search = advance(run.search, run.rows, run.order, run.plan, rng)
            run.rounds += 1
            yield run.iterate()
        return Status.converged if run.exact else Status.best_found


class _Run:
    """The parts of one fit that its rounds share; everything but the state is made again from data and seed.

    With several outputs the search is of one random combination of them (``turn`` 0), then of what the ``draft`` of all
    outputs leaves unexplained, as long as that makes a better draft.
    """

    def __init__(
        self, method: Exact, data: Data, budget: Budget, seed: int, turn: int = 0, draft: Found | None = None
    ) -> None:
        own = np.random.default_rng(seed)
        self.numbers = np.arange(data.n)
        if data.n > method.most:
            self.numbers = np.sort(own.choice(data.n, method.most, replace=False))
            data = data.take(self.numbers)
        self.method, self.data, self.budget, self.seed, self.rounds = method, data, budget, seed, 0
        self.turn, self.draft, self.score, self.rest = turn, draft, math.inf, False
        self.found: Found | None = None
        self.evidence: Evidence | None = None
        y = np.asarray(data.y[:], dtype=np.float64).reshape(data.n, -1)
        self.mean, sd = y.mean(axis=0), np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
        self.sd = torch.as_tensor(sd).to(data.device)
        self.level = np.where(np.abs(self.mean) < FAR * sd, self.mean, 0.0)
        self.columns = read_columns(data)
        order = own.permutation(data.n)
        held, self.kept = (np.sort(part) for part in np.split(order, [rows_kept_apart(data.n)]))
        self.apart = np.asarray(data.x[held]), y[held]
        self.goals = self.columns.sample(Taken(data.x, self.kept), ((y - self.mean) / sd)[self.kept], data.device)
        fine = (label_rounding(y[self.kept]) ** 2).mean(axis=0) / sd**2
        self.rounding = np.where(fine < NOISELESS, fine, 0.0)  # coarser digits are noise to a search
        self.order = own.permutation(len(self.kept))
        self._aim()
        self.search: Search

    def _aim(self) -> None:
        """The target of the search: a random combination of the outputs, or of what the draft leaves of them."""
        y, method = self.goals.y, self.method
        if self.draft is not None:
            y = unexplained(self.draft, self.goals)
        several = self.outputs > 1
        mix = np.random.default_rng([self.seed, self.turn]).standard_normal(self.outputs) if several else np.ones(1)
        target = y @ mix
        spread = float(target.std()) or 1.0
        self.scale = spread if several else spread * float(self.sd[0])
        self.rows = replace(self.goals, y=target / spread)
        most = min(3 * self.budget.hidden[0] // 2 + 20, 3 * max(1, self.columns.width))
        rows = min(max(method.rows, ROWS_PER_STUDENT * most), self.rows.n)
        first = moments(self.rows.rows(self.order[:rows]))
        width = method.students or min(most, STUDENTS_PER_RANK * first.rank + 20)
        rows = min(max(method.rows, ROWS_PER_STUDENT * width), rows)
        self.affine, self.affine_mse = first.affine, first.mse
        floor = float(self.rounding @ mix**2) / spread**2 if self.draft is None else 0.0
        self.plan = Plan(width, rows, self.rows.n, method.iterations, method.cycles, first.negative, floor)

    @classmethod
    def begun(cls, method: Exact, data: Data, budget: Budget, rng: np.random.Generator) -> "_Run":
        return cls(method, data, budget, int(rng.integers(2**62)))

    @classmethod
    def restored(cls, method: Exact, data: Data, budget: Budget, state: State) -> "_Run":
        draft = _moved(Found, state["draft"], data.device)
        run = cls(method, data, budget, state["seed"], state["turn"], draft)
        run.rounds, run.score, run.rest = state["rounds"], state["score"], state["rest"]
        tensors = {k: v.to(data.device) for k, v in state["kinks"].items()}
        mask = tensors.pop("mask")
        kept = _moved(Kinks, state["kept"], data.device)
        run.search = Search(Kinks(**tensors), mask.bool(), kept=kept, **state["search"])
        run.found = _moved(Found, state["found"], data.device)
        run.evidence = Evidence.restored(state["evidence"]) if state["evidence"] else None
        return run

    def state(self) -> dict[str, Any]:
        s = self.search
        tensors = ("kinks", "mask", "kept")
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "turn": self.turn,
            "score": self.score,
            "rest": self.rest,
            "draft": _fields(self.draft),
            "kinks": {**_fields(s.kinks), "mask": s.mask},
            "kept": _fields(s.kept),
            "search": {k: v for k, v in _fields(s).items() if k not in tensors},
            "found": _fields(self.found),
            "evidence": {} if self.evidence is None else self.evidence.state,
        }

    def iterate(self) -> Iterate:
        s = self.search
        numbers = {"kinks": float(len(s.kinks)), "nonzeros": float(s.kinks.nonzeros), "cycle": float(s.cycle)}
        progress = 1.0 if self.found is not None else 1 - 2 ** (-self.rounds / 8)
        return Iterate(progress, s.mse * self.scale**2, self.network, self.state, numbers, self.certificates)

    @property
    def exact(self) -> bool:
        """Whether every premise of the evidence was checked."""
        return self.evidence is not None and self.evidence.certificate("").holds

    def certificates(self) -> tuple[Certificate, ...]:
        """What proves the network, and whether its support is one that rows decide."""
        if self.evidence is None:
            return ()
        own, network = self.evidence.certificate(Exact.paper), self.network()
        return (own,) if unsuited(network) else (own, condition(network, self.data, DELTA))

    @property
    def outputs(self) -> int:
        return self.goals.y.shape[1]

    @property
    def allowed(self) -> int | None:
        return self.budget.count(self.data.inputs, self.data.outputs)

    def network(self) -> Network:
        """The network so far, cut to the budget."""
        if self.found is not None:
            return self.found.network()
        if self.outputs == 1:
            found = scalar(within(self.search.kinks, self.allowed, self.budget.hidden[0]), self.scale)
        else:
            draft = drafted(self._directions(), self.goals).found
            found = cut(draft, self.allowed, self.budget.hidden[0]).times(self.sd)
        return self._raw(self.columns.uncentred(found), self.mean).network()

    def _raw(self, found: Found, mean: np.ndarray) -> Found:
        """Of raw columns, from one of scaled columns that keep their means; and of labels that have a ``mean`` more."""
        found = self.columns.raw(found)
        return replace(found, affine=_raised(found.affine, mean))

    def _directions(self) -> Kinks:
        """The kinks of the search, and before them those of the draft."""
        kinks = self.search.kinks
        if self.draft is None:
            return kinks
        own = Kinks.none(kinks.affine).with_kinks(torch.ones_like(self.draft.tilt), self.draft.weight)
        return own.with_kinks(kinks.sign, kinks.weight)

    def finish(self, rng: np.random.Generator) -> None:
        """End, or search again: trim to the budget, orient, give every output its weights, and weigh the evidence."""
        if self.outputs == 1:
            self._finish_one()
        elif not self._missed(rng):
            self._finish_all()

    def _finish_one(self) -> None:
        rows = self.rows.without(self.search.aside)
        fit = trimmed(self.search.kinks, rows, self.allowed, self.budget.hidden[0])
        fit = _without(fit, saliency(fit) < ROUNDED, rows) if fit.mse < NOISELESS else fit
        lost = fit.mse > 1.1 * self.search.mse + ROUNDING
        self.search = replace(self.search, kinks=fit.kinks, mask=fit.kinks.weight != 0, mse=fit.mse)
        shift = self.level[0] / self.scale
        flat = replace(rows, centre=None, y=rows.y + shift)
        fit = replace(fit, kinks=replace(fit.kinks, affine=_raised(fit.kinks.affine, shift)))
        fit, signs = orient_scalar(self._uncentred(fit, flat), flat)
        self.found = self._raw(scalar(fit.kinks, self.scale), self.mean - self.level)
        t = saliency(fit).sqrt().cpu().numpy()
        self._weigh(fit.rows, math.sqrt(fit.mse), t, self.search.rest, lost, signs)

    def _uncentred(self, fit: Fit, flat: Sample) -> Fit:
        """The fit on columns that keep their means, without the biases that were those of the means alone."""
        if not self.columns.centred:
            return fit
        kinks = self.columns.uncentred(fit.kinks)
        whole = refit(kinks, Support.of(kinks.weight != 0), flat, steps=4)
        return _without(whole, (whole.support.column == flat.inputs - 1) & (saliency(whole) < ROUNDED), flat)

    def _missed(self, rng: np.random.Generator) -> bool:
        """Draft all outputs; whether the search goes on with another combination, of what is not explained."""
        goals = self.goals.without(self.search.aside)
        joint, rest = settled(drafted(self._directions(), goals), goals, rng)
        value = score(joint)
        better = value < self.score - GAIN
        if better:
            self.draft, self.score, self.rest = joint.found, value, rest
        if not better or self.turn + 1 >= COMBINATIONS or float(joint.mse.max()) < NOISELESS:
            return False
        self.turn += 1
        self._aim()
        self.search = replace(begin(self.affine, self.plan, rng), aside=self.search.aside)
        return True

    def _finish_all(self) -> None:
        assert self.draft is not None
        goals = self.goals.without(self.search.aside)
        whole = refit_jointly(self.draft, Places.of(self.draft), goals)
        joint = trimmed_jointly(whole, goals, self.allowed, self.budget.hidden[0])
        lost = bool((joint.mse > 1.1 * whole.mse + ROUNDING).any())
        shift = self.level / self.sd.cpu().numpy()
        flat = replace(goals, centre=None, y=goals.y + shift)
        found = self.columns.uncentred(joint.found)
        found = replace(found, affine=_raised(found.affine, shift))
        joint = refit_jointly(found, Places.of(found), flat) if self.columns.centred else replace(joint, found=found)
        joint, signs = oriented_jointly(joint, flat)
        self.found = self._raw(joint.found.times(self.sd), self.mean - self.level)
        inside = math.sqrt(float(joint.mse.mean()))
        self._weigh(joint.rows * self.outputs, inside, all_t(joint), self.rest, lost, signs)

    def _weigh(
        self, fitted: int, inside: float, t: np.ndarray, rest: bool, cut: bool, signs: Orientations | None
    ) -> None:
        assert self.found is not None
        excluded = self.numbers[self.kept[np.asarray(self.search.aside, dtype=np.int64)]]
        every = tuple(range(len(self.found.tilt)))
        facts = SearchFacts(
            fitted,
            inside,
            math.sqrt(self.affine_mse),
            t,
            at_rest=rest,
            cut=cut,
            excluded=excluded.tolist(),
            open_signs=every if signs is None else signs.open,
            free_signs=() if signs is None else signs.free,
        )
        self.evidence = weigh(self.found.network(), self.apart, Taken(self.data.x, self.kept), self.columns, facts)


def _without(fit: Fit, idle: Bool[Tensor, " p"], rows: Sample) -> Fit:
    """Remove the ``idle`` weights, if the rest meets the rows as well."""
    weight = fit.kinks.weight.clone()
    weight[fit.support.kink[idle], fit.support.column[idle]] = 0.0
    kinks = replace(fit.kinks, weight=weight).take((weight[:, :-1] != 0).any(1))
    after = refit(kinks, Support.of(kinks.weight != 0), rows, steps=6) if bool(idle.any()) else fit
    return after if after.mse <= fit.mse * (1 + 60 / math.sqrt(fit.rows)) + 100 * ROUNDING else fit


def _raised(affine: Tensor, shift: Any) -> Tensor:
    """An affine part with ``shift``, of every output where there are several, added to its constant."""
    raised = affine.clone()
    raised[..., -1] += torch.as_tensor(shift).to(affine)
    return raised


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, not copied; none of None."""
    return {} if value is None else {k: getattr(value, k) for k in value.__dataclass_fields__}


def _moved(kind: Any, fields: dict[str, Any], device: str) -> Any:
    """A dataclass of tensors on a device; None without fields."""
    return kind(**{k: v.to(device) for k, v in fields.items()}) if fields else None
