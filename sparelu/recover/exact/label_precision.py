"""How finely labels are written: measured from their values, whatever type they come in.

Numbers of float16, float32 or so many decimals lie on a lattice, and still do after an offset or a scale was applied
in a finer type. Its step differs from power of two to power of two, so it is measured among neighbours in size.
"""

import math

import numpy as np

WINDOW = 16
"""Neighbouring differences that share one step: all of them must be whole multiples of it. Fewer tell nothing."""
PROBES = 64
"""Windows that are tried first: where none of them has a step, no other has."""
WHOLE = 0.02
"""How far a multiple may be from a whole number: by chance all of a window are with probability 0.04^16."""


def label_rounding(y: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the rounding of every label of ``y`` (n,) or (n, outs): step / sqrt 12."""
    if y.ndim == 2:
        return np.column_stack([label_rounding(column) for column in y.T]) if y.size else np.zeros(y.shape)
    for kind in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            short = y.astype(kind)
        if np.array_equal(short, y):
            return np.spacing(np.abs(short)).astype(np.float64) / math.sqrt(12)
    values, where = np.unique(y, return_inverse=True)
    fine, gaps = np.spacing(np.abs(values)), np.diff(values)
    step, starts = fine.copy(), range(0, len(gaps) if len(gaps) >= WINDOW else 0, WINDOW)
    some = starts[:: max(1, len(starts) // PROBES)]
    for start in starts if any(_step_at(i, gaps, fine) for i in some) else ():
        own = slice(start, start + WINDOW + 1)
        step[own] = np.maximum(step[own], _step_at(start, gaps, fine))
    return step[where].reshape(-1) / math.sqrt(12)


def _step_at(start: int, gaps: np.ndarray, fine: np.ndarray) -> float:
    """Return the common step of the window from ``start``; 0 where there is none."""
    first = max(0, min(start, len(gaps) - WINDOW))
    exact = 2 * float(fine[start : start + WINDOW + 1].max())
    return _common_step(gaps[first : start + WINDOW], exact)


def _common_step(gaps: np.ndarray, exact: float) -> float:
    """Return the largest number of which all ``gaps``, known to ``exact`` each, are multiples; 0 where there is none.

    A step and a gap that is no multiple of it have a fraction p / q as their ratio; the step is then a q-th as long.
    """
    step = float(gaps.min(initial=math.inf))
    for _ in range(len(gaps)):
        multiples = gaps / step
        allowed = exact * (1 + multiples) / step
        if not step < math.inf or float(allowed.max()) > WHOLE:
            return 0.0
        off = np.abs(multiples - np.round(multiples)) > allowed
        if not off.any():
            return step
        at = int(off.argmax())
        step /= _denominator(float(multiples[at]), float(allowed[at]))
    return 0.0


def _denominator(ratio: float, tolerance: float) -> int:
    """Return the denominator of the first convergent of ``ratio`` that is within ``tolerance``."""
    before, denominator, rest = 0, 1, ratio - math.floor(ratio)
    whole, numerator, last = math.floor(ratio), math.floor(ratio), 1
    while abs(ratio - numerator / denominator) > tolerance:
        rest = 1 / rest
        whole = math.floor(rest)
        rest -= whole
        before, denominator = denominator, whole * denominator + before
        last, numerator = numerator, whole * numerator + last
    return denominator
