"""Signs of many terms by lattice reduction: e in {-1, 1}^k with | columns e - goal | <= 1, and whether it is unique.

With e = 1 - 2 u, u in {0, 1}^k, the vectors (u, columns u) are a lattice, and the one sought is nearest to
(1/2, ..., 1/2, (columns 1 - goal) / 2), at most sqrt(k + r) / 2 away. In a basis whose Gram-Schmidt vectors are all
longer than sqrt(k + r), the nearest plane procedure of Babai (1986) finds it, and it is unique, since no vector of the
lattice is shorter than the least of these. Such a basis is sought by the reduction of Lenstra, Lenstra and Lovasz
(1982).
"""

import math

import numpy as np

LOVASZ = 0.99
"""How far a Gram-Schmidt vector may be shorter than the one before: nearer to 1 is a better basis for more work."""
DIGITS = 12
"""Binary digits of the columns that join the lattice at a time: float64 holds Gram-Schmidt numbers of such vectors."""
BELOW = 10
"""Binary digits kept below the error allowed."""
MOST = 100
"""Terms up to which a basis is sought: the work grows with their fourth power."""


def signs_by_lattice(columns: np.ndarray, goal: np.ndarray) -> np.ndarray | None:
    """Return the only pattern (1, k) within 1 of the goal, none (0, k), or None where the basis does not tell.

    ``columns`` (r, k), ``goal`` (r,), in units of the error allowed.
    """
    r, k = columns.shape
    if k > MOST:
        return None
    whole = np.array([[round(float(c) * 2**BELOW) for c in column] for column in columns.T], dtype=object)
    transform = np.eye(k, dtype=np.int64).astype(object)
    largest = max(1.0, float(np.abs(columns).max()))
    for hidden in range(max(0, math.ceil(math.log2(largest)) - DIGITS), -1, -DIGITS // 2):
        _reduce(transform, whole, hidden)
    if hidden:
        _reduce(transform, whole, 0)
    basis = _vectors(transform, whole, 0)
    root = np.linalg.qr(basis.T)[1]
    if float(np.abs(root.diagonal()).min()) <= math.sqrt(k + r):
        return None
    target = np.concatenate([np.full(k, 0.5), (columns.sum(axis=1) - goal) / 2])
    u = _nearest_plane(basis, target) @ transform
    signs = 1.0 - 2.0 * u.astype(np.float64)
    good = bool(np.abs(signs).max() == 1 and (np.abs(columns @ signs - goal) <= 1).all())
    return signs[None] if good else np.zeros((0, k))


def _vectors(transform: np.ndarray, whole: np.ndarray, hidden: int) -> np.ndarray:
    """Return the basis (k, k + r): whole coefficients, and their sums of columns without the last ``hidden`` digits."""
    sums = transform @ whole
    return np.column_stack([transform.astype(np.float64), sums.astype(np.float64) / 2.0 ** (BELOW + hidden)])


def _reduce(transform: np.ndarray, whole: np.ndarray, hidden: int) -> None:
    """Reduce the basis in place, on ``transform`` (k, k) of Python integers, with Gram-Schmidt numbers in float64."""
    basis = _vectors(transform, whole, hidden)
    k = len(basis)
    star, size, mu = np.zeros_like(basis), np.zeros(k), np.zeros((k, k))

    def orthogonalise(i: int) -> None:
        mu[i, :i] = star[:i] @ basis[i] / size[:i]
        star[i] = basis[i] - mu[i, :i] @ star[:i]
        again = star[:i] @ star[i] / size[:i]  # once more: what rounding left
        star[i] -= again @ star[:i]
        mu[i, :i] += again
        size[i] = max(float(star[i] @ star[i]), 1e-300)

    def shorten(i: int) -> None:
        for j in range(i - 1, -1, -1):
            q = round(float(mu[i, j]))
            if q:
                basis[i] -= q * basis[j]
                transform[i] -= q * transform[j]
                mu[i, :j] -= q * mu[j, :j]
                mu[i, j] -= q

    orthogonalise(0)
    i = 1
    while i < k:
        orthogonalise(i)
        shorten(i)
        if size[i] >= (LOVASZ - mu[i, i - 1] ** 2) * size[i - 1]:
            i += 1
        else:
            for part in (basis, transform):
                part[[i - 1, i]] = part[[i, i - 1]]
            i = max(i - 1, 1)
            if i == 1:
                orthogonalise(0)
            else:
                orthogonalise(i - 1)


def _nearest_plane(basis: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return whole coefficients (k,) of the lattice point that Babai's nearest planes lead to from ``target``."""
    q, root = np.linalg.qr(basis.T)
    rest = q.T @ target
    whole = np.zeros(len(basis), dtype=object)
    for j in range(len(basis) - 1, -1, -1):
        whole[j] = round(float(rest[j] / root[j, j]))
        rest -= float(whole[j]) * root[:, j]
    return whole
