"""One image on Fourier features, with images of the tests' own."""

import numpy as np
import pytest

from sparelu.data import Data, DataError
from sparelu.datasets import load, pictures


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> dict[str, Data]:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], pictures.ONES_BEFORE + 1)
    digits = Data(rng.random((len(y), 784)).astype(np.float32), y, "classification")
    test = Data(rng.random((1200, 3072)).astype(np.float32), rng.integers(0, 2, 1200), "classification")
    photographs = Data(test.x[:10], np.arange(10) % 2, "classification", name="cifar10", test=test)
    monkeypatch.setattr(pictures, "mnist", lambda: digits)
    monkeypatch.setattr(pictures, "cifar10", lambda keep: photographs)
    return {"mnist": digits, "cifar10": test}


def test_digit(images: dict[str, Data]) -> None:
    data = load("picture", features=6, seed=3)
    image = np.asarray(images["mnist"].x[-1]).reshape(28, 28)
    np.random.seed(3)  # noqa: NPY002 the published stream
    frequency = 2.0 * np.random.normal(size=(3, 2))  # noqa: NPY002
    for row, column in ((0, 0), (2, 5), (27, 13)):
        place = 28 * row + column
        angle = 2 * np.pi * (frequency @ [row, column])
        assert data.y[place] == image[row, column]
        assert np.allclose(data.x[place], [*np.sin(angle), *np.cos(angle)], atol=1e-9)


def test_photograph(images: dict[str, Data]) -> None:
    data = load("picture", image="cifar10", features=4)
    image = np.asarray(images["cifar10"].x[1000]).reshape(32, 32, 3)
    np.random.seed(0)  # noqa: NPY002 the published stream
    space, colour = 5 * np.random.normal(size=(2, 2)), 0.05 * np.random.normal(size=2)  # noqa: NPY002
    for row, column, channel in ((0, 0, 0), (3, 31, 1), (30, 2, 2)):
        place = 1024 * channel + 32 * row + column
        angle = 2 * np.pi * (space @ [row, column] + channel * colour)
        assert data.y[place] == image[row, column, channel]
        assert np.allclose(data.x[place], [*np.sin(angle), *np.cos(angle)], atol=1e-9)


def test_odd_features_are_refused(images: dict[str, Data]) -> None:
    with pytest.raises(DataError, match="even"):
        load("picture", features=5)
