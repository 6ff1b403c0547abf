"""Losses of a minibatch and their gradient in the outputs."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparelu.data import Data

Loss = Callable[[Tensor, Tensor], tuple[float, Tensor]]
"""Outputs z (b, k) and targets to the mean loss of the rows and its gradient in z (b, k); zeros for no rows."""


def squared(z: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Compute half the squared distance to ``y`` (b, k), and its gradient."""
    gap = z - y
    return 0.5 * float(gap.square().sum()) / max(1, len(z)), gap / max(1, len(z))


def logistic(z: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Compute the cross-entropy in nats of labels ``y`` (b,) in {0, 1}, z (b, 1) the logit of 1, and its gradient."""
    target = y.to(z)[:, None]
    loss = torch.nn.functional.softplus(z) - target * z
    return float(loss.sum()) / max(1, len(z)), (torch.sigmoid(z) - target) / max(1, len(z))


def cross_entropy(z: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Compute the cross-entropy in nats of labels ``y`` (b,), with z (b, k) the logits, and its gradient."""
    shifted = z - z.amax(1, keepdim=True)
    share = shifted.exp()
    total = share.sum(1, keepdim=True)
    loss = float(total.log().sum() - shifted.gather(1, y[:, None]).sum()) / max(1, len(z))
    share /= total
    share.scatter_add_(1, y[:, None], share.new_full((len(z), 1), -1.0))
    return loss, share.div_(max(1, len(z)))


def loss_of(data: Data) -> Loss:
    """Choose the loss that fits the task: squared error, or cross-entropy with one logit for two classes."""
    if data.task == "regression":
        return squared
    return logistic if data.outputs == 1 else cross_entropy
