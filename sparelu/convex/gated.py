"""The gated ReLU program: the group lasso over activation patterns, and its solution as a ReLU network."""

from dataclasses import dataclass

import numpy as np

from sparelu.convex.decompose import decompose
from sparelu.convex.directions import search_directions
from sparelu.convex.fit import ConvexFitter, Pricing, distance_claim, patterns_premise
from sparelu.convex.patterns import Patterns, draw_gates
from sparelu.convex.rows import ProductNeurons, TrainingTable
from sparelu.convex.solver.cones import Cones
from sparelu.convex.solver.newton import PrimalDualPoint
from sparelu.convex.solver.penalties import GroupNorm, Penalty, SparseGroupNorm, block_norms
from sparelu.convex.solver.program import Design, Program
from sparelu.convex.stage import Stage
from sparelu.method import setting
from sparelu.outcome import Assumption, Certificate


@dataclass(frozen=True)
class Gated(ConvexFitter):
    """A gated ReLU network of least loss + penalty sum |u_i|, as a ReLU network of the same outputs on the rows.

    The outputs are sum_i 1[g_i x >= 0] u_i x with gates g_i that are fixed: the program is a group lasso (Mishkin,
    Sahiner and Pilanci 2022), solved to a proved gap by semismooth Newton on its dual
    (:mod:`sparelu.convex.solver.newton`). Every block is then decomposed into two neurons in its cone, by default with
    the least sum of norms (:mod:`sparelu.convex.decompose`): the same outputs on the training rows from larger weights,
    so that networks of ``convex`` are smaller.

    Use it for the convex program with fixed gates, solved to a proved gap, or to compare with ``convex``.

    Not for the smallest weights: its blocks become pairs of larger neurons.
    """

    name = "gated"
    question = "convex"
    paper = "Mishkin, Sahiner and Pilanci, Fast convex optimization for two-layer ReLU networks, 2022"

    joint: bool = setting(False, "several outputs share their gates, one group for all; else each has its own")
    entries: float = setting(0.0, "penalty on the sizes of single weights, as a share of that on the groups", low=0.0)
    decomposition: str = setting(
        "exact",
        "how blocks become neurons: least sum of norms, or the shortest second neuron",
        choices=("exact", "short"),
    )
    rounds: int = setting(0, "rounds in which patterns that are priced above the penalty are added", low=0)

    def programs(self, table: TrainingTable, patterns: Patterns, penalty: float) -> list[tuple[Program, Penalty]]:
        design, k = Design(table.x, patterns), table.loss.y.shape[1]
        losses = [table.loss] if self.joint else [table.loss.column(o) for o in range(k)]
        norm = SparseGroupNorm(penalty, penalty * self.entries) if self.entries else GroupNorm(penalty)
        return [(Program.gated(design, loss, penalty, table.ridge), norm) for loss in losses]

    def neurons(self, table: TrainingTable, patterns: Patterns, points: tuple[PrimalDualPoint, ...]) -> ProductNeurons:
        found: list[tuple[np.ndarray, float, int]] = []
        constant, o = np.zeros(table.loss.y.shape[1]), 0
        for point in points:
            live = np.flatnonzero(point.blocks.any(axis=(1, 2)))
            cones = Cones(table.x, patterns.take(live))
            for k in range(point.blocks.shape[2]):
                constant[o] = point.ridge[:, k].sum()
                for i, j in enumerate(live.tolist()):
                    pair = decompose(cones, i, point.blocks[j, :, k], self.decomposition == "exact")
                    found += [(u, s, o) for u, s in zip(pair, (1.0, -1.0), strict=True) if u.any()]
                o += 1
        if not found:
            return ProductNeurons(np.empty((0, table.x.shape[1])), np.empty(0), np.empty(0, np.int64), constant)
        u, sign, output = zip(*found, strict=True)
        return ProductNeurons(np.stack(u), np.array(sign), np.array(output, dtype=np.int64), constant)

    def priced(
        self, table: TrainingTable, stage: Stage, everything: Patterns | None, rng: np.random.Generator
    ) -> Pricing:
        """Price gates: all of them where the rows have rank three at most, else those that local searches meet."""
        patterns, worst, searches = stage.patterns, 0.0, 0
        if not self.rounds or self.entries:
            return Pricing(patterns, 0.0, 0, False)
        pairs = self.programs(table, everything or patterns, stage.penalty)
        fresh = []
        for point, (program, _) in zip(stage.points, pairs, strict=True):
            if everything is not None:
                sizes, gates = block_norms(program.correlate(point.feasible)), everything.gates
            else:
                starts = np.vstack([patterns.gates, draw_gates(table.x, self.patterns, rng)])
                theta = point.feasible[:, 0] if point.feasible.shape[1] == 1 else _leading(table.x, point.feasible)
                sizes, gates = search_directions(table.x, theta, starts, gates=True)
            sizes, searches = sizes / stage.penalty, searches + len(sizes)
            worst = max(worst, float(sizes.max()))
            above = np.flatnonzero(sizes > 1 + self.tolerance)
            above = above[np.argsort(-sizes[above], kind="stable")][: self.patterns]
            fresh.append(everything.take(above) if everything is not None else Patterns.of_gates(table.x, gates[above]))
        if stage.round < self.rounds:
            for more in fresh:
                patterns = patterns.add(more)
        return Pricing(patterns, worst, searches, everything is not None and worst <= 1 + self.tolerance)

    def claims(self, table: TrainingTable, stage: Stage, neurons: ProductNeurons) -> tuple[Certificate, ...]:
        solved = Certificate(
            f"relative duality gap of the gated program, objective {stage.primal:.9g} at penalty {stage.penalty:.6g}; "
            f"the empty network is optimal from penalty {stage.largest:.6g} on",
            stage.gap,
            "share of the objective",
            (
                Assumption("the dual point is feasible", "checked", "scaled by the largest constraint"),
                patterns_premise(stage),
            ),
            source=self.paper,
        )
        return solved, distance_claim(self, table, stage, neurons, "gated network with these gates")


def _leading(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return the combination (n,) of the dual points of several outputs in which they are largest."""
    _, _, v = np.linalg.svd(x.T @ theta, full_matrices=False)
    return np.asarray(theta @ v[0])
