"""Exact recovery: the very network that made the data, found by penalised students and certified refits."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Budget, Data, Taken
from sparelu.identify import condition, unsuited
from sparelu.method import Fitter, budget_reason, setting
from sparelu.network import Network
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.recover.evidence import DELTA, Evidence, apart, weigh
from sparelu.recover.found import Found, orient_scalar, scalar, trimmed, within
from sparelu.recover.kinks import Kinks, Sample
from sparelu.recover.moments import moments
from sparelu.recover.outputs import all_outputs
from sparelu.recover.refit import ROUNDING
from sparelu.recover.search import Plan, Search, advance, begin

ROWS_PER_STUDENT = 65
"""Rows of the first student for each of its neurons, at least."""
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

    Departs from the paper, which thresholds gradient steps on fixed random gates: no gates are drawn, the kinks move.
    Converged means exact: rows that no fit has seen are met to the rounding of their labels, the search was at rest,
    and the budget cut nothing (:mod:`.evidence`). Anything else, noise included, is ``best_found``; the first
    certificate says how far off it is and why, the second whether rows decide such a support (:mod:`sparelu.identify`).
    Memory does not grow with the rows beyond ``most``, nor with ``hidden`` beyond three times the inputs. It is not
    linear in the nonzeros either: a student is dense (its neurons times the inputs, in 40 vectors of L-BFGS), and a
    refit of p numbers holds a (p, p) matrix.
    """

    name: ClassVar[str] = "exact"
    question: ClassVar[str] = "recover"
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
        reason = budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is not None:
            return reason
        wanted = 4 * (data.inputs + 1) + (budget.count(data.inputs, data.outputs) or 0)
        if data.n < wanted:
            return (
                f"{data.n} rows do not decide it: at least {wanted} are needed (4 for each input, 1 for each nonzero)"
            )
        return None

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """One student stage or one refit a round; the last round trims to the budget and orients."""
        run = _Run.begun(self, data, budget, rng) if start is None else _Run.restored(self, data, budget, start)
        if start is None:
            run.search = begin(run.affine, run.plan, rng)
        else:
            yield run.iterate()
        while run.found is None:
            if run.search.phase == "done":
                run.finish()
            else:
                run.search = advance(run.search, run.rows, run.order, run.plan, rng)
            run.rounds += 1
            yield run.iterate()
        return Status.converged if run.exact else Status.best_found


