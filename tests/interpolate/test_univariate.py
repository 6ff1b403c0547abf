"""The exact interpolant of one input against enumeration, rational arithmetic and another library."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.interpolant import Interpolant, certify_interpolant, interpolate, sparsest_is_unique
from sparelu.interpolate.curves.second_differences import PointsError, sort_points
from sparelu.interpolate.univariate import Univariate
from sparelu.method import Refusal
from sparelu.run import fit
from tests.oracle.knots import fewest_knots, signs, vertex_costs


def data_sets(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Small data sets, every second of whole numbers, many points of these collinear."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = int(rng.integers(2, 12))
        if i % 2:
            yield np.sort(rng.choice(3 * n, n, replace=False)).astype(float), rng.integers(-2, 3, n).astype(float)
        else:
            x = np.sort(rng.uniform(-1, 1, n))
            yield x, rng.normal(size=n) if i % 4 else np.cumsum(rng.exponential(size=n)) * x


def check_against_oracles(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for x, y in data_sets(count, seed):
        f = interpolate(x, y)
        assert (f.least_knots, f.unique) == fewest_knots(signs(x, y))
        assert f.knots.size == f.least_knots
        assert np.abs(f(x) - y).max() <= 4e-15 * max(1, np.abs(y).max())
        p = float(rng.uniform(0.05, 0.95))
        least = sum(min(cost for _, cost in run) for run in vertex_costs(x, y, p))
        assert interpolate(x, y, p).path_norm(p) == pytest.approx(least, rel=1e-12, abs=1e-300)
        near_zero = sum(min(cost for _, cost in run) for run in vertex_costs(x, y, 1e-5))
        assert f.path_norm(1e-5) == pytest.approx(near_zero, rel=1e-8, abs=1e-300)


def test_equals_enumeration_of_vertices_and_of_interpolants() -> None:
    check_against_oracles(1000, seed=0)


@pytest.mark.slow
def test_equals_enumeration_on_ten_thousand_data_sets() -> None:
    check_against_oracles(10_000, seed=1)


def test_uniqueness_rule_on_all_sign_sequences() -> None:
    value = {"+": 1.0, "-": -1.0, "0": 0.0}
    for length in range(8):
        for word in itertools.product("+-0", repeat=length):
            bends = np.array([value[c] for c in word])
            assert sparsest_is_unique(bends) == fewest_knots("".join(word))[1], word


def test_never_more_knots_than_splineops_and_fewer_on_its_defect() -> None:
    least, theirs = [], []
    for x, y in [(np.arange(7.0), np.array([0.0, 0, 1, 3, 5, 8, 12])), *data_sets(300, seed=2)]:
        least.append(interpolate(x, y).knots.size)
        theirs.append(splineops_knots(x, y))
    assert all(a <= b for a, b in zip(least, theirs, strict=True))
    assert (least[0], theirs[0]) == (2, 3)


def splineops_knots(x: np.ndarray, y: np.ndarray) -> int:
    """The knots of the sparsest interpolant of splineops, an optional reference."""
    theirs = pytest.importorskip("splineops.adaptive_regression_splines.sparsification")
    knots, _amplitudes, _polynomial = theirs.sparsest_interpolant(x, y)
    return len(knots)


def test_the_published_task() -> None:
    x, y = [-2, -1, 0, 1, 2, 3], [0, 0, 1, 1, 0, 0]
    f = interpolate(x, y, 0.4)
    assert np.array_equal(f.knots, [-1, 0.5, 2])
    assert np.array_equal(f.changes, [1, -2, 1])
    for p in (0.1, 0.4, 0.7):
        assert abs(interpolate(x, y, p).path_norm(p) - (2 + 2**p)) < 1e-15


def test_network_is_the_function() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-1, 1, 60), rng.normal(size=60)
    f = interpolate(x, y)
    net = f.network()
    at = np.linspace(-3, 3, 501)
    scale = np.abs(f.changes).sum()
    assert np.abs(net(at[:, None]).numpy()[:, 0] - f(at)).max() < 1e-13 * scale
    assert np.abs(net(x[:, None]).numpy()[:, 0] - y).max() < 1e-13 * scale
    assert net.nonzeros == f.knots.size == net.canonical().nonzeros


def test_a_million_points() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(size=10**6), rng.normal(size=10**6)
    f = interpolate(x, y, 0.4)
    assert np.abs(f(x) - y).max() < 1e-13
    assert f.knots.size >= f.least_knots


def test_collinearity_is_exact_where_floats_are_delicate() -> None:
    rng = np.random.default_rng(5)
    for scale in (1.0, 1e-3, 2.0**60, 1e150, 1e-150):
        x = np.sort(rng.uniform(size=40))
        y = (0.1 * x + np.where(rng.uniform(size=40) < 0.3, np.abs(x - 0.5), 0) * 1e-16) * scale
        b = sort_points(x, y).bends
        assert "".join("+" if v > 0 else "-" if v < 0 else "0" for v in b) == signs(x, y)


def test_rounding_is_reported_and_straightened_on_request() -> None:
    x = np.linspace(0, 1, 50)
    exact = interpolate(x, 0.1 * x)
    assert exact.knots.size > 10
    assert exact.points.doubtful.sum() > 10
    assert "within rounding of zero" in certify_interpolant(exact, 0.0, 0.0)[0].assumptions[0].evidence
    assert interpolate(x, 0.1 * x, collinear="rounding").knots.size == 0
    bent = interpolate(x, 0.1 * x + np.maximum(x - x[20], 0), collinear="rounding")
    assert bent.knots == pytest.approx([x[20]], abs=1e-14)
    curve = np.linspace(0, 1e-7, 200)
    assert interpolate(curve, 1 + curve**2, collinear="rounding").knots.size <= 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_order_repeats_and_types(dtype: type) -> None:
    x = np.array([3, 0, 1, 1, 2, 0], dtype=dtype)
    y = np.array([4, 0, 1, 1, 1, 0], dtype=dtype)
    f = interpolate(x, y)
    assert np.array_equal(f(x), y)
    assert f.points.merged == 2


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([0, 1, 1], [0, 1, 2], "points 1 and 2 contradict"),
        ([0, 1, 1], [0, 0.3, 0.1 + 0.2], "rounding only"),
        ([0, 1, np.nan], [0, 1, 2], "number 2"),
        ([0, 1], [0, np.inf], "not finite"),
        ([0], [0], "two points at least, got 1"),
        ([1, 1], [0, 0], "two places at least"),
        ([0, 1, 2], [0, 1], "one y for each x"),
        ([0, 1e-300, 1], [0, 1e300, 1], "overflow"),
        (np.array([0, 2**60, 2**61]), np.array([0, 1, 2]), "2\\^53"),
    ],
)
def test_bad_points_are_named(x: list[float], y: list[float], words: str) -> None:
    with pytest.raises(PointsError, match=words):
        interpolate(x, y)


def test_critical_p_against_enumeration() -> None:
    rng = np.random.default_rng(6)
    seen = []
    for _ in range(40):
        n = int(rng.integers(6, 12))
        x = np.sort(rng.uniform(size=n))
        y = np.concatenate([[0], np.cumsum(np.cumsum(rng.exponential(size=n - 1)) * np.diff(x))])
        f = interpolate(x, y)
        low, high = f.critical.overall
        for p in np.linspace(0.01, 0.99, 50):
            (run,) = vertex_costs(x, y, float(p))
            gap = min(c for k, c in run if k > f.least_knots) - min(c for k, c in run if k == f.least_knots)
            if p <= low:
                assert gap > 0
        if high < 1:
            (run,) = vertex_costs(x, y, high + 1e-6)
            others, sparse = ([c for k, c in run if (k > f.least_knots) == more] for more in (True, False))
            assert min(others) <= min(sparse)
            assert high - low < 2e-3
        seen.append(high < 1)
    assert 3 < sum(seen) < 37


def test_published_facts_hold_below_p_star() -> None:
    rng = np.random.default_rng(7)
    x = np.sort(rng.uniform(size=50))
    slopes = np.cumsum(rng.exponential(size=49))
    f: Interpolant = interpolate(x, np.concatenate([[0], np.cumsum(slopes * np.diff(x))]))
    low, high = f.critical.overall
    assert 0 < low < high < 1
    assert interpolate(f.points.x, f.points.y, 0.99 * low).knots.size == f.least_knots
    assert interpolate(f.points.x, f.points.y, high + 1e-6).knots.size > f.least_knots


def test_the_method_and_its_refusals() -> None:
    x = np.linspace(-2, 3, 12)[:, None]
    data = Data(x, np.abs(x[:, 0]))
    solution = fit(Univariate(collinear="rounding"), data, Budget((12,), nonzeros=12))
    assert solution.network.nonzeros == 1  # the points beside 0 bend alike
    assert solution.history[0]["loss"] < 1e-30
    jagged = Data(x, np.sin(7 * x[:, 0]))
    least = interpolate(jagged.x[:, 0], jagged.y).least_knots
    with pytest.raises(Refusal, match=f"fewer than {least} nonzeros"):
        fit(Univariate(), jagged, Budget((12,), nonzeros=least - 1))
    assert fit(Univariate(), jagged, Budget((12,), nonzeros=least)).network.nonzeros == least
    clash = Data(np.array([[0.0], [0.0], [1.0]]), np.array([0.0, 1.0, 2.0]))
    assert "contradict" in str(Univariate().refuses(clash, Budget((12,))))
    assert "one input" in str(Univariate().refuses(Data(np.ones((3, 2)), np.arange(3.0)), Budget((12,))))


@pytest.mark.parametrize("seed", range(8))
def test_inputs_that_float64_hardly_tells_apart_are_met_or_refused(seed: int) -> None:
    """Whatever is called converged meets its points: neighbours from one rounding to many apart."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(size=12)) * 10.0 ** rng.integers(-3, 4)
    i, units = int(rng.integers(11)), 4**seed
    x[i + 1] = x[i] + units * np.spacing(x[i])
    x, y = np.sort(x), rng.standard_normal(12)
    data = Data(x[:, None], y)
    reason = Univariate().refuses(data, Budget((12,)))
    if reason is not None:
        assert "no network in float64 meets these points" in reason
        assert repr(float(x[i])) in reason
        assert units < 10**6
        return
    solution = fit(Univariate(), data, Budget((12,)))
    missed = np.abs(solution.network(data.x).numpy()[:, 0] - y).max()
    assert missed < 1e-5
    assert solution.history[0]["loss"] <= missed**2
