"""Where a piecewise linear function of one variable bends, by bisection that asks little.

An interval is straight when a point near each end and one at random lie on the chord. It has one kink when the lines
through its two ends meet inside and the function follows both, up to points that are as near to the meeting point as
noise allows: where two kinks lie close together, the lines around them meet between them or beside them, and there the
function follows one line where it should follow the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from sparelu.oracle import OracleError

SURE = 12.0
"""Standard deviations that noise does not reach."""
CLEAR = 10.0
"""How many times what noise explains two lines differ at the places that are asked next to where they meet."""
NEAR = 0.05
"""Distance of the inner points from the ends of an interval, relative to its width."""
FAR = 0.3
"""Relative distance beyond which an inner point of a parent no longer serves the child."""
FIRST = 8
"""Intervals at the start; they are of equal angle, as the kinks of random hyperplanes are."""
TAIL = 1e-3
"""Angle left out at each end: the share of the hyperplanes that a line misses is 2 TAIL / pi."""

Values = Callable[[np.ndarray], np.ndarray]
"""Of places t (n,): values, or their standard deviations, (n, outputs)."""


class TooManyKinks(OracleError):
    """A line bends more often than the width allows."""


@dataclass
class _Interval:
    low: float
    high: float
    low_inner: float | None = None
    high_inner: float | None = None


@dataclass(frozen=True, eq=False)
class LineKinks:
    """Places in order, and by how much the slope of each output turns there, with its standard deviation."""

    place: Float[np.ndarray, " k"]
    turn: Float[np.ndarray, "k outputs"]
    error: Float[np.ndarray, "k outputs"]

    def __len__(self) -> int:
        return len(self.place)

    def take(self, which: np.ndarray) -> "LineKinks":
        """Return the named kinks alone."""
        return LineKinks(self.place[which], self.turn[which], self.error[which])


@dataclass
class KinkSearch:
    """Find all kinks of ``values`` whose noise is ``noise``, on the line of angles t = ``scale`` tan(angle).

    Raises :class:`TooManyKinks` beyond ``most``.
    """

    values: Values
    noise: Values
    scale: float
    most: int
    rng: np.random.Generator
    known: dict[float, np.ndarray] = field(default_factory=dict)
    found: list[float] = field(default_factory=list)

    def run(self) -> LineKinks:
        """Return all kinks."""
        ends = self.scale * np.tan(np.linspace(-np.pi / 2 + TAIL, np.pi / 2 - TAIL, FIRST + 1))
        self._ask(ends)
        intervals = [_Interval(a, b) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
        while intervals:
            if len(self.found) + len(intervals) > 4 * self.most + 8 * FIRST:
                raise TooManyKinks(
                    f"it bends at {len(self.found)} places of a line and in {len(intervals)} intervals more, where a "
                    f"hidden layer of {self.most} bends at most {self.most} times: raise `hidden`, name all hidden "
                    "layers, or ask for values before anything that is not piecewise linear"
                )
            intervals = self._halved(self._without_single_kinks(self._bent(intervals)))
        return self._fitted()

    def _ask(self, places: np.ndarray) -> None:
        for t, y in zip(places.tolist(), self.values(places), strict=True):
            self.known[t] = y

    def _middle(self, low: float, high: float) -> float:
        a, b = np.arctan(low / self.scale), np.arctan(high / self.scale)
        return float(self.scale * np.tan(a + (b - a) * self.rng.uniform(0.4, 0.6)))

    def _bent(self, intervals: list[_Interval]) -> list[tuple[_Interval, float]]:
        """Return the intervals that are not straight, each with a point inside that was asked."""
        middles = []
        for i in intervals:
            width = i.high - i.low
            if i.low_inner is None or i.low_inner - i.low > FAR * width:
                i.low_inner = i.low + NEAR * width
            if i.high_inner is None or i.high - i.high_inner > FAR * width:
                i.high_inner = i.high - NEAR * width
            middles.append(self._middle(i.low, i.high))
        asked = [t for i, m in zip(intervals, middles, strict=True) for t in (i.low_inner, i.high_inner, m)]
        self._ask(np.array([t for t in asked if t is not None and t not in self.known]))
        pairs = zip(intervals, middles, strict=True)
        return [(i, m) for i, m in pairs if not self._straight(i.low, i.high, (i.low_inner, m, i.high_inner))]

    def _straight(self, a: float, b: float, places: tuple[float | None, ...]) -> bool:
        """Tell whether the function at ``places`` lies on its line through ``a`` and ``b``."""
        t = np.array([p for p in places if p is not None])
        y = np.array([self.known[p] for p in t.tolist()])
        slope = (self.known[b] - self.known[a]) / (b - a)
        line = self.known[a] + (t - a)[:, None] * slope
        stretch = 1 + 2 * np.abs(t - a)[:, None] / abs(b - a)
        return bool((np.abs(y - line) <= SURE * stretch * self.noise(t)).all())

    def _without_single_kinks(self, bent: list[tuple[_Interval, float]]) -> list[tuple[_Interval, float]]:
        """Note the kink of every interval that has one only; return the others."""
        trials = [(i, m, self._meeting(i)) for i, m in bent]
        tests = {t: self._tests(i, t) for i, _, t in trials if t is not None}
        self._ask(np.array([p for three in tests.values() for p in three]))
        rest = []
        for i, m, t in trials:
            if t is not None and self._follows(i, m, t, tests[t]):
                self.found.append(t)
            else:
                rest.append((i, m))
        return rest

    def _tests(self, i: _Interval, t: float) -> tuple[float, float, float]:
        """Choose places just before and just after ``t``, and one anywhere on the longer side."""
        assert i.low_inner is not None
        assert i.high_inner is not None
        f = self.known
        left = (f[i.low_inner] - f[i.low]) / (i.low_inner - i.low)
        right = (f[i.high] - f[i.high_inner]) / (i.high - i.high_inner)
        stretch = 2 + 2 * max((t - i.low) / (i.low_inner - i.low), (i.high - t) / (i.high - i.high_inner))
        level = float((np.abs(right - left) / self.noise(np.array([t]))[0]).max())
        room = 0.25 * min(t - i.low, i.high - t)
        near = min(room, max(CLEAR * SURE * stretch / level, 1e-12 * (abs(t) + self.scale)))
        far = (i.low, t - near) if t - i.low > i.high - t else (t + near, i.high)
        return t - near, t + near, float(self.rng.uniform(*far))

    def _meeting(self, i: _Interval) -> float | None:
        """Find where the lines through both ends meet, when that is inside."""
        assert i.low_inner is not None
        assert i.high_inner is not None
        f = self.known
        left = (f[i.low_inner] - f[i.low]) / (i.low_inner - i.low)
        right = (f[i.high] - f[i.high_inner]) / (i.high - i.high_inner)
        weight = self.noise(np.array([0.5 * (i.low + i.high)]))[0]
        turn, gap = (left - right) / weight, (f[i.high] - f[i.low] - right * (i.high - i.low)) / weight
        if not turn.any():
            return None
        t = i.low + float(turn @ gap / (turn @ turn))
        return t if i.low_inner < t < i.high_inner and t not in f else None

    def _follows(self, i: _Interval, m: float, t: float, tests: tuple[float, float, float]) -> bool:
        """Tell whether the function is the left line before ``t`` and the right line after it."""
        assert i.low_inner is not None
        assert i.high_inner is not None
        places = (*tests, m)
        left = self._straight(i.low, i.low_inner, tuple(p for p in places if p < t))
        return left and self._straight(i.high, i.high_inner, tuple(p for p in places if p > t))

    def _halved(self, rest: list[tuple[_Interval, float]]) -> list[_Interval]:
        halves = []
        for i, m in rest:
            if i.high - i.low < 1e-13 * max(abs(i.low), abs(i.high), self.scale):
                self.found.append(m)
                continue
            low_inner = i.low_inner if i.low_inner is not None and i.low_inner < m else None
            high_inner = i.high_inner if i.high_inner is not None and i.high_inner > m else None
            halves += [_Interval(i.low, m, low_inner), _Interval(m, i.high, None, high_inner)]
        return halves

    def _fitted(self) -> LineKinks:
        """Fit each piece to all that was asked on it; kinks that turn less than noise does are not kept."""
        kinks = np.sort(np.array(self.found))
        t = np.array(sorted(set(self.known) - set(self.found)))
        y, noise = np.array([self.known[p] for p in t.tolist()]), self.noise(t)
        while True:
            lines = [_line(t[g], y[g], noise[g]) for g in _groups(t, kinks)]
            turn = np.diff(np.array([line.slope for line in lines]), axis=0)
            error = np.array([line.error for line in lines])
            error = np.hypot(error[1:], error[:-1])
            real = (np.abs(turn) > SURE * error).any(axis=1)
            if real.all():
                meeting = [_meet(*p) for p in zip(lines, lines[1:], kinks.tolist(), strict=False)]
                return LineKinks(np.array(meeting), turn, error)
            kinks = kinks[real]


@dataclass(frozen=True, eq=False)
class _Line:
    """A fitted line: its slope with standard deviation ``error``, and its value ``mean`` at ``place``."""

    slope: np.ndarray
    error: np.ndarray
    place: np.ndarray
    mean: np.ndarray

    def at(self, t: float) -> np.ndarray:
        value: np.ndarray = self.mean + (t - self.place) * self.slope
        return value


def _meet(left: _Line, right: _Line, near: float) -> float:
    """Find where two lines meet, all outputs weighed by their errors, reckoned from ``near``."""
    weight = 1 / np.hypot(left.error, right.error)
    turn, gap = (right.slope - left.slope) * weight, (left.at(near) - right.at(near)) * weight
    return near + float(turn @ gap / (turn @ turn))


def _groups(t: np.ndarray, kinks: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the places of each piece."""
    return np.split(np.arange(len(t)), np.searchsorted(t, kinks))


def _line(t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> _Line:
    """Fit a line by weighted least squares."""
    if len(t) < 2:  # two kinks with at most one place asked between them
        flat = np.zeros(noise.shape[1])
        return _Line(flat, flat + np.inf, flat, flat)
    w = 1 / noise**2
    total = w.sum(0)
    place, mean = (w * t[:, None]).sum(0) / total, (w * y).sum(0) / total
    gap = t[:, None] - place
    spread = (w * gap**2).sum(0)
    return _Line((w * gap * (y - mean)).sum(0) / spread, 1 / np.sqrt(spread), place, mean)
