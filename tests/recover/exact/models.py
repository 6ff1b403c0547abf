"""Models and rows for the tests of the parts of exact recovery."""

import numpy as np
import torch

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel, Support


def tensor(values: object) -> torch.Tensor:
    """In float64."""
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


def random_model(
    rng: np.random.Generator, k: int = 4, d: int = 5, outs: int = 1, oriented: bool = False, sparse: bool = True
) -> ReluModel:
    """Some six of ten weights, signs for one output, some seven of ten output weights for several."""
    weight = rng.standard_normal((k, d + 1)) * (rng.random((k, d + 1)) < (0.6 if sparse else 1))
    weight[:, 0] += 1.0
    outputs = rng.choice([-1.0, 1.0], (k, 1))
    if outs > 1:
        outputs = rng.standard_normal((k, outs)) * (rng.random((k, outs)) < 0.7)
        outputs[:, 0] += 1.0
    side = rng.choice([-1.0, 0.0, 1.0], k) if oriented else np.zeros(k)
    return ReluModel(*(tensor(a) for a in (weight, side, outputs, rng.standard_normal((outs, d + 1))))).normalise()


def rows_of(rng: np.random.Generator, model: ReluModel, n: int = 300, noise: float = 0.0) -> Sample:
    """Standard normal rows with the values of a model."""
    x = rng.standard_normal((n, model.weight.shape[1] - 1))
    full = tensor(np.column_stack([x, np.ones(n)]))
    y = model(full).numpy()
    return Sample(x, y + noise * rng.standard_normal(y.shape))


def jacobian(model: ReluModel, support: Support, sample: Sample, precision: torch.Tensor) -> torch.Tensor:
    """By autograd, over the weights, output weights and affine entries of the support, outputs one after another."""
    x, _ = sample.tensors(torch.float64)
    masks = support.weight, support.outputs, support.affine
    sizes = [int(mask.sum()) for mask in masks]

    def values(step: torch.Tensor) -> torch.Tensor:
        parts = []
        for t, mask, part in zip((model.weight, model.outputs, model.affine), masks, step.split(sizes), strict=True):
            parts.append(t + torch.zeros_like(t).masked_scatter(mask, part))
        moved = ReluModel(parts[0], model.orientation, parts[1], parts[2])
        return (moved(x) * precision.sqrt()).T.reshape(-1)

    return torch.autograd.functional.jacobian(values, torch.zeros(sum(sizes)).double())
