"""What is proved of a network that was read from answers, and what is taken on trust.

A random line meets every hyperplane of a one-hidden-layer network once. If the oracle less the network is straight on
a random line, then with probability one no neuron is missing and none is wrong beyond what the answers' rounding
hides. Rows of the inputs' own distribution, asked when all is done, bound the share on which the two differ: the chance
that h of them miss a set of that share is (1 - share)^h.
"""

import math
from dataclasses import dataclass

import numpy as np

from sparelu.method import Refusal
from sparelu.outcome import Assumption, Certificate, Status
from sparelu.recover.queries.kinks import SURE
from sparelu.recover.queries.one_layer import ENOUGH, OneLayer, why_not_hyperplanes

FRESH = (40, 400)
"""Rows asked in the end: a twentieth of all, within these bounds."""
CONFIRMED = 3
"""Rows asked once more in the end, to see whether the oracle still answers alike."""
DELTA = 0.01
EXACT = 1e-12
"""Noise relative to the spread of the outputs up to which answers are called those of float64."""


@dataclass(frozen=True)
class AnswerEvidence:
    """Of a search: ``straight`` lines in a row of ``lines``, the largest share ``worst`` of a neuron that the last one
    still turned by, the root mean square ``error`` on ``rows`` fresh rows of which ``wrong`` were not met, the
    ``noise`` of the answers, and the largest relative ``precision`` of a weight. All relative to the outputs' spread.
    """

    straight: int
    lines: int
    worst: float
    rows: int
    wrong: int
    error: float
    noise: float
    precision: float
    oriented: bool
    reason: str

    @property
    def status(self) -> Status:
        """Return converged where every premise is checked."""
        return Status.converged if self.certificate().holds else Status.best_found

    def certificate(self) -> Certificate:
        """Return the claim that the network is the function that answered."""
        bound = min(1.0, math.log(1 / DELTA) / self.rows)
        claim = (
            f"the network is the function that was asked: on random lines they have the same pieces, and they differ "
            f"on less than {100 * bound:.2g}% of the inputs, with {100 * (1 - DELTA):g}% confidence"
        )
        premises = (
            _premise(
                "nothing bends beside the network on random lines",
                self.straight >= ENOUGH,
                f"{self.straight} of {ENOUGH} lines in a row are straight, {self.lines} drawn; on the last a neuron "
                f"is off by {self.worst:.2g} of itself at most{self.reason}",
            ),
            _premise(
                "fresh rows are met to rounding",
                self.wrong == 0,
                f"{self.wrong} of {self.rows} are not; error {self.error:.2g}",
            ),
            _premise(
                "answers are of float64",
                self.noise <= EXACT,
                f"their noise is {self.noise:.2g} of their spread; the relative error of the weights is up to "
                f"{self.precision:.2g}, and smaller ones are not told from zero",
            ),
            Assumption(
                "the sides of the neurons",
                "checked" if self.oriented else "taken on trust",
                "they make up the whole affine part"
                if self.oriented
                else "a skip part is left, so that neurons could be turned: the function is the same",
            ),
            Assumption("the oracle answers every row by the same function", "taken on trust"),
        )
        return Certificate(claim, self.error, "spread of the outputs, on fresh rows", premises, bound >= 1, "queries")


def _premise(text: str, good: bool, evidence: str) -> Assumption:
    return Assumption(text, "checked" if good else "violated", evidence)


def weigh_answers(search: OneLayer) -> AnswerEvidence:
    """Ask fresh rows, and some again, and say what the search has shown.

    Raises :class:`~sparelu.oracle.OracleError` when the oracle answers otherwise than before, and
    :class:`~sparelu.method.Refusal` when it is clipped.
    """
    ask = search.ask
    rows = int(np.clip(ask.oracle.asked // 20, *FRESH))
    u = search.rng.standard_normal((rows, ask.inputs))
    y = ask(u)
    where = ask.oracle.centre + ask.oracle.spread * u[:CONFIRMED]
    ask.oracle.confirm(where, y[:CONFIRMED] * ask.scale)
    hinges, slope, constant = search.oriented()
    error = y - hinges(u) - u @ slope - constant
    wrong = (np.abs(error) > SURE * search.residual.error(u)).any(axis=1)
    reason, clipped = why_not_hyperplanes(ask.answers)
    if wrong.any() and clipped:
        raise Refusal(f"{ask.oracle.name}: {reason}")
    return AnswerEvidence(
        straight=search.straight,
        lines=search.lines,
        worst=search.worst,
        rows=rows,
        wrong=int(wrong.sum()),
        error=float(np.sqrt((error**2).mean())),
        noise=float(search.noise.level.max()),
        precision=float(search.known.error.max(initial=0.0)),
        oriented=not slope.any(),
        reason="" if search.straight >= ENOUGH else f"; {reason}",
    )
