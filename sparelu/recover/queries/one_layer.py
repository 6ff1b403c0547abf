"""One hidden layer by questions: lines of the residual until one is straight.

A random line meets every hyperplane once. What the first line does not resolve (two kinks closer than rounding, a
hyperplane that the line nearly misses) is a kink of the residual on the next one, and so is every hinge that was read
wrong. The residual is straight on a random line, with probability one, if and only if nothing is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from sparelu.method import Refusal
from sparelu.recover.queries.hinges import KnownHinges, flips
from sparelu.recover.queries.jumps import STEP
from sparelu.recover.queries.kinks import SURE, TAIL
from sparelu.recover.queries.line import (
    FAR_OUT,
    Line,
    MeasuredGradient,
    Residual,
    match,
    places_beside,
    read_gradient,
    read_hinges,
)
from sparelu.recover.queries.polish import read_again
from sparelu.recover.queries.questions import Noise, Questions, measure_noise

LINES = 12
"""Lines after which the search gives up."""
ENOUGH = 2
"""Straight lines in a row that end it: one before the hinges are read again, one after."""
WRONG = 1e-3
"""Share of a hinge that the residual may still turn by at its place; beyond it the hinge is read anew."""
HALF = 0.5
"""Share of the first line's hinges that are wrong on the second where the kinks do not lie on whole hyperplanes."""
TIES = 0.05
"""Share of the answers that are one extreme value where a function is clipped."""


@dataclass
class OneLayer:
    """The search: hinges that are ``known``, the affine part (``slope`` (inputs, outputs), ``constant`` (outputs,))
    beside them, which of them ``flip`` to the other side, and how ``straight`` the last lines were.
    """

    ask: Questions
    most: int
    precision: float
    rng: np.random.Generator
    noise: Noise = field(init=False)
    known: KnownHinges = field(init=False)
    slope: np.ndarray = field(init=False)
    constant: np.ndarray = field(init=False)
    flip: np.ndarray = field(init=False)
    first: MeasuredGradient | None = None
    straight: int = 0
    lines: int = 0
    worst: float = 1.0
    loss: float = 1.0

    def __post_init__(self) -> None:
        self.known = KnownHinges.none(self.ask.inputs, self.ask.outputs)
        self._reckon_affine()

    def rounds(self) -> Iterator[None]:
        """Search; yield after every line, and when the hinges were read again."""
        self.noise = measure_noise(self.ask, 1 / np.tan(TAIL), self.rng)
        while self.lines < LINES and self.straight < ENOUGH:
            self._sweep()
            yield
            if self.straight == 1:
                self.known = read_again(self.residual, self.precision, self.rng)
                self._orient()
                yield

    @property
    def residual(self) -> Residual:
        """Return what the oracle answers beyond the known hinges."""
        return Residual(self.ask, self.noise, self.known)

    def _sweep(self) -> None:
        """Read what the residual shows on a new line."""
        line = Line.drawn(self.ask.inputs, self.rng)
        kinks, self.loss = self.residual.kinks(line, self.most, self.rng)
        owner, share = match(self.known, line, kinks)
        wrong = np.greater(np.abs(share), WRONG)
        new = owner < 0
        self.worst = float(np.abs(share).max(initial=0.0))
        self.lines += 1
        if self.first is None:
            places, clear = places_beside(kinks.place)
            self.first = read_gradient(self.residual, line.at(places[:1])[0], clear[0])
        if not new.any() and not wrong.any():
            self.straight += 1
            if self.lines == 1:
                self._reckon_affine()
            return
        self.straight = 0
        if self.lines == 2 and wrong.sum() > HALF * len(wrong) > 1:
            raise Refusal(f"{self.ask.oracle.name}: {why_not_hyperplanes(self.ask.answers)[0]}")
        self.known = self.known.take(np.flatnonzero(~wrong))
        before = self.first if self.lines == 1 else None
        fresh = read_hinges(self.residual, line, kinks.take(new), self.rng, before)
        double = self.known.parallel(fresh)
        self.known = self.known.take(np.flatnonzero(~double.any(axis=1))).joined(
            fresh.take(np.flatnonzero(~double.any(axis=0)))
        )
        self._reckon_affine()

    def _reckon_affine(self) -> None:
        """Take the affine part from the gradient that was read first."""
        self.flip = np.zeros(len(self.known), dtype=bool)
        self.slope, self.constant = np.zeros((self.ask.inputs, self.ask.outputs)), np.zeros(self.ask.outputs)
        if self.first is not None:
            g = self.first
            self.slope = g.values - self._active(g.place)
            self.constant = g.value - self.known(g.place[None])[0] - g.place @ self.slope

    def _orient(self) -> None:
        """Turn hinges so that the affine part vanishes; where it does not, read it again near the inputs."""
        assert self.first is not None
        place = self.rng.standard_normal(self.ask.inputs)
        if not self._explained(self.first.error):
            # nothing of the residual bends any more, so that the step can be as long as the inputs are spread
            near = read_gradient(self.residual, place, FAR_OUT / STEP)
            self.slope, self.first = near.values, replace(near, values=near.values + self._active(place))
            self._explained(near.error)
        self.constant = (self.ask(place[None]) - self.known(place[None]))[0] - place @ self.slope

    def _active(self, place: np.ndarray) -> np.ndarray:
        """Compute the gradient (inputs, outputs) of the hinges at ``place``."""
        active = self.known.normal @ place + self.known.offset > 0
        gradient: np.ndarray = self.known.normal[active].T @ self.known.out[active]
        return gradient

    def _explained(self, error: np.ndarray) -> bool:
        """Tell whether turned hinges make up the affine part, which is then known as exactly as they are."""
        within = SURE * (error + self.known.slack)
        self.flip = flips(self.known, self.slope, within)
        turned = self.known.normal[self.flip].T @ self.known.out[self.flip]
        if (np.abs(self.slope + turned) > within).any():
            return False
        self.slope = -turned
        return True

    def oriented(self) -> tuple[KnownHinges, np.ndarray, np.ndarray]:
        """Return the hinges turned to the sides that ``flip`` says, and the affine part that is left: entries within
        their error are zero.

        out (z)_+ = out (-z)_+ + out z.
        """
        turned = self.known.take(self.flip)
        slope = self.slope + turned.normal.T @ turned.out
        constant = self.constant + turned.offset @ turned.out
        error = SURE * (self.first.error + self.known.slack) if self.first is not None else 0.0
        sign = np.where(self.flip, -1.0, 1.0)
        hinges = replace(self.known, normal=self.known.normal * sign[:, None], offset=self.known.offset * sign)
        return hinges, np.where(np.abs(slope) > error, slope, 0.0), constant


def why_not_hyperplanes(answers: np.ndarray) -> tuple[str, bool]:
    """Say what a function may be whose kinks do not lie on whole hyperplanes, from all its answers (n, outputs), and
    whether it is clipped: one extreme value is the answer of many rows."""
    for extreme, name in ((answers.min(axis=0), "below"), (answers.max(axis=0), "above")):
        ties = (answers == extreme).mean(axis=0)
        if TIES < ties.max() < 1:
            k = int(ties.argmax())
            return (
                f"it is clipped {name} at {extreme[k]:.6g}, the answer of {100 * ties[k]:.0f}% of the rows: ask for "
                "the values before they are clipped"
            ), True
    return (
        "its kinks do not lie on whole hyperplanes, as those of one hidden layer do: name the widths of all its hidden "
        "layers in the budget; with maxima, products or steps inside it is out of reach"
    ), False
