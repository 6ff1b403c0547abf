"""Linear regions of a network of two inputs in a box, exactly, for any depth: the convex cells are cut one by one."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sparelu.certify.lines import ROUNDING, TooManyRegions
from sparelu.networks.network import Network


@dataclass(frozen=True, eq=False)
class Cells:
    """Hold the convex cells of constant activation pattern: corners (c, 2) of each, and the affine map of each, (cells,
    k, 3).

    The map of a cell is ``A x + b`` as the columns (A, b).
    """

    corners: list[np.ndarray]
    maps: np.ndarray
    regions: int

    @property
    def activation_regions(self) -> int:
        """Return the number of cells: open sets of constant activation pattern."""
        return len(self.corners)

    @property
    def areas(self) -> np.ndarray:
        """Return the area of every cell."""
        return np.array([_area(c) for c in self.corners])


def enumerate_cells(network: Network, low: np.ndarray, high: np.ndarray, limit: int = 200_000) -> Cells:
    """Enumerate all activation cells of a network of two inputs in the box ``low`` (2,) to ``high`` (2,), and its
    linear regions.

    ``regions`` counts maximal connected sets on which the network is one affine map: cells that share an edge and a map
    are one. Exact up to rounding: a line that passes a corner within rounding passes through it.

    Raises ``ValueError`` when the network does not read two inputs or the box is empty, and
    :class:`~sparelu.certify.lines.TooManyRegions` when there are more than ``limit`` cells.
    """
    if network.inputs != 2:
        raise ValueError(f"the network reads {network.inputs} inputs, exact enumeration is for two")
    if not bool((np.asarray(low) < np.asarray(high)).all()) or not np.isfinite([*low, *high]).all():
        raise ValueError(f"the box from {low} to {high} must be bounded and not empty")
    net = network.to(torch.float64, "cpu")
    weights = [(layer.dense().numpy(), layer.dense_bias().numpy()) for layer in net.layers]
    (x0, y0), (x1, y1) = low, high
    box = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]], dtype=np.float64)
    corners, maps, sizes = _enumerate(weights, box, limit)
    if net.skip is not None:
        extra = np.column_stack([net.skip.dense().numpy(), net.skip.dense_bias().numpy()])
        maps, sizes = maps + extra, sizes + np.abs(extra)
    return Cells(corners, maps, _merged(corners, maps, sizes, float(np.abs(box).max())))


def _enumerate(
    weights: list[tuple[np.ndarray, np.ndarray]], box: np.ndarray, limit: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the corners and affine map of every cell, and the sums of the sizes of the map's terms.

    Depth first: cut a cell by a unit of the present layer that changes sign in it, else pass to the next layer.

    A corner is (x, y, bound of its own error), so that a value at it is known to rounding and that error.
    """
    first = np.column_stack(weights[0])
    todo = [(box, 0, first, np.abs(first), np.arange(len(first)))]
    corners, maps, sizes = [], [], []
    while todo:
        cell, at, affine, size, left = todo.pop()
        points = np.column_stack([cell[:, :2], np.ones(len(cell))])
        value, noise = points @ affine.T, ROUNDING * (np.abs(points) @ size.T)
        noise += cell[:, 2:] * np.linalg.norm(affine[:, :2], axis=1)
        if at == len(weights) - 1:
            corners.append(cell[:, :2])
            maps.append(affine)
            sizes.append(size)
            if len(corners) > limit:
                raise TooManyRegions(f"more than {limit} activation cells")
            continue
        crossing = (value[:, left] > noise[:, left]).any(axis=0) & (value[:, left] < -noise[:, left]).any(axis=0)
        cutting = left[crossing]
        if cutting.size:
            halves = _cut(cell, value[:, cutting[0]], noise[:, cutting[0]])
            todo += [(half, at, affine, size, cutting[1:]) for half in halves]
            continue
        on = (value > noise).any(axis=0)
        w, b = weights[at + 1]
        deeper, deeper_size = w @ (affine * on[:, None]), np.abs(w) @ (size * on[:, None])
        deeper[:, 2] += b
        deeper_size[:, 2] += np.abs(b)
        todo.append((cell, at + 1, deeper, deeper_size, np.arange(len(w))))
    return corners, np.stack(maps), np.stack(sizes)


def _cut(cell: np.ndarray, value: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both halves of a convex cell on whose corners an affine function takes ``value``; within ``noise`` it is
    zero.

    A new corner p + t (q - p), t = f(p) / (f(p) - f(q)), errs by the larger error of p and q, and by |q - p| times the
    noise of both values over |f(p) - f(q)|.
    """
    value = np.where(np.abs(value) <= noise, 0.0, value)
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in range(len(cell)):
        j = (i + 1) % len(cell)
        for side, sign in zip(sides, (1, -1), strict=True):
            if sign * value[i] >= 0:
                side.append(cell[i])
        if value[i] * value[j] < 0:
            fall = value[i] - value[j]
            point = cell[i] + (value[i] / fall) * (cell[j] - cell[i])
            unsure = float(np.linalg.norm(cell[j, :2] - cell[i, :2])) * (noise[i] + noise[j]) / abs(fall)
            point[2] = max(cell[i, 2], cell[j, 2]) + unsure
            for side in sides:
                side.append(point)
    return np.array(sides[0]), np.array(sides[1])


def _merged(
    corners: list[np.ndarray], maps: np.ndarray, sizes: np.ndarray, scale: float, *, share: float = 1e-9
) -> int:
    """Return the connected components of cells that share an edge and an affine map.

    The network is continuous, so that a unit's zero line goes on across an edge where it meets it: cells stand edge to
    edge, and shared edges are found by their middles.

    ``share``: two edges are one when their middles agree to this share of the box: shared corners are computed on both
    sides.
    """
    owner = np.repeat(np.arange(len(corners)), [len(c) for c in corners])
    start, end = np.concatenate(corners), np.concatenate([np.roll(c, -1, axis=0) for c in corners])
    real = np.linalg.norm(end - start, axis=1) > 4 * share * scale  # not a corner written twice
    owner, middle = owner[real], 0.5 * (start + end)[real]
    pairs = cKDTree(middle).query_pairs(share * scale, output_type="ndarray")
    a, b = owner[pairs[:, 0]], owner[pairs[:, 1]]
    equal = np.abs(maps[a] - maps[b]) <= ROUNDING * (sizes[a] + sizes[b])
    same = (a != b) & equal.all(axis=(1, 2))
    graph = coo_array((np.ones(int(same.sum())), (a[same], b[same])), shape=(len(corners), len(corners)))
    return int(connected_components(graph, directed=False)[0])


def _area(corners: np.ndarray) -> float:
    x, y = corners[:, 0] - corners[0, 0], corners[:, 1] - corners[0, 1]
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
