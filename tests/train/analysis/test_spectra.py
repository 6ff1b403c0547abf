"""Spectra of bipartite graphs against known ones, the adjacency matrix, and dense decompositions."""

import math
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import eigsh

import sparelu.train.analysis.spectra as spectra
from sparelu.train.analysis.spectra import COORDINATE, PARENT, alive, leading, topology


def csr(dense: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(np.asarray(dense, dtype=float))


def erdos_renyi(density: float, seed: int, shape: tuple[int, int] = (300, 784)) -> sparse.csr_array:
    return csr(np.random.default_rng(seed).random(shape) < density)


def biregular(inputs: int, outputs: int, degree: int, seed: int) -> sparse.csr_array:
    """Every input has ``degree`` edges, every output as many as each other: stubs are matched, doubles rewired."""
    rng = np.random.default_rng(seed)
    left = np.repeat(np.arange(inputs), degree)
    right = rng.permutation(np.repeat(np.arange(outputs), inputs * degree // outputs))
    while True:
        _, first = np.unique(left * outputs + right, return_index=True)
        double = np.setdiff1d(np.arange(len(left)), first)
        if not len(double):
            return csr(sparse.coo_array((np.ones(len(left)), (right, left)), (outputs, inputs)).toarray())
        other = rng.choice(len(left), len(double), replace=False)
        for i, j in zip(double, other, strict=True):
            right[i], right[j] = right[j], right[i]


def test_a_complete_graph_has_one_singular_value() -> None:
    """K_{20,30}: s_2 = 0 and the gap is sqrt(29) + sqrt(19)."""
    found = topology(csr(np.ones((30, 20))))
    assert found.gap == pytest.approx(9.7441, abs=1e-4)
    assert found.relative_gap == pytest.approx(1)
    assert found.weighted_gap == pytest.approx(math.sqrt(600))


def test_two_components_are_an_alarm() -> None:
    """Two K_{50,50}: s_2 = s_1 = 50 and the gap is 14 - 50."""
    found = topology(csr(np.kron(np.eye(2), np.ones((50, 50)))))
    assert found.gap == pytest.approx(-36)
    assert found.weighted_gap == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_biregular_graph_is_nearly_ramanujan(seed: int) -> None:
    """300 inputs of degree 12, 200 outputs of degree 18: the bound is sqrt(11) + sqrt(17); one printed gap is 0.33."""
    graph = biregular(300, 200, 12, seed)
    assert set(graph.sum(axis=0)) == {12}
    assert set(graph.sum(axis=1)) == {18}
    found = topology(graph)
    assert found.gap / found.relative_gap == pytest.approx(7.4397, abs=1e-4)
    assert -0.1 < found.gap < 0.6


@pytest.mark.parametrize(("density", "gap"), [(0.01, -0.86), (0.05, -0.02), (0.1, 0.61), (0.3, 4.12), (0.5, 9.53)])
def test_the_gap_of_random_masks_rises_with_density_alone(density: float, gap: float) -> None:
    """Published means for 784 x 300, here over three draws whose standard deviation is about 0.08."""
    found = [topology(erdos_renyi(density, seed)).gap for seed in range(3)]
    assert np.mean(found) == pytest.approx(gap, abs=0.13)


def test_values_are_those_of_the_adjacency_matrix() -> None:
    """Its eigenvalues are +-s: (s_1, s_1, s_2, s_2) by absolute value, so the second of these is s_1."""
    graph = erdos_renyi(0.1, 0, (90, 140))
    adjacency = sparse.block_array([[None, graph], [graph.T, None]]).tocsr()
    found = np.sort(np.abs(eigsh(adjacency, 4, which="LM", v0=np.linspace(1, 2, 230), return_eigenvectors=False)))[::-1]
    first, second = leading(graph)
    assert found == pytest.approx([first, first, second, second], rel=1e-9)


@pytest.mark.parametrize("density", [0.004, 0.02, 0.2])
@pytest.mark.parametrize("shape", [(260, 700), (700, 260), (400, 400)])
def test_iterations_agree_with_dense_decompositions(shape: tuple[int, int], density: float) -> None:
    assert min(shape) > spectra.DENSE
    rng = np.random.default_rng(1)
    graph = sparse.csr_array(sparse.random_array(shape, density=density, rng=rng, format="csr"))
    graph.data *= rng.choice([-1, 1], graph.nnz)
    wanted = np.linalg.svd(np.abs(graph.toarray()), compute_uv=False)[:2]
    assert leading(graph) == pytest.approx(wanted, rel=1e-8)


def test_equal_components_are_not_taken_for_one() -> None:
    """Three copies of one random matrix too long to be decomposed whole: s_1 is threefold."""
    block = erdos_renyi(0.1, 2, (250, 300))
    rng = np.random.default_rng(0)
    copies = sparse.block_diag([block] * 3, format="csr")[rng.permutation(750)][:, rng.permutation(900)]
    first, second = leading(sparse.csr_array(copies))
    assert first == pytest.approx(second, rel=1e-10)
    assert first == pytest.approx(np.linalg.norm(block.toarray(), 2), rel=1e-8)


def test_iterations_that_do_not_settle_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = erdos_renyi(0.05, 0)
    wanted = leading(graph)

    def fails(*args: object, **kwargs: object) -> None:
        raise spectra.ArpackNoConvergence("no convergence", np.empty(0), np.empty(0))

    monkeypatch.setattr(spectra, "svds", fails)
    assert leading(graph) == pytest.approx(wanted, rel=1e-9)


def test_the_weighted_gap_scales_and_ignores_signs() -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((40, 60)) * (rng.random((40, 60)) < 0.3)
    base, scaled = topology(csr(weights)), topology(csr(-3 * np.abs(weights)))
    assert scaled.weighted_gap == pytest.approx(3 * base.weighted_gap)
    assert scaled.imsg == pytest.approx(3 * base.imsg)
    assert (scaled.gap, scaled.imdb) == pytest.approx((base.gap, base.imdb))
    product = np.outer(rng.uniform(1, 2, 40), rng.uniform(1, 2, 60))
    assert topology(csr(product)).weighted_gap == pytest.approx(np.linalg.norm(product))


@pytest.mark.parametrize("convention", [PARENT, COORDINATE])
def test_nested_graphs_by_hand(convention: spectra.Convention) -> None:
    """Inputs of degree 4 (three, on outputs 0-3), 3 (two, on outputs 4-6), 2 (three), 5 (one).

    The first are a K_{3,4}: gap sqrt(3) + sqrt(2), one nonzero singular value sqrt(12). The second a K_{2,3}, two
    alike: enough for the second paper, not the first; mean degree of outputs 2. The third have too small degrees.
    """
    matrix = np.zeros((8, 9))
    matrix[0:4, 0:3], matrix[4:7, 3:5], matrix[6:8, 5:8], matrix[3:8, 8] = 1, 1, 1, 1
    first, second = math.sqrt(3) + math.sqrt(2), math.sqrt(2) + 1
    found = topology(csr(matrix), convention)
    if convention is PARENT:
        assert found.nested == 1
        assert (found.imdb, found.imsg) == pytest.approx((first, math.sqrt(12)))
    else:
        assert found.nested == 2
        assert found.imdb == pytest.approx((4 / 6 * first + 3 / 4 * second) / 2)
        assert found.imsg == pytest.approx((4 / 6 * math.sqrt(12) + 3 / 4 * math.sqrt(6)) / 2)


def test_lone_nodes_do_not_count() -> None:
    matrix = np.zeros((50, 60))
    matrix[10:40, 20:40] = 1
    found = topology(csr(matrix))
    assert found.gap == pytest.approx(9.7441, abs=1e-4)
    assert (found.inputs, found.outputs) == (20, 30)
    assert found.density == 600 / 3000
    assert alive(csr(matrix)).shape == (30, 20)


def test_numbers_that_mean_nothing_are_not_given() -> None:
    """Two edges an input: below the degree at which there is a bound. In the coordinate it counts as 0."""
    found = topology(csr(np.ones((2, 50))))
    assert math.isnan(found.gap)
    assert math.isnan(found.imdb)
    assert found.coordinate == pytest.approx([0, 10, 0, 0])
    assert found.length == pytest.approx(10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = topology(csr(np.eye(1)))
    assert (one.weighted_gap, one.inputs, one.outputs) == (1, 1, 1)


def test_edges_of_weight_zero_are_edges() -> None:
    """A weight that was grown a moment ago is 0 and in the mask."""
    graph = csr(np.ones((30, 20)))
    graph.data[:7] = 0
    assert topology(graph).gap == pytest.approx(9.7441, abs=1e-4)
