"""The tangent kernel of a sparse network, its limit for infinite width, and what random pruning does to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparelu.certify.premises import some_rows, width_reason
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

BLOCK = 2**22
"""Numbers of one block of the Jacobian."""


def tangent_kernel(network: Network, x: np.ndarray, scales: Sequence[float] | None = None) -> np.ndarray:
    """Compute ``J J'`` for the Jacobian J of all outputs at rows x (n, d) in the live weights and biases: (n k, n k).

    Row i k + o is output o at row i. The affine skip part is left out. With ``scales`` (one for each layer) the
    parameters are theta with weight = scale theta, as in the NTK parameterisation: layer l counts scales[l]^2 times.

    Raises ``ValueError`` when the width of ``x`` or the number of scales is wrong.
    """
    net = network.to(torch.float64, "cpu")
    if x.ndim != 2 or x.shape[1] != net.inputs:
        raise ValueError(f"the network reads rows of {net.inputs} inputs, got an array of shape {x.shape}")
    factors = np.ones(len(net.layers)) if scales is None else np.asarray(scales, dtype=np.float64)
    if len(factors) != len(net.layers):
        raise ValueError(f"{len(factors)} scales for {len(net.layers)} layers: give one for each")
    active, gates = [np.asarray(x, dtype=np.float64)], []
    for layer in net.layers[:-1]:
        z = _apply(layer, active[-1])
        gates.append(z > 0)
        active.append(np.maximum(z, 0))
    n, k = len(x), net.outputs
    kernel = np.zeros((n * k, n * k))
    back = np.tile(np.eye(k), (n, 1))  # d output_o / d pre-activation, rows (i, o)
    for i in range(len(net.layers) - 1, -1, -1):
        kernel += factors[i] ** 2 * _layer_kernel(net.layers[i], back, np.repeat(active[i], k, axis=0))
        if i > 0:
            back = (net.layers[i].to_scipy().T @ back.T).T * np.repeat(gates[i - 1], k, axis=0)
    return kernel


def _apply(layer: Layer, x: np.ndarray) -> np.ndarray:
    return (layer.to_scipy() @ x.T).T + layer.dense_bias().numpy()


def _layer_kernel(layer: Layer, back: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Sum over live weights (o, p) of the outer products of back[:, o] below[:, p], and over biases of back[:, o]."""
    rows, columns = layer.outputs_of_values.numpy(), layer.indices.numpy()
    if rows.size == layer.shape[0] * layer.shape[1]:  # all weights are live: the sum factors
        kernel = (back @ back.T) * (below @ below.T)
    else:
        kernel = np.zeros((len(back), len(back)))
        step = max(1, BLOCK // len(back))
        for start in range(0, rows.size, step):
            part = slice(start, start + step)
            jacobian = back[:, rows[part]] * below[:, columns[part]]
            kernel += jacobian @ jacobian.T
    if layer.bias is not None:
        live = back[:, layer.rows.numpy()[np.flatnonzero(layer.bias.numpy())]]
        kernel += live @ live.T
    return kernel


def limit_kernel(x: np.ndarray, depth: int, density: float = 1.0, rescaled: bool = True) -> np.ndarray:
    """Return the tangent kernel of infinite width for ``depth`` hidden layers, no biases, at rows x (n, d): (n, n).

    h_l = sqrt(2/m) relu(W_l h_{l-1}), f = v.h_L, standard normal weights, of which a share ``density`` is kept at
    random in all layers but the first. S_l = |.||.| (sin t + (pi - t) cos t)/pi, T_l = S_l + T_{l-1} (pi - t)/pi, t the
    angle in S_{l-1} (Jacot et al. 2018). Kept weights divided by sqrt(density): the same limit; else density^depth
    times it (Yang and Wang 2023).

    Raises ``ValueError`` for a depth below 1 or a density outside (0, 1].
    """
    if depth < 1 or not 0 < density <= 1:
        raise ValueError(f"a depth of at least 1 and a density in (0, 1], got {depth} and {density}")
    s = np.asarray(x, dtype=np.float64) @ np.asarray(x, dtype=np.float64).T
    tangent = s.copy()
    for _ in range(depth):
        size = np.sqrt(np.outer(np.diag(s), np.diag(s)))
        t = np.arccos(np.clip(s / np.where(size > 0, size, 1.0), -1, 1))
        s = size * (np.sin(t) + (math.pi - t) * np.cos(t)) / math.pi
        tangent = s + tangent * (math.pi - t) / math.pi
    return tangent if rescaled else tangent * density**depth


def random_pruned(
    inputs: int, width: int, depth: int, density: float, rescaled: bool, rng: np.random.Generator
) -> tuple[Network, list[float]]:
    """Draw a randomly pruned network at initialisation in the NTK parameterisation, and the scales of its layers.

    Every weight above the first layer is kept with probability ``density``, and divided by its root if ``rescaled``.
    """
    widths = (inputs, *[width] * depth, 1)
    layers, scales = [], []
    for i in range(depth + 1):
        w = rng.standard_normal((widths[i + 1], widths[i]))
        factor = math.sqrt(2 / width) if i < depth else 1.0
        if i > 0:
            w = w * (rng.random(w.shape) < density)
            factor = factor / math.sqrt(density) if rescaled else factor
        layers.append(Layer.from_dense(factor * w))
        scales.append(factor)
    return Network(tuple(layers)), scales


def rescaled(network: Network) -> Network:
    """Divide every hidden and output weight above the first layer by the root of its layer's density.

    Keeps E|h|^2 of every layer under random pruning as it was before (Yang and Wang 2023); biases stay.
    """
    layers = [network.layers[0]]
    for layer in network.layers[1:]:
        root = math.sqrt(layer.nonzeros / (layer.shape[0] * layer.shape[1])) if layer.nonzeros else 1.0
        rows, bias = layer.outputs_of_values, layer.bias
        layers.append(Layer.from_triplets(layer.shape, rows, layer.indices, layer.values / root, bias, layer.rows))
    return Network(tuple(layers), network.skip)


@dataclass(frozen=True)
class Kernel(Certifier):
    """Compute the least eigenvalue of the tangent kernel on rows: above zero, small changes of the live weights move
    all outputs.

    Source: the kernel of a pruned network of Yang and Wang (2023), at the weights as they are, not at initialisation.

    Use it to ask whether the live weights can still move all outputs at these rows.

    Not for a claim about new rows.
    """

    rows: int = setting(100, "rows, drawn at random; the kernel has rows x outputs columns", low=2, high=3000)

    name = "kernel"
    question = "certify"
    paper = "Yang and Wang, On the neural tangent kernel analysis of randomly pruned neural networks, 2023"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        reason = width_reason(network, data, "the kernel is taken at rows")
        if reason is None and self.rows * network.outputs > 3000:
            reason = f"{self.rows} rows of {network.outputs} outputs make a kernel above 3000: lower `rows`"
        return reason

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        if data is None:
            raise ValueError(self.refuses(network, data))
        x = some_rows(data, self.rows, rng)
        values = np.linalg.eigvalsh(tangent_kernel(network, x))
        rounding = len(values) * float(np.finfo(np.float64).eps) * float(values[-1])
        least = float(values[0]) if values[0] > 10 * rounding else 0.0
        parameters = network.nonzeros + network.biases
        rank = int((values > 10 * rounding).sum())
        claim = (
            f"least eigenvalue of the tangent kernel of the live weights at {len(x)} rows "
            f"(largest {values[-1]:.4g}, rank {rank} of {len(values)}, {parameters:,} parameters)"
        )
        linear = Assumption(
            "weights stay near where they are, so that the network moves as its linearisation does", "taken on trust"
        )
        repeated = len(np.unique(x, axis=0)) < len(x)
        distinct = Assumption("rows are distinct", "violated" if repeated else "checked", f"{len(x)} rows compared")
        return Certificate(claim, least, "output^2", (linear, distinct), vacuous=least == 0, source=self.paper)
