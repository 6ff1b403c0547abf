"""Exact recovery: the very network that made the data, found by penalised students and certified refits."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from sparelu.data import Budget, Data, Taken
from sparelu.identifiability import condition, unsuited
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.recover.exact.certificate import DELTA, Evidence, SearchFacts, rows_kept_apart, weigh
from sparelu.recover.exact.inputs import read_columns
from sparelu.recover.exact.label_precision import label_rounding
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.least_squares import Fit, all_t, refit, wald
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import NOISELESS, ROUNDED, ROUNDING
from sparelu.recover.exact.search import Search, SearchOptions, advance, begin
from sparelu.recover.exact.steps.backward import drop_idle, prune_to_budget, truncate_to_budget
from sparelu.recover.exact.steps.orient import orient
from sparelu.recover.exact.steps.orientation import Orientations
from sparelu.recover.exact.two_layers.fit import deep_steps

FAR = 1e3
"""Means of labels below so many sd come back before the last fit: a constant that is zero is then found to be zero."""


@dataclass(frozen=True)
class Exact(Fitter):
    """Recovers a network of one hidden layer: output weights of any sign and size, biases, an affine part.

    The model is a sum of hinges and an affine part (:mod:`.model.relu_model`). Continuation with a falling penalty
    finds the hinges (:mod:`.warm_start`); refits on the support drop weights and merge hinges by their Wald statistics,
    and add weights and hinges by the score test, until nothing is left to do on all rows (:mod:`.search`); the
    orientation of each neuron is read off the affine part (:mod:`.steps.orient`). Without a number of nonzeros in the
    budget it finds the number; with one, the weights of least Wald statistic are dropped. ``hidden`` only bounds the
    number of neurons. Several outputs share their hinges: one combination of them warms the start, all are fitted and
    tested jointly. Wrong labels are left out of the search, and named (:mod:`.steps.outliers`).

    Departs from the paper, which thresholds gradient steps on fixed random gates: no gates are drawn, the hinges move.
    Converged means exact: rows that no fit has seen are met to the rounding of their labels, the search was stationary,
    the budget cut nothing, and the inputs are neither on a grid nor linear in each other (:mod:`.certificate`).
    Anything else, noise included, is ``best_found``; the first certificate says how far off it is and why, the second
    whether rows decide such a support (:mod:`sparelu.identifiability`).
    Memory does not grow with the rows beyond ``most``, nor with ``hidden`` beyond three times the inputs: the warm
    start is dense (its hinges times the inputs, in 40 vectors of L-BFGS), and a refit of p numbers holds a (p, p)
    matrix up to p = 3000, beyond which it streams (:mod:`.model.normal_equations`).

    Use it where a sparse network may have made the labels, with little noise or none: it finds the number of weights by
    itself and says whether the data prove the network.

    Not for images and tables that no sparse network made: ``pursuit`` and ``gmp`` are better there.
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
        """Refuse labels that are classes, depth, a budget that does not fit, and too few rows for it."""
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
        """Yield after every stage of the warm start and every refit; the last round trims to the budget and orients."""
        if len(budget.hidden) == 2:
            return (yield from deep_steps(self, data, budget, rng, start))
        seed = int(rng.integers(2**62)) if start is None else start["seed"]
        run = _Run(self, data, budget, seed)
        if start is None:
            run.search = begin(run.rows, run.order, run.options, rng)
        else:
            run.restore(start)
            yield run.iterate()
        while run.found is None:
            if run.search.phase == "done":
                run.finish()
            else:
                run.search = advance(run.search, run.rows, run.order, run.options, rng)
            run.rounds += 1
            yield run.iterate()
        return Status.converged if run.exact else Status.best_found


