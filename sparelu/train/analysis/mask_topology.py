"""The topology of masks as a diagnostic, every number beside the same number of random masks of equal density.

    for name, layer in diagnose_layers(model).items():
        print(name, layer)

These numbers rise with the density of a layer alone (a random mask of 784 x 300 has a gap of -0.8 at density 0.01 and
9.5 at 0.5), and over published masks plain layer density predicts accuracy as well as the best of them. What is left
after that is the difference to the random masks, and nothing else should be read as topology. docs/topology.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from scipy import sparse
from torch import Tensor, nn

from sparelu.networks.network import Layer, Network
from sparelu.train.analysis.spectra import COORDINATE, Convention, Topology, topology
from sparelu.train.sparsifier.prunable import PrunableWeight, prunable_weights
from sparelu.train.sparsifier.selection import Choice

NUMBERS = ("gap", "relative_gap", "imdb", "weighted_gap", "imsg", "length")
"""What is compared; ``length`` is that of the full-spectrum coordinate."""

DRAWS = 39
"""A mask that is itself such a random one lies outside the range of so many others with probability 2 / 40."""

Weights: TypeAlias = Layer | Tensor | np.ndarray | sparse.sparray | sparse.spmatrix
"""A matrix (outputs, inputs): what is not zero is an edge."""


@dataclass(frozen=True)
class Compared:
    """A ``value``, and the ``mean`` and the range ``low`` to ``high`` of the same number over random masks.

    NaN where the number is not defined. Out of d draws, a random mask is ``outside`` with probability 2 / (d + 1).
    """

    value: float
    mean: float
    low: float
    high: float

    @property
    def outside(self) -> bool:
        """Tell whether the value is beyond all random ones."""
        return self.value < self.low or self.value > self.high

    def __str__(self) -> str:
        mark = " *" if self.outside else ""
        return f"{self.value:.4g} (random: {self.mean:.4g}, {self.low:.4g} to {self.high:.4g}){mark}"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The numbers of one layer, and those of random masks with as many weights of the same values."""

    topology: Topology
    random: tuple[Topology, ...]

    @cached_property
    def numbers(self) -> dict[str, Compared]:
        """Return every one of :data:`NUMBERS` beside its control."""
        return {name: _compared(getattr(self.topology, name), self._drawn(name)) for name in NUMBERS}

    def _drawn(self, name: str) -> np.ndarray:
        return np.array([getattr(t, name) for t in self.random])

    def __str__(self) -> str:
        head = f"density {self.topology.density:.4g}, {len(self.random)} random masks of it; * lies outside all of them"
        return "\n".join([head, *(f"  {name.replace('_', ' ')} {number}" for name, number in self.numbers.items())])


def diagnose(weights: Weights, *, draws: int = DRAWS, seed: int = 0, convention: Convention = COORDINATE) -> Diagnosis:
    """Measure the topology of a matrix (outputs, inputs), dense or sparse, and of ``draws`` random masks as dense.

    A mask of bool has weights 1. Memory and time follow the nonzeros where both sides are long. Raises ``ValueError``
    for what is no matrix, or holds numbers that are not finite.
    """
    return _diagnosis(edges_of(weights), draws, [seed], convention)


def diagnose_layers(
    model: nn.Module | Network,
    *,
    masks: Mapping[str, Tensor] | None = None,
    layers: Choice | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    convention: Convention = COORDINATE,
) -> dict[str, Diagnosis]:
    """Diagnose every layer of a network or a module, by name.

    Edges are the nonzero weights, or those of ``masks`` (weights that are zero included). Convolutions are unfolded:
    every channel at every place of the kernel is an input. ``layers`` chooses as for a sparsifier.

    Raises ``ValueError`` as :func:`diagnose`, for layers in groups, which are several graphs each, and for masks that
    are not of these layers.
    """
    found = graphs(model, masks, layers)
    return {name: _diagnosis(g, draws, [seed, i], convention) for i, (name, g) in enumerate(found.items())}


def mean_over_layers(diagnoses: Mapping[str, Diagnosis]) -> dict[str, Compared]:
    """Average every number over the layers, random masks of all layers drawn together.

    A layer where a number is not defined counts as 0, as the authors count it.
    """
    found = {}
    for name in NUMBERS:
        values = [getattr(d.topology, name) for d in diagnoses.values()]
        drawn = np.array([[getattr(t, name) for t in d.random] for d in diagnoses.values()])
        found[name] = _compared(float(np.nan_to_num(values).mean()), np.nan_to_num(drawn).mean(axis=0))
    return found


