"""What the weights are before training, as one vector: matrices (inputs, outputs) from the input up, then biases."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

Draw = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]
"""Widths of all levels and a generator to the vector."""


def he(widths: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw normal weights of variance 2 / inputs, biases 0 (He et al., Delving deep into rectifiers, 2015)."""
    parts = [rng.standard_normal(a * b) * np.sqrt(2 / a) for a, b in pairwise(widths)]
    return np.concatenate([*parts, np.zeros(sum(widths[1:]))])


def uniform_weights(widths: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw weights and biases uniform on +-1/sqrt(inputs): where ``torch.nn.Linear`` starts."""
    parts = [rng.uniform(-1, 1, a * b) / np.sqrt(a) for a, b in pairwise(widths)]
    return np.concatenate([*parts, *(rng.uniform(-1, 1, b) / np.sqrt(a) for a, b in pairwise(widths))])
