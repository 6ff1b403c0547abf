"""Initial weights of sparse layers, scaled for the inputs that each unit has left."""

import torch
from torch import Tensor

from sparelu.train.sparsifier.prunable import Part
from sparelu.train.sparsifier.sparsifier import Sparsifier


def scale_to_living(sparsifier: Sparsifier) -> None:
    """Multiply the weights of every unit by sqrt(inputs / living inputs): call it before the first step.

    Initialisers give weights the variance c / inputs, so that what a unit hands on is as large as what it gets. Where
    only some inputs live it becomes smaller by the density, layer after layer; with c / living inputs it does not.
    Evci, Ioannou, Keskin and Dauphin, Gradient flow in sparse neural networks and how lottery tickets win, 2022,
    section 3.1. They draw the weights anew; scaling keeps the form of the distribution that the model came with. Units
    without living inputs stay as they are. Weights that were trained already should not be scaled.
    """
    with torch.no_grad():
        for part in sparsifier.parts.values():
            part.weight.mul_(_scale(part))
    sparsifier.apply()


def _scale(part: Part) -> Tensor:
    """For every weight (broadcast): the root of the inputs of its unit over those that live.

    Weights are (outputs, inputs, ...); those of transposed convolutions are (inputs, outputs of a group, ...), with the
    inputs group by group.
    """
    mask = part.mask
    if not getattr(part.module, "transposed", False):
        return _root(mask.flatten(1), (1,)).reshape(-1, *[1] * (mask.ndim - 1))
    groups = int(getattr(part.module, "groups", 1))
    by_group = mask.reshape(groups, len(mask) // groups, mask.shape[1], -1)
    return _root(by_group, (1, 3)).expand_as(by_group).reshape(mask.shape)


def _root(mask: Tensor, inputs: tuple[int, ...]) -> Tensor:
    living = mask.sum(inputs, keepdim=True)
    everywhere = torch.ones_like(mask).sum(inputs, keepdim=True)
    return (everywhere / living.clamp(min=1)).sqrt().where(living > 0, 1.0)
