"""One line through the inputs: its kinks, and the hinge read at each of them."""

import math
from dataclasses import dataclass, replace

import numpy as np

from sparelu.recover.queries.hinges import KnownHinges
from sparelu.recover.queries.jumps import STEP, Jump, JumpRow, Side, read_row
from sparelu.recover.queries.kinks import SURE, KinkSearch, LineKinks
from sparelu.recover.queries.questions import Noise, Questions

FEW = 16
"""Inputs that are measured one by one without group tests."""
ROUGH = 1e-3
"""Relative error from which a neuron is left for a line that shows it better."""
FAR_OUT = 3.0
"""Standard deviations of the inputs at which lines start."""


@dataclass(frozen=True, eq=False)
class Line:
    """``origin + t direction``, whose direction has length sqrt(inputs) and no small entry, so that blocks of it can
    serve as group tests."""

    origin: np.ndarray
    direction: np.ndarray

    @classmethod
    def drawn(cls, inputs: int, rng: np.random.Generator) -> "Line":
        """Return a random line."""
        e = rng.uniform(0.5, 1.5, inputs) * rng.choice((-1.0, 1.0), inputs)
        return cls(FAR_OUT * rng.standard_normal(inputs), e * math.sqrt(inputs) / np.linalg.norm(e))

    def at(self, t: np.ndarray) -> np.ndarray:
        """Return the points (n, inputs) at the places ``t`` (n,)."""
        points: np.ndarray = self.origin + np.asarray(t)[:, None] * self.direction
        return points


@dataclass(frozen=True, eq=False)
class Residual:
    """What the oracle answers beyond the hinges that are known, and its noise."""

    ask: Questions
    noise: Noise
    known: KnownHinges

    def __call__(self, u: np.ndarray) -> np.ndarray:
        values: np.ndarray = self.ask(u) - self.known(u)
        return values

    def kinks(self, line: Line, most: int, rng: np.random.Generator) -> tuple[LineKinks, float]:
        """Return where the residual bends on ``line``, and its spread where inputs are."""
        search = KinkSearch(lambda t: self(line.at(t)), lambda t: self.error(line.at(t)), FAR_OUT, most, rng)
        kinks = search.run()
        near = np.array([y for t, y in search.known.items() if abs(t) <= FAR_OUT])
        return kinks, float(near.std()) if len(kinks) else 0.0

    def error(self, u: np.ndarray) -> np.ndarray:
        """Return the standard deviation (n, outputs) of the residual: noise, and what the hinges' errors leave."""
        return np.hypot(self.noise.at(u), np.linalg.norm(u, axis=1)[:, None] * self.known.slack)


@dataclass(frozen=True, eq=False)
class MeasuredGradient:
    """A gradient (inputs, outputs), the standard deviation of its entries, and where it was read."""

    values: np.ndarray
    error: np.ndarray
    place: np.ndarray
    value: np.ndarray


def read_gradient(residual: Residual, start: np.ndarray, clear: float) -> MeasuredGradient:
    """Return the gradient at ``start``, from one step along each input."""
    length = STEP * clear
    rows = start + length * np.eye(len(start))
    values = residual(np.concatenate([rows, start[None]]))
    error = math.sqrt(2) * residual.noise.at(start[None])[0] / length
    return MeasuredGradient((values[:-1] - values[-1]) / length, np.tile(error, (len(start), 1)), start, values[-1])


