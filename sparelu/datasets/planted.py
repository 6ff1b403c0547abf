"""Data that a known sparse network made: the published generator (Fridovich-Keil & Pilanci 2026, section 5) and more.

The published streams are NumPy's legacy ones, seeded with seed + 1 (weights) and seed + 2 (inputs), so that
the data equal the published ones bit for bit: positions by a permutation, values N(0, 1) rounded to
float32, inputs and labels float32. What is ours (output weights, biases, noise) draws from streams of its own
and leaves these as they are.
"""

from typing import Annotated

import numpy as np
import torch

from sparelu.data import Data, DataError
from sparelu.datasets.dataset import Dataset, Seed, declared
from sparelu.method import Rule
from sparelu.networks.network import Layer, Network

OUTPUT_STREAM, BIAS_STREAM, NOISE_STREAM = 0xA0, 0xB1, 0xC2
ROWS_AT_ONCE = 4096

Inputs = Annotated[int, Rule("number of inputs d", low=1)]
Hidden = Annotated[tuple[int, ...], Rule("widths of the hidden layers", low=1)]
Nonzeros = Annotated[int, Rule("nonzero weights s, shared equally among the layers", low=1)]
Outputs = Annotated[int, Rule("number of outputs k", low=1)]
OutputWeights = Annotated[str, Rule("law of the output weights", choices=("published", "one", "sign", "real"))]
Biases = Annotated[float, Rule("standard deviation of the biases of hidden neurons that have a weight", low=0)]


@declared
def planted_network(
    inputs: Inputs = 100,
    hidden: Hidden = (100,),
    nonzeros: Nonzeros = 100,
    outputs: Outputs = 1,
    output_weights: OutputWeights = "published",
    biases: Biases = 0.0,
    seed: Seed = 0,
) -> Network:
    """Return the network behind :func:`planted`, in float64.

    With one output every hidden layer has ``int(nonzeros / layers)`` weights at random places and the output
    weights are ones (published), random signs or N(0, 1); with more outputs the output layer is one of the sparse
    layers, and "one" and "sign" replace its values. A layer smaller than its share is full.
    Raises :class:`~sparelu.data.DataError` when the nonzeros do not reach every layer.
    """
    widths = (inputs, *hidden) if outputs == 1 else (inputs, *hidden, outputs)
    share = nonzeros // (len(widths) - 1)
    if share == 0:
        raise DataError(f"{nonzeros} nonzeros cannot be shared among {len(widths) - 1} layers: give at least one each")
    stream = np.random.RandomState(seed + 1)
    own = np.random.default_rng([seed, OUTPUT_STREAM])
    layers = [_sparse_layer(a, b, share, stream) for a, b in zip(widths, widths[1:], strict=False)]
    if outputs == 1:
        layers.append(_output_layer(hidden[-1], layers[-1].rows.numpy(), output_weights, own))
    elif output_weights in ("one", "sign"):
        layers[-1] = _with_values(layers[-1], output_weights)
    if biases > 0:
        stream_b = np.random.default_rng([seed, BIAS_STREAM])
        layers[:-1] = [_with_biases(layer, biases, stream_b) for layer in layers[:-1]]
    return Network(tuple(layers))


