"""What tells an exact recovery from the best network found.

Some rows are kept apart from every fit. If the network gives the labels of all h of them to rounding, then with
probability 1 - delta it differs from the function behind the labels on a share of inputs below log(1 / delta) / h: the
chance that h independent rows miss a set of that share is (1 - share)^h < delta. That is so of any function that was
found on other rows; that it is the *network* takes the other premises. Noise hides the same question: a support found
through it is the one that explains the rows best, and is not called exact.

The network is judged as it is delivered, on raw rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sparelu.data import Rows
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate
from sparelu.recover.exact.coverage import distinct_share, uncovered_hinges
from sparelu.recover.exact.inputs import InputColumns
from sparelu.recover.exact.label_precision import label_rounding
from sparelu.recover.exact.model.tolerances import ROUNDING

DELTA = 0.01
LEVEL = 4.75
"""Standard deviations of a mean square above its expectation: rounding alone is as large with probability 1e-6."""
CLEAR = 100.0
"""|t| of a weight that neither noise nor rounding explains."""
UNSEEN = 12.0
"""|t| below which a weight can go unnoticed, the root of the search's threshold for exact labels."""
RESOLVED = 1e-5
"""Share of the median weight above which no weight can go unnoticed where a network is called exact."""
MOST_APART = 5000
NAMED = 100
"""Rows that are named, at most."""


