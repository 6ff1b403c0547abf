"""Which side of each hinge is active: read off the affine part, exactly where it can be known.

A ReLU network without a skip part has the affine part a_oi = sum_j v_oj e_j w_ji / 2, one linear equation for every
input and output, in orientations e_j = +-1. They are unique generically, for more neurons than equations too: the
equations are known to many digits, and of 2^k patterns rarely two agree in them. Solved are, component by component
of neurons that share inputs: least squares where equations are not fewer than neurons; all patterns of one equation
after the other, from two halves met in the middle; lattice reduction beyond (:mod:`.lattice`).

An antipodal pair (w.x)_+ , (-w.x)_+ is one hinge of no single orientation, and a skip part of the network adds to a:
such entries are explained by no pattern and stay. Signs that the others decide are found from those alone; a neuron
that reads unexplained inputs only is *free*: turned, with the linear part changed, it is the same function. It gets
the canonical orientation, its first weight positive.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sparelu.recover.exact.steps.lattice import signs_by_lattice

HALVES = 40
"""Signs of one equation that are tried: two halves of 2^20 sums."""
MOST = 4096
"""Patterns that are followed at a time."""
LOOKED_UP = 2**23
"""Half patterns that are looked up at a time: 64 MB."""
WIDER = (1e2, 1e4)
"""How many times too small the errors may be taken to be: a pattern that is the only one even so is right."""
CHANCE = 1e-3
"""Probability of a pattern that explains an entry by chance, below which the entry decides its signs alone."""


@dataclass(frozen=True, eq=False)
class Orientations:
    """Signs (k,); indices of neurons that are ``free``, and of those that are ``open``: several patterns explain all,
    or too many would have to be tried.
    """

    signs: Float[Tensor, " k"]
    free: tuple[int, ...]
    open: tuple[int, ...]


def orientations(
    weight: Float[Tensor, "k inputs"],
    outputs: Float[Tensor, "k outs"],
    affine: Float[Tensor, "outs inputs"],
    tolerance: Float[Tensor, "outs inputs"],
) -> Float[Tensor, " k"]:
    """Return the orientation +-1 of every hinge, as :func:`find_orientations` does."""
    return find_orientations(weight, outputs, affine, tolerance).signs


def find_orientations(
    weight: Float[Tensor, "k inputs"],
    outputs: Float[Tensor, "k outs"],
    affine: Float[Tensor, "outs inputs"],
    tolerance: Float[Tensor, "outs inputs"],
) -> Orientations:
    """Return the orientation of every hinge and which are not unique.

    ``tolerance`` is the error allowed in each entry of ``affine``; the last column, the constant, is not used where an
    output bias could take it up.
    """
    w, v = weight[:, :-1].cpu().numpy(), outputs.cpu().numpy()
    k, slack = len(w), tolerance[:, :-1].cpu().numpy().reshape(-1, 1)
    columns = np.einsum("jo,ji->oij", v, w).reshape(len(slack), k) / 2 / slack
    goal = affine[:, :-1].cpu().numpy().reshape(-1) / slack[:, 0]
    signs, open_ = np.zeros(k), []
    for own in _components(columns):
        rows = np.flatnonzero(columns[:, own].any(axis=1))
        part, aim = columns[np.ix_(rows, own)], goal[rows]
        found, several = _solved(part, aim)
        for wider in WIDER:
            if found.all() and not several.any():
                break
            again, open_again = _solved(part / wider, aim / wider)
            if again.all() and not open_again.any():
                found, several = again, open_again
        signs[own] = found
        open_ += own[several].tolist()
    free = np.setdiff1d(np.flatnonzero(signs == 0), open_)
    first = np.sign(w[np.arange(k), (w != 0).argmax(axis=1)]) if k else np.zeros(0)
    signs = np.where(signs == 0, np.where(first == 0, 1.0, first), signs)
    return Orientations(torch.as_tensor(signs).to(weight), tuple(free.tolist()), tuple(sorted(open_)))


def _components(columns: np.ndarray) -> list[np.ndarray]:
    """Return the neurons of every connected component of neurons and equations."""
    graph = sparse.csr_array(columns != 0)
    labels = connected_components(sparse.block_array([[None, graph], [graph.T, None]]), directed=False)[1]
    own = labels[columns.shape[0] :]
    return [np.flatnonzero(own == label) for label in np.unique(own)]


def _solved(columns: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return signs (k,), 0 where nothing decides, and a mask (k,) of those that are open, of one component.

    ``columns`` (r, k) and ``goal`` (r,) are in units of the error allowed: | columns e - goal | <= 1 is asked.
    """
    none = np.zeros(columns.shape[1], dtype=bool)
    signs = _by_least_squares(columns, goal)
    if signs is not None:
        return signs, none
    patterns, complete = _all_patterns(columns, goal)
    if not complete:
        found = signs_by_lattice(columns, goal)
        patterns = patterns[:0] if found is None else found
    if len(patterns) == 1:
        return patterns[0], none
    if len(patterns) > 1:
        agreed = np.abs(patterns.sum(0)) == len(patterns)
        return patterns[0], ~agreed
    signs, left = _by_single_equations(columns, goal)
    return signs, (signs == 0) & columns[left].any(axis=0)


