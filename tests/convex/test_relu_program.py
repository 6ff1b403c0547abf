import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from sparelu.convex.solver.cones import FREE, ConeNorm, Cones
from sparelu.convex.solver.newton import minimise_program, start_point
from sparelu.convex.solver.program import Program
from tests.convex.problems import loss_by_formula, make_design, make_loss, solve_by_cvxpy


def _solved(n: int, d: int, patterns: int, kind: str, penalty: float, seed: int, constant: bool = False):
    design = make_design(n, d, patterns, seed, constant)
    ridge = np.ones((n, 1 if constant else 0))
    program = Program.relu(design, make_loss(design, kind, 1, seed), penalty, ridge)
    norm = ConeNorm(penalty, Cones(design.x, design.patterns), program.pattern)
    *_, last = minimise_program(program, norm, start_point(program), 1e-10)
    return program, last


CASES = [("squared", 0, False), ("squared", 1, True), ("logistic", 2, False)]


@pytest.mark.parametrize(("kind", "seed", "constant"), CASES)
def test_objective_is_that_of_another_solver_and_of_the_network(kind: str, seed: int, constant: bool) -> None:
    program, found = _solved(50, 4, 25, kind, 0.005, seed, constant)
    assert found.gap <= 1e-10
    other = solve_by_cvxpy(program.design, program.loss, 0.005, program.ridge, "relu")
    assert found.primal == pytest.approx(other, rel=1e-8)
    assert found.primal <= other * (1 + 1e-9)
    # The network of Pilanci and Ergen: w = u / sqrt|u|, v = s sqrt|u|, its objective by torch.
    live = np.flatnonzero(found.blocks.any(axis=(1, 2)))
    u = found.blocks[live, :, 0]
    size = np.linalg.norm(u, axis=1)
    w, v = torch.tensor(u / np.sqrt(size)[:, None]), torch.tensor(program.sign[live] * np.sqrt(size))
    f = torch.relu(torch.tensor(program.design.x) @ w.T) @ v[:, None] + torch.tensor(program.ridge @ found.ridge)
    weights = float((w**2).sum() + (v**2).sum() + (found.ridge**2).sum())
    assert loss_by_formula(program.loss, f.numpy()) + 0.005 / 2 * weights == pytest.approx(found.primal, rel=1e-10)
    for j, block in zip(live, u, strict=True):
        inside = np.where(program.design.patterns.masks()[program.pattern[j]], 1, -1) * (program.design.x @ block)
        assert inside.min() >= -1e-12 * np.linalg.norm(block)


def test_gap_is_the_one_that_nonnegative_least_squares_gives() -> None:
    """The dual norm |Proj_K(g)| recomputed for every block of both signs by nnls."""
    program, found = _solved(40, 3, 20, "squared", 0.01, 5)
    worst = 0.0
    for mask in program.design.patterns.masks():
        side = np.where(mask, 1.0, -1.0)[:, None] * program.design.x
        for sign in (1, -1):
            g = sign * (mask[:, None] * program.design.x).T @ found.feasible[:, 0]
            worst = max(worst, nnls(side.T, -g)[1])
    assert worst <= 0.01 * (1 + 1e-10)
    theta, c = found.feasible[:, 0], program.loss.c
    dual = theta @ program.loss.y[:, 0] - (theta**2 / c).sum() / 2
    assert found.dual == pytest.approx(dual, rel=1e-12)
    assert found.primal - dual <= 1e-9 * found.primal


@pytest.mark.parametrize("seed", range(4))
def test_projection_from_any_start_is_that_of_nonnegative_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = make_design(60, 8, 12, seed)
    cones = Cones(design.x, design.patterns)
    for i in range(12):
        side = np.where(design.patterns.masks()[i], 1.0, -1.0)[:, None] * design.x
        kept = FREE
        for _ in range(5):
            w = rng.standard_normal(8)
            expected = w + side.T @ nnls(side.T, -w)[0]
            p, kept = cones.project(i, w, kept)  # from the set of an unrelated point
            assert p == pytest.approx(expected, abs=1e-9)
            assert (kept[1] > 0).all()
            face = cones.face(i, kept[0])
            assert np.abs(cones.x[kept[0]] @ face).max(initial=0) < 1e-10
            assert face @ (face.T @ w) == pytest.approx(p, abs=1e-9)
