"""Tangent kernels against torch's Jacobians, and against the limit at growing width."""

import itertools

import numpy as np
import pytest
import torch

from sparelu.certify.kernel import Kernel, limit_kernel, random_pruned, rescaled, tangent_kernel
from sparelu.data import Data
from sparelu.networks.network import Network
from sparelu.run import certify


def unit_rows(rng: np.random.Generator, n: int = 5, d: int = 10) -> np.ndarray:
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def by_autograd(network: Network, x: np.ndarray) -> np.ndarray:
    """J J' over the weights that are not zero, and the biases that are not."""
    module = network.to_module()
    parameters = dict(module.named_parameters())
    out = torch.func.jacrev(lambda p: torch.func.functional_call(module, p, torch.tensor(x)))(parameters)
    rows = [(out[k] * (parameters[k] != 0)).flatten(2).flatten(0, 1) for k in parameters]
    jacobian = torch.cat(rows, dim=1).detach().numpy()
    return jacobian @ jacobian.T


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_kernel_is_the_jacobian_times_its_transpose(density: float) -> None:
    rng = np.random.default_rng(0)
    sizes = (4, 7, 6, 3)
    weights = [rng.standard_normal((b, a)) * (rng.random((b, a)) < density) for a, b in itertools.pairwise(sizes)]
    network = Network.from_dense(weights, [rng.standard_normal(b) for b in sizes[1:]])
    x = rng.standard_normal((5, 4))
    assert np.allclose(tangent_kernel(network, x), by_autograd(network, x), rtol=1e-12, atol=1e-10)


def test_limit_is_approached_and_pruned_limits_differ_by_the_power() -> None:
    rng = np.random.default_rng(1)
    x = unit_rows(rng)
    whole = limit_kernel(x, 2)
    for density in (1.0, 0.5):
        ratios, errors = [], []
        for _ in range(3):
            network, scales = random_pruned(10, 1000, 2, density, False, rng)
            kernel = tangent_kernel(network, x, scales)
            ratios.append(np.trace(kernel) / np.trace(whole))
            network, scales = random_pruned(10, 1000, 2, density, True, rng)
            errors.append(np.abs(tangent_kernel(network, x, scales) - whole).max())
        assert abs(np.mean(ratios) / density**2 - 1) < 0.15
        assert np.mean(errors) < 0.7
    assert np.allclose(limit_kernel(x, 2, 0.5, rescaled=False), whole / 4)


def test_limit_of_one_layer_against_integration() -> None:
    """T = E 2 relu relu + (x.y) E 2 1{} 1{}, by Monte Carlo."""
    rng = np.random.default_rng(2)
    x = unit_rows(rng, 3, 4)
    z = rng.standard_normal((400_000, 4)) @ x.T
    relu, step = np.maximum(z, 0), (z > 0).astype(float)
    expected = 2 * (relu.T @ relu + (x @ x.T) * (step.T @ step)) / len(z)
    assert np.allclose(limit_kernel(x, 1), expected, atol=1e-2)


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_error_falls_with_the_root_of_the_width(density: float) -> None:
    rng = np.random.default_rng(3)
    x = unit_rows(rng)
    widths, errors = [60, 240, 960], []
    for width in widths:
        found = []
        for _ in range(10):
            network, scales = random_pruned(10, width, 1, density, True, rng)
            found.append(np.abs(tangent_kernel(network, x, scales) - limit_kernel(x, 1)).max())
        errors.append(np.mean(found))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35


def test_rescaling_keeps_the_size_of_activations() -> None:
    rng = np.random.default_rng(4)
    w = rng.standard_normal((300, 400)) / 20
    mask = rng.random(w.shape) < 0.2
    first = rng.standard_normal((400, 5))
    pruned = Network.from_dense([first, w * mask, np.ones((1, 300))])
    x = rng.standard_normal((50, 5))

    def second(weight: np.ndarray) -> float:
        return float((np.maximum(np.maximum(x @ first.T, 0) @ weight.T, 0) ** 2).mean())

    assert np.isclose(second(rescaled(pruned).layers[1].dense().numpy()), second(w), rtol=0.15)
    assert second(w * mask) < 0.3 * second(w)


def test_certificate_is_zero_with_too_few_parameters() -> None:
    rng = np.random.default_rng(5)
    data = Data(rng.standard_normal((40, 3)), rng.standard_normal(40))
    small = Network.two_layer(rng.standard_normal((3, 3)), np.ones(3))
    claim = certify(Kernel(rows=20), small, data)
    assert claim.value == 0
    assert claim.vacuous
    wide = Network.two_layer(rng.standard_normal((200, 3)), np.ones(200), rng.standard_normal(200))
    assert certify(Kernel(rows=20), wide, data).value > 0


def test_wrong_calls_are_named() -> None:
    network = Network.two_layer(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="3 inputs"):
        tangent_kernel(network, np.ones((2, 4)))
    with pytest.raises(ValueError, match="one for each"):
        tangent_kernel(network, np.ones((2, 3)), [1.0])
    with pytest.raises(ValueError, match="density"):
        limit_kernel(np.ones((2, 3)), 1, 0.0)