class _Run:
    """The parts of one fit that its rounds share; everything but the state is made again from data and seed."""

    search: Search

    def __init__(self, method: Exact, data: Data, budget: Budget, seed: int) -> None:
        own = np.random.default_rng(seed)
        self.numbers = np.arange(data.n)
        if data.n > method.most:
            self.numbers = np.sort(own.choice(data.n, method.most, replace=False))
            data = data.take(self.numbers)
        self.data, self.budget, self.seed, self.rounds = data, budget, seed, 0
        self.found: ReluModel | None = None
        self.evidence: Evidence | None = None
        y = np.asarray(data.y[:], dtype=np.float64).reshape(data.n, -1)
        self.mean, sd = y.mean(axis=0), np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
        self.sd = torch.as_tensor(sd).to(data.device)
        self.level = np.where(np.abs(self.mean) < FAR * sd, self.mean, 0.0)
        self.columns = read_columns(data)
        order = own.permutation(data.n)
        held, self.kept = (np.sort(part) for part in np.split(order, [rows_kept_apart(data.n)]))
        self.apart = np.asarray(data.x[held]), y[held]
        self.rows = self.columns.sample(Taken(data.x, self.kept), ((y - self.mean) / sd)[self.kept], data.device)
        self.order = own.permutation(len(self.kept))
        fine = (label_rounding(y[self.kept]) ** 2).mean(axis=0) / sd**2
        self.options = SearchOptions(
            method.students or min(3 * budget.hidden[0] // 2 + 20, 3 * max(1, self.columns.width)),
            method.students is not None,
            min(method.rows, self.rows.n),
            method.iterations,
            method.cycles,
            torch.as_tensor(np.where(fine < NOISELESS, fine, 0.0)).to(data.device),  # coarser digits are noise
        )

    def restore(self, state: State) -> None:
        """Go on from a state."""
        device = self.data.device
        models = {name: _moved(ReluModel, state[name], device) for name in ("model", "student", "kept")}
        support = _moved(Support, state["support"], device)
        self.search = Search(**models, support=support, mix=state["mix"].to(device), **state["search"])
        self.rounds, self.found = state["rounds"], _moved(ReluModel, state["found"], device)
        self.evidence = Evidence.restored(state["evidence"]) if state["evidence"] else None

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` reads."""
        s = _fields(self.search)
        support = s.pop("support")
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            **{name: _fields(s.pop(name)) for name in ("model", "student", "kept")},
            "support": {name: getattr(support, name) for name in ("weight", "outputs", "affine")},
            "mix": s.pop("mix"),
            "search": s,
            "found": _fields(self.found),
            "evidence": {} if self.evidence is None else self.evidence.state,
        }

    def iterate(self) -> Iterate:
        s = self.search
        numbers = {"kinks": float(len(s.model)), "nonzeros": float(s.model.nonzeros), "cycle": float(s.cycle)}
        progress = 1.0 if self.found is not None else 1 - 2 ** (-self.rounds / 8)
        error = s.mse * float(self.sd.square().mean())
        return Iterate(progress, error, self.network, self.state, numbers, self.certificates)

    @property
    def exact(self) -> bool:
        """Tell whether every premise of the evidence was checked."""
        return self.evidence is not None and self.evidence.certificate("").holds

    def certificates(self) -> tuple[Certificate, ...]:
        """Return what proves the network, and whether its support is one that rows decide."""
        if self.evidence is None:
            return ()
        own, network = self.evidence.certificate(Exact.paper), self.network()
        return (own,) if unsuited(network) else (own, condition(network, self.data, DELTA))

    @property
    def allowed(self) -> int | None:
        return self.budget.count(self.data.inputs, self.data.outputs)

    def network(self) -> Network:
        """Return the network so far, truncated to the budget."""
        if self.found is not None:
            return self.found.network()
        s = self.search
        warm = s.phase == "warm start" and len(s.mix) == 1
        own = truncate_to_budget(s.student if warm else s.model, self.allowed, self.budget.hidden[0])
        return self._raw(self.columns.uncentred(own), self.mean).network()

    def _raw(self, model: ReluModel, mean: np.ndarray) -> ReluModel:
        """Return the model of raw columns and labels, of one of scaled columns that keep their means, plus ``mean``."""
        return _raise(self.columns.raw(model.scale_outputs(self.sd)), mean)

    def finish(self) -> None:
        """Prune to the budget, orient on columns and labels that keep their means, and weigh the evidence."""
        search, rows = self.search, self.rows.without(self.search.left_out)
        whole = refit(search.model, rows)
        fit = prune_to_budget(whole, rows, self.allowed, self.budget.hidden[0])
        if bool((fit.slope.mse < NOISELESS).all()):
            fit = drop_idle(fit, rows, wald(fit, in_units=False).weight < ROUNDED)
        lost = bool((fit.slope.mse > 1.1 * whole.slope.mse + ROUNDING).any())
        self.search = replace(search, model=fit.model, support=fit.support, mse=fit.mse)
        oriented, signs = self._orient(fit, rows)
        self.found = self._raw(oriented.model, self.mean - self.level)
        self._weigh(oriented, lost, signs)

    def _orient(self, fit: Fit, rows: Sample) -> tuple[Fit, Orientations | None]:
        """Orient on columns and labels that keep their means, without biases that were those of the means alone."""
        shift = self.level / self.sd.cpu().numpy()
        flat = replace(rows, centre=None, y=rows.y + shift)
        own = refit(_raise(self.columns.uncentred(fit.model), shift), flat, steps=4)
        if self.columns.centred:
            idle = wald(own, in_units=False).weight < ROUNDED
            idle[:, :-1] = False
            own = drop_idle(own, flat, idle)
        return orient(own, flat)

    def _weigh(self, fit: Fit, cut: bool, signs: Orientations | None) -> None:
        assert self.found is not None
        every = tuple(range(len(self.found)))
        facts = SearchFacts(
            fit.rows * self.sd.numel(),
            math.sqrt(float(fit.slope.mse.mean())),
            math.sqrt(self.search.linear_mse),
            all_t(fit),
            at_rest=self.search.stationary,
            cut=cut,
            excluded=self.numbers[self.kept[np.asarray(self.search.left_out, dtype=np.int64)]].tolist(),
            open_signs=every if signs is None else signs.open,
            free_signs=() if signs is None else signs.free,
        )
        self.evidence = weigh(self.found.network(), self.apart, Taken(self.data.x, self.kept), self.columns, facts)


def _raise(model: ReluModel, shift: np.ndarray) -> ReluModel:
    """Return the model with ``shift`` (outs,) added to the constants."""
    affine = model.affine.clone()
    affine[:, -1] += torch.as_tensor(shift).to(affine)
    return replace(model, affine=affine)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, not copied; none of None."""
    return {} if value is None else {k: getattr(value, k) for k in value.__dataclass_fields__}


def _moved(kind: Any, fields: dict[str, Any], device: str) -> Any:
    """Move a dataclass of tensors to a device; return None without fields."""
    return kind(**{k: v.to(device) for k, v in fields.items()}) if fields else None
