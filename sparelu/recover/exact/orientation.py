"""Which side of each kink is active: read off the affine part, exactly where it can be known.

A ReLU network without a skip part has the affine part a_i = sum_j v_j e_j w_ji / 2, so the orientations e_j = +-1
solve one linear equation for every input and output. Least squares finds them when the kinks are not more than the
equations; otherwise each input whose few unknown kinks admit one pattern fixes those, and so on. An
antipodal pair (w.x)_+ , (-w.x)_+ is one kink of no single orientation: what no pattern explains stays as a skip part.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

PATTERNS = 12
"""Unknown kinks of one input whose 2^12 patterns are tried."""


def orientations(
    weight: Float[Tensor, "k inputs"],
    outputs: Float[Tensor, "k outs"],
    affine: Float[Tensor, "outs inputs"],
    tolerance: Float[Tensor, "outs inputs"],
) -> Float[Tensor, " k"]:
    """Orientation +-1 of every kink; those that nothing decides are +1.

    ``tolerance`` is the error allowed in each entry of ``affine``; the last column, the constant, is not used where an
    output bias could take it up.
    """
    w, v = weight[:, :-1].cpu().numpy(), outputs.cpu().numpy()
    a, slack = affine[:, :-1].cpu().numpy(), tolerance[:, :-1].cpu().numpy()
    sides = _by_least_squares(w, v, a, slack)
    known = np.zeros(len(w), dtype=bool)
    if sides is None:
        sides, known = _by_patterns(w, v, a, slack)
        sides[~known] = 1.0
    return torch.as_tensor(sides).to(weight)


def _terms(w: np.ndarray, v: np.ndarray, i: int, kinks: np.ndarray) -> np.ndarray:
    """What orientation +1 of each of ``kinks`` adds to input i of every output: (kinks, outs)."""
    return v[kinks] * w[kinks, i, None] / 2


def _by_least_squares(w: np.ndarray, v: np.ndarray, a: np.ndarray, slack: np.ndarray) -> np.ndarray | None:
    """Rounded least squares, when it explains every entry within the tolerance."""
    k = len(w)
    if k == 0 or k > a.size:
        return np.ones(k) if k == 0 else None
    design = np.einsum("jo,ji->oij", v, w).reshape(-1, k) / 2
    solution = np.linalg.lstsq(design / slack.reshape(-1, 1), a.reshape(-1) / slack.reshape(-1), rcond=None)[0]
    sides = np.where(solution >= 0, 1.0, -1.0)
    return sides if bool((np.abs(design @ sides - a.reshape(-1)) <= slack.reshape(-1)).all()) else None


def _by_patterns(w: np.ndarray, v: np.ndarray, a: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orientations that the patterns of single inputs decide, and which they are."""
    sides, known = np.zeros(len(w)), np.zeros(len(w), dtype=bool)
    open_inputs = [i for i in range(w.shape[1]) if w[:, i].any()]
    moved = True
    while moved:
        moved = False
        for i in list(open_inputs):
            touching = np.flatnonzero(w[:, i])
            free = touching[~known[touching]]
            if len(free) > PATTERNS:
                continue
            fixed = touching[known[touching]]
            rest = a[:, i] - sides[fixed] @ _terms(w, v, i, fixed)
            patterns = _matching(_terms(w, v, i, free), rest, slack[:, i])
            agreed = np.abs(patterns.sum(0)) == len(patterns) if len(patterns) else np.zeros(len(free), dtype=bool)
            if agreed.all() or len(patterns) == 0:
                open_inputs.remove(i)
            if agreed.any():
                sides[free[agreed]], known[free[agreed]] = patterns[0][agreed], True
                moved = True
    return sides, known


def _matching(terms: np.ndarray, rest: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """All patterns of +-1 (p, kinks) whose sum of terms equals ``rest`` within ``slack``."""
    t = len(terms)
    patterns = 1.0 - 2.0 * ((np.arange(2**t)[:, None] >> np.arange(t)) & 1)
    return patterns[(np.abs(patterns @ terms - rest) <= slack).all(axis=1)]
