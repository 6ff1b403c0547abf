"""Small sets to interpolate or to fit by eye: one input and one output, and a few points in many dimensions."""

from typing import Annotated

import numpy as np
import torch

from sparelu.data import Data
from sparelu.datasets.dataset import Dataset, Seed, declared
from sparelu.method import Rule

PLATEAU = np.array([(-2.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 0.0), (3.0, 0.0)])

SHAPES = {
    "sine": lambda x: np.sin(2 * np.pi * x),
    "convex": lambda x: np.exp(2 * x) / np.exp(2),
    "sawtooth": lambda x: np.abs(4 * x - 2 * np.round(2 * x)),
    "doppler": lambda x: np.sqrt(x * (1 - x)) * np.sin(2.1 * np.pi / (x + 0.05)),
    "steps": lambda x: np.floor(4 * np.clip(x, 0, 0.999)) / 3,
}
"""Functions on [0, 1]; doppler is that of Donoho & Johnstone (1994)."""


@declared
def curve(
    shape: Annotated[str, Rule("which curve", choices=("plateau", *SHAPES))] = "plateau",
    rows: Annotated[int, Rule("number of points; the plateau always has 6", low=2)] = 50,
    noise: Annotated[float, Rule("standard deviation of N(0, 1) noise added to y", low=0)] = 0.0,
    seed: Seed = 0,
) -> Data:
    """Return one input x (n, 1) and one output y (n,), float64, x increasing.

    "plateau" is the peak and plateau of Nakhleh & Nowak (2025): six points whose sparsest interpolant has three
    neurons. The others are functions on an even grid over [0, 1]; "convex" has one curvature sign throughout.
    """
    if shape == "plateau":
        x, y = PLATEAU[:, 0], PLATEAU[:, 1]
    else:
        x = np.linspace(0.0, 1.0, rows)
        y = SHAPES[shape](x)
    if noise > 0:
        y = y + noise * np.random.default_rng(seed).standard_normal(len(x))
    return Data(x[:, None].copy(), y.copy(), name=f"curve ({shape})", names=("x",))


@declared
def uniform(
    rows: Annotated[int, Rule("number of points N", low=2)] = 10,
    inputs: Annotated[int, Rule("number of inputs d", low=1)] = 50,
    seed: Seed = 0,
) -> Data:
    """Return inputs x (N, d) and then labels y (N,), all uniform on [-1, 1], float32, by PyTorch's generator.

    PyTorch's seed is 20 + ``seed``: the defaults are the points of the multivariate experiment of Nakhleh & Nowak
    (2025), who seed with 20.
    """
    stream = torch.Generator().manual_seed(20 + seed)
    x = torch.empty(rows, inputs).uniform_(-1, 1, generator=stream)
    y = torch.empty(rows, 1).uniform_(-1, 1, generator=stream)
    return Data(x.numpy(), y[:, 0].numpy(), name="uniform")


CURVE = Dataset("curve", "one input, one output: plateau, sine, convex, sawtooth, doppler or steps", curve)
UNIFORM = Dataset("uniform", "a few points with uniform inputs and labels, to interpolate", uniform)