def rows_kept_apart(n: int) -> int:
    """Return how many of ``n`` rows are kept apart: a tenth, at most ``MOST_APART``."""
    return min(n // 10, MOST_APART)


@dataclass(frozen=True)
class SearchFacts:
    """What a search knows beside its network.

    ``fitted`` labels were met to the error ``inside``, ``affine`` is that of the affine function alone, both in sd of
    the labels; ``t`` are |t| of all weights; ``at_rest`` says whether nothing was left to do, ``cut`` whether the
    budget took weights that the data ask for; ``excluded`` are rows that no fit has met, while it met all others;
    ``open_signs`` are neurons whose orientation is not unique, ``free_signs`` those that can be turned with the linear
    part.
    """

    fitted: int
    inside: float
    affine: float
    t: Float[np.ndarray, " p"]
    at_rest: bool
    cut: bool
    excluded: Sequence[int] = ()
    open_signs: Sequence[int] = ()
    free_signs: Sequence[int] = ()


@dataclass(frozen=True)
class Evidence:
    """The claim that a network is the one behind the labels: its error on rows kept apart, and the premises."""

    claim: str
    value: float
    vacuous: bool
    premises: tuple[tuple[str, str, str], ...] = field(default_factory=tuple)

    @property
    def state(self) -> Mapping[str, Any]:
        """Return the evidence as plain values."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Evidence":
        """Return the evidence of :attr:`state`."""
        premises = tuple((p[0], p[1], p[2]) for p in state["premises"])
        return cls(state["claim"], state["value"], state["vacuous"], premises)

    def certificate(self, source: str) -> Certificate:
        """Return it as a certificate; its value is the error in sd of the labels."""
        premises = tuple(Assumption(*premise) for premise in self.premises)
        unit = "sd of the labels, on rows kept apart"
        return Certificate(self.claim, self.value, unit, premises, self.vacuous, source)


def weigh(
    network: Network,
    apart: tuple[Float[np.ndarray, "h d"], Float[np.ndarray, "h outs"]],
    fitted: Rows,
    columns: InputColumns,
    facts: SearchFacts,
) -> Evidence:
    """Judge ``network`` on raw rows and labels kept ``apart``, and the raw rows ``fitted``."""
    x, y = np.asarray(apart[0], dtype=np.float64), apart[1]
    read = network.used_inputs.cpu().numpy()
    alone, distinct = distinct_share(x[:, read], _Read(fitted, read))
    rows = math.floor(alone * len(y))
    error, met = _met(network, x, y, facts)
    bound = min(1.0, math.log(1 / DELTA) / rows) if rows else 1.0
    claim = (
        f"the network, in canonical form, is the one behind the labels: it differs on less than {100 * bound:.2g}% of "
        f"the inputs by more than the rounding of the labels, with {100 * (1 - DELTA):g}% confidence, and lacks no "
        f"weight above {RESOLVED:g} of the median"
    )
    premises = (
        met,
        _enough(network, facts, distinct, rows, bound),
        _at_rest(facts),
        _uncut(network, facts),
        _clear(facts),
        _covered(network, fitted),
        _told_apart(network, fitted, columns),
        _oriented(facts),
    )
    return Evidence(claim, error, bound >= 1, premises)


@dataclass(frozen=True, eq=False)
class _Read:
    """The columns of rows that a network reads."""

    source: Rows
    read: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0], len(self.read))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.source[rows], dtype=np.float64)[:, self.read]


def _premise(text: str, good: bool, words: str) -> tuple[str, str, str]:
    return text, "checked" if good else "violated", words


def _met(network: Network, x: np.ndarray, y: np.ndarray, facts: SearchFacts) -> tuple[float, tuple[str, str, str]]:
    """Compare the mean square of the error with that of rounding, output by output.

    The rounding of a label is uniform: its mean square over rows of steps q_i has mean sum q_i^2 / 12 n and variance
    4 / 5 sum (q_i^2 / 12)^2 / n^2. The numbers fitted add their share; arithmetic adds eps times the sizes of terms.
    """
    sd = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0) if len(y) else np.ones(y.shape[1])
    error = network.to(torch.float64)(x).cpu().numpy() - y
    fine = label_rounding(y) ** 2
    size = np.finfo(np.float64).eps * _sizes(network, x)
    floor = (size**2).mean(axis=0) + ROUNDING * sd**2 if len(y) else ROUNDING * sd**2
    numbers = network.nonzeros + network.biases + network.skip_nonzeros
    level = fine.mean(axis=0) * (1 + numbers / max(1, facts.fitted)) if len(y) else floor
    spread = np.sqrt(0.8 * (fine**2).sum(axis=0)) / max(1, len(y))
    allowed = level + LEVEL * spread + floor
    square = (error**2).mean(axis=0) if len(y) else np.full(y.shape[1], np.inf)
    worst = int((square / allowed).argmax())
    relative = math.sqrt(float((square / sd**2).mean())) if len(y) else 0.0
    times, most = (math.sqrt(float((v / (level + floor))[worst])) for v in (square, allowed))
    words = (
        f"error {relative:.3g} sd of the labels ({_decibel(relative)}) on {len(y)} rows, {times:.3g} times their "
        f"rounding, where {most:.3g} is allowed; {facts.inside:.3g} on rows fitted; of an affine function "
        f"{facts.affine:.3g}"
    )
    good = bool((square <= allowed).all()) and len(y) > 0
    if not good:
        words += (
            "; noise, or a part that the search did not find, the budget does not allow or no network has: these rows "
            "cannot tell; labels without noise or more rows would"
        )
    if len(facts.excluded):
        shown = ", ".join(map(str, facts.excluded[:NAMED])) + (", ..." if len(facts.excluded) > NAMED else "")
        words += (
            f"; {len(facts.excluded)} of the fitted rows are not met as the others are: their labels are wrong, "
            f"or they lie beyond hinges that so few rows do not decide: rows {shown} (counted from 0)"
        )
    return relative, _premise("rows kept apart are met to rounding", good and not len(facts.excluded), words)


def _sizes(network: Network, x: np.ndarray) -> np.ndarray:
    """Return the sum of the sizes of all terms of every output (h, outs), the scale of its arithmetic."""
    size = np.abs(x)
    for layer in network.layers:
        size = size @ np.abs(layer.dense().double().cpu().numpy()).T + np.abs(layer.dense_bias().cpu().numpy())
    if network.skip is not None:
        size = size + np.abs(x) @ np.abs(network.skip.dense().double().cpu().numpy()).T
    return size


def _enough(network: Network, facts: SearchFacts, distinct: float, rows: int, bound: float) -> tuple[str, str, str]:
    numbers = network.nonzeros + network.biases + network.skip_nonzeros
    labels = facts.fitted * distinct
    words = f"{facts.fitted} labels for {numbers} numbers"
    if distinct < 1:
        words += f"; rows that are copies of others, exactly or nearly, count once: some {labels:.0f} labels are left"
    words += f"; {rows} rows kept apart are no copy of a fitted row" + (
        "" if bound < 1 else ": too few to say anything"
    )
    return _premise("labels outnumber what is fitted", labels >= 2 * numbers and bound < 1, words)


def _at_rest(facts: SearchFacts) -> tuple[str, str, str]:
    words = "no weight below and no candidate above its threshold"
    words = words if facts.at_rest else "the search used all its cycles: more cycles may go on"
    return _premise("nothing is left to add, drop, split or merge", facts.at_rest, words)


def _uncut(network: Network, facts: SearchFacts) -> tuple[str, str, str]:
    words = f"{network.nonzeros} nonzeros" + (", after the budget took some that the data ask for" if facts.cut else "")
    return _premise("the budget holds the whole network", not facts.cut, words)


def _clear(facts: SearchFacts) -> tuple[str, str, str]:
    """Check that weights are far from zero, and labels so fine that a weight not seen is nothing beside them."""
    least = float(facts.t.min(initial=math.inf))
    typical = float(np.median(facts.t)) if len(facts.t) else math.sqrt(facts.fitted) / max(facts.inside, 1e-300)
    hidden = UNSEEN / max(typical, 1e-300)
    words = f"least |t| = {least:.3g}"
    words += "" if least > CLEAR else ": the rows leave weights undecided, as dependent columns do"
    words += f"; a weight is seen from {hidden:.2g} of the median weight on"
    if hidden > RESOLVED:
        words += (
            f": {RESOLVED:g} is wanted, for which labels need {hidden / RESOLVED:.2g} times finer digits, or that "
            "squared times the rows"
        )
    return _premise("every weight stands clear of zero", least > CLEAR and hidden <= RESOLVED, words)


def _covered(network: Network, x: Rows) -> tuple[str, str, str]:
    """Check hinges of the first layer; those of a second bend with the first, and rows are not sorted along them."""
    hidden = network.layers[0].to(torch.float64, "cpu")
    open_ = uncovered_hinges(hidden.dense().numpy(), hidden.dense_bias().numpy(), x)
    words = "; ".join(open_) or "rows lie beyond, between and close to all hinges"
    return _premise("rows decide where the hinges are", not open_, words)


def _told_apart(network: Network, x: Rows, columns: InputColumns) -> tuple[str, str, str]:
    read = network.used_inputs.cpu().numpy()
    tied = [int(i) for i in read if columns.tied[i]]
    words = []
    if tied:
        words.append(
            f"inputs {', '.join(map(str, tied[:5]))}{', ...' if len(tied) > 5 else ''} are read and are affine in "
            f"others on the rows ({columns.words(tied)}): weights that move between them are the same function; leave "
            "some out"
        )
    if network.skip is not None:
        words += _two_valued(network.skip, x)
    found = "; ".join(words) or "no input that is read is tied to others"
    return _premise("the inputs tell networks apart", not words, found)


def _two_valued(skip: Layer, x: Rows) -> list[str]:
    """List inputs of the linear part that take two values, on which a neuron of that input alone is linear too."""
    at = torch.unique(skip.indices).cpu().numpy()
    if not len(at) or not x.shape[0]:
        return []
    first = np.asarray(x[:1], dtype=np.float64)[0, at]
    other, two = np.full(len(at), np.nan), np.ones(len(at), dtype=bool)
    for start in range(0, x.shape[0], 65536):
        part = np.asarray(x[start : start + 65536], dtype=np.float64)[:, at]
        differs = part != first
        fresh = np.where(differs.any(axis=0), part[differs.argmax(axis=0), np.arange(len(at))], np.nan)
        other = np.where(np.isnan(other), fresh, other)
        two &= ((part == first) | (part == other)).all(axis=0)
        if not two.any():
            return []
    names = ", ".join(str(i) for i in at[two][:5])
    return [
        f"inputs {names} take two values and are in the linear part: a neuron of that input alone is the same function"
    ]


def _oriented(facts: SearchFacts) -> tuple[str, str, str]:
    words = "one choice of sides explains the affine part"
    if len(facts.free_signs):
        words += (
            f"; {len(facts.free_signs)} neurons can be turned, with the linear part changed, for the same function "
            f"everywhere: the canonical form has them as they are"
        )
    if len(facts.open_signs):
        shown = ", ".join(map(str, facts.open_signs[:5])) + (", ..." if len(facts.open_signs) > 5 else "")
        words = (
            f"neurons {shown} can be turned together: other sides explain the affine part as well, or too many to try"
        )
    return _premise("the side on which each neuron is active is unique", not len(facts.open_signs), words)


def _decibel(error: float) -> str:
    return f"{-20 * math.log10(max(error, 1e-17)):.0f} dB below it"
