import itertools

import numpy as np
import pytest

from sparelu.convex.arrangement import enumerate_patterns
from sparelu.convex.kernel_view import gated_tangent_kernel, reweight, solve_weighted, tangent_weights
from sparelu.convex.solver.loss import Squared
from sparelu.convex.solver.newton import minimise_program, start_point
from sparelu.convex.solver.penalties import GroupNorm
from sparelu.convex.solver.program import Design, Program


def _planted(n: int = 20, d: int = 3) -> tuple[Design, Squared]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    patterns = enumerate_patterns(x)
    assert patterns is not None
    y = np.maximum(x @ rng.standard_normal((d, 4)), 0) @ rng.standard_normal((4, 1))
    return Design(x, patterns), Squared(y, np.full(n, 1 / n))


def test_closed_form_is_what_gaussian_gates_give() -> None:
    rng = np.random.default_rng(1)
    x, draws = rng.standard_normal((8, 4)), 40_000
    gates = rng.standard_normal((draws, 4)) @ x.T >= 0
    expected = (gates.T.astype(float) @ gates) / draws * (x @ x.T)
    error = np.abs(gated_tangent_kernel(x) - expected)
    assert (error <= 4 / np.sqrt(draws) * np.abs(x @ x.T)).all()
    assert gated_tangent_kernel(np.zeros((2, 3))) == pytest.approx(0)


def test_the_kernel_is_that_of_the_weights_of_all_patterns() -> None:
    design, _ = _planted()
    weights = tangent_weights(design.x, design.patterns, 20_000, np.random.default_rng(2))
    assert weights.sum() > 0.99
    masks = design.patterns.masks()
    kernel = ((masks.T * weights) @ masks) * (design.x @ design.x.T)
    assert np.abs(kernel - gated_tangent_kernel(design.x)).max() < 0.1


def test_reweighting_falls_from_the_tangent_kernel_to_the_optimum_of_the_program() -> None:
    design, loss = _planted()
    penalty = 0.01
    program = Program.gated(design, loss, penalty, np.empty((20, 0)))
    *_, best = minimise_program(program, GroupNorm(penalty), start_point(program), 1e-9)
    weights = tangent_weights(design.x, design.patterns, 20_000, np.random.default_rng(3))
    tangent = min(solve_weighted(design, loss, penalty, c * weights).objective for c in np.geomspace(0.1, 100, 30))
    assert tangent > best.primal * 1.01
    steps = [found.objective for found in itertools.islice(reweight(design, loss, penalty, weights), 200)]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(steps[1:], steps[2:], strict=False))
    assert best.primal * (1 - 1e-9) <= steps[-1] < best.primal * 1.01
    assert steps[-1] < tangent
