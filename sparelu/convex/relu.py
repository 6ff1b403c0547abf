"""The ReLU program: two-layer ReLU networks trained to their global optimum, to a proved gap."""

from dataclasses import dataclass

import numpy as np

from sparelu.convex.decompose import prune_to_rank
from sparelu.convex.directions import search_directions
from sparelu.convex.fit import ConvexFitter, Pricing, distance_claim
from sparelu.convex.patterns import Patterns, draw_gates
from sparelu.convex.rows import ProductNeurons, TrainingTable
from sparelu.convex.solver.cones import FREE, ConeNorm, Cones
from sparelu.convex.solver.newton import PrimalDualPoint
from sparelu.convex.solver.penalties import Penalty, block_norms
from sparelu.convex.solver.program import Design, Program
from sparelu.convex.stage import Stage
from sparelu.method import setting
from sparelu.outcome import Certificate


@dataclass(frozen=True)
class Convex(ConvexFitter):
    """A two-layer ReLU network of least loss + weight decay, by the convex program with a cone for every pattern.

    Source: Pilanci and Ergen 2020. Solved by semismooth Newton on the dual, blocks projected on their cones with kept
    active sets (:mod:`sparelu.convex.solver.cones`). Patterns are drawn, and added where a search meets a direction
    that the dual point prices above the penalty; for rows of rank three at most all are priced, and the optimum is
    global. The network is the convex solution, balanced, and its objective equals the convex one. Several outputs are
    fitted one by one: each has neurons of its own, which is the optimum among such networks.

    Use it for small data where the optimum of loss and weight decay is wanted, with the gap that is left.

    Not for many rows: patterns are drawn beyond rank three, and every one is a block of the program.
    """

    name = "convex"
    question = "convex"
    paper = "Pilanci and Ergen, Neural networks are convex regularizers, 2020"

    rounds: int = setting(5, "rounds in which patterns that are priced above the penalty are added", low=0)

    def programs(self, table: TrainingTable, patterns: Patterns, penalty: float) -> list[tuple[Program, Penalty]]:
        design, cones = Design(table.x, patterns), Cones(table.x, patterns)
        found: list[tuple[Program, Penalty]] = []
        for o in range(table.loss.y.shape[1]):
            program = Program.relu(design, table.loss.column(o), penalty, table.ridge)
            found.append((program, ConeNorm(penalty, cones, program.pattern)))
        return found

    def neurons(self, table: TrainingTable, patterns: Patterns, points: tuple[PrimalDualPoint, ...]) -> ProductNeurons:
        """Return the blocks as neurons; where their outputs depend on each other, fewer of the same sum."""
        k = table.loss.y.shape[1]
        u, sign, output, constant = (
            [np.empty((0, table.x.shape[1]))],
            [np.empty(0)],
            [np.empty(0, np.int64)],
            np.zeros(k),
        )
        for o, point in enumerate(points):
            live = np.flatnonzero(point.blocks.any(axis=(1, 2)))
            blocks, side = point.blocks[live, :, 0], np.where(live % 2, -1.0, 1.0)
            z = np.maximum(table.x @ blocks.T, 0) * side
            if live.size:
                factors = prune_to_rank(z, np.linalg.norm(blocks, axis=1))
                blocks, side = (blocks * factors[:, None])[factors > 0], side[factors > 0]
            u.append(blocks)
            sign.append(side)
            output.append(np.full(len(blocks), o))
            constant[o] = point.ridge.sum()
        return ProductNeurons(np.vstack(u), np.concatenate(sign), np.concatenate(output), constant)

    def priced(
        self, table: TrainingTable, stage: Stage, everything: Patterns | None, rng: np.random.Generator
    ) -> Pricing:
        """Price directions: exactly over all patterns where they were enumerated, else by local searches."""
        patterns, worst, searches, limit = stage.patterns, 0.0, 0, stage.penalty * (1 + self.tolerance)
        fresh = []
        for point in stage.points:
            theta = point.feasible[:, 0]
            if everything is not None:
                sizes = price_cones(table.x, everything, theta, limit)
                above = np.argsort(-sizes, kind="stable")[: int((sizes > limit).sum())]
                fresh.append(everything.take(above[: self.patterns]))
            elif self.rounds:
                neurons = point.blocks[point.blocks.any(axis=(1, 2)), :, 0]
                starts = np.vstack([neurons, patterns.gates, draw_gates(table.x, self.patterns, rng)])
                sizes, found = search_directions(table.x, theta, starts)
                above = np.argsort(-sizes, kind="stable")[: int((sizes > limit).sum())]
                fresh.append(Patterns.of_gates(table.x, found[above]).take_first(self.patterns))
            else:
                return Pricing(patterns, 0.0, 0, False)
            worst, searches = max(worst, float(sizes.max()) / stage.penalty), searches + len(sizes)
        if stage.round < self.rounds:
            for more in fresh:
                patterns = patterns.add(more)
        return Pricing(patterns, worst, searches, everything is not None and worst <= 1 + self.tolerance)

    def claims(self, table: TrainingTable, stage: Stage, neurons: ProductNeurons) -> tuple[Certificate, ...]:
        return (distance_claim(self, table, stage, neurons, "two-layer ReLU network (one output a neuron)"),)


def price_cones(x: np.ndarray, patterns: Patterns, theta: np.ndarray, limit: float) -> np.ndarray:
    """Bound max |Proj_K(+-X' D_i theta)| for every pattern: exact where above ``limit``.

    A projection is no longer than what is projected, so that only X' D_i theta longer than ``limit`` are.
    """
    g = Design(x, patterns).correlate(theta[:, None])
    sizes = block_norms(g)
    above = np.flatnonzero(sizes > limit)
    cones = Cones(x, patterns.take(above))
    for i, j in enumerate(above.tolist()):
        sizes[j] = max(float(np.linalg.norm(cones.project(i, s * g[j, :, 0], FREE)[0])) for s in (1.0, -1.0))
    return sizes
