"""Every threshold of exact recovery: what rounding is, what noise explains, and how much memory is taken.

Errors are relative to the variance of the labels. A decision is one of two: a number is noise when its squared t
statistic is below :func:`universal_threshold`, and a change of the support is kept when it lowers :func:`criterion`.
"""

import math

ROUNDING = 1e-24
"""Mean squared error that float64 may leave: some 1e4 roundings of 1e-16, squared. No test looks below it."""
NOISELESS = 1e-12
"""Mean squared error below which labels are exact, if only in float32: its roundings leave 1e-15."""
ROUNDED = 144.0
"""Squared t statistic that rounding does not explain; it depends on the inputs, so it is no noise. That of a planted
weight is 1e13 there, so any number between serves."""
ROUNDED_ERROR = 8.0
"""Standard deviations of a mean square within which an error is the rounding of the labels."""
RISE = 60.0
"""Rise of the error, in units of 1 / sqrt(n), up to which another form of a network explains the rows as well."""
CONVERGED = 1e-3
"""Relative gain of a step at which its error is that of least squares, for the test of a drop."""
MERGE = 30.0
"""Hinges are one when joining them costs less than this many mse / n, about the threshold of one number."""
SMALL_ANGLE = 0.99
"""|cos| above which the leading order in the angle of two hinges says what joining them costs."""
RESOLVED = 1e-6
"""Share of a column outside the span of others below which a float32 sum does not tell it from rounding."""
MEMORY = 72e6
"""Bytes of a Gram matrix that is held; beyond (3000 columns) products with it are streamed over the rows."""


def universal_threshold(candidates: int, mse: float) -> float:
    """Return the squared t statistic that noise rarely reaches among so many candidates.

    The largest of N squared standard normals is about 2 log N (Donoho and Johnstone 1994; Foster and George 1994); it
    exceeds 2 log N + 6 with probability below exp(-3) / sqrt(pi log N): one search in a hundred adds a number in vain.
    Where labels are exact (``mse`` below ``NOISELESS``) their rounding, which is no noise, asks for ``ROUNDED``.
    """
    noise = 2 * math.log(candidates) + 6
    return max(noise, ROUNDED) if mse < NOISELESS else noise
