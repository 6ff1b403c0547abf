"""What the compressors of one hidden layer share: reading a network, refusing one, and claims about distances."""

import torch

from sparelu.data import Budget
from sparelu.gaussian import TwoLayer
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate

KERNELS = "closed-form Gaussian kernels (sparelu.gaussian)"
"""Source of the claim of an exact population distance."""


def two_layer(network: Network) -> TwoLayer:
    """Return the dense float64 form of a network with one hidden layer; hidden units that nothing reads are left
    out.
    """
    net = network.to(dtype=torch.float64, device="cpu").compact()
    hidden, output = net.layers
    linear, offset = torch.zeros(net.outputs, net.inputs, dtype=torch.float64), output.dense_bias()
    if net.skip is not None:
        linear, offset = net.skip.dense(), offset + net.skip.dense_bias()
    return TwoLayer(output.dense(), hidden.dense(), hidden.dense_bias(), linear, offset)


def from_two_layer(net: TwoLayer, like: Network) -> Network:
    """Return a network of the same function in the number type of ``like``; the affine part only where it is not
    zero.
    """
    skip = Layer.from_dense(net.linear.detach()) if bool(net.linear.any()) else None
    bias = net.bias.detach() if bool(net.bias.any()) else None
    offset = net.offset.detach() if bool(net.offset.any()) else None
    return Network.two_layer(net.weight.detach(), net.out.detach(), bias, offset, skip).to(dtype=like.dtype)


def shallow_reason(network: Network, budget: Budget) -> str | None:
    """Say why a network or a budget is not one of a single hidden layer given by its width; None when it is."""
    if len(network.layers) != 2:
        return f"it has {len(network.layers) - 1} hidden layers, this method is for one: use `merge`"
    if len(budget.hidden) != 1:
        return f"the budget names {len(budget.hidden)} hidden widths, wanted one"
    if budget.count(network.inputs, network.outputs) is not None:
        return "it removes neurons, not weights: give `hidden` alone"
    return None


def fits(network: Network, budget: Budget) -> bool:
    """Tell whether the neurons that do anything are within the budget already."""
    return network.compact().hidden[0] <= budget.hidden[0]


def unchanged(network: Network, budget: Budget) -> tuple[Network, tuple[Certificate, ...]]:
    """Return the network as it is, or without the units that do nothing, and why."""
    live = network.compact()
    same = network if network.hidden[0] <= budget.hidden[0] else live
    claim = f"returned unchanged: {live.hidden[0]} neurons are within {budget.hidden[0]}"
    return same, (Certificate(claim, 0.0, "output^2"),)


def distance_certificate(
    squared: float, energy: float, law: str, state: str = "taken on trust", evidence: str = ""
) -> Certificate:
    """Return the exact squared distance to the original under ``law``, with its share of the original's energy."""
    share = squared / energy if energy > 0 else 0.0
    return Certificate(
        "exact mean squared distance to the original network",
        squared,
        "output^2",
        (Assumption(f"the inputs follow the law: {law}", state, evidence or f"{share:.3g} of E|f|^2 = {energy:.4g}"),),
        source=KERNELS,
    )
