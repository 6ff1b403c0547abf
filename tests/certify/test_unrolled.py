"""Unrolled convolutions against torch's, and the graph bound of a convolution against its formula by hand."""

import math

import numpy as np
import pytest
import torch

from sparelu.certify.complexity import Chain, energies, graph_complexity
from sparelu.certify.unrolled import pixel_groups, unroll


@pytest.mark.parametrize(
    "keys", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "bias": False}], ids=str
)
def test_unrolled_convolution_is_the_convolution(keys: dict) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 4, 3, **keys).double()
    x = torch.randn(5, 2, 7, 6, dtype=torch.float64)
    head = torch.nn.Linear(conv(x).flatten(1).shape[1], 3).double()
    module = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head)
    network = unroll(module, (2, 7, 6))
    assert torch.allclose(network(x.flatten(1)), module(x), atol=1e-12)


def test_other_modules_are_named() -> None:
    with pytest.raises(ValueError, match="'1' is a MaxPool2d"):
        unroll(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2), torch.nn.MaxPool2d(2)), (1, 4, 4))
    with pytest.raises(ValueError, match="'1' is a Conv2d where a ReLU"):
        unroll(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2), torch.nn.Conv2d(1, 1, 2)), (1, 4, 4))


def test_channels_of_a_pixel_are_one_group() -> None:
    """Patches that do not overlap, 3 channels: 4 paths, top fan-in 4, the largest patch, Frobenius norms."""
    torch.manual_seed(1)
    conv, head = torch.nn.Conv2d(1, 3, 2, stride=2, bias=False), torch.nn.Linear(12, 1, bias=False)
    module = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head)
    x = np.random.default_rng(0).standard_normal((20, 4, 4))
    patches = (x**2).sum(axis=0).reshape(2, 2, 2, 2).sum(axis=(1, 3))
    chain = Chain.of(unroll(module, (1, 4, 4)))
    found = graph_complexity(chain, energies([x.reshape(20, 16)], False), 20, pixel_groups(module, (1, 4, 4)))
    assert np.isclose(found.scale, float(conv.weight.detach().norm() * head.weight.detach().norm()), rtol=1e-6)
    assert np.isclose(found.unit, (1 + math.sqrt(2 * (math.log(2) + math.log(4)))) * math.sqrt(4 * patches.max()) / 20)


def test_groups_fit_a_network_with_biases() -> None:
    torch.manual_seed(2)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 5), torch.nn.ReLU(),
        torch.nn.Linear(5, 2),
    )  # fmt: skip
    chain, groups = Chain.of(unroll(module, (1, 4, 4))), pixel_groups(module, (1, 4, 4))
    assert [len(g) for g in groups] == [w.shape[0] for w in chain.weights[:-1]] == [9, 6]
    assert graph_complexity(chain, energies([np.ones((3, 16))], True), 3, groups).value > 0
