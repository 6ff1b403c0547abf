"""What tells an exact recovery from the best network found.

Some rows are kept apart from every fit. If the network gives the labels of all h of them to rounding, then with
probability 1 - delta it differs from the function behind the labels on a share of inputs below log(1 / delta) / h: the
chance that h independent rows miss a set of that share is (1 - share)^h < delta. Noise hides the same question:
a support found through it is the one that explains the rows best, and is not called exact.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.data import Rows
from sparelu.outcome import Assumption, Certificate
from sparelu.recover.exact.hinges import Sample
from sparelu.recover.exact.least_squares import ROUNDING
from sparelu.recover.exact.relu_model import Found

ROUNDINGS = 30.0
"""Roundings of a label that arithmetic in its precision may have added up to."""
CLEAR = 100.0
"""|t| of a weight that neither noise nor rounding explains."""
DEPENDENT = 1e-10
"""Eigenvalue of a correlation matrix that counts as zero: float64 leaves some 1e-15 of an exact dependence."""
DELTA = 0.01
MOST_APART = 5000


def apart(n: int) -> int:
    """Rows that are kept apart of ``n``: a tenth, at most ``MOST_APART``."""
    return min(n // 10, MOST_APART)


def rounding(y: np.ndarray) -> np.ndarray:
    """Standard deviation of the rounding of every label; labels that float32 holds are taken to be in float32."""
    single = y.astype(np.float32)
    spacing = np.spacing(np.abs(single)).astype(np.float64) if np.array_equal(single, y) else np.spacing(np.abs(y))
    return spacing / math.sqrt(12)


@dataclass(frozen=True)
class Evidence:
    """Of a network of ``weights`` nonzeros and ``numbers`` fitted numbers, found on ``fitted`` labels.

    ``rows`` were kept apart; on them the error has root mean square ``error``, relative to the standard deviation of
    the labels (of all outputs together), and ``wrong`` rows differ by more than rounding explains, which has root mean
    square ``rounding``. ``inside`` is the error on the fitted rows. ``rest`` says whether the search found
    nothing left to do, ``cut`` whether the budget took weights that the data ask for; ``least`` is the smallest |t|
    of a weight, of both layers where there are several outputs; ``gridded`` counts the
    inputs of kinks whose values repeat, ``dependent`` the inputs that are linear in others on the rows; ``aside`` the
    rows that no fit has met, while it met all others.
    """

    weights: int
    numbers: int
    fitted: int
    rows: int
    wrong: int
    error: float
    rounding: float
    inside: float
    rest: bool
    cut: bool
    least: float
    gridded: int = 0
    dependent: int = 0
    aside: int = 0

    @property
    def state(self) -> Mapping[str, Any]:
        """As plain values."""
        return asdict(self)

    def certificate(self, source: str) -> Certificate:
        """The claim that the network is the one behind the labels, whose value is ``error``."""
        bound = min(1.0, math.log(1 / DELTA) / self.rows) if self.rows else 1.0
        known = bound < 1
        claim = (
            f"the network is the one behind the labels: it differs on less than {100 * bound:.2g}% of the inputs, with "
            f"{100 * (1 - DELTA):g}% confidence"
        )
        premises = (self._met(), self._enough(), self._at_rest(), self._uncut(), self._clear(), self._told_apart())
        return Certificate(claim, self.error, "sd of the labels, on rows kept apart", premises, not known, source)

    def _met(self) -> Assumption:
        words = (
            f"{self.wrong} of {self.rows} rows differ by more than {ROUNDINGS:g} roundings; error {self.error:.3g} sd "
            f"of the labels ({_decibel(self.error)}), {self.inside:.3g} on rows fitted, rounding {self.rounding:.2g}"
        )
        if self.wrong:
            words += (
                "; noise, or a part that the search did not find or the budget does not allow: these rows cannot tell"
            )
        if self.aside:
            words += (
                f"; {self.aside} of the fitted rows are not met while all others are: they lie beyond kinks that so "
                "few rows do not decide, or their labels are wrong"
            )
        state = "checked" if self.wrong == self.aside == 0 and self.rows > 0 else "violated"
        return Assumption("rows kept apart are met to rounding", state, words)

    def _enough(self) -> Assumption:
        words = f"{self.fitted} labels for {self.numbers} numbers"
        return Assumption("labels outnumber what is fitted", _checked(self.fitted >= 2 * self.numbers), words)

    def _at_rest(self) -> Assumption:
        words = (
            "no weight below and no candidate above its threshold" if self.rest else "the search used all its cycles"
        )
        return Assumption("nothing is left to add, drop, split or merge", _checked(self.rest), words)

    def _uncut(self) -> Assumption:
        words = f"{self.weights} nonzeros" + (", after the budget took some that the data ask for" if self.cut else "")
        return Assumption("the budget holds the whole network", _checked(not self.cut), words)

    def _clear(self) -> Assumption:
        words = f"least |t| = {self.least:.3g}"
        words += "" if self.least > CLEAR else ": the rows leave weights undecided, as dependent columns do"
        return Assumption("every weight stands clear of zero", _checked(self.least > CLEAR), words)

    def _told_apart(self) -> Assumption:
        words = [f"{self.gridded} inputs of kinks take the same values again and again"]
        words[0] += ": on a grid, as of pixels, different networks can be one function" if self.gridded else ""
        words += [f"{self.dependent} inputs are linear in the others on the rows"]
        words[1] += ": leave them out, since weights can move between them" if self.dependent else ""
        known = self.gridded == 0 and self.dependent == 0
        return Assumption("the inputs tell networks apart", _checked(known), "; ".join(words))


def _checked(good: bool) -> str:
    return "checked" if good else "violated"


def _decibel(error: float) -> str:
    return f"{-20 * math.log10(max(error, 1e-17)):.0f} dB below it"


def gridded(weight: Float[Tensor, "k inputs"], x: Rows) -> int:
    """Inputs that are read and on which, one frequent value apart, more than a tenth of the rows repeat a value."""
    read = (weight != 0).any(0).nonzero()[:, 0].tolist()
    rows = np.asarray(x[:MOST_APART]) if read else np.zeros((0, 0))
    repeats = 0
    for i in read:
        counts = np.unique(rows[:, i], return_counts=True)[1]
        rest = len(rows) - int(counts.max())
        repeats += len(counts) == 1 or len(counts) - 1 < 0.9 * rest or rest < 0.01 * len(rows)
    return repeats


def dependent(weight: Float[Tensor, "k inputs"], x: Rows) -> int:
    """Inputs less the rank of their correlation matrix; constant ones count where they are read."""
    rows = np.asarray(x[: max(MOST_APART, 4 * x.shape[1])], dtype=np.float64)
    rows = rows - rows.mean(axis=0)
    size = np.linalg.norm(rows, axis=0)
    moving = size > 1e-12 * max(1.0, float(size.max(initial=0.0)))
    unit = rows[:, moving] / size[moving]
    rank = int((np.linalg.eigvalsh(unit.T @ unit) > DEPENDENT).sum()) if moving.any() else 0
    read = (weight != 0).any(0).cpu().numpy()
    return int(moving.sum()) - rank + int((read & ~moving).sum())


def compared(error: np.ndarray, labels: np.ndarray, sd: np.ndarray) -> dict[str, Any]:
    """What evidence says of rows kept apart, from ``error`` and ``labels`` (h, outs), in units of ``sd`` (outs,)."""
    fine = rounding(labels)
    level = np.sqrt((fine**2).mean(axis=0)) if len(labels) else np.zeros(labels.shape[1])
    level = np.maximum(level, math.sqrt(ROUNDING) * sd)
    wrong = (np.abs(error) > ROUNDINGS * np.maximum(fine, level)).any(axis=1)
    return {
        "rows": len(labels),
        "wrong": int(wrong.sum()),
        "error": _mean_square(error / sd),
        "rounding": _mean_square(np.broadcast_to(level / sd, error.shape)),
    }


def weigh(
    found: Found,
    held: Sample,
    labels: np.ndarray,
    x: Rows,
    *,
    fitted: int,
    inside: float,
    least: float,
    rest: bool,
    cut: bool,
    aside: int,
) -> Evidence:
    """Compare ``found`` with ``labels`` (h, outs), those of the rows ``held``, as they were given.

    ``fitted`` labels of rows ``x`` were fitted to the error ``inside``; ``least``, ``rest``, ``cut`` and ``aside`` are
    those of the evidence.
    """
    sd = labels.std(axis=0) if len(labels) else np.ones(labels.shape[1])
    sd = np.where(sd > 0, sd, 1.0)  # an output without neurons
    parts = [found(x).cpu().numpy() for x, _ in held.blocks()]
    error = np.concatenate(parts) - labels if parts else np.zeros_like(labels)
    scalar = labels.shape[1] == 1
    weights = int(torch.count_nonzero(found.weight[:, :-1])) if scalar else found.nonzeros
    biases = int(torch.count_nonzero(found.weight[:, -1]))
    return Evidence(
        weights=weights,
        numbers=weights + biases + int(torch.count_nonzero(found.affine)),
        fitted=fitted,
        **compared(error, labels, sd),
        inside=inside,
        rest=rest,
        cut=cut,
        least=least,
        gridded=gridded(found.weight[:, :-1], x),
        dependent=dependent(found.weight[:, :-1], x),
        aside=aside,
    )


def _mean_square(values: np.ndarray) -> float:
    return math.sqrt(float((values**2).mean())) if values.size else 0.0
