"""How much a weight matters: the larger the score, the later it is pruned. Any shape in, the same shape out."""

import torch
from torch import Tensor

from sparelu.topk import largest_mask


def magnitude(weight: Tensor) -> Tensor:
    """|w|."""
    return weight.abs()


def curved_magnitude(weight: Tensor, second_moment: Tensor, power: float) -> Tensor:
    """|w| v^(power/2), with v the mean square of the gradient of w, as Adam keeps it.

    v estimates the diagonal of the Fisher matrix, which is near the Hessian's where the loss is a log likelihood. With
    power 1 the order is that of w^2 h / 2, the rise of the loss when w alone goes (LeCun, Denker and Solla, Optimal
    Brain Damage, 1990, equation 5); power 0 is the magnitude. A factor common to all v changes nothing.
    """
    return weight.abs() * second_moment.pow(power / 2) if power else weight.abs()


def strongest(score: Tensor, alive: Tensor, k: int) -> Tensor:
    """The mask of the ``k`` largest scores among the ``alive``, or of all the alive when they are fewer.

    Ties keep the smaller index. Raises ``ValueError`` when a score is NaN.
    """
    return largest_mask(torch.where(alive, score, score.new_tensor(-1.0)), min(k, int(alive.sum())))
