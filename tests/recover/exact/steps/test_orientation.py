"""Sides of hinges from the affine part: the only pattern, several, or none."""

import itertools

import numpy as np
import pytest
import torch

from sparelu.recover.exact.steps.lattice import signs_by_lattice
from sparelu.recover.exact.steps.orientation import Orientations, find_orientations


def planted(
    k: int, d: int, reads: int, seed: int, skip: int = 0, outs: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights (k, d), outputs (k, outs), orientations (k,) and the affine part (outs, d) that they make."""
    rng = np.random.default_rng(seed)
    w = np.zeros((k, d))
    for row in w:
        row[rng.choice(d, reads, replace=False)] = rng.standard_normal(reads)
    v = rng.standard_normal((k, outs)) if outs > 1 else rng.choice([-1.0, 1.0], (k, 1))
    e = rng.choice([-1.0, 1.0], k)
    a = np.einsum("jo,j,ji->oi", v, e, w) / 2
    a[0, rng.choice(d, skip, replace=False)] += 1 + rng.random(skip)
    return w, v, e, a


def found(w: np.ndarray, v: np.ndarray, a: np.ndarray, error: float = 1e-9) -> Orientations:
    one = np.zeros((len(w), 1))
    affine = torch.as_tensor(np.column_stack([a, np.zeros(len(a))]))
    weight = torch.as_tensor(np.column_stack([w, one]))
    return find_orientations(weight, torch.as_tensor(v), affine, torch.full_like(affine, error))


@pytest.mark.parametrize(
    ("k", "d", "reads", "skip", "outs"),
    [
        (5, 8, 3, 0, 1),
        (8, 5, 3, 0, 1),
        (30, 10, 3, 0, 1),
        (60, 10, 3, 0, 1),
        (14, 3, 3, 0, 1),
        (26, 2, 2, 0, 1),
        (40, 12, 4, 0, 3),
        (60, 20, 3, 2, 1),
        (200, 60, 5, 0, 1),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_planted_orientation_is_found(k: int, d: int, reads: int, skip: int, outs: int, seed: int) -> None:
    w, v, e, a = planted(k, d, reads, seed, skip, outs)
    signs = found(w, v, a)
    assert signs.open == ()
    decided = np.setdiff1d(np.arange(k), signs.free)
    np.testing.assert_array_equal(signs.signs.numpy()[decided], e[decided])
    assert skip or signs.free == ()


def test_several_patterns_are_open() -> None:
    """Against enumeration, for whole weights, of which sums often agree."""
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        w = rng.choice([-2.0, -1, 1, 2], (6, 2)) * (rng.random((6, 2)) < 0.8)
        w[~w.any(axis=1), 0] = 1.0
        e = rng.choice([-1.0, 1.0], 6)
        a = e @ w / 2
        fits = [p for p in itertools.product([-1.0, 1.0], repeat=6) if np.abs(p @ w / 2 - a).max() < 1e-9]
        moving = np.flatnonzero(np.ptp(np.array(fits), axis=0))
        signs = found(w, np.ones((6, 1)), a[None])
        assert set(signs.open) == set(moving.tolist())
        fixed = np.setdiff1d(np.arange(6), moving)
        np.testing.assert_array_equal(signs.signs.numpy()[fixed], e[fixed])
        seen.add(len(moving) == 0)
    assert seen == {True, False}


def test_a_neuron_that_the_linear_part_can_turn_is_free() -> None:
    """y = (-2 x_0)_+ + 0.7 x_0 is another neuron with another line; that of x_1 is as it is."""
    w = np.array([[2.0, 0], [0, 1.0]])
    a = np.array([[-1.0 + 0.7, -0.5]])
    signs = found(w, np.ones((2, 1)), a)
    assert (signs.free, signs.open) == ((0,), ())
    assert signs.signs.tolist() == [1.0, -1.0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_lattice_tells_one_pattern_from_none_and_from_many(seed: int) -> None:
    """Dense weights of more neurons than equations, in units of the error: 24 terms here, by the nearest plane."""
    w, v, e, a = planted(24, 6, 6, seed)
    columns, goal = (v * w).T / 2 / 1e-9, a[0] / 1e-9
    patterns = signs_by_lattice(columns, goal)
    assert patterns is not None
    np.testing.assert_array_equal(patterns, e[None])
    none = signs_by_lattice(columns, goal + 1e5)
    assert none is not None
    assert len(none) == 0
    twins = np.repeat(columns, 2, axis=1)  # two equal terms: either can be the negative one
    assert signs_by_lattice(twins, goal) is None


def test_noise_does_not_make_a_pattern_sure() -> None:
    """With few digits many patterns explain the affine part, and none is claimed."""
    w, v, e, a = planted(24, 4, 4, 3)
    signs = found(w, v, a, error=0.3)
    assert len(signs.open) > 0
    assert signs.signs.abs().tolist() == [1.0] * 24
    assert e.shape == (24,)
