"""What was asked of an oracle, in scaled inputs and outputs, and how noisy its answers are."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sparelu.oracle import Oracle, OracleError

SEGMENT = 1e-4
"""Length of the segments on which noise is measured, relative to the distance from the origin."""
POINTS = 8
CURVED = 30.0
"""Standard deviations of a second-order coefficient above which a segment bends."""
EPS = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)
"""What an answer of float64 or float32 loses, relative to its size."""


class Questions:
    """Ask in units of the inputs' spread and the outputs' spread, and keep the answers for a resumed run.

    A run with the same seed asks the same questions, so its answers in their order are all of its state: handed back
    as ``answers`` (n, outputs), they are given again before anything is asked.
    """

    def __init__(self, oracle: Oracle, answers: np.ndarray | None = None) -> None:
        self.oracle = oracle
        self.recorded = [] if answers is None else [np.asarray(answers, dtype=np.float64)]
        self.replay = self.recorded[0] if self.recorded else np.empty((0, oracle.outputs))
        self.used = 0
        self.inputs, self.outputs = oracle.inputs, oracle.outputs
        spread = oracle.statistics.y_sd
        self.scale = np.where(spread > 0, spread, np.maximum(np.abs(oracle.statistics.y_mean), 1.0))

    def __call__(self, u: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n outputs"]:
        """Return the scaled answers at ``centre + spread * u``."""
        start, self.used = self.used, self.used + len(u)
        old = self.replay[start : self.used]
        new = self.oracle.ask(self.oracle.centre + self.oracle.spread * u[len(old) :])
        if len(new):
            self.recorded.append(new)
        found: np.ndarray = np.concatenate([old, new]) / self.scale
        return found

    @property
    def answers(self) -> Float[np.ndarray, "n outputs"]:
        """Return all answers so far, as the oracle gave them."""
        self.recorded = [np.concatenate(self.recorded)] if self.recorded else []
        return self.recorded[0] if self.recorded else np.empty((0, self.outputs))


@dataclass(frozen=True, eq=False)
class Noise:
    """Standard deviation of an answer at distance r from the origin: sqrt(level^2 + (slope r)^2), each (outputs,)."""

    level: np.ndarray
    slope: np.ndarray

    def at(self, u: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n outputs"]:
        """Return the standard deviation for every row and output."""
        return np.hypot(self.level, self.slope * np.linalg.norm(u, axis=1)[:, None])


def measure_noise(ask: Questions, reach: float, rng: np.random.Generator) -> Noise:
    """Measure the noise of the answers near the origin and at ``reach``, from short segments that rarely hold a kink.

    The residual of a line through points of one segment is noise, or a kink; of four segments at each distance the
    third smallest counts. What the type of the answers loses is the floor, also where they happen to be small. Raises
    :class:`~sparelu.oracle.OracleError` when most segments bend smoothly, as no piecewise linear function does.
    """
    distances = np.array([1.0, reach]) * math.sqrt(ask.inputs)
    found, curved = [], 0
    for distance in distances:
        spread, bent, size = _segments(ask, distance, rng)
        curved = max(curved, bent)
        found.append(np.maximum(np.sort(spread, axis=0)[2], size))
    if curved >= 3:
        raise OracleError(
            f"{ask.oracle.name} is not piecewise linear: it bends on {curved} of 4 short segments; of a ReLU network "
            "ask for the outputs before any sigmoid or softmax, whatever its activation"
        )
    return Noise(found[0], np.maximum(found[1], found[0]) / distances[1])


def _segments(ask: Questions, distance: float, rng: np.random.Generator) -> tuple[np.ndarray, int, np.ndarray]:
    """Measure residuals of a line on four segments (4, outputs), how many bend smoothly, and what answers lose."""
    place = rng.standard_normal((4, 1, ask.inputs))
    along = rng.standard_normal((4, 1, ask.inputs))
    s = np.linspace(-1, 1, POINTS) + rng.uniform(-0.05, 0.05, POINTS)
    unit = (distance / np.linalg.norm(v, axis=2, keepdims=True) * v for v in (place, along))
    start, step = unit
    rows = (start + SEGMENT * s[:, None] * step).reshape(-1, ask.inputs)
    values = ask(rows).reshape(4, POINTS, ask.outputs)
    spread = np.zeros((4, ask.outputs))
    bent = 0
    for i, y in enumerate(values):
        line, curve = (_residual(s, y, degree) for degree in (1, 3))
        spread[i] = line
        bent += bool((line > CURVED * np.maximum(curve, EPS * np.abs(y).max(0))).any())
    plain = values * ask.scale
    short = np.abs(plain - plain.astype(np.float32)) <= 4 * EPS * np.abs(plain)
    single = short.all() and len(np.unique(plain)) > plain.size / 2
    return spread, bent, (SINGLE if single else EPS) * np.abs(values).max(axis=(0, 1))


def _residual(s: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    """Compute the standard deviation (outputs,) of ``y`` about its polynomial of least squares."""
    basis = np.vander(s, degree + 1)
    rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    spread: np.ndarray = np.sqrt((rest**2).sum(0) / (len(s) - degree - 1))
    return spread