def distance(diagnoses: Mapping[str, Diagnosis], anchor: Mapping[str, Topology]) -> Compared:
    """Measure how far the coordinates are from an ``anchor``'s (the same layers at another time), mean over the layers.

    The random masks are compared with the same anchor. Raises ``ValueError`` when the layers differ.
    """
    if diagnoses.keys() != anchor.keys():
        raise ValueError(f"the layers differ: {sorted(diagnoses.keys() ^ anchor.keys())}; give the same ones to both")
    value = np.mean([np.linalg.norm(d.topology.coordinate - anchor[n].coordinate) for n, d in diagnoses.items()])
    drawn = [[np.linalg.norm(t.coordinate - anchor[n].coordinate) for t in d.random] for n, d in diagnoses.items()]
    return _compared(float(value), np.mean(drawn, axis=0))


def graphs(
    model: nn.Module | Network, masks: Mapping[str, Tensor] | None = None, layers: Choice | None = None
) -> dict[str, sparse.csr_array]:
    """Return the matrices (outputs, inputs) of the layers by name, stored entries the edges."""
    if isinstance(model, Network):
        return {f"layers.{i}": edges_of(layer) for i, layer in enumerate(model.layers)}
    parts = prunable_weights(model, layers)
    if masks is not None and masks.keys() != parts.keys():
        raise ValueError(f"the masks are not those of this model's layers: {sorted(masks.keys() ^ parts.keys())}")
    return {n: part_edges(p, p.weight.detach() != 0 if masks is None else masks[n]) for n, p in parts.items()}


def part_edges(part: PrunableWeight, mask: Tensor) -> sparse.csr_array:
    """Return the edges of a module's layer with this mask, valued by its weights; raises ``ValueError`` for groups."""
    weight, mask = part.weight.detach(), mask.to(part.weight.device)
    if getattr(part.module, "groups", 1) != 1:
        raise ValueError(f"{part.name} has groups, each a graph of its own: leave it out with `layers`")
    if getattr(part.module, "transposed", False):
        weight, mask = weight.transpose(0, 1), mask.transpose(0, 1)
    weight, mask = weight.reshape(len(weight), -1), mask.reshape(len(mask), -1)
    rows, columns = (i.cpu().numpy() for i in mask.nonzero(as_tuple=True))
    values = weight[mask].double().cpu().numpy()
    return _checked(sparse.csr_array((values, (rows, columns)), shape=tuple(weight.shape)))


def edges_of(weights: Weights) -> sparse.csr_array:
    """Return the nonzeros of a matrix as a CSR array of float64."""
    if isinstance(weights, Layer):
        return _checked(weights.to_scipy().astype(np.float64))
    dense = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else weights
    if dense.ndim != 2:
        raise ValueError(f"a matrix (outputs, inputs) is wanted, got {dense.ndim} dimensions: unfold it first")
    found = sparse.csr_array(dense, dtype=np.float64, copy=True)
    found.sum_duplicates()
    found.eliminate_zeros()
    return _checked(found)


def scattered(edges: sparse.csr_array, rng: np.random.Generator) -> sparse.csr_array:
    """Put the same values at random places of the matrix: its density, and no topology."""
    rows, columns = edges.shape
    places = rng.choice(rows * columns, edges.nnz, replace=False)
    return sparse.csr_array((edges.data, np.divmod(places, columns)), shape=edges.shape)


def _checked(edges: sparse.csr_array) -> sparse.csr_array:
    if not np.isfinite(edges.data).all():
        raise ValueError("weights are not finite: the training diverged or the file is damaged")
    return edges


def _diagnosis(edges: sparse.csr_array, draws: int, seed: list[int], convention: Convention) -> Diagnosis:
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}: a number without its control says nothing")
    rngs = (np.random.default_rng([*seed, i]) for i in range(draws))
    return Diagnosis(topology(edges, convention), tuple(topology(scattered(edges, g), convention) for g in rngs))


def _compared(value: float, drawn: np.ndarray) -> Compared:
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return Compared(value, np.nan, np.nan, np.nan)
    return Compared(value, float(known.mean()), float(known.min()), float(known.max()))
