"""The jump of the gradient across a kink, read by group tests.

Across the hyperplane of neuron j the gradient jumps by v_j w_j. Its product with a direction u is a difference of two
difference quotients, one on each side; with u = e restricted to a block of inputs it is zero where the neuron reads
none of the block. Halving the blocks that are not zero finds the s inputs that are read in about s log2(d / s)
measurements: the whole block is the change of slope along the line, which is known, and the second half of a block
follows by subtraction. So even a dense neuron takes no more measurements than inputs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SURE = 12.0
"""Standard deviations that noise does not reach."""
STEP = 0.01
"""Length of a step beside the clearance along the line. A hyperplane w at that clearance is met when w.u / (|w| |u|) is
100 times w.e / (|w| |e|) sqrt(inputs): for a random line once in some 100 neighbours, which the check then sees."""
SHORTER = 30.0
"""How many times shorter the steps of the second try are."""
MANY = 64
DENSE = 0.9
"""Where this share of so many blocks is not zero, the inputs are measured one by one: s log2(d / s) exceeds d then."""
ALIKE = 8
"""Blocks that are measured again at shorter steps before that."""


@dataclass(frozen=True, eq=False)
class Side:
    """A point beside a kink and its surroundings.

    ``start`` (inputs,) lies ``clear`` from the next kink along the line. With ``gradient`` (inputs,) and ``error`` what
    the function does there is known, and nothing is asked.
    """

    start: np.ndarray
    clear: float
    gradient: np.ndarray | None = None
    error: np.ndarray | None = None


class Jump:
    """Measure products of the jump between two sides with directions.

    ``values`` of rows and their ``noise`` are scaled answers, projected to one number a row on the outputs of the kink.
    ``slack`` is the standard deviation of the product of a unit direction with what was subtracted from the answers;
    ``measured`` counts the products.
    """

    def __init__(
        self,
        values: Callable[[np.ndarray], np.ndarray],
        noise: Callable[[np.ndarray], np.ndarray],
        sides: tuple[Side, Side],
        slack: float = 0.0,
    ) -> None:
        self.values, self.noise, self.sides, self.slack = values, noise, sides, slack
        self.measured = 0
        self.base: list[float | None] = [None, None]

    def measure(self, u: Float[np.ndarray, "n inputs"], step: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the jump times each unit direction of ``u``, and its variance, both (n,)."""
        after, before = (self._slope(i, u, step) for i in (1, 0))
        self.measured += len(u)
        return after[0] - before[0], after[1] + before[1] + self.slack**2

    def value(self, i: int) -> float:
        """Return the value at the start of side ``i``, asked once."""
        known = self.base[i]
        if known is None:
            known = self.base[i] = float(self.values(self.sides[i].start[None])[0])
        return known

    def _slope(self, i: int, u: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        side = self.sides[i]
        if side.gradient is not None and side.error is not None:
            return u @ side.gradient, u**2 @ side.error**2
        length = step * side.clear
        asked = side.start + length * u
        base = self.base[i]
        values = self.values(asked if base is not None else np.concatenate([asked, side.start[None]]))
        if base is None:
            base = self.base[i] = float(values[-1])
        variance = 2 * (self.noise(side.start[None]) / length) ** 2
        return (values[: len(u)] - base) / length, np.broadcast_to(variance, (len(u),))


@dataclass(frozen=True, eq=False)
class JumpRow:
    """A jump (inputs,) with the standard deviation ``error`` of each entry, of which ``fresh`` came with these steps.

    Entries outside the support are exactly zero, with error zero.
    """

    values: Float[np.ndarray, " inputs"]
    error: Float[np.ndarray, " inputs"]
    fresh: Float[np.ndarray, " inputs"]


Block = tuple[int, int, float, float]
"""First input, last input + 1, product of the jump with the direction there, and its variance."""


def read_row(
    jump: Jump, e: np.ndarray, total: tuple[float, float], dense: bool, rng: np.random.Generator
) -> JumpRow | None:
    """Return the whole jump, whose product with the direction ``e`` is ``total`` (value, variance).

    A random direction checks it, and so does ``e``; steps thirty times shorter are the second try, and None says that
    neither holds. ``dense`` measures all inputs at once.
    """
    for step in (STEP, STEP / SHORTER):
        support = np.arange(len(e)) if dense else find_support(jump, e, total, step)
        if support is None:
            continue
        row = measure_inputs(jump, support, step)
        check = rng.standard_normal((1, len(e)))
        check /= np.linalg.norm(check)
        found, variance = jump.measure(check, step)
        pairs = ((check[0], float(found[0]), float(variance[0])), (e, *total))
        if all(abs(v - u @ row.values) <= SURE * math.sqrt(s + u**2 @ row.error**2) for u, v, s in pairs):
            return row
    return None


def find_support(jump: Jump, e: np.ndarray, total: tuple[float, float], step: float) -> np.ndarray | None:
    """Return the inputs on which the jump is not zero: halve blocks down to them, or stop where most blocks are not.

    A step that meets another hyperplane makes most blocks nonzero too: None when shorter steps find other values.
    """
    blocks: list[Block] = [(0, len(e), *total)]
    while any(high - low > 1 for low, high, _, _ in blocks):
        halves = _halved(jump, e, blocks, step)
        blocks = [b for b in halves if abs(b[2]) > SURE * math.sqrt(b[3])]
        if len(halves) >= MANY and len(blocks) >= DENSE * MANY and len(blocks) >= DENSE * len(halves):
            if not _repeated(jump, e, blocks, step / SHORTER):
                return None
            break
    return np.concatenate([np.arange(low, high) for low, high, _, _ in blocks] or [np.empty(0, dtype=np.int64)])


def _halved(jump: Jump, e: np.ndarray, blocks: list[Block], step: float) -> list[Block]:
    """Measure the first half of every block; the second is what it lacks. Blocks of one input stay."""
    wide = [b for b in blocks if b[1] - b[0] > 1]
    u = np.zeros((len(wide), len(e)))
    for i, (low, high, _, _) in enumerate(wide):
        u[i, low : (low + high) // 2] = e[low : (low + high) // 2]
    length = np.linalg.norm(u, axis=1)
    value, variance = jump.measure(u / length[:, None], step)
    value, variance = value * length, variance * length**2
    halves = [b for b in blocks if b[1] - b[0] == 1]
    for (low, high, whole, spread), v, s in zip(wide, value.tolist(), variance.tolist(), strict=True):
        middle = (low + high) // 2
        halves += [(low, middle, v, s), (middle, high, whole - v, spread + s)]
    return halves


def _repeated(jump: Jump, e: np.ndarray, blocks: list[Block], step: float) -> bool:
    """Tell whether the first ``ALIKE`` blocks have the same products at another step."""
    u = np.zeros((ALIKE, len(e)))
    for i, (low, high, _, _) in enumerate(blocks[:ALIKE]):
        u[i, low:high] = e[low:high]
    length = np.linalg.norm(u, axis=1)
    value, variance = jump.measure(u / length[:, None], step)
    found = np.array([(v, s) for _, _, v, s in blocks[:ALIKE]])
    return bool((np.abs(value * length - found[:, 0]) <= SURE * np.sqrt(variance * length**2 + found[:, 1])).all())


def measure_inputs(jump: Jump, inputs: np.ndarray, step: float) -> JumpRow:
    """Measure the jump on ``inputs`` one by one, at steps the longer the more they are.

    A hyperplane that reads s inputs alike is sqrt(s) times farther along one of them than along its normal.
    """
    row = JumpRow(*(np.zeros(len(jump.sides[0].start)) for _ in range(3)))
    if len(inputs):
        u = np.zeros((len(inputs), len(row.values)))
        u[np.arange(len(inputs)), inputs] = 1.0
        value, variance = jump.measure(u, step * math.sqrt(len(inputs)))
        inputs, value, variance = (a[np.abs(value) > SURE * np.sqrt(variance)] for a in (inputs, value, variance))
        row.values[inputs], row.error[inputs] = value, np.sqrt(variance)
        known = sum((side.error**2 for side in jump.sides if side.error is not None), np.zeros(len(row.values)))
        row.fresh[inputs] = np.sqrt(np.maximum(variance - known[inputs], 0))
    return row
