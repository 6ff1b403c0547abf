"""How far outputs can move when inputs do: a Certifier in one file, ``sparelu/certify/lipschitz.py``."""

import math
from dataclasses import dataclass

import numpy as np

from sparelu.data import Data
from sparelu.method import Certifier
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Certificate


@dataclass(frozen=True)
class Lipschitz(Certifier):
    """Bound the Euclidean change of the outputs by a number times that of the inputs.

    Source: Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3: a ReLU moves nothing by more,
    so the largest singular values of the layers multiply. Departs from it: each is bounded by the geometric mean of the
    largest sums of a row and of a column, which takes one pass over the nonzeros.
    """

    name = "lipschitz"
    question = "certify"
    paper = "Szegedy et al., Intriguing properties of neural networks, 2014"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        """Refuse convolutions, whose kernels are stored once and applied at many places."""
        return "it bounds layers of weights, and this network has convolutions" if network.convolutions else None

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        """Return the bound; it has no premises."""
        bound = math.prod(_norm_bound(layer) for layer in network.layers)
        bound += 0.0 if network.skip is None else _norm_bound(network.skip)
        return Certificate(
            "outputs move at most so many times as far as inputs", bound, "times", vacuous=False, source=self.paper
        )


def _norm_bound(layer: Layer) -> float:
    """Return sqrt(|W|_1 |W|_inf), which is at least the largest singular value of W."""
    size = np.abs(layer.values.double().cpu().numpy())
    rows, columns = layer.outputs_of_values.cpu().numpy(), layer.indices.cpu().numpy()
    sums = (np.bincount(where, size).max(initial=0.0) for where in (rows, columns))
    return math.sqrt(math.prod(float(s) for s in sums))
