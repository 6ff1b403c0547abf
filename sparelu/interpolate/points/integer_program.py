"""The least number of nonzeros or neurons of an interpolant of a few points, proved by a mixed-integer
program.

With a fixed pattern D of active points a neuron adds D Xbar nu to the outputs, linear in nu = v [w, b] (Lemma
4.1 of Nakhleh & Nowak 2025), and neurons of one pattern and one output sign may be added up. So every
interpolant is, on the points, one choice of nu for each pattern and sign, inside the cone of the pattern.
There are at most 2 sum_{k<=d} C(N-1, k) patterns.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from scipy.optimize import LinearConstraint, linprog, milp


@dataclass(frozen=True)
class Proof:
    """Hold ``least`` as found and ``bound`` as proved (equal when the search finished), with the interpolant that
    attains it.

    ``nu`` (K, d+1) and ``sign`` (K,) are its neurons; ``size`` bounds |nu| in the search.
    """

    least: int
    bound: int
    nu: np.ndarray
    sign: np.ndarray
    size: float


def patterns(xbar: np.ndarray) -> np.ndarray:
    """Return all patterns (J, N) of points on the positive side of a hyperplane through the origin, points xbar (N,
    d+1) in general position.

    Each pattern is reached from a hyperplane through d of the points by moving it off them either way; both
    orientations. Patterns that a linear program finds empty are left out, and so is the empty one. Boundaries
    belong to both sides.
    """
    n, width = xbar.shape
    found: set[tuple[bool, ...]] = {(True,) * n}
    for touched in itertools.combinations(range(n), min(width - 1, n)):
        normal = np.linalg.svd(xbar[list(touched)])[2][-1]
        side = xbar @ normal
        for orientation in (1.0, -1.0):
            for moved in itertools.product((True, False), repeat=len(touched)):
                pattern = orientation * side > 0
                pattern[list(touched)] = moved
                found.add(tuple(bool(v) for v in pattern))
    return np.array([p for p in sorted(found) if any(p) and _has_interior(xbar, np.array(p))])


def _has_interior(xbar: np.ndarray, pattern: np.ndarray) -> bool:
    signed = np.where(pattern, 1.0, -1.0)[:, None] * xbar
    answer = linprog(np.zeros(xbar.shape[1]), -signed, -np.ones(len(xbar)), bounds=(None, None))
    return bool(answer.status == 0)


def least_nonzeros(x: np.ndarray, y: np.ndarray, size: float | None = None, seconds: float = 60.0) -> Proof:
    """Find the fewest nonzero products v w, biases included, of a one-hidden-layer network without affine part through
    the points.

    Arguments: x (N, d) and y (N,) with N up to 8 or so and d up to 3, the bound ``size`` on every |v w| with
    y scaled to one (none: ``STEEP`` times the steepest slope between two points), and a time limit. What is
    proved holds among networks within ``size``. Raises ``ValueError`` when no interpolant of that size exists.
    """
    found = _solve(x, y, size, seconds, per_weight=True)
    return replace(found, bound=max(found.bound, span_bound(x, y)))


def span_bound(x: np.ndarray, y: np.ndarray, *, most_subsets: int = 3_000_000) -> int:
    """Return a lower bound on the nonzeros, from the spans of columns D Xbar_i alone: k + 1 when no k columns have y
    in their span.

    All sets of k = N - 1, N - 2, ... columns are examined, the first k for which ``SUBSETS`` suffice; 1 when
    none does.

    ``most_subsets``: sets of columns that are examined at most.
    """
    xbar = np.column_stack([x, np.ones(len(x))])
    columns = (patterns(xbar)[:, :, None] * xbar).transpose(0, 2, 1).reshape(-1, len(x))
    columns = np.unique(np.round(columns[np.abs(columns).max(axis=1) > 0], 14), axis=0)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    target = y / np.linalg.norm(y)
    for k in range(len(y) - 1, 0, -1):
        if comb(len(columns), k) > most_subsets:
            continue
        if not any(_reaches(columns[sets], target) for sets in _subsets(len(columns), k)):
            return k + 1
    return 1


def _subsets(n: int, k: int, *, batch: int = 50_000) -> Iterator[np.ndarray]:
    sets = itertools.combinations(range(n), k)
    while block := list(itertools.islice(sets, batch)):
        yield np.array(block)


def _reaches(sets: np.ndarray, target: np.ndarray, *, flat: float = 1e-9) -> bool:
    """Tell whether ``target`` (N,) lies in the span of one of the ``sets`` (b, k, N) of columns.

    ``flat``: relative distance from a span below which a point may lie in it.
    """
    with_target = np.concatenate([sets, np.broadcast_to(target, (len(sets), 1, target.size))], axis=1)
    gram = with_target @ with_target.transpose(0, 2, 1)
    doubtful = sets[np.linalg.det(gram) < flat]
    if len(doubtful) == 0:
        return False
    a = doubtful.transpose(0, 2, 1)
    residual = target - (a @ (np.linalg.pinv(a, rcond=flat) @ target)[..., None])[..., 0]
    return bool((np.linalg.norm(residual, axis=1) < flat).any())


def least_neurons(x: np.ndarray, y: np.ndarray, size: float | None = None, seconds: float = 60.0) -> Proof:
    """Find the fewest neurons; otherwise as :func:`least_nonzeros`."""
    return _solve(x, y, size, seconds, per_weight=False)


def _steepest(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest |y_i - y_j| / |x_i - x_j|, one at least."""
    i, j = np.triu_indices(len(x), 1)
    return max(1.0, float((np.abs(y[i] - y[j]) / np.linalg.norm(x[i] - x[j], axis=1)).max(initial=0.0)))


