"""A network as every exporter writes it: only what lives, in one float type, without empty layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparelu.networks.network import Layer, Network


def plain_network(network: Network, dtype: torch.dtype = torch.float32) -> Network:
    """Return the same function for export.

    Hidden units that nothing feeds or nothing reads are gone, so hidden units are renumbered; the constant of the
    skip part is in the last bias; a hidden layer of no units, behind which everything is constant, is gone with all
    below it. Weights are on the CPU in ``dtype``, those that round to zero dropped.

    Raises ``ValueError`` when a number is too large for ``dtype``.
    """
    exact = _joined(network.to(torch.float64, "cpu"))
    _check_range(exact, dtype)
    rounded = exact.to(dtype).compact()
    return rounded if all(rounded.hidden) else _constant(rounded)


def check_labels(network: Network, names: Sequence[str], classes: Sequence[Any]) -> None:
    """Refuse input names or classes that do not fit ``network``; none at all fit any."""
    if names and len(names) != network.inputs:
        raise ValueError(f"{len(names)} names for {network.inputs} inputs: give one for each, or none")
    wanted = 2 if network.outputs == 1 else network.outputs
    if classes and len(classes) != wanted:
        raise ValueError(f"{len(classes)} classes for {network.outputs} output(s): give {wanted}, or none")


def _joined(network: Network) -> Network:
    """Return the bias of the skip part moved into the last layer."""
    if network.skip is None:
        return network
    last, skip = network.layers[-1], network.skip
    bias = last.dense_bias() + skip.dense_bias()
    output = Layer.from_triplets(last.shape, last.outputs_of_values, last.indices, last.values, bias)
    linear = Layer.from_triplets(skip.shape, skip.outputs_of_values, skip.indices, skip.values)
    return Network((*network.layers[:-1], output), linear)


def _constant(network: Network) -> Network:
    """Return one layer without weights for a chain of layers that its input does not reach."""
    value = Network(network.layers)(torch.zeros(1, network.inputs, dtype=network.dtype))[0]
    empty = np.empty(0, dtype=np.int64)
    none = torch.empty(0, dtype=network.dtype)
    return Network((Layer.from_triplets((network.outputs, network.inputs), empty, empty, none, value),), network.skip)


def _check_range(network: Network, dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    kernels = [part.kernel for part in network.parts]
    for layer in kernels if network.skip is None else [*kernels, network.skip]:
        for numbers in (layer.values, layer.dense_bias()):
            if bool((numbers.abs() > top).any()):
                raise ValueError(
                    f"a weight or bias of size {float(numbers.abs().max()):.3g} does not fit {dtype}: "
                    "scale the targets down before fitting"
                )
