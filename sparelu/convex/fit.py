"""What the two fitters of convex programs share: penalties from large to small, patterns that are added, budgets."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sparelu.convex.arrangement import enumerate_patterns
from sparelu.convex.patterns import Patterns, draw_patterns, largest_count
from sparelu.convex.rows import ProductNeurons, TrainingTable
from sparelu.convex.solver.newton import PrimalDualPoint, minimise_program, start_point, warm_point
from sparelu.convex.solver.penalties import Penalty
from sparelu.convex.solver.program import Program
from sparelu.convex.stage import Stage, memory_needed, memory_of_machine
from sparelu.convex.within_budget import count_weights, refit_scales, truncate_neurons
from sparelu.data import Budget, Data
from sparelu.method import Fitter, budget_reason, setting
from sparelu.outcome import Assumption, Certificate, Iterate, State, Status

PATH = 20
"""Penalties of a path, evenly spaced in the logarithm."""
ENUMERATED = 200_000
"""Patterns of rows of rank three up to which all are enumerated (some 450 rows), so that the claim is global."""


@dataclass(frozen=True)
class ConvexFitter(Fitter, ABC):
    """Solves a convex program at one penalty, or at penalties from the largest down until the budget is full."""

    penalty: float | None = setting(
        None,
        "weight decay against the mean loss (half squares or logistic); none: the least on a path that fits the budget",
        above=0.0,
    )
    patterns: int = setting(500, "activation patterns drawn at random", low=1)
    tolerance: float = setting(1e-9, "relative duality gap at which a program is solved", above=0.0, below=1.0)
    biases: bool = setting(True, "neurons and outputs have biases, penalised like weights")
    ratio: float = setting(3e-3, "least penalty of the path as a share of the largest useful", above=0.0, below=1.0)

    @abstractmethod
    def programs(self, table: TrainingTable, patterns: Patterns, penalty: float) -> list[tuple[Program, Penalty]]:
        """Return the programs whose solutions together are the network, each with its penalty."""

    @abstractmethod
    def neurons(self, table: TrainingTable, patterns: Patterns, points: tuple[PrimalDualPoint, ...]) -> ProductNeurons:
        """Return the ReLU neurons of the programs' solutions."""

    @abstractmethod
    def priced(
        self, table: TrainingTable, stage: Stage, everything: Patterns | None, rng: np.random.Generator
    ) -> "Pricing":
        """Look for patterns outside the programs that would lower the objective."""

    @abstractmethod
    def claims(self, table: TrainingTable, stage: Stage, neurons: ProductNeurons) -> tuple[Certificate, ...]:
        """State what is proved of the neurons handed out."""

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Refuse more patterns than memory, more than one hidden layer, and a budget that does not fit."""
        reason = budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is not None:
            return reason
        needed = memory_needed(data.n, data.inputs + self.biases, data.outputs, self.patterns)
        if needed > memory_of_machine():
            return (
                f"{self.patterns:,} patterns of {data.n:,} rows and {data.inputs:,} inputs need "
                f"{needed / 2**30:.3g} GiB and the machine has {memory_of_machine() / 2**30:.3g}: lower `patterns`, or "
                "give fewer rows"
            )
        return None

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield after every outer Newton step: the gap against time is in the history."""
        table = TrainingTable.of(data, self.biases)
        everything = _all_patterns(table.x)
        stage = self._first(table, rng) if start is None else Stage.read(start)
        if start is not None:
            yield self._iterate(table, stage, budget, data)
        while not stage.finished:
            for later in self._solve(table, stage):
                stage = later
                yield self._iterate(table, stage, budget, data)
            found = self.priced(table, stage, everything, rng)
            stage = replace(stage, price=found.price, searches=found.searches, proved=found.proved)
            if len(found.patterns) > len(stage.patterns):
                stage = stage.with_patterns(found.patterns)
                continue
            stage = self._next(table, stage, budget, data)
            if stage.finished:
                yield self._iterate(table, stage, budget, data)
        return Status.converged if stage.gap <= self.tolerance else Status.max_steps

    def _first(self, table: TrainingTable, rng: np.random.Generator) -> Stage:
        patterns = draw_patterns(table.x, self.patterns, rng)
        largest = self.largest_penalty(table, patterns)
        if self.penalty is not None:
            return Stage(patterns, (self.penalty,), largest)
        down = np.geomspace(1.0, self.ratio, PATH + 1)[1:]
        return Stage(patterns, tuple((largest * down).tolist()), largest)

    def largest_penalty(self, table: TrainingTable, patterns: Patterns) -> float:
        """Return the least penalty at which the empty network is optimal on these patterns.

        Without ridge columns it is the dual norm at outputs zero. With them the output bias depends on the penalty, so
        that the fixed point of penalty -> penalty x dual norm is iterated; the bias shrinks little, and it contracts.
        """
        found = 1.0
        for _ in range(50 if table.ridge.shape[1] else 1):
            pairs = self.programs(table, patterns, found)
            norms = [norm.dual_norm(p.correlate(p.empty_dual_point())) for p, norm in pairs]
            before, found = found, max(found * max(norms), np.finfo(float).tiny)
            if abs(found - before) <= 1e-12 * found:
                break
        return found

    def _solve(self, table: TrainingTable, stage: Stage) -> Iterator[Stage]:
        for o, (program, norm) in enumerate(self.programs(table, stage.patterns, stage.penalty)):
            if o < len(stage.points) - 1:
                continue
            if o < len(stage.points):
                point = stage.points[o]
                norm.restore(stage.kept)
            else:
                point = self._warm(program, norm, stage, o)
            for later in minimise_program(program, norm, point, self.tolerance):
                stage = replace(stage, points=(*stage.points[:o], later), kept=norm.state())
                yield stage

    def _warm(self, program: Program, norm: Penalty, stage: Stage, o: int) -> PrimalDualPoint:
        if o >= len(stage.before) or not np.isfinite(stage.before[o].dual):
            return start_point(program)
        last = stage.before[o]
        return warm_point(program, norm, last.blocks, last.feasible, last.sigma, stage.step_down)

    def _next(self, table: TrainingTable, stage: Stage, budget: Budget, data: Data) -> Stage:
        """Go to the next penalty while the network keeps the budget; the last that does is chosen."""
        neurons = self.neurons(table, stage.patterns, stage.points)
        kept = self._keeps(neurons, budget, data)
        if kept or not stage.chosen:
            stage = replace(stage, chosen=stage.points, chosen_number=stage.number)
        if not kept or stage.number + 1 == len(stage.penalties):
            return replace(stage, finished=True, found=neurons)
        return replace(stage, number=stage.number + 1, round=0, before=stage.points, points=(), kept={})

    def _keeps(self, neurons: ProductNeurons, budget: Budget, data: Data) -> bool:
        allowed = budget.count(data.inputs, data.outputs)
        few = allowed is None or count_weights(neurons, self.biases) <= allowed
        return few and len(neurons.u) <= budget.hidden[0]

    def delivered(self, table: TrainingTable, stage: Stage, budget: Budget, data: Data) -> ProductNeurons:
        """Return neurons within the budget: the optimum itself where it fits.

        On a path the optimum of the last penalty that fits competes with that of the next, cut to the budget and
        fitted again, by the objective at the latter's penalty.
        """
        now = stage.found or self.neurons(table, stage.patterns, stage.points)
        if self._keeps(now, budget, data):
            return now
        allowed = budget.count(data.inputs, data.outputs)
        cut = truncate_neurons(now, budget.hidden[0], allowed, self.biases)
        cut = refit_scales(cut, table, stage.penalty)
        if stage.chosen_number == stage.number or not stage.chosen:
            return cut
        whole = self.neurons(table, stage.patterns, stage.chosen)
        return min((whole, cut), key=lambda found: found.objective(table, stage.penalty))

    def _iterate(self, table: TrainingTable, stage: Stage, budget: Budget, data: Data) -> Iterate:
        numbers = {
            "penalty": stage.penalty,
            "gap": stage.gap,
            "lower_bound": stage.dual,
            "blocks": float(sum(int(p.blocks.any(axis=(1, 2)).sum()) for p in stage.points)),
            "patterns": float(len(stage.patterns)),
        }
        delivered = functools.cache(lambda: self.delivered(table, stage, budget, data))
        return Iterate(
            stage.progress(data.outputs, self.tolerance),
            stage.primal,
            lambda: delivered().network(self.biases).to(data.dtype),
            stage.write,
            numbers,
            lambda: self.claims(table, stage, delivered()),
        )


