"""Curves and the points to interpolate."""

import numpy as np
import pytest
import torch

from sparelu.datasets.curves import curve, uniform
from sparelu.method import SettingError


def test_plateau_is_interpolated_by_the_printed_three_neurons() -> None:
    data = curve()
    x = data.x[:, 0]
    relu = lambda t: np.maximum(t, 0)  # noqa: E731
    np.testing.assert_array_equal(relu(x + 1) - 2 * relu(x - 0.5) + relu(x - 2), data.y[:])
    assert data.n == 6
    assert data.dtype == torch.float64


@pytest.mark.parametrize("shape", ["sine", "convex", "sawtooth", "doppler", "steps"])
def test_curves_are_finite_bounded_and_on_an_even_grid(shape: str) -> None:
    data = curve(shape=shape, rows=101)
    assert data.x.shape == (101, 1)
    assert data.name == f"curve ({shape})"
    np.testing.assert_allclose(np.diff(data.x[:, 0]), 0.01)
    assert np.isfinite(data.y[:]).all()
    assert np.abs(data.y[:]).max() <= 1
    assert np.ptp(data.y[:]) > 0.5


def test_convex_has_one_sign_of_curvature_and_sawtooth_has_corners_only() -> None:
    assert (np.diff(curve(shape="convex").y[:], 2) > 0).all()
    slopes = np.diff(curve(shape="sawtooth", rows=101).y[:]) * 100
    np.testing.assert_allclose(np.unique(slopes.round(6)), [-4, 4])


def test_noise_is_added_with_the_seed() -> None:
    clean, noisy = curve(shape="sine", rows=5000), curve(shape="sine", rows=5000, noise=0.2)
    assert np.std(noisy.y[:] - clean.y[:]) == pytest.approx(0.2, rel=0.05)
    np.testing.assert_array_equal(noisy.y[:], curve(shape="sine", rows=5000, noise=0.2).y[:])
    assert not np.array_equal(noisy.y[:], curve(shape="sine", rows=5000, noise=0.2, seed=1).y[:])


def test_uniform_is_the_published_draw_and_leaves_the_global_stream_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(20)
        x = torch.zeros(10, 50).uniform_(-1, 1)
        y = torch.zeros(10, 1).uniform_(-1, 1)
    before = torch.get_rng_state()
    data = uniform()
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(data.x[:], x.numpy())
    np.testing.assert_array_equal(data.y[:], y[:, 0].numpy())


def test_an_unknown_curve_names_the_known() -> None:
    with pytest.raises(SettingError, match="shape must be one of plateau, sine, .* got 'cosine'"):
        curve(shape="cosine")
