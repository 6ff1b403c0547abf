"""How much a weight matters: the larger the score, the later it is pruned. Any shape in, the same shape out."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparelu.topk import largest_mask
from sparelu.train.sparsifier.prunable import PrunableWeight

Score = Callable[[PrunableWeight, torch.Generator], Tensor]
"""A number for every weight of a part, the larger the better; the generator is the sparsifier's own.

A weight with minus infinity is never chosen.
"""


def magnitude(weight: Tensor) -> Tensor:
    """Compute |w|."""
    return weight.abs()


def curved_magnitude(weight: Tensor, second_moment: Tensor, power: float) -> Tensor:
    """Compute |w| v^(power/2), with v the mean square of the gradient of w, as Adam keeps it.

    v estimates the diagonal of the Fisher matrix, which is near the Hessian's where the loss is a log likelihood. With
    power 1 the order is that of w^2 h / 2, the rise of the loss when w alone goes (LeCun, Denker and Solla, Optimal
    Brain Damage, 1990, equation 5); power 0 is the magnitude. A factor common to all v changes nothing.
    """
    return weight.abs() * second_moment.pow(power / 2) if power else weight.abs()


def strongest(score: Tensor, alive: Tensor, k: int) -> Tensor:
    """Mask the ``k`` largest scores among the ``alive``, or all the alive when they are fewer.

    Ties keep the smaller index. Raises ``ValueError`` when a score is NaN.
    """
    return largest_mask(torch.where(alive, score, score.new_tensor(-1.0)), min(k, int(alive.sum())))


DECAY = 0.9
"""Of the running mean of gradients in SNFS."""


def by_magnitude(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Score by |w|."""
    return magnitude(part.weight.detach())


def by_curved_magnitude(part: PrunableWeight, generator: torch.Generator, optimizer: Optimizer, power: float) -> Tensor:
    """Score by |w| v^(power/2), v the mean (Adam, RMSprop) or summed (Adagrad) square of ``optimizer``'s gradient of w.

    Before its first step |w|. Raises ``ValueError`` for an optimiser that keeps no squares.
    """
    state = optimizer.state.get(part.weight)
    if not state:
        return magnitude(part.weight.detach())
    kept = [state[name] for name in ("exp_avg_sq", "square_avg", "sum") if name in state]
    if not kept:
        raise ValueError(
            f"{type(optimizer).__name__} keeps no squared gradients, which curvature={power:g} ranks weights by: use "
            "Adam, RMSprop or Adagrad, or curvature=0"
        )
    return curved_magnitude(part.weight.detach(), kept[0], power)


def by_magnitude_of_its_sign(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Score by the share of the active weights of the same sign nearer to zero; zero itself counts as positive.

    Dropping the lowest then takes the same share of the positive and of the negative weights, as in the authors' SET.
    """
    score = torch.zeros_like(part.weight)
    weight = part.weight.detach()
    for side in ((weight < 0) & part.mask, (weight >= 0) & part.mask):
        values = weight[side].abs()
        rank = torch.empty_like(values)
        rank[values.argsort(stable=True)] = torch.arange(len(values), device=values.device).to(values)
        score[side] = rank / max(1, len(values))
    return score


def at_random(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers, on the CPU so that they are the same on every device."""
    return torch.rand(part.weight.shape, generator=generator).to(part.weight.device)


def by_gradient(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Score by |dL/dw| of the last batch, dropped weights included."""
    return part.gradient().abs()


def by_mean_gradient(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Score by |running mean of dL/dw|."""
    return part.memory["mean"].abs()


def remember_gradient(part: PrunableWeight) -> None:
    """Update the running mean of the dense gradient, which begins at 0."""
    gradient = part.gradient()
    mean = part.memory.setdefault("mean", torch.zeros_like(gradient))
    mean.mul_(DECAY).add_(gradient, alpha=1 - DECAY)


def by_magnitude_and_gradient(part: PrunableWeight, generator: torch.Generator, weight: float) -> Tensor:
    """Score by |w| + ``weight`` |dL/dw|."""
    return part.weight.detach().abs() + weight * part.gradient().abs()