class _Run:
    """The parts of one fit that its rounds share; everything but the state is made again from data and seed."""

    def __init__(self, method: Exact, data: Data, budget: Budget, seed: int) -> None:
        own = np.random.default_rng(seed)
        if data.n > method.most:
            data = data.take(np.sort(own.choice(data.n, method.most, replace=False)))
        self.data, self.budget, self.seed, self.rounds = data, budget, seed, 0
        self.found: Found | None = None
        self.evidence: Evidence | None = None
        y = np.asarray(data.y[:], dtype=np.float64).reshape(data.n, -1)
        sd = y.std(axis=0)
        mix = own.standard_normal(y.shape[1]) / np.where(sd > 0, sd, 1.0) if y.shape[1] > 1 else np.ones(1)
        target = y @ mix
        self.scale = float(target.std())
        size = np.sqrt(data.statistics.mean**2 + data.statistics.sd**2)
        size[size == 0] = 1.0
        self.units = torch.as_tensor(np.append(size, 1.0)).to(data.device)
        order = own.permutation(data.n)
        held, kept = np.sort(order[: apart(data.n)]), np.sort(order[apart(data.n) :])
        self.held = Sample(Taken(data.x, held), target[held] / self.scale, data.device, size)
        self.rows = Sample(Taken(data.x, kept), target[kept] / self.scale, data.device, size)
        self.y, self.held_y = y[kept], y[held]
        self.order = own.permutation(len(kept))
        most = min(3 * budget.hidden[0] // 2 + 20, 3 * data.inputs)
        rows = min(max(method.rows, ROWS_PER_STUDENT * most), len(kept))
        first = moments(self.rows.rows(self.order[:rows]))
        width = method.students or min(most, STUDENTS_PER_RANK * first.rank + 20)
        rows = min(max(method.rows, ROWS_PER_STUDENT * width), rows)
        self.affine, self.power = first.affine, first.power
        self.plan = Plan(width, rows, len(kept), method.iterations, method.cycles, first.negative)
        self.search: Search

    @classmethod
    def begun(cls, method: Exact, data: Data, budget: Budget, rng: np.random.Generator) -> "_Run":
        return cls(method, data, budget, int(rng.integers(2**62)))

    @classmethod
    def restored(cls, method: Exact, data: Data, budget: Budget, state: State) -> "_Run":
        run = cls(method, data, budget, state["seed"])
        run.rounds = state["rounds"]
        tensors = {k: v.to(data.device) for k, v in state["kinks"].items()}
        mask = tensors.pop("mask")
        kept = Kinks(**{k: v.to(data.device) for k, v in state["kept"].items()}) if state["kept"] else None
        run.search = Search(Kinks(**tensors), mask.bool(), kept=kept, **state["search"])
        if state["found"]:
            run.found = Found(**{k: v.to(data.device) for k, v in state["found"].items()})
            run.evidence = Evidence(**state["evidence"])
        return run

    def state(self) -> dict[str, Any]:
        s = self.search
        tensors = ("kinks", "mask", "kept")
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "kinks": {**_fields(s.kinks), "mask": s.mask},
            "kept": {} if s.kept is None else _fields(s.kept),
            "search": {k: v for k, v in _fields(s).items() if k not in tensors},
            "found": {} if self.found is None else _fields(self.found),
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
    def _targets(self) -> Tensor:
        return torch.as_tensor(self.y).to(self.rows.device)

    @property
    def allowed(self) -> int | None:
        return self.budget.count(self.data.inputs, self.data.outputs)

    def network(self) -> Network:
        """The network so far, cut to the budget."""
        if self.found is not None:
            return self.found.on(self.units).network()
        if self.y.shape[1] == 1:
            kinks = within(self.search.kinks, self.allowed, self.budget.hidden[0])
            return scalar(kinks, self.scale).on(self.units).network()
        return self._many(self.search.kinks).on(self.units).network()

    def finish(self) -> None:
        """Trim to the budget, orient, give every output its weights, and weigh the evidence."""
        allowed = self.allowed if self.y.shape[1] == 1 else None
        fit = trimmed(self.search.kinks, self.rows, allowed, self.budget.hidden[0])
        cut = fit.mse > 1.1 * self.search.mse + ROUNDING
        if self.y.shape[1] == 1:
            fit = orient_scalar(fit, self.rows, self.power)
            self.found = scalar(fit.kinks, self.scale)
        else:
            self.found = self._many(fit.kinks)
            cut |= self.found.nonzeros < self._uncut(fit.kinks).nonzeros
        self.evidence = weigh(self.found, fit, self.held, self.held_y, self.search.rest, cut)
        self.search = replace(self.search, kinks=fit.kinks, mask=fit.kinks.weight != 0, mse=fit.mse)

    def _uncut(self, kinks: Kinks) -> Found:
        return all_outputs(kinks, self.rows, self._targets, self.power, self.search.mse)

    def _many(self, kinks: Kinks) -> Found:
        return _cut(self._uncut(kinks), self.allowed, self.budget.hidden[0])


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, not copied."""
    return {k: getattr(value, k) for k in value.__dataclass_fields__}


def _cut(found: Found, allowed: int | None, width: int) -> Found:
    """The ``width`` kinks and the ``allowed`` weights of both layers that matter most, by |v_jo| |w_ji|."""
    strength = found.outputs.norm(dim=1)
    if len(strength) > width:
        keep = strength.argsort(descending=True)[:width].sort().values
        found = Found(found.weight[keep], found.tilt[keep], found.outputs[keep], found.affine)
    value = torch.cat([found.weight[:, :-1].abs() * found.outputs.norm(dim=1)[:, None], found.outputs.abs()], dim=1)
    if allowed is None or int(torch.count_nonzero(value)) <= allowed:
        return found
    mask = torch.zeros_like(value, dtype=torch.bool)
    mask.view(-1)[value.flatten().topk(allowed).indices] = True
    inputs = found.weight.shape[1] - 1
    weight = torch.cat([found.weight[:, :-1] * mask[:, :inputs], found.weight[:, -1:]], dim=1)
    return Found(weight, found.tilt, found.outputs * mask[:, inputs:], found.affine)
