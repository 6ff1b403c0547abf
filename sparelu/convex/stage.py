"""Where a fit of convex programs stands, as a value that can be written down and read back."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from sparelu.convex.patterns import Patterns
from sparelu.convex.rows import ProductNeurons
from sparelu.convex.solver.newton import PrimalDualPoint
from sparelu.outcome import State


@dataclass(frozen=True, eq=False)
class Stage:
    """The penalty number, the round of added patterns, the last point of every program that was begun.

    ``before`` are the points that the programs start from, ``chosen`` those of the last penalty whose network kept the
    budget, ``kept`` the active sets of the program in work. ``price`` is the largest dual constraint met outside the
    programs as a share of the penalty, by ``searches`` looks; ``proved`` when these were at all patterns.
    """

    patterns: Patterns
    penalties: tuple[float, ...]
    largest: float
    number: int = 0
    round: int = 0
    points: tuple[PrimalDualPoint, ...] = ()
    before: tuple[PrimalDualPoint, ...] = ()
    chosen: tuple[PrimalDualPoint, ...] = ()
    chosen_number: int = -1
    kept: Mapping[str, np.ndarray] = field(default_factory=dict)
    price: float = 0.0
    searches: int = 0
    proved: bool = False
    finished: bool = False
    found: ProductNeurons | None = None
    """The neurons of the last points of a finished fit, which are not written down but made again."""

    @property
    def penalty(self) -> float:
        """Return the penalty in work."""
        return self.penalties[self.number]

    @property
    def step_down(self) -> float:
        """Return the penalty as a share of that ``before`` was found with: a dual point times it stays feasible."""
        same = self.round > 0 or self.number == 0
        return 1.0 if same else self.penalty / self.penalties[self.number - 1]

    @property
    def primal(self) -> float:
        """Return the objective of all programs begun."""
        return float(sum(p.primal for p in self.points))

    @property
    def dual(self) -> float:
        """Return the lower bound of all programs begun; over all patterns where these were ``proved``."""
        return float(sum(p.dual for p in self.points))

    @property
    def gap(self) -> float:
        """Return the relative gap between the two."""
        scale = max(abs(self.primal), np.finfo(float).tiny)
        return max(self.primal - self.dual, 0.0) / scale if self.points else math.inf

    def progress(self, programs: int, tolerance: float) -> float:
        """Return a number that rises to 1: a round counts half of what is left of its penalty."""
        if self.finished:
            return 1.0
        gap = self.points[-1].gap if self.points else 1.0
        settled = min(1.0, math.log(gap) / math.log(tolerance)) if 0 < gap < 1 else float(gap == 0)
        share = min(1.0, (max(len(self.points) - 1, 0) + settled) / programs)
        done = 1 - 2.0**-self.round * (1 - share / 2)
        return min(0.99, (self.number + done) / len(self.penalties))

    def with_patterns(self, patterns: Patterns) -> "Stage":
        """Return the stage that begins the next round with more patterns."""
        return replace(self, patterns=patterns, round=self.round + 1, before=self.points, points=(), kept={})

    def write(self) -> State:
        """Return tensors and JSON values."""
        plain = ("penalties", "largest", "number", "round", "chosen_number", "price", "searches", "proved", "finished")
        state: dict[str, Any] = {name: getattr(self, name) for name in plain}
        state["penalties"] = torch.tensor(self.penalties, dtype=torch.float64)
        state["patterns"] = {
            "bits": _tensor(self.patterns.bits),
            "gates": _tensor(self.patterns.gates),
            "rows": self.patterns.rows,
            "complete": self.patterns.complete,
        }
        state["kept"] = {name: _tensor(array) for name, array in self.kept.items()}
        for group in ("points", "before", "chosen"):
            state[group] = [_write_point(p) for p in getattr(self, group)]
        return state

    @classmethod
    def read(cls, state: State) -> "Stage":
        """Return the stage that :meth:`write` wrote."""
        values = dict(state)
        values["penalties"] = tuple(torch.as_tensor(state["penalties"]).tolist())
        p = state["patterns"]
        values["patterns"] = Patterns(_array(p["bits"]), int(p["rows"]), _array(p["gates"]), bool(p["complete"]))
        values["kept"] = {name: _array(tensor) for name, tensor in state["kept"].items()}
        for group in ("points", "before", "chosen"):
            values[group] = tuple(_read_point(p) for p in state[group])
        return cls(**values)


def _write_point(point: PrimalDualPoint) -> dict[str, Any]:
    numbers = [point.sigma, point.primal, point.dual, point.steps, point.outer, point.stalled]
    arrays = {name: _tensor(getattr(point, name)) for name in ("u", "theta", "blocks", "ridge", "feasible")}
    return {**arrays, "numbers": torch.tensor(numbers, dtype=torch.float64)}


def _read_point(state: Mapping[str, Any]) -> PrimalDualPoint:
    arrays = {f.name: _array(state[f.name]) for f in fields(PrimalDualPoint) if f.name in state}
    sigma, primal, dual, steps, outer, stalled = torch.as_tensor(state["numbers"]).tolist()
    return PrimalDualPoint(
        sigma=sigma, primal=primal, dual=dual, steps=int(steps), outer=int(outer), stalled=bool(stalled), **arrays
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(torch.as_tensor(tensor).numpy()).copy()


def memory_needed(rows: int, columns: int, outputs: int, patterns: int) -> float:
    """Return the bytes a fit holds: two matrices of the Newton system, the bits, eight sets of blocks."""
    return 16.0 * min(rows, 4000) ** 2 + patterns * rows / 8 + 64.0 * patterns * columns * outputs


def memory_of_machine() -> float:
    """Return the bytes of the machine's memory."""
    return float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))
