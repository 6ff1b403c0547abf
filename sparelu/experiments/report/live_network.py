"""The live part of a network as triplets that keep the original numbers: what tables and drawings are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparelu.networks.network import Layer, Network
from sparelu.outcome import Solution


@dataclass(frozen=True, eq=False)
class Wires:
    """One layer's live weights: ``weights[e]`` leads from unit ``sources[e]`` to unit ``targets[e]``.

    ``bias`` has the nonzero biases of live units by unit number.
    """

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    bias: Mapping[int, float]

    def kept(self, edges: np.ndarray, targets: np.ndarray | None = None) -> "Wires":
        """Return the edges of the mask alone, with the biases of ``targets`` alone."""
        alive = None if targets is None else set(targets.tolist())
        bias = {u: b for u, b in self.bias.items() if alive is None or u in alive}
        return Wires(self.sources[edges], self.targets[edges], self.weights[edges], bias)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Live wires of every layer from the input up, of the affine skip part, and the live units of each hidden layer."""

    layers: tuple[Wires, ...]
    skip: Wires | None
    hidden: tuple[np.ndarray, ...]

    @property
    def inputs(self) -> np.ndarray:
        """Return numbers of the inputs that reach a live unit or the skip part."""
        read = [self.layers[0].sources] + ([] if self.skip is None else [self.skip.sources])
        return np.unique(np.concatenate(read))

    def strength(self, layer: int) -> np.ndarray:
        """Return norm of the weights into each live unit of a hidden layer, times the norm of those out of it.

        The product does not change when a ReLU unit is rescaled.
        """
        units = self.hidden[layer]
        into, out = self.layers[layer], self.layers[layer + 1]
        return norms(units, into.targets, into.weights) * norms(units, out.sources, out.weights)


def norms(units: np.ndarray, where: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the norm of the weights at each of ``units`` (increasing), given the unit ``where`` each weight is."""
    inside = np.isin(where, units)
    place = np.searchsorted(units, where[inside])
    return np.sqrt(np.bincount(place, weights[inside] ** 2, minlength=len(units)))


def anatomy(network: Network) -> Anatomy:
    """Find the live part of ``network``: hidden units that something feeds (a weight or a bias) and something reads."""
    layers = [_wires(layer) for layer in network.layers]
    shrinking = True
    while shrinking:
        before = sum(len(w.weights) for w in layers)
        for i in range(len(layers) - 1):
            live = _live(layers[i], layers[i + 1])
            layers[i] = layers[i].kept(np.isin(layers[i].targets, live), live)
            layers[i + 1] = layers[i + 1].kept(np.isin(layers[i + 1].sources, live))
        shrinking = sum(len(w.weights) for w in layers) < before
    hidden = tuple(_live(a, b) for a, b in zip(layers, layers[1:], strict=False))
    return Anatomy(tuple(layers), None if network.skip is None else _wires(network.skip), hidden)


def _live(below: Wires, above: Wires) -> np.ndarray:
    fed = np.union1d(below.targets, np.fromiter(below.bias, dtype=np.int64))
    return np.intersect1d(fed, above.sources)


def _wires(layer: Layer) -> Wires:
    cpu = layer.to(device="cpu")
    biased = [] if cpu.bias is None else zip(cpu.rows.tolist(), cpu.bias.tolist(), strict=True)
    return Wires(
        cpu.indices.numpy().astype(np.int64),
        cpu.outputs_of_values.numpy().astype(np.int64),
        cpu.values.double().numpy(),
        {row: b for row, b in biased if b != 0},
    )


def input_namer(solution: Solution) -> Callable[[int], str]:
    """Return what an input is called: for pixels its place, else its name, else ``x0``, ``x1``, ..."""
    shape = image_shape(solution)
    if shape is not None:
        return lambda i: _pixel_name(i, shape)
    return lambda i: solution.names[i] if solution.names else f"x{i}"


def _pixel_name(pixel: int, shape: tuple[int, int, int]) -> str:
    row, column, channel = np.unravel_index(pixel, shape)
    colour = {1: ("",), 3: (", red", ", green", ", blue")}.get(shape[2])
    return f"row {row}, column {column}" + (f", channel {channel}" if colour is None else colour[channel])


def output_namer(solution: Solution) -> Callable[[int], str]:
    """Return what an output is called: its class, the second of two classes, or the target."""
    outputs, classes = solution.network.outputs, solution.classes
    target = str(solution.about.get("target", "y"))
    if len(classes) == outputs:
        return lambda i: str(classes[i])
    if outputs == 1:
        name = f"{classes[1]} if positive" if len(classes) == 2 else target
        return lambda i: name
    return lambda i: f"{target} {i}"


def image_shape(solution: Solution) -> tuple[int, int, int] | None:
    """Return (height, width, channels) when the data are images of the network's inputs, else None."""
    given = solution.about.get("image")
    if given is None:
        return None
    height, width, channels = (*given, 1)[:3]
    return (height, width, channels) if height * width * channels == solution.network.inputs else None
