"""Friedman's first test function: a data set in one file, ``sparelu/datasets/friedman.py``."""

from typing import Annotated

import numpy as np

from sparelu.data import Data
from sparelu.datasets.dataset import Dataset, Seed, declared
from sparelu.settings import Rule


@declared
def friedman(
    rows: Annotated[int, Rule("number of rows n", low=2)] = 500,
    noise: Annotated[float, Rule("standard deviation of the noise", low=0)] = 1.0,
    seed: Seed = 0,
) -> Data:
    """Draw ten inputs (n, 10) uniform on [0, 1], of which five matter, and one target (n,).

    Source: Friedman, Multivariate adaptive regression splines, 1991, equation 61.
    """
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return Data(x, y + noise * rng.standard_normal(rows), name="friedman")


FRIEDMAN = Dataset("friedman", "ten inputs, of which five matter (Friedman 1991)", friedman)
