"""Spectra of the bipartite graph of a layer: how evenly its weights are spread, whatever their values, and with them.

A layer is a matrix (outputs, inputs). Inputs are the left nodes, outputs the right ones, weights the edges; nodes
without an edge are dropped. With M the 0-1 matrix, s_1 >= s_2 >= ... its singular values and d_L, d_R the mean degrees:

* gap: sqrt(d_L - 1) + sqrt(d_R - 1) - s_2, not negative for a Ramanujan graph;
* weighted gap: s_1(|W|) - s_2(|W|);
* IMDB, iterative mean difference of bound: the mean gap of the nested graphs, each all inputs of one degree with their
  outputs; IMSG, the same of the weighted gap.

The adjacency matrix [[0, M], [M', 0]] has the eigenvalues +-s_i: the second in absolute order is s_1 again.

Hoang, Liu, Marculescu and Wang, Revisiting pruning at initialization through the lens of Ramanujan graph, 2023;
Hoang, Kundu, Liu and Wang, Don't just prune by magnitude! Your mask topology is a secret weapon, 2023.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import svdvals
from scipy.sparse.linalg import ArpackNoConvergence, svds

DENSE = 200
"""Matrices whose shorter side is no longer are decomposed whole (benchmarks/topology.py)."""

TOLERANCE = 1e-10
"""Relative accuracy of the squares of singular values found by iteration."""


@dataclass(frozen=True)
class Convention:
    """Which graphs have a gap, and how those of nested graphs are averaged.

    The mean degree of inputs is 3 at least. That of outputs is 3 at least too where ``strict``, and above 1 elsewhere,
    for which a nested graph needs three inputs or two. With ``expansion`` one of l inputs and r outputs counts
    max(l, r) / (l + r - 1) times.
    """

    strict: bool
    expansion: bool


PARENT = Convention(strict=True, expansion=False)
"""The first paper."""

COORDINATE = Convention(strict=False, expansion=True)
"""The second paper."""


@dataclass(frozen=True)
class Topology:
    """Numbers of one layer. ``inputs`` and ``outputs`` are those with an edge, ``nested`` the graphs averaged over.

    ``gap`` and ``relative_gap`` (to its bound) are NaN where mean degrees are too small for the bound to mean anything;
    so are ``imdb`` and ``imsg`` where no nested graph is left.
    """

    density: float
    inputs: int
    outputs: int
    gap: float
    relative_gap: float
    imdb: float
    weighted_gap: float
    imsg: float
    nested: int

    @property
    def coordinate(self) -> np.ndarray:
        """Return the full-spectrum coordinate (gap, weighted gap, IMDB, IMSG), with 0 for what is not defined."""
        return np.nan_to_num([self.gap, self.weighted_gap, self.imdb, self.imsg])

    @property
    def length(self) -> float:
        """Return the norm of the coordinate."""
        return float(np.linalg.norm(self.coordinate))


def topology(edges: sparse.csr_array, convention: Convention = COORDINATE) -> Topology:
    """Measure a matrix (outputs, inputs) whose stored entries are the edges, of any sign and zeros included."""
    graph = alive(edges)
    gap, bound = _gap(graph, convention)
    first, second = leading(graph)
    gaps, weighted = [], []
    for nested in _nested(graph):
        own, _ = _gap(nested, convention)
        if math.isnan(own):
            continue
        right, left = nested.shape
        times = max(left, right) / (left + right - 1) if convention.expansion else 1.0
        high, low = leading(nested)
        gaps.append(times * own)
        weighted.append(times * (high - low))
    return Topology(
        density=edges.nnz / max(1, math.prod(edges.shape)),
        inputs=graph.shape[1],
        outputs=graph.shape[0],
        gap=gap,
        relative_gap=gap / bound,
        imdb=float(np.mean(gaps)) if gaps else math.nan,
        weighted_gap=first - second,
        imsg=float(np.mean(weighted)) if gaps else math.nan,
        nested=len(gaps),
    )


def alive(edges: sparse.csr_array) -> sparse.csr_array:
    """Keep the rows and columns that have an edge."""
    rows = np.flatnonzero(np.diff(edges.indptr))
    columns, places = np.unique(edges.indices, return_inverse=True)
    return sparse.csr_array((edges.data, places, edges.indptr[[*rows, -1]]), shape=(len(rows), len(columns)))


def leading(matrix: sparse.csr_array) -> tuple[float, float]:
    """Compute the two largest singular values of the absolute values of ``matrix``; 0 where there is none.

    Short matrices are decomposed whole; others by Lanczos iterations, or whole where these do not settle. A largest
    value that two components share is found twice (tested with components that are alike).
    """
    short, matrix = min(matrix.shape), abs(matrix)
    if short > DENSE:
        start = np.random.default_rng(0).uniform(0.5, 1.5, short)
        try:
            low, high = sorted(svds(matrix, 2, tol=TOLERANCE, v0=start, return_singular_vectors=False))
            return float(high), float(low)
        except ArpackNoConvergence:
            pass
    values = svdvals(matrix.toarray()) if short else np.empty(0)
    first, second = np.pad(values, (0, 2))[:2]
    return float(first), float(second)


def _gap(graph: sparse.csr_array, convention: Convention) -> tuple[float, float]:
    """Compute the gap of a graph without lone nodes, and its bound; NaN where the mean degrees are too small."""
    right, left = graph.shape
    if not graph.nnz:
        return math.nan, math.nan
    of_inputs, of_outputs = graph.nnz / left, graph.nnz / right
    if of_inputs < 3 or of_outputs <= 1 or (convention.strict and of_outputs < 3):
        return math.nan, math.nan
    bound = math.sqrt(of_inputs - 1) + math.sqrt(of_outputs - 1)
    pattern = graph.copy()
    pattern.data = np.ones(graph.nnz)
    return bound - leading(pattern)[1], bound


def _nested(graph: sparse.csr_array) -> Iterator[sparse.csr_array]:
    """Yield the inputs of each degree that several have, with their outputs; one alone is a star without a gap."""
    by_input = graph.tocsc()
    degrees = np.diff(by_input.indptr)
    for degree, count in zip(*np.unique(degrees, return_counts=True), strict=True):
        if count > 1:
            places = by_input.indptr[:-1][degrees == degree, None] + np.arange(degree)
            outputs, rows = np.unique(by_input.indices[places], return_inverse=True)
            ends = np.arange(0, places.size + 1, degree)
            values = by_input.data[places].ravel()
            yield sparse.csc_array((values, rows.ravel(), ends), shape=(len(outputs), int(count))).tocsr()
