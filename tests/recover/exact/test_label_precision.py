"""How finely labels are written, whatever type they come in."""

import numpy as np
import pytest

from sparelu.recover.exact.label_precision import label_rounding

RNG = np.random.default_rng(0)
Y = 2 * RNG.standard_normal(4000)
ROOT = 12**0.5


def steps(kind: type, scale: float = 1.0) -> np.ndarray:
    """NumPy's own spacing of the type, in float64."""
    return scale * np.spacing(np.abs(Y).astype(kind)).astype(np.float64)


@pytest.mark.parametrize(
    ("labels", "step"),
    [
        (Y, np.spacing(np.abs(Y))),
        (Y.astype(np.float32), steps(np.float32)),
        (Y.astype(np.float16).astype(np.float64), steps(np.float16)),
        ((Y + 1e5).astype(np.float32).astype(np.float64), np.full(4000, 2.0**-7)),
        (np.round(Y, 2), np.full(4000, 1e-2)),
        (np.round(Y, 4) + 1e3, np.full(4000, 1e-4)),
        ((Y.astype(np.float32).astype(np.float64) - 0.3) / 1.7, steps(np.float32, 1 / 1.7)),
        ((np.round(Y, 3) - 0.123456) / 1.7, np.full(4000, 1e-3 / 1.7)),
    ],
    ids=["float64", "float32", "float16", "float32 of an offset", "decimals", "offset", "float32 scaled", "scaled"],
)
def test_the_step_is_measured_from_values(labels: np.ndarray, step: np.ndarray) -> None:
    found = label_rounding(labels) * ROOT
    assert found.shape == labels.shape
    assert np.sqrt((found**2).mean() / (step**2).mean()) == pytest.approx(1, abs=0.03)


def test_numbers_of_no_lattice_are_those_of_their_type() -> None:
    """Products of irrational numbers have no step; a wrong one would call a wrong network exact."""
    for seed in range(20):
        y = np.random.default_rng(seed).standard_cauchy(500) * np.pi
        np.testing.assert_array_equal(label_rounding(y) * ROOT, np.spacing(np.abs(y)) / ROOT * ROOT)


def test_outputs_have_steps_of_their_own() -> None:
    both = np.column_stack([np.round(Y, 1), Y])
    found = label_rounding(both) * ROOT
    assert found[:, 0] == pytest.approx(0.1)
    assert found[:, 1].max() < 1e-14
    assert label_rounding(np.zeros((0, 2))).shape == (0, 2)
    assert label_rounding(np.array([1.5, 1.5])) == pytest.approx(2.0**-10 / ROOT)
