"""Banded least squares of linear splines against dense ones."""

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from sparelu.interpolate.curves.free_knots import LinearSpline, _costs, _step, refit_spline
from sparelu.interpolate.curves.hat_basis import Hats, Series


def series(n: int = 60) -> Series:
    rng = np.random.default_rng(3)
    x = np.round(rng.uniform(0, 10, n), 2)
    return Series.of(np.concatenate([x, x[:5]]), rng.normal(size=n + 5))


def dense(given: Series, nodes: np.ndarray) -> np.ndarray:
    """Hat functions as columns, by interpolation of unit vectors."""
    return np.column_stack([np.interp(given.x, nodes, row) for row in np.eye(nodes.size)])


def spline(given: Series, knots: np.ndarray) -> LinearSpline:
    return refit_spline(given, LinearSpline(float(given.x[0]), 0.0, 0.0, knots, np.ones(knots.size)))


KNOTS = np.array([1.305, 2.205, 4.005, 6.105, 8.805])


def test_heights_are_those_of_dense_weighted_least_squares() -> None:
    given = series()
    nodes = np.concatenate([[given.x[0]], KNOTS, [given.x[-1]]])
    hats, root = Hats.at(given, nodes), np.sqrt(given.w)
    expected = np.linalg.lstsq(dense(given, nodes) * root[:, None], given.y * root, rcond=None)[0]
    found = hats.least_squares()
    assert found == pytest.approx(expected, abs=1e-11)
    assert hats.apply(found) == pytest.approx(np.interp(given.x, nodes, expected), abs=1e-11)
    assert given.w.sum() == 65 > given.x.size, "some rows share an input, or the weights show nothing"


def test_a_height_that_no_row_fixes_is_refused() -> None:
    given = Series.of(np.array([0.0, 1, 2, 9]), np.zeros(4))
    with pytest.raises(LinAlgError):
        Hats.at(given, np.array([0.0, 3, 5, 9])).least_squares()


def test_cost_of_a_knot_is_the_rise_of_the_error_without_it() -> None:
    given = series()
    found = spline(given, KNOTS)
    rise = [spline(given, np.delete(KNOTS, k)).error(given) - found.error(given) for k in range(KNOTS.size)]
    assert _costs(given, found) == pytest.approx(rise, rel=1e-8)
    assert min(rise) > 0


def test_the_step_is_that_of_gauss_newton_on_knots_and_heights() -> None:
    given = series()
    found = spline(given, KNOTS)
    hinges = np.maximum(given.x[:, None] - KNOTS, 0)
    turning = -found.changes * (given.x[:, None] > KNOTS)
    columns = np.hstack([np.ones((given.x.size, 1)), given.x[:, None], hinges, turning])
    root = np.sqrt(given.w)
    expected = np.linalg.lstsq(columns * root[:, None], (given.y - found(given.x)) * root, rcond=None)[0][-KNOTS.size :]
    assert _step(given, found) == pytest.approx(expected, rel=1e-7)
