"""Networks that are known, as functions of NumPy alone, and how far another network is from one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparelu.networks.network import Layer, Network
from sparelu.oracle import Oracle


@dataclass(frozen=True)
class Planted:
    """``v relu(w x + b) + a x + c``, with rows counted by itself."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    a: np.ndarray
    c: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ self.w.T + self.b, 0) @ self.v.T + x @ self.a.T + self.c

    def network(self) -> Network:
        skip = Layer.from_dense(self.a) if self.a.any() else None
        return Network.two_layer(self.w, self.v, bias=self.b, output_bias=self.c, skip=skip)

    def oracle(self, through: Callable[[np.ndarray], np.ndarray] = lambda y: y, **options) -> Oracle:
        return Oracle(lambda x: through(self(x)), self.w.shape[1], len(self.v), **options)


def planted(
    inputs: int,
    width: int,
    outputs: int = 1,
    *,
    each: int | None = None,
    bias: float = 1.0,
    skip: bool = False,
    negative: bool = False,
    seed: int = 0,
) -> Planted:
    """A random network, ``each`` inputs a neuron (None: all)."""
    rng = np.random.default_rng([seed, inputs, width])
    w = rng.standard_normal((width, inputs)) / np.sqrt(each or inputs)
    for row in w if each else ():
        row[rng.permutation(inputs)[each:]] = 0
    v = rng.standard_normal((outputs, width))
    a = rng.standard_normal((outputs, inputs)) if skip else np.zeros((outputs, inputs))
    v = -np.abs(v) if negative else v
    return Planted(w, bias * rng.standard_normal(width), v, a, rng.standard_normal(outputs))


def gap(found: Network, truth: Planted) -> float:
    """Largest difference of the entries of both canonical forms, relative to the largest of its kind; infinite when
    a width differs. Constants of output and skip part are one number of the function."""
    worst = 0.0
    for one, two in zip(_numbers(found), _numbers(truth.network()), strict=True):
        if one.shape != two.shape:
            return np.inf
        worst = max(worst, float(np.abs(one - two).max(initial=0) / max(np.abs(two).max(initial=0), 1.0)))
    return worst


def _numbers(network: Network) -> list[np.ndarray]:
    """Hidden weights and biases, output weights, slope of the skip part and constant of the canonical form."""
    form = network.oriented(1e-7)
    hidden, output = form.layers
    skip = form.skip or Layer.from_dense(np.zeros((network.outputs, network.inputs)))
    constant = output.dense_bias() + skip.dense_bias()
    found = (hidden.dense(), hidden.dense_bias(), output.dense(), skip.dense(), constant)
    return [part.numpy() for part in found]


def same_support(found: Network, truth: Planted) -> bool:
    """Whether the hidden layers of both canonical forms read the same inputs."""
    p, q = found.oriented(1e-7).layers[0], truth.network().oriented(1e-7).layers[0]
    return p.shape == q.shape and np.array_equal(p.dense().numpy() != 0, q.dense().numpy() != 0)
