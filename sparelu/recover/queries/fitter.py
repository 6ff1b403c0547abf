"""The method ``queries``: a network from the answers of a function, each question put where it tells the most."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparelu.data import Budget, Data, Standardisation
from sparelu.method import Fitter, setting
from sparelu.networks.network import Network
from sparelu.oracle import Oracle, QueryLimit
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.recover.queries.certificate import AnswerEvidence, weigh_answers
from sparelu.recover.queries.one_layer import OneLayer
from sparelu.recover.queries.questions import Questions


@dataclass(frozen=True)
class Queries(Fitter):
    """Recovers the ReLU network that answers: kinks on random lines, and at each the neuron by group tests.

    The published attacks search kinks by bisection, read each neuron by as many finite differences as there are inputs,
    and divide by its entries, so that a zero weight ends them. Here a neuron that reads s of d inputs takes about
    s log2(d / s) answers, all neurons of a line are read from left to right so that only one side of each kink is
    asked, and lines of the residual find what was missed and say when nothing is. The width in the budget is the
    largest allowed; the network has the neurons that the answers show.

    Use it for a function that can be asked anywhere in exact arithmetic: far fewer answers than rows of data would
    take.

    Not for rows that are given: ``exact``.
    """

    name = "queries"
    question = "recover"
    paper = (
        "Rolnick & Kording (2020), Reverse-engineering deep ReLU networks; Carlini, Jagielski & Mironov (2020), "
        "Cryptanalytic extraction of neural network models"
    )
    asks = True

    precision: float = setting(1e-8, "relative error of a neuron above which it is read again", above=0.0)

    def refuses(self, data: Data | Oracle, budget: Budget) -> str | None:
        reason = self.unfit(data)
        if reason is not None:
            return reason
        if budget.channels or len(budget.hidden) != 1:
            return f"it recovers one hidden layer so far, got hidden {budget.hidden}: give one width"
        if budget.count(data.inputs, data.outputs) is not None:
            return "it returns the network that answers, of the size that it has: leave the number of nonzeros out"
        return None

    def steps(
        self, data: Any, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        seed = int(rng.integers(2**62)) if start is None else int(start["seed"])
        done = 0 if start is None else int(start["round"])
        ask = Questions(data, None if start is None else np.asarray(start["answers"]))
        run = _Run(OneLayer(ask, budget.hidden[0], self.precision, np.random.default_rng(seed)), seed)
        try:
            for _ in run.search.rounds():
                run.round += 1
                if run.round >= done:
                    yield run.iterate(1 - 1 / (1 + run.round))
            run.evidence = weigh_answers(run.search)
            run.round += 1
            yield run.iterate(1.0)
        except QueryLimit:
            if run.round < max(done, 1):
                raise
            return Status.max_steps
        return run.evidence.status


@dataclass
class _Run:
    """A search, how many rounds it has done, and what was found of it in the end."""

    search: OneLayer
    seed: int
    round: int = 0
    evidence: AnswerEvidence | None = None

    def iterate(self, progress: float) -> Iterate:
        search = self.search
        numbers = {
            "rows asked": float(search.ask.oracle.asked),
            "neurons": float(len(search.known)),
            "straight lines": float(search.straight),
        }
        return Iterate(progress, search.loss, self.network, self.state, numbers, self.certificates)

    def state(self) -> State:
        return {"seed": self.seed, "round": self.round, "answers": self.search.ask.answers.copy()}

    def network(self) -> Network:
        """Return the network of raw inputs and outputs."""
        oracle = self.search.ask.oracle
        hinges, slope, constant = self.search.oriented()
        zero = np.zeros(oracle.outputs)
        way = Standardisation(oracle.centre, oracle.spread, zero, self.search.ask.scale)
        return way.fold(hinges.network(slope, constant))

    def certificates(self) -> tuple[Certificate, ...]:
        return () if self.evidence is None else (self.evidence.certificate(),)
