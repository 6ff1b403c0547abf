import cvxpy
import numpy as np
import pytest

from sparelu.convex.decompose import decompose, prune_to_rank
from sparelu.convex.solver.cones import Cones
from tests.convex.problems import make_design


@pytest.mark.parametrize("seed", range(3))
def test_exact_decomposition_is_the_least_that_another_solver_finds(seed: int) -> None:
    design = make_design(25, 4, 6, seed)
    cones, rng = Cones(design.x, design.patterns), np.random.default_rng(seed)
    for i in range(len(design.patterns)):
        u = rng.standard_normal(4)
        side = np.where(design.patterns.masks()[i], 1.0, -1.0)[:, None] * design.x
        v, w = decompose(cones, i, u)
        assert v - w == pytest.approx(u, abs=1e-12)
        assert min((side @ v).min(), (side @ w).min()) > -1e-9
        a, b = cvxpy.Variable(4), cvxpy.Variable(4)
        best = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(a) + cvxpy.norm(b)), [a - b == u, side @ a >= 0, side @ b >= 0])
        best.solve(solver="CLARABEL")
        assert np.linalg.norm(v) + np.linalg.norm(w) == pytest.approx(best.value, rel=1e-6)
        short = decompose(cones, i, u, exact=False)
        assert np.linalg.norm(short[1]) <= np.linalg.norm(w) + 1e-9
        outputs = np.maximum(design.x @ v, 0) - np.maximum(design.x @ w, 0)
        assert outputs == pytest.approx(design.patterns.masks()[i] * (design.x @ u), abs=1e-9)


def test_a_block_in_its_cone_is_one_neuron() -> None:
    design = make_design(25, 4, 6, 0)
    cones = Cones(design.x, design.patterns)
    gate = design.patterns.gates[2]
    v, w = decompose(cones, 2, gate)
    assert np.array_equal(v, gate)
    assert not w.any()
    v, w = decompose(cones, 2, -gate)
    assert np.array_equal(w, gate)
    assert not v.any()


@pytest.mark.parametrize("seed", range(3))
def test_pruning_leaves_the_sum_and_as_many_neurons_as_the_rank(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.abs(rng.standard_normal((6, 15))) * rng.choice([-1.0, 1.0], 15)
    z[:, 3] = 2 * z[:, 1]
    factors = prune_to_rank(z, np.ones(15))
    assert z @ factors == pytest.approx(z.sum(axis=1), abs=1e-9)
    assert (factors >= 0).all()
    assert np.linalg.matrix_rank(z[:, factors > 0]) == (factors > 0).sum() <= 6


def test_neurons_split_at_an_optimum_are_joined_at_the_same_penalty() -> None:
    """Of an optimum all neurons are tight: |u_j| = z_j . theta, so that no combination that vanishes has a price."""
    rng = np.random.default_rng(0)
    z, theta = np.abs(rng.standard_normal((8, 5))), np.abs(rng.standard_normal(8))
    share = rng.uniform(0.2, 0.8, 5)
    split = np.hstack([z * share, z * (1 - share)])
    size = split.T @ theta
    factors = prune_to_rank(split, size)
    assert (factors > 0).sum() == 5
    assert factors @ size == pytest.approx(size.sum(), rel=1e-10)
    assert split @ factors == pytest.approx(z.sum(axis=1), abs=1e-10)
    with pytest.raises(ValueError, match="silent"):
        prune_to_rank(np.zeros((3, 2)), np.ones(2))
