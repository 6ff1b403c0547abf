"""Interpolation by one-weight neurons, and by two neurons: exact where N is at most 2d + 1."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.optimize import linprog

ILL = 1e8
"""Condition number above which other columns are tried."""
WAYS = 200
"""Random directions at each step of a walk."""


@dataclass(frozen=True, eq=False)
class SolvedNeurons:
    """Hold sum_k sign_k ([x, 1] . nu_k)_+ with ``nu`` (K, d+1) and ``sign`` (K,); ``condition`` of the solve
    behind it.
    """

    nu: np.ndarray
    sign: np.ndarray
    condition: float


def solve_one_weight(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, tries: int = 20) -> SolvedNeurons | None:
    """Find at most N neurons of one weight each through x (N, d), y (N,): (x_j)_+, (-x_j)_+ and the constant.

    None when [X_+, (-X)_+, 1] has rank below N. The columns are chosen by QR with pivoting; while the
    condition number is above ``ILL``, further choices under random column scales are tried, and the best is
    kept.
    """
    n, d = x.shape
    every = np.column_stack([np.maximum(x, 0), np.maximum(-x, 0), np.ones(n)])
    norm = np.linalg.norm(every, axis=0)
    usable = np.flatnonzero(norm)
    if usable.size < n or np.linalg.matrix_rank(every[:, usable] / norm[usable]) < n:
        return None
    scaled = every[:, usable] / norm[usable]
    best, least = _pivots(scaled), np.inf
    for attempt in range(tries):
        chosen = best if attempt == 0 else _pivots(scaled * rng.uniform(0.1, 1, usable.size))
        condition = float(np.linalg.cond(scaled[:, chosen]))
        if condition < least:
            best, least = chosen, condition
        if least < ILL:
            break
    columns = usable[best]
    v = solve_refined(every[:, columns], y)
    keep = v != 0
    columns, v = columns[keep], v[keep]
    nu = np.zeros((v.size, d + 1))
    place = np.where(columns == 2 * d, d, columns % d)
    direction = np.where((columns >= d) & (columns < 2 * d), -1.0, 1.0)
    nu[np.arange(v.size), place] = np.abs(v) * direction
    return SolvedNeurons(nu, np.sign(v), least)


def _pivots(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(linalg.qr(matrix, mode="r", pivoting=True)[1][: len(matrix)])


def solve_refined(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve a v = y (square) with the residual refined in extended precision until it stops falling."""
    factor = linalg.lu_factor(a)
    long = a.astype(np.longdouble)
    v = linalg.lu_solve(factor, y)
    least = np.inf
    best = v
    for _ in range(6):
        residual = np.asarray(y - long @ v, dtype=np.float64)
        size = float(np.abs(residual).max())
        if size >= least:
            break
        best, least = v, size
        v = v + linalg.lu_solve(factor, residual)
    return best


def solve_two_neurons(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, tries: int = 30) -> SolvedNeurons | None:
    """Build one neuron for each sign of y, with as many weights (bias included) as there are labels of that sign.

    None when no neuron meets the labels of one sign and is silent elsewhere, or ``tries`` walks end with more
    weights.
    """
    xbar = np.column_stack([x, np.ones(len(x))])
    rows, signs, conditions = [], [], []
    for sign in (1.0, -1.0):
        on = sign * y > 0
        if not on.any():
            continue
        found = _one_sided(xbar[on], np.abs(y[on]), xbar[~on], rng, tries)
        if found is None:
            return None
        rows.append(found[0])
        signs.append(sign)
        conditions.append(found[1])
    return SolvedNeurons(np.array(rows), np.array(signs), max(conditions, default=1.0))


def _one_sided(
    on: np.ndarray, value: np.ndarray, off: np.ndarray, rng: np.random.Generator, tries: int
) -> tuple[np.ndarray, float] | None:
    """Return the best conditioned nu with on nu = value, off nu < 0 and len(on) nonzeros that ``tries`` walks find."""
    best: tuple[np.ndarray, float] | None = None
    for _ in range(tries):
        begin = _silent(on, value, off, rng)
        if begin is None:
            return None
        nu = _walk(begin, on, off, rng)
        support = np.flatnonzero(nu)
        if support.size != len(on):
            continue
        exact, condition = np.zeros_like(nu), float(np.linalg.cond(on[:, support]))
        exact[support] = solve_refined(on[:, support], value)
        good = (off @ exact < 0).all() and (exact[support] != 0).all()
        if good and (best is None or condition < best[1]):
            best = exact, condition
        if best is not None and best[1] < ILL:
            break
    return best


def _silent(
    on: np.ndarray, value: np.ndarray, off: np.ndarray, rng: np.random.Generator, *, box: float = 1e6
) -> np.ndarray | None:
    """Find some nu with on nu = value and off nu < 0: a linear solve where the rows are independent, else a linear
    program.

    ``box``: bound of the weights in the linear program that looks for a start.
    """
    depth = -3 * value.mean() * rng.uniform(0.5, 2, len(off))
    rows = np.vstack([on, off])
    if len(rows) <= rows.shape[1]:
        nu = np.linalg.lstsq(rows, np.concatenate([value, depth]), rcond=None)[0]
        if np.allclose(on @ nu, value, rtol=1e-9, atol=0) and (off @ nu < 0).all():
            return np.asarray(nu)
    answer = linprog(rng.standard_normal(on.shape[1]), off, depth, on, value, bounds=(-box, box))
    return None if answer.x is None else np.asarray(answer.x)


def _walk(nu: np.ndarray, on: np.ndarray, off: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walk from one solution to a vertex without active inequality, weight by weight.

    Random directions that keep ``on nu`` are followed to the first weight that becomes zero, those excluded
    that make a silent point active before; the one that stays deep among the silent points is taken. It
    ends when no weight can go.
    """
    live = np.flatnonzero(nu)
    while live.size > len(on):
        basis = linalg.null_space(on[:, live])
        ways = basis @ rng.standard_normal((basis.shape[1], WAYS))
        ways = np.hstack([ways, -ways])
        weight = nu[live][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            to_zero = np.where(ways * weight < 0, -weight / ways, np.inf)
        first, time = to_zero.argmin(axis=0), to_zero.min(axis=0)
        ways, first, time = (a[..., np.isfinite(time)] for a in (ways, first, time))
        value = (off @ nu)[:, None] + time * (off[:, live] @ ways)
        depth = value.max(axis=0, initial=-np.inf) / np.linalg.norm(weight + time * ways, axis=0)
        if time.size == 0 or depth.min() >= 0:
            break
        b = int((depth * rng.uniform(0.2, 1.0, depth.size)).argmin())
        nu = nu.copy()
        nu[live] += time[b] * ways[:, b]
        nu[live[first[b]]] = 0.0
        live = np.delete(live, first[b])
    return nu
