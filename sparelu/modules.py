"""Sparse networks as dense torch modules, and back."""

import torch
from torch import Tensor, nn

from sparelu.network import Layer, Network

TRANSPARENT = (nn.Flatten, nn.Identity, nn.Dropout)


class SkipNetwork(nn.Module):
    """``chain(x) + skip(x)``: a chain of Linear and ReLU beside one Linear."""

    def __init__(self, chain: nn.Sequential, skip: nn.Linear) -> None:
        super().__init__()
        self.chain = chain
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for rows ``x``."""
        return self.chain(x) + self.skip(x)


def _linear(layer: Layer) -> nn.Linear:
    linear = nn.Linear(layer.shape[1], layer.shape[0], bias=layer.bias is not None, dtype=layer.values.dtype)
    with torch.no_grad():
        linear.weight.copy_(layer.dense())
        if layer.bias is not None:
            linear.bias.copy_(layer.dense_bias())
    return linear


def to_module(network: Network) -> nn.Module:
    """``nn.Sequential`` of Linear and ReLU; a :class:`SkipNetwork` where there is an affine skip part."""
    parts: list[nn.Module] = []
    for layer in network.layers:
        parts += [_linear(layer), nn.ReLU()]
    chain = nn.Sequential(*parts[:-1])
    return chain if network.skip is None else SkipNetwork(chain, _linear(network.skip))


def _layer(linear: nn.Linear, name: str) -> Layer:
    bias = None if linear.bias is None else linear.bias.detach().clone()
    try:
        return Layer.from_dense(linear.weight.detach().clone(), bias)
    except ValueError as error:
        raise ValueError(f"module {name!r}: {error}") from None


def from_module(module: nn.Module) -> Network:
    """The network of a chain Linear, ReLU, ..., Linear; Flatten, Identity and Dropout are passed over.

    Raises ``ValueError`` naming the first part that cannot be read.
    """
    if isinstance(module, SkipNetwork):
        return Network(from_module(module.chain).layers, _layer(module.skip, "skip"))
    layers: list[Layer] = []
    wants_linear = True
    for name, part in module.named_modules():
        if isinstance(part, (nn.Sequential, nn.ModuleList)) or part is module and list(part.children()):
            continue
        if isinstance(part, nn.Linear) and wants_linear:
            layers.append(_layer(part, name))
            wants_linear = False
        elif isinstance(part, nn.ReLU) and not wants_linear:
            wants_linear = True
        elif not isinstance(part, TRANSPARENT):
            raise ValueError(
                f"module {name or type(part).__name__!r} is a {type(part).__name__} where a "
                f"{'Linear' if wants_linear else 'ReLU'} was wanted: only chains of Linear and ReLU are read"
            )
    if not layers or wants_linear:
        raise ValueError("the module must end in a Linear layer: a Network has no ReLU after its last layer")
    return Network(tuple(layers))