def _by_least_squares(columns: np.ndarray, goal: np.ndarray) -> np.ndarray | None:
    """Return rounded least squares where it explains every entry and no other pattern can; else None.

    Two patterns within the error differ by at most 2 sqrt r in columns e, and by at least 2 sigma_min.
    """
    r, k = columns.shape
    if k > r:
        return None
    left, sizes, right = np.linalg.svd(columns, full_matrices=False)
    if sizes[-1] <= np.sqrt(r):
        return None
    signs = np.where(right.T @ ((left.T @ goal) / sizes) >= 0, 1.0, -1.0)
    return signs if bool((np.abs(columns @ signs - goal) <= 1).all()) else None


def _all_patterns(columns: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the patterns (p, k) that explain all entries, and whether these are all of them.

    One equation at a time, that with the fewest signs not followed yet: each pattern so far is continued in every way
    that the equation allows.
    """
    patterns, left = np.zeros((1, columns.shape[1])), set(range(len(columns)))
    while left and len(patterns):
        unknown = (columns != 0) & ~patterns.any(axis=0)
        row = min(left, key=lambda r: (int(unknown[r].sum()), -float(np.abs(columns[r]).max())))
        left.remove(row)
        free = np.flatnonzero(unknown[row])
        found = _matching(columns[row, free], goal[row] - patterns @ columns[row])
        if found is None:
            return patterns, False
        whose, signs = found
        patterns = patterns[whose]
        patterns[:, free] = signs
    return patterns, True


def _matching(terms: np.ndarray, rests: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return all patterns of +-1 (p, t) whose sum of ``terms`` is within 1 of a rest, and which rest (p,) it is.

    Every pattern is two halves: the sums of the second are sorted, and what each of the first lacks is looked up
    among them (Horowitz and Sahni 1974). None for more than ``HALVES`` terms or ``MOST`` patterns.
    """
    if len(terms) > HALVES or len(rests) << (len(terms) // 2) > LOOKED_UP:
        return None
    half = len(terms) // 2
    first, second = _signs(half), _signs(len(terms) - half)
    sums, others = first @ terms[:half], second @ terms[half:]
    order = others.argsort()
    others = others[order]
    lacking = rests[:, None] - sums
    low, high = others.searchsorted(lacking - 1), others.searchsorted(lacking + 1, side="right")
    counts = (high - low).reshape(-1)
    if counts.sum() > MOST:
        return None
    at = np.repeat(np.arange(counts.size), counts)
    offset = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    j = order[np.repeat(low.reshape(-1), counts) + offset]
    whose, i = np.divmod(at, len(sums))
    return whose, np.column_stack([first[i], second[j]])


def _signs(t: int) -> np.ndarray:
    """Return all patterns of +-1 (2^t, t)."""
    return 1.0 - 2.0 * ((np.arange(2**t)[:, None] >> np.arange(t)) & 1)


def _by_single_equations(columns: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the signs that entries decide one by one, 0 elsewhere, and the entries that several patterns may explain.

    For an affine part that no pattern explains as a whole: entries that no pattern explains decide nothing.
    """
    signs, left, moved = np.zeros(columns.shape[1]), set(range(len(columns))), True
    while moved:
        moved = False
        for row in sorted(left):
            free = np.flatnonzero((columns[row] != 0) & (signs == 0))
            terms = columns[row, free]
            # Sums of t random signs have a density of at most 1 / (sqrt(2 pi) |terms|) or so.
            chance = 2.0 ** len(free) * 2 / max(np.sqrt(2 * np.pi) * float(np.linalg.norm(terms)), 1e-300)
            found = _matching(terms, goal[row : row + 1] - signs @ columns[row]) if chance < CHANCE else None
            if found is None:
                continue
            patterns = found[1]
            agreed = np.abs(patterns.sum(0)) == len(patterns) if len(patterns) else np.zeros(len(free), dtype=bool)
            if agreed.any():
                signs[free[agreed]], moved = patterns[0][agreed], True
            if agreed.all() or not len(patterns):
                left.discard(row)
    return signs, sorted(left)
