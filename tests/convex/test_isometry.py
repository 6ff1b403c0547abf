import numpy as np
import pytest
from scipy.optimize import linprog

from sparelu.convex.isometry import (
    half_space_gate,
    linear_isometry,
    neuron_isometry,
    normalised_isometry,
    probability_of_a_half_space,
    recover_linear,
)
from sparelu.convex.patterns import Patterns, draw_patterns


def _rows(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray, Patterns]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) / np.sqrt(n)
    w = rng.standard_normal(d)
    return x, w / np.linalg.norm(w), draw_patterns(x, 50, rng)


def test_chance_of_a_half_space_is_what_linear_programs_count() -> None:
    assert probability_of_a_half_space(20, 10) == pytest.approx(0.5)
    assert probability_of_a_half_space(5, 8) == 1.0
    found = []
    for seed in range(200):
        x = np.random.default_rng(seed).standard_normal((10, 4))
        found.append(linprog(np.zeros(4), A_ub=-x, b_ub=-np.ones(10), bounds=(None, None)).status == 0)
    chance = probability_of_a_half_space(10, 4)
    assert abs(np.mean(found) - chance) < 4 * np.sqrt(chance * (1 - chance) / 200)


@pytest.mark.parametrize("seed", range(6))
def test_a_linear_neuron_is_recovered_wherever_the_condition_holds(seed: int) -> None:
    x, w, patterns = _rows(30, 6, seed)
    value = linear_isometry(x, patterns, w)
    dual = x @ np.linalg.pinv(x.T @ x) @ w
    dense = max(np.linalg.norm((m[:, None] * x).T @ dual) for m in patterns.masks())
    assert value == pytest.approx(dense, rel=1e-10)
    found = recover_linear(x, x @ w, patterns, 1e-6)
    assert found.gap <= 1e-6
    if value < 1:
        assert found.recovers(w)
    assert not found.recovers(-w)


def test_the_pattern_of_all_ones_is_found_and_prevents_recovery() -> None:
    met = 0
    for seed in range(12):
        x, w, patterns = _rows(14, 6, seed)
        gate = half_space_gate(x)
        assert (x @ gate.T > 0).all()
        if len(gate):
            met += 1
            with_ones = patterns.add(Patterns.of_gates(x, gate))
            assert not recover_linear(x, x @ w, with_ones, 1e-6).recovers(w)
            assert linear_isometry(x, with_ones, w) >= 1 - 1e-9
    assert 0 < met < 12


def test_too_few_rows_recover_nothing() -> None:
    x, w, patterns = _rows(6, 6, 0)
    assert linear_isometry(x, patterns, w) >= 1 - 1e-9
    assert not recover_linear(x, x @ w, patterns, 1e-6).recovers(w)


def test_conditions_of_relu_neurons_are_their_definitions() -> None:
    x, w, patterns = _rows(60, 4, 3)
    active = x @ w >= 0
    scaled = np.linalg.pinv((active[:, None] * x).T @ (active[:, None] * x)) @ w
    expected = max(
        np.linalg.norm((m[:, None] * x).T @ (active * (x @ scaled))) for m in patterns.masks() if (m != active).any()
    )
    assert neuron_isometry(x, patterns, w) == pytest.approx(expected, rel=1e-8)
    one = normalised_isometry(x, patterns, w[None])
    u, s, v = np.linalg.svd(active[:, None] * x, full_matrices=False)
    unit = s * (v @ w) / np.linalg.norm(s * (v @ w))
    other = max(
        np.linalg.norm(np.linalg.svd(m[:, None] * x, full_matrices=False)[0].T @ (u @ unit))
        for m in patterns.masks()
        if (m != active).any()
    )
    assert one == pytest.approx(other, rel=1e-8)
    assert normalised_isometry(x, patterns, np.stack([w, -w])) > 0
