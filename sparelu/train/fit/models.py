"""What the engine trains for the verb ``fit``: a torch module, and how it becomes a Network within the budget."""

import copy
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparelu.data import Budget, Data
from sparelu.networks.convolution import PADDING, SIDE, STRIDE, stages
from sparelu.networks.network import Network
from sparelu.networks.torch_modules import Images
from sparelu.topk import largest_mask
from sparelu.train.fit.init import he
from sparelu.train.fit.masked_mlp import MLP
from sparelu.train.fit.path_pruning import within
from sparelu.train.fit.training import live_columns
from sparelu.train.sparsifier.layer_densities import Masks

Scale = np.ndarray | None
"""Mean or deviation of regression targets, which outputs are brought back to; None for classes."""


class Body(ABC):
    """A ``module`` that reads rows of the ``columns`` of the data; the weights of the layers ``pruned`` are counted."""

    module: nn.Module
    columns: Tensor
    pruned: tuple[str, ...]

    @property
    @abstractmethod
    def weights(self) -> int:
        """Count the weights that the budget counts, before any is pruned."""

    @abstractmethod
    def network(self, masks: Masks, allowed: int, mean: Scale, sd: Scale) -> Network:
        """Return the network as it is now, cut by magnitude to ``allowed`` nonzeros where ``masks`` hold more."""

    @abstractmethod
    def state(self, masks: Masks) -> dict[str, Any]:
        """Return what :meth:`load` reads, in a body that began with the same data, budget and random numbers."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""


def body_of(data: Data, budget: Budget, allowed: int, rng: np.random.Generator) -> Body:
    """Make an untrained model: convolutional where the budget has ``channels``."""
    return Convolutional(data, budget, rng) if budget.channels else Perceptron(data, budget, allowed, rng)


class Perceptron(Body):
    """Linear and ReLU. With one output and one hidden layer products v_j w_j are counted, and the first layer pruned.

    No more units of a layer are trained than the budget has nonzeros, and no constant inputs are read.
    """

    def __init__(self, data: Data, budget: Budget, allowed: int, rng: np.random.Generator) -> None:
        self.net = MLP.started(data, budget.hidden, allowed, he, live_columns(data), rng)
        self.columns = self.net.units[0]
        self.module = module_of(self.net)
        names = [n for n, m in self.module.named_children() if isinstance(m, nn.Linear)]
        self.pruned = tuple(names[:1] if self.net.fused else names)

    @property
    def weights(self) -> int:
        return self.net.nonzeros

    def network(self, masks: Masks, allowed: int, mean: Scale, sd: Scale) -> Network:
        return within(self._taken(masks), allowed).network(mean, sd)

    def state(self, masks: Masks) -> dict[str, Any]:
        return self._taken(masks).state()

    def load(self, state: dict[str, Any]) -> None:
        self.net = MLP.restored(state, str(self.net.value.device))
        self.module.load_state_dict(module_of(self.net).state_dict())

    def _taken(self, masks: Masks) -> MLP:
        """Give the network the numbers of the module."""
        linears = [m for m in self.module.children() if isinstance(m, nn.Linear)]
        weights = [m.weight.detach().t().reshape(-1) for m in linears]
        alive = [torch.ones_like(w, dtype=torch.bool) for w in weights]
        for i, mask in enumerate(masks.values()):
            alive[i] = mask.t().reshape(-1)
        self.net.value.copy_(torch.cat([*weights, *(m.bias.detach() for m in linears)]))
        self.net.alive.copy_(torch.cat(alive))
        return self.net


class Convolutional(Body):
    """Convolutions with batch normalisation and ReLU, then as :class:`Perceptron`; every layer is pruned.

    The normalisations are folded into the convolutions of the network.
    """

    def __init__(self, data: Data, budget: Budget, rng: np.random.Generator) -> None:
        images = stages(data.image or (1, data.inputs, 1), budget.channels)
        parts: list[nn.Module] = [Images(*images[0])]
        for below, above in pairwise(images):
            conv = nn.utils.skip_init(nn.Conv2d, below[2], above[2], SIDE, STRIDE, PADDING, bias=False)
            parts += [conv, nn.BatchNorm2d(above[2]), nn.ReLU()]
        parts.append(nn.Flatten())
        for inputs, outputs in pairwise((int(np.prod(images[-1])), *budget.hidden, data.outputs)):
            parts += [nn.utils.skip_init(nn.Linear, inputs, outputs), nn.ReLU()]
        self.module = nn.Sequential(*parts[:-1]).to(data.device, data.dtype)
        self.columns = torch.arange(data.inputs, device=data.device)
        self.pruned = tuple(n for n, m in self.module.named_children() if isinstance(m, (nn.Conv2d, nn.Linear)))
        self._draw(rng)

    @property
    def weights(self) -> int:
        return sum(self._weight(name).numel() for name in self.pruned)

    def network(self, masks: Masks, allowed: int, mean: Scale, sd: Scale) -> Network:
        module = copy.deepcopy(self.module)
        weights = [module.get_submodule(n).get_parameter("weight").detach() for n in self.pruned]
        if sum(int(m.sum()) for m in masks.values()) > allowed:
            kept = largest_mask(torch.cat([w.abs().flatten() for w in weights]), allowed)
            for weight, mask in zip(weights, kept.split([w.numel() for w in weights]), strict=True):
                weight.mul_(mask.reshape(weight.shape))
        if mean is not None and sd is not None:
            bias = module.get_submodule(self.pruned[-1]).get_parameter("bias").detach()
            weights[-1].mul_(torch.as_tensor(sd).to(bias)[:, None])
            bias.mul_(torch.as_tensor(sd).to(bias)).add_(torch.as_tensor(mean).to(bias))
        return Network.from_module(module)

    def state(self, masks: Masks) -> dict[str, Any]:
        return {name: value.clone() for name, value in self.module.state_dict().items()}

    def load(self, state: dict[str, Any]) -> None:
        own = self.module.state_dict()
        self.module.load_state_dict({name: state[name].reshape(value.shape) for name, value in own.items()})

    def _weight(self, name: str) -> Tensor:
        return self.module.get_submodule(name).get_parameter("weight")

    @torch.no_grad()
    def _draw(self, rng: np.random.Generator) -> None:
        """Draw normal weights of variance 2 / inputs (He et al., 2015), no biases."""
        for name in self.pruned:
            weight, bias = self._weight(name), self.module.get_submodule(name)._parameters["bias"]
            drawn = rng.standard_normal(weight.shape) * np.sqrt(2 / weight[0].numel())
            weight.copy_(torch.as_tensor(drawn).to(weight))
            if bias is not None:
                bias.zero_()


def module_of(net: MLP) -> nn.Sequential:
    """Make linear and ReLU layers with the numbers of ``net``; no random number is drawn."""
    parts: list[nn.Module] = []
    for (inputs, outputs), weight, bias in zip(pairwise(net.widths), *net.split(net.value), strict=True):
        linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=weight.dtype, device=weight.device)
        with torch.no_grad():
            linear.weight.copy_(weight.t())
            linear.bias.copy_(bias)
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])