def places_beside(kinks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a place on each piece between ``kinks``, and how far it is clear of other hyperplanes.

    Places are the middles of the pieces; outside they are as far from the last kink as that is from the origin. A line
    meets at a place t the hyperplanes whose angle with it is about FAR_OUT / |t|, and these are nearer by that factor
    than along the line.
    """
    if not len(kinks):
        return np.zeros(1), np.array([FAR_OUT])
    out = 2 * np.maximum(np.abs(kinks[[0, -1]]), FAR_OUT)
    ends = np.array([kinks[0] - out[0], *kinks, kinks[-1] + out[1]])
    places = (ends[1:] + ends[:-1]) / 2
    return places, np.diff(ends) / 2 * np.minimum(1.0, FAR_OUT / np.maximum(np.abs(places), FAR_OUT))


def read_hinges(
    residual: Residual, line: Line, kinks: LineKinks, rng: np.random.Generator, before: MeasuredGradient | None = None
) -> KnownHinges:
    """Read the hinge at every kink of ``line``, from left to right; those that the check refuses are left out.

    The gradient ``before`` the first kink, where it is known, halves the questions: beyond a kink it is known again
    once the kink is read. Where it is lost it is read anew if the kinks that are left would ask for more than that.
    """
    places, clear = places_beside(kinks.place)
    points = line.at(places)
    found, measured = KnownHinges.none(residual.ask.inputs, residual.ask.outputs), 0
    dense = residual.ask.inputs <= FEW
    for i in range(len(kinks)):
        if before is None and measured * (len(kinks) - i) > residual.ask.inputs * i:
            before = read_gradient(residual, points[i], clear[i])
        out, weigh = _output(kinks.turn[i], residual.noise.at(points[i : i + 1])[0])
        left = Side(points[i], clear[i])
        if before is not None:
            left = replace(left, gradient=before.values @ weigh, error=np.sqrt(before.error**2 @ weigh**2))
        jump = projected(residual, weigh, (left, Side(points[i + 1], clear[i + 1])))
        total = float(kinks.turn[i] @ weigh), float(kinks.error[i] ** 2 @ weigh**2)
        row = read_row(jump, line.direction, total, dense, rng)
        measured += jump.measured
        if row is not None and row.error.max() < ROUGH * np.abs(row.values).max():
            found = found.joined(_hinge(row, out, line.at(kinks.place[i : i + 1])[0]))
            dense = bool(np.count_nonzero(row.values) > residual.ask.inputs / 4) or residual.ask.inputs <= FEW
            before = None if before is None else _after(before, row, out)
        else:
            before = None
    return found


def _output(turn: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outgoing weights (outputs,) of a kink, and the weights that project answers on them: their product is
    1, and the least noise is let through."""
    weigh = turn / noise**2
    weigh = weigh / np.linalg.norm(weigh)
    return turn / float(turn @ weigh), weigh


def projected(residual: Residual, weigh: np.ndarray, sides: tuple[Side, Side], slack: np.ndarray | None = None) -> Jump:
    """Return the jump between two sides, of answers weighed by ``weigh`` (outputs,).

    ``slack`` (outputs,) are the errors of known hinges that lie between the sides; all of them, if it is not given.
    """
    left = math.sqrt(float((residual.known.slack if slack is None else slack) ** 2 @ weigh**2))
    return Jump(lambda u: residual(u) @ weigh, lambda u: np.sqrt(residual.noise.at(u) ** 2 @ weigh**2), sides, left)


def _hinge(row: JumpRow, out: np.ndarray, place: np.ndarray) -> KnownHinges:
    """Build the hinge whose hyperplane has the jump as its normal and holds ``place``."""
    error = float(row.error.max()) / float(np.abs(row.values).max())
    return KnownHinges(row.values[None], -(row.values @ place)[None], out[None], np.array([error]))


def _after(before: MeasuredGradient, row: JumpRow, out: np.ndarray) -> MeasuredGradient:
    """Return the gradient beyond a kink: on the support it is as exact as the steps that were taken there."""
    support = row.values != 0
    error = before.error.copy()
    error[support] = row.fresh[support, None] * np.maximum(np.abs(out), 1.0)
    return replace(before, values=before.values + row.values[:, None] * out, error=error)


def match(hinges: KnownHinges, line: Line, kinks: LineKinks) -> tuple[np.ndarray, np.ndarray]:
    """Compare the kinks of the residual with the hinges: (which kink is a hinge's, by number or -1; what share of each
    hinge the residual still turns by at its place)."""
    owner, share = np.full(len(kinks), -1), np.zeros(len(hinges))
    if not len(hinges) or not len(kinks):
        return owner, share
    at, along = hinges.crossings(line.origin, line.direction), hinges.normal @ line.direction
    size = np.linalg.norm(line.at(at), axis=1)
    blur = SURE * hinges.error * np.abs(hinges.normal).max(1) * size / np.abs(along)
    width = np.diff(kinks.place, prepend=-np.inf, append=np.inf)
    for i, t in enumerate(kinks.place.tolist()):
        turn = kinks.turn[i]
        own = (
            SURE
            * float(np.linalg.norm(kinks.error[i]) / np.linalg.norm(turn))
            * min(width[i : i + 2].min(), abs(t) + FAR_OUT)
        )
        near = np.abs(at - t) - blur - own - 1e-9 * (abs(t) + FAR_OUT)
        j = int(np.argmin(near))
        if near[j] <= 0:
            owner[i] = j
            share[j] += float(turn @ hinges.out[j] / (hinges.out[j] @ hinges.out[j])) / abs(along[j])
    return owner, share
