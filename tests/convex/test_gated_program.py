import dataclasses

import numpy as np
import pytest

from sparelu.convex.solver import newton_system
from sparelu.convex.solver.newton import minimise_program, start_point
from sparelu.convex.solver.penalties import GroupNorm, SparseGroupNorm
from sparelu.convex.solver.program import Program
from tests.convex.problems import gap_by_formula, make_design, make_loss, solve_by_cvxpy

CASES = [("squared", 1), ("logistic", 1), ("squared", 3), ("logistic", 2)]


def _solved(program: Program, penalty, tolerance: float = 1e-9):
    *_, last = minimise_program(program, penalty, start_point(program), tolerance)
    return last


def _program(kind: str, outputs: int, penalty: float, seed: int = 0, weighted: bool = False, n: int = 40) -> Program:
    design = make_design(n, 4, 30, seed, constant=True)
    return Program.gated(design, make_loss(design, kind, outputs, seed, weighted), penalty, np.ones((n, 1)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "outputs"), CASES)
def test_objective_is_that_of_another_solver(kind: str, outputs: int, seed: int) -> None:
    program = _program(kind, outputs, 0.01, seed, weighted=seed == 1)
    found = _solved(program, GroupNorm(0.01))
    assert found.gap <= 1e-9
    other = solve_by_cvxpy(program.design, program.loss, 0.01, program.ridge)
    assert found.primal == pytest.approx(other, rel=1e-8)
    assert found.primal <= other * (1 + 1e-9)


@pytest.mark.parametrize(("kind", "outputs"), CASES)
def test_gap_is_the_one_that_dense_formulas_give(kind: str, outputs: int) -> None:
    program = _program(kind, outputs, 0.02, weighted=True, n=70)
    found = _solved(program, GroupNorm(0.02))
    primal, dual = gap_by_formula(
        program.design, program.loss, 0.02, program.ridge, found.blocks, found.ridge, found.feasible
    )
    assert found.primal == pytest.approx(primal, rel=1e-12)
    assert found.dual == pytest.approx(dual, rel=1e-12)
    assert 0 <= primal - dual <= 1.01e-9 * primal
    norms = np.linalg.norm(found.blocks, axis=(1, 2))
    assert 0 < (norms > 0).sum() < len(norms)


def test_gap_never_rises() -> None:
    program = _program("squared", 1, 0.003)
    gaps = [p.gap for p in minimise_program(program, GroupNorm(0.003), start_point(program), 1e-10)]
    assert len(gaps) > 3
    assert all(b <= a for a, b in zip(gaps, gaps[1:], strict=False))


def test_entries_are_zero_too_with_the_sparse_penalty() -> None:
    program = _program("squared", 2, 0.01)
    found = _solved(program, SparseGroupNorm(0.01, 0.01))
    other = solve_by_cvxpy(program.design, program.loss, 0.01, program.ridge, entries=0.01)
    assert found.gap <= 1e-9
    assert found.primal == pytest.approx(other, rel=1e-8)
    live = found.blocks[found.blocks.any(axis=(1, 2))]
    assert 0 < np.count_nonzero(live) < live.size


def test_from_the_largest_useful_penalty_on_the_network_is_empty() -> None:
    program = _program("squared", 1, 1.0)
    theta = program.loss.dual_point(np.zeros((40, 1)))
    bare = dataclasses.replace(program, ridge=np.zeros((40, 0)))
    largest = GroupNorm(1.0).dual_norm(program.correlate(theta))
    for factor, empty in ((1.0001, True), (0.999, False)):
        at = dataclasses.replace(bare, penalty=factor * largest)
        found = _solved(at, GroupNorm(factor * largest))
        assert found.gap <= 1e-9
        assert (not found.blocks.any()) is empty


@pytest.mark.parametrize("limit", [89, 5])
@pytest.mark.parametrize(("kind", "outputs"), [("squared", 1), ("logistic", 2)])
def test_coordinates_and_conjugate_gradients_find_the_same(
    kind: str, outputs: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _program(kind, outputs, 0.01, n=90)
    rows = _solved(program, GroupNorm(0.01))
    monkeypatch.setattr(newton_system, "LARGEST_MATRIX", limit)
    found = _solved(program, GroupNorm(0.01), 1e-8)
    assert found.gap <= 1e-8
    assert found.primal == pytest.approx(rows.primal, rel=2e-8)


@pytest.mark.parametrize("seed", range(5))
def test_columns_that_depend_on_others_or_never_change_do_no_harm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    design = make_design(n, 3, 25, seed)
    copies = rng.integers(-2, 3, (3, 3)) * 1.0
    wide = np.column_stack([design.x, design.x @ copies, np.zeros(n), np.full(n, 100.0), rng.standard_normal(n) * 1e-5])
    program = Program.gated(
        dataclasses.replace(design, x=wide), make_loss(design, "squared", 1, seed), 0.01, np.zeros((n, 0))
    )
    found = _solved(program, GroupNorm(0.01))
    primal, dual = gap_by_formula(
        program.design, program.loss, 0.01, program.ridge, found.blocks, found.ridge, found.feasible
    )
    assert primal - dual <= 1e-8 * primal
