"""How much can pruning change a network's outputs? What is proved of a given pair, and what random weights predict."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from sparelu.certify.pairs import Inputs, bound_gap, pair_layers, product_of_norms
from sparelu.certify.premises import some_rows, width_reason
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate
from sparelu.store import StoreError, load
from sparelu.topk import largest

DENSE_LIMIT = 10**8
"""Entries of the dense layers of one network above which a pair is refused: bounds are computed on dense rows."""


def without_smallest(network: Network, fraction: float) -> Network:
    """Return the network without the ``fraction`` of smallest weights (by size) of every layer, biases kept."""
    layers = []
    for layer in network.layers:
        kept = largest(layer.values.abs(), layer.nonzeros - int(fraction * layer.nonzeros))
        bias = None if layer.bias is None else layer.bias
        rows, columns = layer.outputs_of_values[kept], layer.indices[kept]
        layers.append(Layer.from_triplets(layer.shape, rows, columns, layer.values[kept], bias, layer.rows))
    return replace(network, parts=tuple(layers))


def predicted_change(width: int, fraction: float, method: str, scale: float = math.sqrt(3)) -> float:
    """Compute |dW| when ``fraction`` of a width x width matrix of entries uniform in +- scale / sqrt(width) is pruned.

    ``method`` is "random" or "magnitude". The pruned entries are independent, of variance q K^2 / (3 d) at random and
    q^3 K^2 / (3 d) by magnitude (they are uniform in +- K q / sqrt d); a d x d matrix of variance s^2 has norm
    2 s sqrt d for large d. Setting: Qian and Klabjan 2021.

    Raises ``ValueError`` for another method or a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1 or width < 1:
        raise ValueError(f"a fraction from 0 to 1 of a width of at least 1, got {fraction} and {width}")
    return 2 * scale * fraction ** _power(method) / math.sqrt(3)


def predicted_slope(alpha: float, method: str) -> float:
    """Return the slope of log |dW| in log d when the fraction d^-alpha is pruned: -alpha/2 at random, -3 alpha/2 by
    magnitude.
    """
    return -alpha * _power(method)


def _power(method: str) -> float:
    powers = {"random": 0.5, "magnitude": 1.5}
    if method not in powers:
        raise ValueError(f"method must be 'random' or 'magnitude', got {method!r}")
    return powers[method]


@dataclass(frozen=True)
class Pruned(Certifier):
    """Bound the change of the outputs against a reference network: on the box of the data, near rows, or on mixtures.

    Without a reference: the change when the smallest weights of this network are taken away as well.

    Use it to bound what pruning may have changed, on all inputs of a box, a ball or a hull.

    Not for the error on labels; and the larger the set, the looser the bound.
    """

    reference: str | None = setting(None, "model file of the dense network; none: this one, pruned further")
    fraction: float = setting(0.1, "share of smallest weights taken away where there is no reference", above=0, below=1)
    radius: float | None = setting(
        None, "bound the change up to this distance of rows, by input; none: in the box", low=0
    )
    groups: int | None = setting(
        None, "bound it on the mixtures of rows within each of so many groups of alike rows; none: in the box", low=1
    )
    rows: int = setting(20, "rows whose surroundings are bounded where a radius is given", low=1)

    name = "pruned"
    question = "certify"
    paper = "Qian and Klabjan, A probabilistic approach to neural network pruning, 2021; bounds of the pair: here"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        reason = width_reason(network, data, "the change is bounded where they lie")
        if reason is not None:
            return reason
        if max(layer.shape[0] * layer.shape[1] for layer in network.layers) > DENSE_LIMIT:
            return f"a layer has more than {DENSE_LIMIT:,} entries: bounds of the pair are computed on dense rows"
        try:
            pair_layers(*self._pair(network))
        except (StoreError, ValueError) as error:
            return str(error)
        return None

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        if data is None:
            raise ValueError(self.refuses(network, data))
        dense, small = self._pair(network)
        places, where = self._places(data, rng)
        bounds = [bound_gap(dense, small, place).largest for place in places]
        norms = [product_of_norms(dense, small, place) for place in places]
        what = (
            f"{small.nonzeros:,} weights instead of {dense.nonzeros:,}"
            if self.reference is not None
            else f"taking away the {self.fraction:.0%} smallest weights of every layer"
        )
        premise = Assumption("inputs stay there", "taken on trust", f"product of norms: {max(norms):.4g}")
        spread = _spread(network, data)
        return Certificate(
            f"{what} changes no output by more, {where}; outputs there range over {spread:.4g}",
            max(bounds),
            "output",
            (premise,),
            vacuous=max(bounds) >= spread > 0,
            source=self.paper,
        )

    def _places(self, data: Data, rng: np.random.Generator, *, most_grouped: int = 20_000) -> tuple[list[Inputs], str]:
        """Return the sets of inputs that are bounded one by one, and their union in words."""
        if self.radius is not None:
            x = some_rows(data, self.rows, rng)
            near = [Inputs(row - self.radius, row + self.radius) for row in x]
            return near, f"within {self.radius:g} by input of {len(x)} rows of the data"
        if self.groups is not None:
            x = some_rows(data, most_grouped, rng)
            parts = group_rows(x, self.groups, rng)
            words = (
                f"for every one of {len(x)} rows of the data and every mixture of those of one of {len(parts)} groups"
            )
            return [Inputs.hull(part) for part in parts], words
        whole = Inputs(*data.ranges, _longest(data))
        return [whole], f"for every input within the ranges of the data and not longer than {whole.norm:.4g}"

    def _pair(self, network: Network) -> tuple[Network, Network]:
        if self.reference is None:
            return network, without_smallest(network, self.fraction)
        return load(self.reference).network, network


def group_rows(x: np.ndarray, groups: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Group the rows (n, d) into at most ``groups`` by k-means."""
    from sklearn.cluster import KMeans

    count = min(groups, len(np.unique(x, axis=0)))
    labels = KMeans(count, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(x)
    return [x[labels == label] for label in np.unique(labels)]


def _longest(data: Data) -> float:
    """Return the largest norm of a row, rounded outwards."""
    most = max(float(np.einsum("nd,nd->n", x, x, dtype=np.float64).max()) for x, _ in data.chunks())
    return math.sqrt(most) * (1 + 1e-15 * data.inputs)


def _spread(network: Network, data: Data) -> float:
    """Return the largest minus least value of an output over the rows."""
    exact = network.to(torch.float64, "cpu")
    low, high = torch.full((network.outputs,), math.inf), torch.full((network.outputs,), -math.inf)
    for x, _ in data.chunks():
        out = exact(np.asarray(x, dtype=np.float64))
        low, high = torch.minimum(low, out.amin(dim=0)), torch.maximum(high, out.amax(dim=0))
    return float((high - low).max())
