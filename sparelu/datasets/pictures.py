"""One image as a function of the pixel coordinates: the implicit representations of the published Figures 4 and 5."""

from typing import Annotated

import numpy as np

from sparelu.data import Data, DataError
from sparelu.datasets.dataset import Dataset, Seed, declared
from sparelu.datasets.images import cifar10, mnist
from sparelu.method import Rule

SPREAD, CHANNEL_SPREAD = {"mnist": 2.0, "cifar10": 5.0}, 0.05
"""Standard deviations of the frequencies, in cycles a pixel, and in cycles a channel."""
ONES_BEFORE = 5000
"""The published test rows of a digit start after so many images of it; the image is the first one of digit 1."""
PLACE = 1000
"""Of the image among CIFAR-10's test rows of the first two classes."""


@declared
def picture(
    image: Annotated[str, Rule("which image", choices=("mnist", "cifar10"))] = "mnist",
    features: Annotated[int, Rule("Fourier features, half of them sines", low=2)] = 1500,
    seed: Seed = 0,
) -> Data:
    """Return rows are pixels (of each channel), targets their values in [0, 1], inputs sin(2 pi B u) and cos(2 pi B u).

    Fridovich-Keil and Pilanci (2026), section 5: u is the integer place (row, column[, channel]), B (features / 2,
    2 or 3) is normal, drawn as published from NumPy's legacy stream ``seed``, so the features equal the published ones
    bit for bit. Frequencies are far above one cycle a pixel: at integers they are as good as uniform.

    ``mnist`` is image 1000 of the published test rows, a one: there the digits are sorted and each has its first 5000
    images for training. ``cifar10`` is image 1000 of the test rows of the classes airplane and automobile; where
    CIFAR-10 was read from JPEG files in an order of their own it is another image than the published one, and lossy.
    """
    pixels, places, name = _digit() if image == "mnist" else _photograph()
    half = features // 2
    if half * 2 != features:
        raise DataError(f"features must be even, half sines and half cosines, got {features}")
    stream = np.random.RandomState(seed)
    frequency = stream.normal(size=(half, 2)) * SPREAD[image]
    if places.shape[1] == 3:
        channel = stream.normal(size=(half,)) * CHANNEL_SPREAD
        frequency = np.concatenate([frequency, channel[:, None]], axis=1)
    turns = 2 * np.pi * places @ frequency.T
    x = np.concatenate([np.sin(turns), np.cos(turns)], axis=1)
    return Data(x, pixels, name=f"{name}, {features} Fourier features", target="pixel")


def _digit() -> tuple[np.ndarray, np.ndarray, str]:
    data = mnist()
    ones = np.flatnonzero(np.asarray(data.y[:]) == 1)
    pixels = np.asarray(data.x[int(ones[ONES_BEFORE])], dtype=np.float64)
    row, column = np.divmod(np.arange(28 * 28), 28)
    return pixels, np.stack([row, column], axis=1), "mnist digit"


def _photograph() -> tuple[np.ndarray, np.ndarray, str]:
    data = cifar10(keep=(0, 1))
    assert data.test is not None
    pixels = np.asarray(data.test.x[PLACE], dtype=np.float64).reshape(32, 32, 3).transpose(2, 0, 1).reshape(-1)
    channel, place = np.divmod(np.arange(3 * 32 * 32), 32 * 32)
    row, column = np.divmod(place, 32)
    return pixels, np.stack([row, column, channel], axis=1), f"{data.name} photograph"


PICTURE = Dataset("picture", "pixels of one image on Fourier features of their coordinates", picture, reads_files=True)