@dataclass(frozen=True, eq=False)
class Pricing:
    """The patterns to go on with, the largest price met over penalty, and how it was searched; ``proved``: all were."""

    patterns: Patterns
    price: float
    searches: int
    proved: bool


def _all_patterns(x: np.ndarray) -> Patterns | None:
    rank = int(np.linalg.matrix_rank(x))
    if rank > 3 or largest_count(len(x), rank) > ENUMERATED:
        return None
    return enumerate_patterns(x)


def distance_claim(
    fitter: ConvexFitter, table: TrainingTable, stage: Stage, neurons: ProductNeurons, program: str
) -> Certificate:
    """State how far the objective of the neurons is above the optimum of the programs.

    A dual point that is priced p > 1 somewhere is feasible when divided by p; D is concave with D(0) = 0, so that the
    bound is then D / p at least.
    """
    objective = neurons.objective(table, stage.penalty)
    excess = max(objective - max(stage.dual, 0.0) / max(stage.price, 1.0), 0.0)
    empty = "" if len(neurons.u) else f"; the empty network is optimal from penalty {stage.largest:.6g} on"
    claim = (
        f"the network's objective {objective:.9g} (mean loss + {stage.penalty:.6g} / 2 of the squares of all weights) "
        f"is above that of every {program} by this at most{empty}"
    )
    settled = Assumption(
        "the lower bound is that of a feasible dual point", "checked", f"relative duality gap {stage.gap:.1e}"
    )
    return Certificate(claim, excess, "objective", (settled, patterns_premise(stage)), source=fitter.paper)


def patterns_premise(stage: Stage) -> Assumption:
    """Say whether patterns outside the programs could lower the objective."""
    count = f"{len(stage.patterns):,} patterns in the program"
    if stage.proved:
        how = f"{count}; of all {stage.searches:,} patterns the largest price is {stage.price:.9g} of the penalty"
        return Assumption("no pattern outside the program lowers the objective", "checked", how)
    if not stage.searches:
        return Assumption(
            "networks of other patterns are not better", "taken on trust", f"{count}; none was looked for"
        )
    how = f"{count}; {stage.searches:,} local searches met a largest price of {stage.price:.9g} of the penalty"
    return Assumption("networks of other patterns are not better", "taken on trust", how)
