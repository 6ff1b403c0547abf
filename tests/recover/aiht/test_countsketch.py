"""Count-sketch against exact sums, and the bounds of Charikar, Chen and Farach-Colton (2002)."""

import numpy as np

from sparelu.recover.aiht.countsketch import DEPTH, CountSketch


def test_exact_without_collisions() -> None:
    rng = np.random.default_rng(0)
    exact = np.zeros(500)
    sketch = CountSketch(2**20, seed=1)
    for _ in range(5):
        index, delta = rng.choice(500, 200, replace=False), rng.standard_normal(200)
        sketch.add(index, delta)
        exact[index] += delta
    np.testing.assert_allclose(sketch.estimate(np.arange(500)), exact, atol=1e-12)


def test_repeated_indices_add_up() -> None:
    sketch = CountSketch(64, seed=2)
    sketch.add(np.array([7, 7, 7]), np.array([1.0, 2.0, -0.5]))
    np.testing.assert_allclose(sketch.estimate(np.array([7])), [2.5])


def test_rows_are_unbiased_and_variance_is_bounded() -> None:
    """Each row's estimate has mean x_i and variance at most ||x||^2 / width; the median of four is symmetric too."""
    rng = np.random.default_rng(3)
    x, width, trials = rng.standard_normal(300), 32, 2000
    index = np.arange(300)
    found = np.empty((trials, 3))
    for seed in range(trials):
        sketch = CountSketch(width, seed)
        sketch.add(index, x)
        found[seed] = sketch.estimate(index[:3])
    spread = np.linalg.norm(x) / np.sqrt(width)
    standard_error = spread / np.sqrt(trials)
    assert np.all(np.abs(found.mean(axis=0) - x[:3]) < 4 * standard_error)
    assert np.all(found.std(axis=0) < spread)
    assert np.all(found.std(axis=0) > 0.2 * spread)  # at this width collisions are certain


def test_median_of_four_keeps_the_error_bound() -> None:
    """By Chebyshev a row errs by more than 2 ||x|| / sqrt(width) with probability 1/4 at most.

    The mean of the middle two of four then errs by more only if two rows of four do: probability at most 0.262.
    """
    rng = np.random.default_rng(4)
    x = rng.standard_normal(5000)
    x[:5] = 40.0
    index, width, wrong = np.arange(5000), 256, []
    for seed in range(20):
        sketch = CountSketch(width, seed)
        sketch.add(index, x)
        wrong.append(np.abs(sketch.estimate(index) - x) > 2 * np.linalg.norm(x) / np.sqrt(width))
    assert np.mean(wrong) < 0.262


def test_large_entries_are_found() -> None:
    rng = np.random.default_rng(5)
    x = 0.01 * rng.standard_normal(20000)
    heavy = rng.choice(20000, 20, replace=False)
    x[heavy] = rng.choice([-1.0, 1.0], 20)
    sketch = CountSketch(4000, seed=0)
    for part in np.array_split(np.arange(20000), 7):
        sketch.add(part, x[part])
    found = np.argsort(-np.abs(sketch.estimate(np.arange(20000))))[:20]
    assert set(found) == set(heavy)


def test_seed_and_table_decide() -> None:
    index, delta = np.arange(0, 10**12, 10**10), np.linspace(-1, 1, 100)
    a, b, other = CountSketch(50, seed=9), CountSketch(50, seed=9), CountSketch(50, seed=10)
    for sketch in (a, b, other):
        sketch.add(index, delta)
    assert np.array_equal(a.table, b.table)
    assert not np.array_equal(a.table, other.table)
    assert a.table.shape == (DEPTH, 50)
    again = CountSketch(50, seed=9, table=a.table)
    assert np.array_equal(again.estimate(index), a.estimate(index))
    again.add(index, delta)
    assert np.array_equal(a.table, b.table)


def test_rows_differ() -> None:
    """Neither buckets nor signs of the four rows go together."""
    sketch = CountSketch(16, seed=0)
    bucket, sign = sketch._hash(np.arange(20000))
    for p in range(DEPTH):
        assert np.abs(np.bincount(bucket[p], minlength=16) / 20000 - 1 / 16).max() < 0.008
        assert abs(sign[p].mean()) < 0.03
        for q in range(p):
            assert abs((bucket[p] == bucket[q]).mean() - 1 / 16) < 0.01
            assert abs((sign[p] * sign[q]).mean()) < 0.03
