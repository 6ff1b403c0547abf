"""Networks without an affine part through points on a line."""

import numpy as np

from sparelu.interpolate.curves.interpolant import interpolate
from sparelu.interpolate.points.backward import Shallow


def start_on_a_line(x: np.ndarray, y: np.ndarray) -> Shallow:
    """Build, for one input x (n,), a neuron for each knot of the sparsest interpolant, and one or two for its affine
    part.

    Knots up to one of them look left, the others right, so that the affine part is the line of the piece between
    them; the piece is taken that leaves the fewest weights. A line of one sign over the points is one neuron.
    """
    found = interpolate(x, y)
    slopes = found.points.slopes[found.pieces]
    heights = found.points.y[found.pieces] - slopes * found.points.x[found.pieces]
    size, sign = np.abs(found.changes), np.sign(found.changes)
    nets = []
    for piece, (slope, height) in enumerate(zip(slopes, heights, strict=True)):
        look = np.where(np.arange(size.size) < piece, -1.0, 1.0)
        hinges = (size * look)[:, None] * np.column_stack([np.ones(size.size), -found.knots])
        ends = slope * np.array([x.min(), x.max()]) + height
        signs = np.array([1.0] if (ends >= 0).all() else [-1.0] if (ends <= 0).all() else [1.0, -1.0])
        nu = np.vstack([hinges, signs[:, None] * np.array([slope, height])])
        nets.append(Shallow(nu, np.concatenate([sign, signs]), nu != 0))
    return min(nets, key=lambda net: net.nonzeros)
