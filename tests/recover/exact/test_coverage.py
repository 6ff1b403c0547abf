"""What rows around hinges decide."""

import numpy as np
import pytest

from sparelu.recover.exact.coverage import distinct_share, uncovered_hinges


def phrases(weight: list, bias: list, x: np.ndarray) -> str:
    return "; ".join(uncovered_hinges(np.array(weight, dtype=float), np.array(bias, dtype=float), x))


RNG = np.random.default_rng(0)
X = RNG.standard_normal((2000, 3))


def test_hinges_among_rows_are_covered() -> None:
    """At any place that rows surround, of 300 draws: a gap is called one by chance once in a million."""
    assert phrases([[1, 0, 0], [0, 1, -2], [1, 1, 1]], [0.3, 0, -1], X) == ""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.standard_t(2, (500, 3))
        assert uncovered_hinges(rng.standard_normal((3, 3)), 0.5 * rng.standard_normal(3), x) == []


def test_few_rows_beyond_decide_nothing() -> None:
    edge = np.sort(X[:, 0])
    assert "no more rows lie beyond" in phrases([[1, 0, 0]], [-(edge[-3] + edge[-2]) / 2], X)
    assert phrases([[1, 0, 0]], [-(edge[-6] + edge[-5]) / 2], X).count("no more rows") == 0
    assert "no more rows lie beyond" in phrases([[1, 0, 0]], [10], X)


def test_two_hinges_around_no_row_are_a_jump() -> None:
    """y = 1{x_0 > .3} by two steep hinges in one gap, and a ramp that rows lie on."""
    edge = np.sort(X[:, 0])
    i = edge.searchsorted(0.3)
    low, high = edge[i - 1] * 0.7 + edge[i] * 0.3, edge[i - 1] * 0.3 + edge[i] * 0.7
    assert "fewer rows lie between" in phrases([[1, 0, 0], [1, 0, 0]], [-low, -high], X)
    assert "fewer rows lie between" in phrases([[1, 0, 0], [-2, 0, 0]], [-low, 2 * high], X)
    assert phrases([[1, 0, 0], [1, 0, 0]], [-0.3, -0.4], X) == ""


def test_a_gap_is_told_from_spacings() -> None:
    two = X + np.where(X[:, :1] > 0, 4.0, -4.0) * np.array([1.0, 0, 0])
    assert "a gap without rows" in phrases([[1, 0, 0]], [0.2], two)
    assert phrases([[0, 1, 0]], [0.2], two) == ""


@pytest.mark.parametrize(("levels", "said"), [(2, True), (8, True), (200, False)])
def test_values_on_a_grid(levels: int, said: bool) -> None:
    x = np.column_stack([RNG.integers(0, levels, 3000), RNG.standard_normal(3000)]).astype(float)
    hinge = (levels - 1) / 2 + (0.25 if levels % 2 else 0)
    words = phrases([[1, 0]], [-hinge], x)
    assert ("values on a side" in words) == said
    assert phrases([[1, 1.3]], [-hinge], x) == ""


def test_copies_count_once() -> None:
    apart, rows = X[:200], X[200:]
    assert distinct_share(apart, rows) == (pytest.approx(1, abs=0.02), pytest.approx(1, abs=0.02))
    assert distinct_share(apart[:, :1], rows[:, :1])[0] > 0.9
    for noise in (0.0, 1e-9, 1e-6):
        many = np.concatenate([rows, *(apart + noise * RNG.standard_normal(apart.shape) for _ in range(3))])
        alone, each = distinct_share(apart, many)
        assert alone == 0
        assert each == pytest.approx(1 / 4)
