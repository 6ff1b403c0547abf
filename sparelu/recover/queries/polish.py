"""KnownHinges read a second time, where nothing else bends, at steps as long as that allows."""

import math
from dataclasses import replace

import numpy as np

from sparelu.recover.queries.hinges import KnownHinges
from sparelu.recover.queries.jumps import STEP, Jump, Side, measure_inputs
from sparelu.recover.queries.line import FAR_OUT, Residual, projected

CANDIDATES = 64
"""Places on a hyperplane, at each distance, of which the one farthest from all others is taken."""
DISTANCES = (1.0, FAR_OUT, 30.0, 1000.0)
"""How far out they lie: nearly parallel hyperplanes are far apart far out."""
SPARSE = 0.25
"""Share of the inputs below which reading a hinge again costs little."""
TINY = float(np.finfo(np.float64).tiny)


def read_again(residual: Residual, precision: float, rng: np.random.Generator) -> KnownHinges:
    """Return the known hinges, each placed anew from answers beside its hyperplane, and read anew there where it is
    sparse or its error is above ``precision``.

    All that is asked of one hinge lies on one side of every other, so that their errors cancel in differences.
    """
    known = residual.known
    for j in range(len(known)):
        normal = known.normal[j]
        if known.error[j] > precision or np.count_nonzero(normal) < SPARSE * len(normal):
            jump = _beside(residual, known, j, _clear_place(known, j, residual, DISTANCES, rng))
            row = measure_inputs(jump, np.flatnonzero(normal), STEP)
            error = float(row.error.max()) / float(np.abs(row.values).max(initial=TINY))
            if row.values.any() and error < known.error[j]:
                place = jump.sides[0].start + jump.sides[1].start
                known = _replaced(known, j, row.values, -float(row.values @ place) / 2, error)
        known = _placed(residual, known, j, rng)
    return known


def _placed(residual: Residual, known: KnownHinges, j: int, rng: np.random.Generator) -> KnownHinges:
    """Find the offset of hinge ``j`` from its values near the origin, where the error of its normal counts least."""
    jump = _beside(residual, known, j, _clear_place(known, j, residual, DISTANCES[:1], rng))
    near, far = jump.sides
    width = far.start - near.start
    # beyond the kink: value = line of the near side, on by the width, + normal . x + offset
    line = 2 * jump.value(0) - float(jump.values(near.start[None] - width)[0])
    offset = jump.value(1) - line - float(known.normal[j] @ far.start)
    return _replaced(known, j, known.normal[j], offset, float(known.error[j]))


def _beside(residual: Residual, known: KnownHinges, j: int, spot: tuple[np.ndarray, float]) -> Jump:
    """Return the jump of the residual without hinge ``j`` across its hyperplane, at a place and within its clearance:
    both sides and the steps from them stay on one side of all others, and the line before reaches no other either."""
    place, clear = spot
    normal, out = known.normal[j], known.out[j]
    beside = clear / 4 * normal / np.linalg.norm(normal)
    step = clear / 4 / (STEP * math.sqrt(max(int(np.count_nonzero(normal)), 1)))
    rest = replace(residual, known=known.take(np.arange(len(known)) != j))
    sides = Side(place - beside, step), Side(place + beside, step)
    return projected(rest, out / (out @ out), sides, np.zeros(len(out)))


def _clear_place(
    known: KnownHinges, j: int, residual: Residual, distances: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return a place on hyperplane ``j`` and its distance from the nearest other one, large beside the noise there."""
    normal, length = known.normal[j], np.linalg.norm(known.normal, axis=1)
    z = np.concatenate([r * rng.standard_normal((CANDIDATES, len(normal))) for r in distances])
    z -= ((z @ normal + known.offset[j]) / (normal @ normal))[:, None] * normal
    distance = np.abs(z @ known.normal.T + known.offset) / length
    distance[:, j] = np.linalg.norm(z, axis=1)
    clear = distance.min(axis=1)
    best = int(np.argmax(clear / residual.noise.at(z).max(axis=1)))
    return z[best], float(clear[best])


def _replaced(known: KnownHinges, j: int, normal: np.ndarray, offset: float, error: float) -> KnownHinges:
    """Replace normal, offset and error of hinge number ``j``."""
    changed = replace(known, **{name: getattr(known, name).copy() for name in ("normal", "offset", "error")})
    changed.normal[j], changed.offset[j], changed.error[j] = normal, offset, error
    return changed
