"""Exact recovery of networks with two hidden layers, round by round: what :class:`.Exact` runs for that depth."""

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from sparelu.data import Budget, Data, Taken
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.recover.exact.certificate import Evidence, SearchFacts, rows_kept_apart, weigh
from sparelu.recover.exact.inputs import read_columns
from sparelu.recover.exact.label_precision import label_rounding
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.tolerances import NOISELESS, ROUNDING
from sparelu.recover.exact.moments import moments
from sparelu.recover.exact.two_layers.backward import deep_all_t, oriented_fit, straightened, trimmed
from sparelu.recover.exact.two_layers.exchange import exchanged
from sparelu.recover.exact.two_layers.hinges import DeepKinks
from sparelu.recover.exact.two_layers.least_squares import DeepFit, deep_refit
from sparelu.recover.exact.two_layers.rebuild import rebuilt
from sparelu.recover.exact.two_layers.relu_model import deep_network
from sparelu.recover.exact.two_layers.search import (
    DeepPlan,
    DeepSearch,
    deep_advance,
    deep_begin,
    refit_fully,
    restarted,
    settling,
)

STARTS = 8
"""Random starts at most."""
WORSE = 4.0
"""How much larger the squared error of the oriented network may be: rounding, and no more."""


@runtime_checkable
class Settings(Protocol):
    """What is used of the settings of :class:`~sparelu.recover.exact.fitter.Exact`."""

    @property
    def most(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def cycles(self) -> int: ...

    paper: ClassVar[str]


def deep_steps(
    settings: Settings, data: Data, budget: Budget, rng: np.random.Generator, start: State | None
) -> Generator[Iterate, None, Status]:
    """Yield after every stage of the warm start with its refits; the last round orients and cuts to the budget."""
    run = DeepRun(settings, data, budget, int(rng.integers(2**62)) if start is None else start["seed"])
    if start is not None:
        run.restore(start)
        yield run.iterate()
    while run.found is None:
        run.advance(rng)
        run.rounds += 1
        yield run.iterate()
    return Status.converged if run.exact else Status.best_found


class DeepRun:
    """The parts of one fit that its rounds share; everything but the state is made again from data and seed."""

    def __init__(self, settings: Settings, data: Data, budget: Budget, seed: int) -> None:
        own = np.random.default_rng(seed)
        if data.n > settings.most:
            data = data.take(np.sort(own.choice(data.n, settings.most, replace=False)))
        self.raw, self.columns = data, read_columns(data)
        data = self.columns.data(data)
        self.data, self.budget, self.seed, self.paper, self.rounds = data, budget, seed, settings.paper, 0
        self.found: Network | None = None
        self.evidence: Evidence | None = None
        y = np.asarray(data.y[:], dtype=np.float64).reshape(-1)
        self.scale = float(y.std()) or 1.0
        self.units = torch.ones(data.inputs + 1, dtype=torch.float64, device=data.device)
        order = own.permutation(data.n)
        held, kept = (np.sort(part) for part in np.split(order, [rows_kept_apart(data.n)]))
        self.apart, self.kept = (np.asarray(self.raw.x[held]), y[held, None]), kept
        self.rows = Sample(Taken(data.x, kept), y[kept] / self.scale, data.device)
        self.order = own.permutation(len(kept))
        self.floor = float((label_rounding(y[kept]) ** 2).mean()) / self.scale**2
        first = moments(replace(self.rows, y=self.rows.y[:, None]))
        self.affine_mse = first.mse
        m1, m2 = budget.hidden
        widths = (min(2 * m1 + 6, 4 * first.rank + 8), min(2 * m2 + 4, 2 * first.rank + 8))
        negative = first.negative if first.negative > 0.05 else 0.0
        used, own_settings = min(settings.rows, len(kept)), (settings.iterations, settings.cycles, STARTS)
        self.plan = DeepPlan(widths, used, *own_settings, negative, first.affine, first.mse)
        self.search = deep_begin(self.plan)

    def advance(self, rng: np.random.Generator) -> None:
        """Take one round."""
        if self.search.done:
            self.finish(rng)
        else:
            self.search = deep_advance(self.search, self.rows, self.order, self.plan, rng)

    def iterate(self) -> Iterate:
        """Return the iterate after so many rounds."""
        s = self.search
        numbers = {"kinks": float(sum(s.model.widths)), "nonzeros": float(s.model.nonzeros), "cycle": float(s.start)}
        progress = 1.0 if self.found is not None else 1 - 2 ** (-self.rounds / 8)
        return Iterate(progress, s.mse * self.scale**2, self.network, self.state, numbers, self.certificates)

    def state(self) -> State:
        """Return what :meth:`restore` reads."""
        s = self.search
        plain = {k: getattr(s, k) for k in ("mse", "penalty", "least", "start", "round", "stalls", "done", "rest")}
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "model": _tensors(s.model),
            "best": _tensors(s.best),
            "search": plain,
            "found": {} if self.found is None else _written(self.found),
            "evidence": {} if self.evidence is None else dict(self.evidence.state),
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        model, best = (
            DeepKinks(**{k: v.to(self.data.device) for k, v in state[name].items()}) for name in ("model", "best")
        )
        self.search, self.rounds = DeepSearch(model=model, best=best, **state["search"]), state["rounds"]
        if state["found"]:
            self.found, self.evidence = _read(state["found"]), Evidence.restored(state["evidence"])

    @property
    def exact(self) -> bool:
        """Tell whether every premise of the evidence was checked."""
        return self.evidence is not None and self.evidence.certificate("").holds

    def certificates(self) -> tuple[Certificate, ...]:
        """Return what proves the network."""
        return () if self.evidence is None else (self.evidence.certificate(self.paper),)

    def network(self) -> Network:
        """Return the network so far, cut to the budget, of raw inputs."""
        return self.columns.fold(self.found if self.found is not None else self._cut(self.search.best))

    def _cut(self, model: DeepKinks) -> Network:
        allowed = self.budget.count(self.raw.inputs, 1)
        return truncate_network(
            deep_network(model, self.scale, self.units), (self.budget.hidden[0], self.budget.hidden[1]), allowed
        )

    def finish(self, rng: np.random.Generator) -> None:
        """End, or start again: settle the support on all rows, orient, cut to the budget, and weigh the evidence."""
        fit = self._settled(rng)
        ready = oriented_fit(fit, self.rows)
        allowed = self.budget.count(self.raw.inputs, 1)
        kept = trimmed(ready, self.rows, allowed)
        nets = [(self._cut(f.model), f) for f in (kept, straightened(fit, self.rows))]
        errors = [self._error(net) for net, _ in nets]
        best = 0 if errors[0] <= WORSE * errors[1] + ROUNDING else 1
        oriented = ready.mse <= WORSE * fit.mse + ROUNDING and self._fits(ready.model)
        if not oriented and self.search.rest and self.search.start + 1 < self.plan.starts:
            # The function is exact in kinks that are those of no network of the budget: there is a sparser form of it.
            self.search = restarted(self.search, self.plan)
            return
        self.found, chosen = nets[best]
        whole = deep_network(ready.model, self.scale, self.units)
        lost = self.found.nonzeros < whole.nonzeros and errors[best] > 1.1 * min(fit.mse, ready.mse) + ROUNDING
        self.evidence = self._weighed(chosen, math.sqrt(errors[best]), self.search.rest and oriented, lost)
        self.search = replace(self.search, model=chosen.model, mse=errors[best])

    def _settled(self, rng: np.random.Generator) -> DeepFit:
        """Find the form of fewest weights: of the model found, if it is exact of that written anew, kinks exchanged.

        A part of the rows decides it; all of them where the part did not cross all kinks.
        """
        best = self.search.best
        for sample in (settling(best, self.rows, self.order), self.rows):
            x = sample.tensors(torch.float64)[0]
            fit = refit_fully(best, sample, x)
            if fit.mse < NOISELESS:
                again = refit_fully(rebuilt(fit.model, self.budget.hidden[0], self.rows, self.floor, rng), sample, x)
                forms = [exchanged(f, sample, x) for f in (fit, again) if f.mse < NOISELESS]
                fit, _ = min(forms, key=lambda form: form[1])
            fit = deep_refit(fit.model, fit.mask, self.rows, steps=20)
            if fit.mse < NOISELESS or not self.search.rest:
                break
        return fit

    def _fits(self, model: DeepKinks) -> bool:
        """Tell whether the model is a network of the widths allowed, without what it would take to pass x on."""
        widths = deep_network(model, self.scale, self.units).hidden
        return not bool(model.direct[:, :-1].any()) and all(
            own <= most for own, most in zip(widths, self.budget.hidden, strict=True)
        )

    def _error(self, net: Network) -> float:
        """Compute the mean squared error on the rows fitted, in units of the variance of y."""
        total = 0.0
        for x, y in self.rows.blocks():
            total += float((net(x[:, :-1].cpu())[:, 0] / self.scale - y.cpu()).square().sum())
        return total / self.rows.n

    def _weighed(self, fit: DeepFit, inside: float, rest: bool, lost: bool) -> Evidence:
        facts = SearchFacts(self.rows.n, inside, math.sqrt(self.affine_mse), deep_all_t(fit), at_rest=rest, cut=lost)
        return weigh(self.network(), self.apart, Taken(self.raw.x, self.kept), self.columns, facts)


def truncate_network(net: Network, widths: tuple[int, int], allowed: int | None) -> Network:
    """Keep the ``widths`` strongest neurons of each layer and the ``allowed`` largest weights."""
    first, second, out = net.layers
    w, u, v = first.dense(), second.dense(), out.dense()
    top = (u.abs().sum(1) * v[0].abs()).argsort(descending=True)[: widths[1]].sort().values
    low = (u[top].abs().sum(0) * w.abs().sum(1)).argsort(descending=True)[: widths[0]].sort().values
    w, u, v = w[low], u[top][:, low], v[:, top]
    b1 = None if first.bias is None else first.dense_bias()[low]
    b2 = None if second.bias is None else second.dense_bias()[top]
    if allowed is not None:
        value = torch.cat([part.abs().flatten() for part in (w, u, v)])
        if int(torch.count_nonzero(value)) > allowed:
            mask = torch.zeros_like(value).index_fill(0, value.topk(allowed).indices, 1.0)
            parts = mask.split([w.numel(), u.numel(), v.numel()])
            w, u, v = (t * m.view_as(t) for t, m in zip((w, u, v), parts, strict=True))
    constant = None if out.bias is None else out.dense_bias()
    return Network((Layer.from_dense(w, b1), Layer.from_dense(u, b2), Layer.from_dense(v, constant)), net.skip)


def _tensors(model: DeepKinks) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def _written(net: Network) -> dict[str, Any]:
    """Write the dense layers of a small network, for a state."""
    layers = [*net.layers, *([net.skip] if net.skip is not None else [])]
    return {
        "weights": [layer.dense() for layer in layers],
        "biases": [layer.dense_bias() for layer in layers],
        "skip": net.skip is not None,
    }


def _read(state: dict[str, Any]) -> Network:
    pairs = zip(state["weights"], state["biases"], strict=True)
    layers = [Layer.from_dense(w, b if bool(b.any()) else None) for w, b in pairs]
    return Network(tuple(layers[:3]), layers[3] if state["skip"] else None)
