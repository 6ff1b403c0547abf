"""The noisy fitter: optimality against a general solver, knots against other libraries, choices of the
strength.
"""

import cvxpy as cp
import numpy as np
import pytest

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.free_knots import LinearSpline, move_knots, refit_spline, remove_knots
from sparelu.interpolate.curves.hat_basis import Series
from sparelu.interpolate.curves.trend_filter import denoise, largest_strength
from sparelu.interpolate.piecewise import Piecewise, fit_spline, sparsest_interpolant
from sparelu.run import fit


def truth(x: np.ndarray) -> np.ndarray:
    """Knots at 2, 5 and 8."""
    return np.maximum(x - 2, 0) - 2 * np.maximum(x - 5, 0) + 1.5 * np.maximum(x - 8, 0)


def noisy(n: int = 200) -> Data:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, n)
    return Data(x[:, None], truth(x) + 0.3 * rng.normal(size=n))


@pytest.mark.parametrize("share", [1.001, 0.5, 0.03, 1e-3, 1e-5])
def test_denoising_equals_a_general_solver_and_proves_it(share: float) -> None:
    rng = np.random.default_rng(1)
    x = np.round(rng.uniform(0, 1, 70), 2)
    y = np.sin(6 * x) + 0.2 * rng.normal(size=70)
    series = Series.of(x, y)
    strength = share * largest_strength(series)
    found = denoise(series, strength)
    theta = cp.Variable(series.x.size)
    slope = cp.multiply(cp.diff(theta), 1 / np.diff(series.x))
    loss = cp.sum(cp.multiply(series.w / 2, cp.square(theta - series.y)))
    cp.Problem(cp.Minimize(loss + strength * cp.norm1(cp.diff(slope)))).solve(solver=cp.CLARABEL)
    assert np.abs(theta.value - found.theta).max() < 1e-5
    assert found.gap < 1e-10
    assert (found.knots.size == 0) == (share > 1)


def test_path_from_warm_starts_equals_cold_starts() -> None:
    data = noisy()
    series = Series.of(data.x[:, 0], data.y)
    warm = None
    for strength in np.geomspace(1, 1e-4, 8) * largest_strength(series):
        warm = denoise(series, float(strength), warm)
        cold = denoise(series, float(strength))
        assert np.array_equal(warm.knots, cold.knots)
        assert np.abs(warm.theta - cold.theta).max() < 1e-9


def test_second_step_keeps_values_and_variation_with_fewer_knots() -> None:
    data = noisy()
    series = Series.of(data.x[:, 0], data.y)
    solution = denoise(series, 1e-3 * largest_strength(series))
    found = sparsest_interpolant(series, solution)
    assert np.abs(found(series.x) - solution.theta).max() < 1e-10
    assert np.abs(found.changes).sum() == pytest.approx(np.abs(solution.changes).sum(), rel=1e-9)
    assert found.knots.size < solution.knots.size
    plain = fit_spline(series, solution, refit=False)
    assert np.abs(plain(series.x) - solution.theta).max() < 1e-9


def test_cross_validation_finds_the_knots() -> None:
    data = noisy(400)
    solution = fit(Piecewise(grid=25, folds=5), data, Budget((50,)))
    network = solution.network
    assert network.nonzeros == 3
    hidden = network.layers[0]
    knots = np.sort(-(hidden.dense_bias() / hidden.values).numpy())
    assert knots == pytest.approx([2, 5, 8], abs=0.3)
    at = np.linspace(0, 10, 300)
    assert np.sqrt(np.mean((network(at[:, None]).numpy()[:, 0] - truth(at)) ** 2)) < 0.1
    assert all(c.holds for c in solution.certificates)


def test_budget_chooses_the_strength() -> None:
    data = noisy()
    losses = []
    for k in (1, 2, 3, 6):
        solution = fit(Piecewise(), data, Budget((20,), nonzeros=k))
        assert solution.network.nonzeros <= k
        losses.append(solution.history[-1]["loss"])
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < 0.12


def test_no_worse_than_pwlf_at_equal_knots() -> None:
    pwlf = pytest.importorskip("pwlf")
    data = noisy(120)
    ours = fit(Piecewise(), data, Budget((20,), nonzeros=3)).history[-1]["loss"]
    model = pwlf.PiecewiseLinFit(data.x[:, 0], data.y, seed=1)
    model.fit(4)
    assert ours <= 1.001 * model.ssr / data.n


def test_moving_knots_reaches_a_stationary_point() -> None:
    data = noisy()
    series = Series.of(data.x[:, 0], data.y)
    start = refit_spline(series, LinearSpline(float(series.x[0]), 0.0, 0.0, np.array([2.4, 5.4, 7.5]), np.ones(3)))
    found = move_knots(series, start)
    assert found.error(series) < start.error(series)
    for k in range(3):
        for shift in (-1e-3, 1e-3):
            knots = found.knots + shift * (np.arange(3) == k)
            near = refit_spline(series, LinearSpline(found.x0, found.left, found.slope, knots, found.changes))
            assert near.error(series) > found.error(series) * (1 - 1e-4)
    assert remove_knots(series, found, 2).knots.size == 2
    assert remove_knots(series, found, 2).error(series) > found.error(series)


def test_repeated_inputs_are_averaged_and_bad_ones_refused() -> None:
    x = np.array([0.0, 0, 1, 1, 2, 2, 3, 3])[:, None]
    y = np.array([0.0, 0.2, 1, 1.2, 0, 0.2, 1, 1.2])
    solution = fit(Piecewise(strength=1e-6, refit=False), Data(x, y), Budget((9,)))
    assert solution.network(x[::2]).numpy()[:, 0] == pytest.approx(y[::2] + 0.1, abs=1e-4)
    assert "three different inputs" in str(Piecewise().refuses(Data(x[:4], y[:4]), Budget((9,))))


def test_short_series_get_no_more_knots_than_their_folds_tried() -> None:
    """A level that falls once, as the flow of the Nile did: a dozen knots of noise must not be fitted."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = np.arange(100.0)
        y = np.where(x < 28, 1100.0, 850.0) + 120 * rng.standard_normal(100)
        solution = fit(Piecewise(), Data(x[:, None], y), Budget((100,)), seed=seed)
        assert solution.network.nonzeros <= 5
        level = np.where(x < 28, 1100.0, 850.0)
        gap = solution.network(x[:, None]).numpy()[:, 0] - level
        assert np.sqrt(np.mean(gap**2)) < np.std(level)


def test_a_bound_that_binds_is_said() -> None:
    x = np.linspace(0, 1, 300)
    data = Data(x[:, None], np.sin(40 * x))
    few = fit(Piecewise(grid=20, folds=3), data, Budget((5,)))
    assert few.network.nonzeros <= 5
    assert not few.certificates[1].holds
    assert "all 5 that `hidden` allows" in few.certificates[1].assumptions[1].evidence
    asked = fit(Piecewise(grid=20, folds=3), data, Budget((20,), nonzeros=5))
    assert asked.certificates[1].holds
