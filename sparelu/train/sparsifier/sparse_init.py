"""Initial weights of sparse layers: scaled for the inputs that each unit has left, and how to take that back."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparelu.train.sparsifier.prunable import PrunableWeight
from sparelu.train.sparsifier.selection import is_prunable, is_transformers_conv1d


def scale_to_active(parts: Iterable[PrunableWeight]) -> None:
    """Multiply the weights of every unit by sqrt(inputs / active inputs).

    Initialisers give weights the variance c / inputs, so that what a unit hands on is as large as what it gets. Where
    only some inputs are active it becomes smaller by the density, layer after layer; with c / active inputs it does
    not. Evci, Ioannou, Keskin and Dauphin, Gradient flow in sparse neural networks and how lottery tickets win, 2022,
    section 3.1. They draw the weights anew; scaling keeps the form of the distribution that the model came with. Units
    without active inputs stay as they are.
    """
    with torch.no_grad():
        for part in parts:
            part.weight.mul_(_scale(part))


class FirstState:
    """Weights and optimiser slots as they were before a sparsifier was made, until its first step.

    What was loaded before is so given back to a state of the sparsifier that is loaded afterwards.
    """

    def __init__(self, parts: Iterable[PrunableWeight], optimizer: Optimizer) -> None:
        tensors = [t for p in parts for t in (p.weight, *p.slots(optimizer))]
        self._held = [(t, t.detach().clone()) for t in tensors]
        self._left: list[tuple[int, Tensor]] = []

    def settle(self) -> None:
        """Note what the sparsifier made of them."""
        self._left = [(t._version, t.detach().sum().cpu()) for t, _ in self._held]

    def restore(self) -> None:
        """Put back all that nobody has written to since, as torch counts writes and the sum of the numbers tells."""
        for (tensor, before), (version, total) in zip(self._held, self._left, strict=True):
            if tensor._version == version and tensor.detach().sum().cpu().equal(total):
                tensor.detach().copy_(before)


def _scale(part: PrunableWeight) -> Tensor:
    """Compute, for every weight (broadcast), the root of the inputs of its unit over those that are active.

    Weights are (outputs, inputs, ...); those of transposed convolutions are (inputs, outputs of a group, ...), with the
    inputs group by group, and those of GPT-2 (inputs, outputs). Of embeddings and raw parameters nothing is known: 1.
    """
    mask = part.mask
    if is_transformers_conv1d(part.module):
        return _root(mask, (0,))
    if not is_prunable(part.module):
        return torch.ones(())
    if not getattr(part.module, "transposed", False):
        return _root(mask.flatten(1), (1,)).reshape(-1, *[1] * (mask.ndim - 1))
    groups = int(getattr(part.module, "groups", 1))
    by_group = mask.reshape(groups, len(mask) // groups, mask.shape[1], -1)
    return _root(by_group, (1, 3)).expand_as(by_group).reshape(mask.shape)


def _root(mask: Tensor, inputs: tuple[int, ...]) -> Tensor:
    active = mask.sum(inputs, keepdim=True)
    everywhere = torch.ones_like(mask).sum(inputs, keepdim=True)
    return (everywhere / active.clamp(min=1)).sqrt().where(active > 0, 1.0)
