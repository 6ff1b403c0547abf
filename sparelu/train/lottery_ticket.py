"""Iterative magnitude pruning with rewinding, on any module: the masks of a lottery ticket."""

import copy
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sparelu.train.sparsifier.decay import removals
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, pools
from sparelu.train.sparsifier.prunable import prunable_weights, unwrapped
from sparelu.train.sparsifier.selection import Choice

Train = Callable[[nn.Module, Masks, int, int | None], None]
"""Trains a module within masks, from a step to another (None: to the end), with an optimiser of its own.

With ``Static(module, optimizer, masks=masks)`` in its loop the dropped weights stay at zero.
"""


def steps_of(when: str | int, steps_per_epoch: int) -> int:
    """Read the steps of "2ep" (epochs), "500it" (steps) or a number of steps; raise ``ValueError`` for other texts."""
    found = re.fullmatch(r"(\d+)(ep|it)", str(when) if isinstance(when, str) else f"{when}it")
    if found is None:
        raise ValueError(f"{when!r} is no time: write epochs as '2ep' and steps as '500it'")
    return int(found[1]) * (steps_per_epoch if found[2] == "ep" else 1)


def winning_tickets(
    model: nn.Module,
    train: Train,
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    rate: float = 0.2,
    rewind: str | int = 0,
    steps_per_epoch: int = 1,
    layers: Choice | None = None,
    allocation: str | Allocation = "global",
) -> Iterator[tuple[nn.Module, Masks]]:
    """Train, drop the share ``rate`` of the smallest active weights, put the rest back to step ``rewind``; repeat.

    Yields after every cut a copy of the model as it was at step ``rewind``, buffers included, with the masks to train
    it with from there; the last one has the budget exactly. ``model`` is trained to step ``rewind`` and no further.
    Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, 2020, algorithm 2.

    Raises ``ValueError`` for a budget or a model that cannot be pruned.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie between 0 and 1, got {rate}")
    parts = prunable_weights(model, layers)
    chosen = pools({n: tuple(p.weight.shape) for n, p in parts.items()}, density, nonzeros, allocation)
    masks = {n: p.mask for n, p in parts.items()}
    start = steps_of(rewind, steps_per_epoch)
    if start:
        train(model, masks, 0, start)
    sizes = {p: removals(rate, p.size, p.nonzeros) for p in chosen}
    for i in range(max(len(left) for left in sizes.values())):
        trained = _within(model, masks)
        train(trained, masks, start, None)
        weights: dict[str, Tensor] = {n: trained.get_parameter(n).detach().abs() for n in masks}
        for pool, left in sizes.items():
            masks = {**masks, **pool.select(weights, masks, left[i] if i < len(left) else pool.nonzeros)}
        yield _within(model, masks), masks


def _within(model: nn.Module, masks: Masks) -> nn.Module:
    copied = copy.deepcopy(unwrapped(model))
    with torch.no_grad():
        for name, mask in masks.items():
            copied.get_parameter(name).mul_(mask)
    return copied