def _solve(
    x: np.ndarray, y: np.ndarray, size: float | None, seconds: float, per_weight: bool, *, steep: float = 10.0
) -> Proof:
    """Solve the program with the variables nu (J, 2, d+1) for patterns and signs, then one binary for each weight, or
    for each pattern and sign.

    ``steep``: bound on |v w| in the search, in steepest slopes of the points: a knot between two of them can need more
    than one.
    """
    xbar, scale = np.column_stack([x, np.ones(len(x))]), float(np.abs(y).max()) or 1.0
    size = steep * _steepest(x, y / scale) if size is None else size
    active = patterns(xbar)
    (j, n), width = active.shape, xbar.shape[1]
    count = 2 * j * width
    signs = np.tile([1.0, -1.0], j)
    columns = (np.repeat(active, 2, axis=0) * signs[:, None])[:, :, None] * xbar
    meets = columns.transpose(1, 0, 2).reshape(n, count)
    cone = np.zeros((2 * j * n, count))
    for k in range(2 * j):
        side = np.where(active[k // 2], 1.0, -1.0)[:, None] * xbar
        cone[k * n : (k + 1) * n, k * width : (k + 1) * width] = side
    switch = np.eye(count) if per_weight else np.repeat(np.eye(2 * j), width, axis=0)
    binaries = switch.shape[1]
    wide = np.hstack([np.eye(count), -size * switch]), np.hstack([np.eye(count), size * switch])
    rows = [
        LinearConstraint(np.hstack([meets, np.zeros((n, binaries))]), y / scale, y / scale),
        LinearConstraint(np.hstack([cone, np.zeros((len(cone), binaries))]), 0, np.inf),
        LinearConstraint(wide[0], -np.inf, 0),
        LinearConstraint(wide[1], 0, np.inf),
    ]
    bounds = np.concatenate([np.full(count, size), np.ones(binaries)])
    low = np.concatenate([np.full(count, -size), np.zeros(binaries)])
    answer = milp(
        np.concatenate([np.zeros(count), np.ones(binaries)]),
        integrality=np.concatenate([np.zeros(count), np.ones(binaries)]),
        bounds=(low, bounds),
        constraints=rows,
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    if answer.x is None:
        raise ValueError(f"no interpolant with |v w| <= {size:g} was found: raise `size` or `seconds`")
    on = np.round(answer.x[count:]) == 1
    nu = np.where(switch @ on > 0, answer.x[:count], 0).reshape(2 * j, width) * scale
    used = (nu != 0).any(axis=1)
    bound = int(np.ceil(answer.mip_dual_bound - 1e-6))
    return Proof(round(float(answer.fun)), bound, nu[used], signs[used], size)
