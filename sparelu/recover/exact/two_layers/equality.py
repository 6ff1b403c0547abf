"""What two networks of two hidden layers and one output have in common when they are one function.

The hyperplanes of the first layer, which of them every bent kink of the second reads, and which of them the output sees
directly are the same for almost every network of a function; orientations, the split of what is linear in the first
layer, and antipodal pairs are not (:mod:`.relu_model`). Neurons of the second layer that read nonnegative combinations
are linear, those of nonpositive ones dead, and those of one hyperplane bend along it.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from sparelu.networks.network import Network


@dataclass(frozen=True)
class Skeleton:
    """Directions of the ``planes`` (p, d), up to sign; the planes that each bent kink reads; those seen directly."""

    planes: np.ndarray
    bent: tuple[frozenset[int], ...]
    straight: frozenset[int]

    @property
    def nonzeros(self) -> int:
        """Count the weights of the planes, of the bent kinks on planes, and of what is seen directly."""
        return int(np.count_nonzero(self.planes)) + sum(map(len, self.bent)) + len(self.straight)


def skeleton(network: Network, tolerance: float = 1e-5) -> Skeleton:
    """Reduce a network without biases; ``tolerance`` is the relative rounding allowed in "equal" and "zero".

    Raises ``ValueError`` for another depth, several outputs, or biases.
    """
    if len(network.layers) != 3 or network.outputs != 1 or network.biases:
        raise ValueError("a skeleton is of two hidden layers, one output and no biases: compare functions instead")
    w, u, v = (layer.dense().double().cpu().numpy() for layer in network.layers)
    w, u, v = w[w.any(axis=1)], u[:, w.any(axis=1)], v[0]
    size = np.linalg.norm(w, axis=1)
    unit, u = w / size[:, None], u * size
    planes: list[np.ndarray] = []
    place = [_placed(row, planes, tolerance) for row in unit]
    seen = np.zeros(len(planes))
    bent: list[frozenset[int]] = []
    for row, out in zip(u, v, strict=True):
        row = np.where(np.abs(row) > tolerance * np.abs(row).max(initial=0.0), row, 0.0)
        reads = frozenset(place[j] for j in np.flatnonzero(row))
        share = np.maximum(row, 0.0)
        if (row > 0).any() and (row < 0).any() and len(reads) > 1 and out:
            bent.append(reads)
            share = row / 2  # (z)_+ = (z + |z|) / 2
        for j in np.flatnonzero(share):
            seen[place[j]] += out * share[j] / 2
    straight = frozenset(np.flatnonzero(np.abs(seen) > tolerance * np.abs(seen).max(initial=0.0)).tolist())
    used = sorted(set().union(straight, *bent))
    number = {p: i for i, p in enumerate(used)}
    return Skeleton(
        np.array([planes[p] for p in used]).reshape(len(used), network.inputs),
        tuple(frozenset(number[p] for p in reads) for reads in bent),
        frozenset(number[p] for p in straight),
    )


def _placed(row: np.ndarray, planes: list[np.ndarray], tolerance: float) -> int:
    row = np.where(np.abs(row) > tolerance, row, 0.0)
    row = row * np.sign(row[np.flatnonzero(row)[0]])
    for i, other in enumerate(planes):
        if np.abs(row - other).max() <= tolerance:
            return i
    planes.append(row)
    return len(planes) - 1


def same_form(a: Network, b: Network, tolerance: float = 1e-5) -> bool:
    """Tell whether both have the same hyperplanes, bent kinks on them, and planes that are seen directly."""
    first, second = skeleton(a, tolerance), skeleton(b, tolerance)
    if first.planes.shape != second.planes.shape:
        return False
    if not len(first.planes):
        return True
    gap = np.abs(first.planes[:, None] - second.planes[None]).max(axis=2)
    to = gap.argmin(axis=1)
    if gap.min(axis=1).max() > 10 * tolerance or len(set(to.tolist())) < len(to):
        return False
    moved = [frozenset(int(to[p]) for p in reads) for reads in first.bent]
    same = np.array_equal(first.planes != 0, second.planes[to] != 0)
    return (
        same and Counter(moved) == Counter(second.bent) and {int(to[p]) for p in first.straight} == set(second.straight)
    )
