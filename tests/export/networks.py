"""Networks of every shape that an exporter meets, and what they compute, written out in NumPy."""

from collections.abc import Sequence

import numpy as np

from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network, zero_network


def random_layer(rng: np.random.Generator, outputs: int, inputs: int, nonzeros: int, bias: bool = True) -> Layer:
    at = rng.choice(outputs * inputs, nonzeros, replace=False)
    values = rng.standard_normal(nonzeros)
    return Layer.from_triplets(
        (outputs, inputs), at // inputs, at % inputs, values, rng.standard_normal(outputs) if bias else None
    )


def random_network(
    widths: Sequence[int], nonzeros: Sequence[int], bias: bool = True, skip: bool = False, seed: int = 0
) -> Network:
    rng = np.random.default_rng(seed)
    layers = [random_layer(rng, b, a, k, bias) for a, b, k in zip(widths, widths[1:], nonzeros, strict=False)]
    affine = random_layer(rng, widths[-1], widths[0], nonzeros[0] // 4) if skip else None
    return Network(tuple(layers), affine)


def convolutional(seed: int = 0, fed: bool = True) -> Network:
    """Two convolutions, one without biases, and two layers; ``fed``: the first has weights."""
    rng = np.random.default_rng(seed)
    first = random_layer(rng, 4, 9 * 2, 30) if fed else Layer.from_dense(np.zeros((4, 18)), [1.0, -2.0, 0.5, 3.0])
    parts = (
        Convolution(first, (6, 5, 2), 3, 2, 1),
        Convolution(random_layer(rng, 5, 4 * 4, 40, bias=False), (3, 3, 4), 2, 1, 0),
        random_layer(rng, 6, 2 * 2 * 5, 50),
        random_layer(rng, 3, 6, 15),
    )
    return Network(parts)


def wide() -> Network:
    """A million hidden units of which three live."""
    w = Layer.from_triplets(
        (10**6, 4), [5, 70, 999_999], [0, 3, 1], [1.0, -2.0, 0.5], [0.1, 0.2, 0.3], [5, 70, 999_999]
    )
    return Network((w, Layer.from_triplets((1, 10**6), [0, 0, 0], [5, 70, 999_999], [1.0, 2.0, -3.0])))


NETWORKS = {
    "one hidden layer": random_network([6, 9, 1], [20, 9]),
    "without biases": random_network([6, 9, 2], [20, 9], bias=False),
    "deep, with a skip part": random_network([7, 12, 5, 10, 3], [30, 25, 20, 12], skip=True),
    "a skip part, few inputs read": random_network([40, 6, 2], [9, 12], skip=True),
    "affine": random_network([5, 3], [6]),
    "affine twice": random_network([5, 3], [6], skip=True),
    "wide": wide(),
    "convolutions": convolutional(),
    "a convolution that is constant": convolutional(1, fed=False),
    "700 inputs, few read": random_network([700, 8, 2], [30, 12]),
    "70,000 inputs": random_network([70_000, 4, 1], [12, 4]),
    "a row of 300": random_network([300, 2, 1], [600, 2]),
    "one value": Network.from_dense([[[2.0]], [[3.0]]]),
    "an output that nothing feeds": Network.from_dense([[[1.0, 2.0]], [[1.0], [0.0]]], [[0.5], [0.25, 0.0]]),
    "a unit that is constant": Network.from_dense([[[0.0, 0.0], [1.0, 0.0]], [[2.0, 1.0]]], [[3.0, 0.0], [0.5]]),
    "constant": zero_network(3, 2, [1.5, -2.0]),
    "constant behind an empty layer": Network.from_dense(
        [np.zeros((2, 3)), np.zeros((2, 2)), np.eye(2)], [[1.0, 2.0], [3.0, -4.0], [0.5, 0.5]]
    ),
    "zero": zero_network(3, 1),
}
NETWORKS["constant, with a skip part"] = Network(
    NETWORKS["constant"].layers, random_layer(np.random.default_rng(3), 2, 3, 4)
)


def rows(network: Network, n: int = 20) -> np.ndarray:
    """Inputs (n, d) that float32 holds exactly."""
    return np.random.default_rng(1).standard_normal((n, network.inputs)).astype(np.float32).astype(np.float64)


def expected(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (n, k) in float64, and how much float32 arithmetic may change each.

    The second follows from the standard model of rounding: a sum of m products is wrong by at most (m + 2) 2^-24 of
    the sum of their sizes, and a wrong hidden unit is passed on through the size of its weights.
    """
    small = network.compact()
    h, size, wrong = x, np.abs(x), np.zeros_like(x)
    for layer in small.layers:
        w, b = layer.to_scipy(), layer.dense_bias().numpy()
        terms = int(np.diff(w.indptr).max(initial=0)) + 4
        size = size @ abs(w).T + np.abs(b)
        wrong = wrong @ abs(w).T + terms * 2.0**-23 * size
        h = np.maximum(h @ w.T + b, 0) if layer is not small.layers[-1] else h @ w.T + b
    if small.skip is not None:
        a, c = small.skip.to_scipy(), small.skip.dense_bias().numpy()
        affine = np.abs(x) @ abs(a).T + np.abs(c)
        h, wrong = h + x @ a.T + c, wrong + (x.shape[1] + terms) * 2.0**-23 * (affine + size)
    return h, wrong