@declared
def planted(
    inputs: Inputs = 100,
    rows: Annotated[int, Rule("training rows n", low=1)] = 50000,
    test_rows: Annotated[int, Rule("rows held out for testing", low=0)] = 10000,
    hidden: Hidden = (100,),
    nonzeros: Nonzeros = 100,
    outputs: Outputs = 1,
    output_weights: OutputWeights = "published",
    biases: Biases = 0.0,
    noise: Annotated[float, Rule("label noise, relative to the labels' standard deviation", low=0)] = 0.0,
    law: Annotated[
        str, Rule("law of the inputs", choices=("gaussian", "uniform", "bernoulli", "correlated", "heavy"))
    ] = "gaussian",
    correlation: Annotated[float, Rule("of neighbouring inputs, for the correlated law", above=-1, below=1)] = 0.5,
    seed: Seed = 0,
) -> Data:
    """Return inputs x (n, d) float32 and labels of :func:`planted_network`, (n,) or (n, k) float32; test rows apart.

    Laws of x: gaussian N(0, 1) (published); uniform on [-sqrt 3, sqrt 3]; bernoulli, pixels 0 or 1 with equal
    chance; correlated, N(0, 1) with correlation ``correlation ** |i - j|``; heavy, Student's t with 3
    degrees of freedom, scaled to variance 1. The held-out rows are the next
    ones of the same stream (the published code measures on its training rows); their labels have no noise.

    Raises :class:`~sparelu.data.DataError` when all labels are zero, which the published code skips silently.
    """
    network = planted_network(
        inputs=inputs,
        hidden=hidden,
        nonzeros=nonzeros,
        outputs=outputs,
        output_weights=output_weights,
        biases=biases,
        seed=seed,
    )
    x = _inputs(law, rows + test_rows, inputs, correlation, np.random.RandomState(seed + 2))
    y = _labels(network, x)
    if not y[:rows].any():
        raise DataError(
            f"all labels are zero: the sparse layers of seed {seed} do not connect; give another seed or more nonzeros"
        )
    if noise > 0:
        own = np.random.default_rng([seed, NOISE_STREAM])
        y[:rows] += noise * y[:rows].std(axis=0) * own.standard_normal(y[:rows].shape)
    y32 = y.astype(np.float32)
    test = Data(x[rows:], y32[rows:], name="planted") if test_rows else None
    return Data(x[:rows], y32[:rows], name="planted", test=test)


def _sparse_layer(inputs: int, outputs: int, nonzeros: int, stream: np.random.RandomState) -> Layer:
    """Return weights at positions of the (inputs, outputs) matrix, counted along its rows."""
    total = inputs * outputs
    count = min(total, nonzeros)
    place = stream.choice(total, size=count, replace=False)
    values = stream.normal(size=count).astype(np.float32).astype(np.float64)
    return Layer.from_triplets((outputs, inputs), place % outputs, place // outputs, values)


def _output_layer(width: int, live: np.ndarray, law: str, rng: np.random.Generator) -> Layer:
    """Return one output weight for each live neuron."""
    n = len(live)
    values = np.ones(n)
    if law == "sign":
        values = rng.choice([-1.0, 1.0], n)
    elif law == "real":
        values = rng.standard_normal(n)
    return Layer.from_triplets((1, width), np.zeros(n, dtype=np.int64), live, values)


def _with_values(layer: Layer, law: str) -> Layer:
    values = torch.ones_like(layer.values) if law == "one" else layer.values.sign()
    return Layer.from_triplets(layer.shape, layer.outputs_of_values, layer.indices, values)


def _with_biases(layer: Layer, sd: float, rng: np.random.Generator) -> Layer:
    bias = sd * rng.standard_normal(layer.rows.numel())
    return Layer.from_triplets(
        layer.shape, layer.outputs_of_values, layer.indices, layer.values, bias, layer.rows.numpy()
    )


def _inputs(law: str, n: int, d: int, correlation: float, stream: np.random.RandomState) -> np.ndarray:
    if law == "uniform":
        return stream.uniform(-np.sqrt(3), np.sqrt(3), size=(n, d)).astype(np.float32)
    if law == "bernoulli":
        return stream.randint(0, 2, size=(n, d)).astype(np.float32)
    if law == "heavy":
        return (stream.standard_t(3, size=(n, d)) / np.sqrt(3)).astype(np.float32)
    x = stream.normal(size=(n, d))
    if law == "correlated":  # x_i = r x_{i-1} + sqrt(1 - r^2) z_i keeps variance 1 and gives correlation r^|i-j|
        for i in range(1, d):
            x[:, i] = correlation * x[:, i - 1] + np.sqrt(1 - correlation**2) * x[:, i]
    return x.astype(np.float32)


def _labels(network: Network, x: np.ndarray) -> np.ndarray:
    """Return outputs (n,) or (n, k) in float64, by SciPy's sequential products, which do not depend on the thread
    count.
    """
    small = network.compact()
    layers = [(layer.to_scipy(), layer.dense_bias().numpy()[:, None]) for layer in small.layers]
    parts = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        h = x[start : start + ROWS_AT_ONCE].T.astype(np.float64)
        for i, (weight, bias) in enumerate(layers):
            h = weight @ (h if i == 0 else np.maximum(h, 0)) + bias
        parts.append(h.T)
    y = np.concatenate(parts)
    return y[:, 0] if y.shape[1] == 1 else y


PLANTED = Dataset("planted", "labels made by a known sparse network", planted)
