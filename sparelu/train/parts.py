"""The weights of a module that can be pruned, and what is kept beside each: mask, places visited, memory of scores."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

KINDS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
"""Layers whose ``weight`` is pruned unless the caller chooses others. Biases and normalisations are left alone."""

WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of so many bytes."""

SALT = 0x5350415253
"""Sets the numbers of a sparsifier apart from others of the same seed."""

Choice = Callable[[str, nn.Module], bool]
"""Name and module to whether its ``weight`` is pruned."""


class LayerCollapseWarning(UserWarning):
    """A layer has no living weight: nothing passes through it."""


@dataclass(eq=False)
class Part:
    """The weight of one layer, ``True`` in ``mask`` where it lives, and in ``visited`` where it ever has.

    ``memory`` holds what a score remembers from step to step, tensors of the shape of the weight.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter
    mask: Tensor = field(init=False)
    visited: Tensor = field(init=False)
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.visited = torch.zeros_like(self.mask)

    @property
    def nonzeros(self) -> int:
        """Living weights."""
        return int(self.mask.sum())

    def gradient(self) -> Tensor:
        """The gradient of the last backward pass, of dropped weights too when read before the step.

        Raises ``ValueError`` when there is none.
        """
        if self.weight.grad is None:
            raise ValueError(f"{self.name} has no gradient: call step() after loss.backward() and before zero_grad()")
        return self.weight.grad

    def check_gradient(self) -> None:
        """Raises ``ValueError`` when there is a gradient and it is not finite."""
        if self.weight.grad is not None and not bool(torch.isfinite(self.weight.grad).all()):
            raise ValueError(
                f"the gradient of {self.name} is not finite and cannot say where to grow; nothing was changed: "
                "skip this batch (zero_grad() and go on), or lower the step size"
            )

    def keep(self, mask: Tensor) -> None:
        """Put ``mask`` in place, in the memory order of the weight."""
        self.mask = torch.empty_like(self.weight, dtype=torch.bool).copy_(mask)
        self.visited |= self.mask

    def warn_of_collapse(self) -> None:
        """Warn that the layer has lost all its weights."""
        warnings.warn(
            f"{self.name} has no weight left of {self.weight.numel()}: give more nonzeros, another allocation, or "
            "leave the layer out with `layers`",
            LayerCollapseWarning,
            stacklevel=4,
        )

    def follow(self) -> None:
        """Bring mask and memory to the device of the weight."""
        if self.mask.device != self.weight.device:
            self.mask, self.visited = (t.to(self.weight.device) for t in (self.mask, self.visited))
            self.memory = {n: t.to(self.weight.device) for n, t in self.memory.items()}

    def clear(self, tensors: list[Tensor]) -> None:
        """Set ``tensors`` of the weight's shape to zero where the mask is False.

        Their bits are multiplied as whole numbers: that turns NaN and infinity to zero too, leaves all else as it is,
        and takes half the time of the product of numbers with a bool tensor.
        """
        for t in tensors:
            t.detach().view(WHOLE[t.dtype.itemsize]).mul_(self.mask)

    def lift(self, tensors: list[Tensor]) -> None:
        """Set ``tensors`` of the weight's shape, zero where the mask is False, to one there: by their bits."""
        dead = ~self.mask
        for t in tensors:
            whole = WHOLE[t.dtype.itemsize]
            t.view(whole).add_(dead, alpha=int(torch.ones((), dtype=t.dtype).view(whole)))

    def marks(self, optimizer: torch.optim.Optimizer) -> dict[int, tuple[int, int]]:
        """Address and count of in-place changes of the weight and its optimiser slots, by identity."""
        return {id(t): (t.data_ptr(), t._version) for t in (self.weight, *self.slots(optimizer))}

    def slots(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """The optimiser's tensors of the weight's shape."""
        held = optimizer.state.get(self.weight, {}).values()
        return [s for s in held if isinstance(s, Tensor) and s.shape == self.weight.shape]


def seeded(seed: int) -> torch.Generator:
    """A generator that shares no numbers with ``torch.manual_seed(seed)``.

    Those drew the initial weights, most likely: a mask drawn from the same numbers would keep the largest weights.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, SALT]).generate_state(1, np.uint64)[0]))


def wrappers(model: nn.Module) -> list[nn.Module]:
    """The module, what DistributedDataParallel or ``torch.compile`` wrap in it, and so on inwards."""
    chain = [model]
    while True:
        last = chain[-1]
        inner = last.module if isinstance(last, DistributedDataParallel) else last._modules.get("_orig_mod")
        if inner is None:
            return chain
        chain.append(inner)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and ``torch.compile``."""
    return wrappers(model)[-1]


def process_group(model: nn.Module) -> Any:
    """The processes that train one DistributedDataParallel model together; None for any other."""
    groups = [m.process_group for m in wrappers(model) if isinstance(m, DistributedDataParallel)]
    return groups[0] if groups else None


def parts_of(model: nn.Module, layers: Choice | None = None) -> dict[str, Part]:
    """The weights to prune by name, each once: those of :data:`KINDS` that train, or of the ``layers`` chosen.

    A weight shared by several chosen layers goes by the first one's name and counts once. Raises ``ValueError`` when
    there is none, when one is shared with a module that is not chosen, has no shape yet, or is computed from others.
    """
    model = unwrapped(model)
    parts: dict[int, Part] = {}
    for name, module in model.named_modules():
        if not (layers(name, module) if layers else isinstance(module, KINDS)):
            continue
        weight = _weight(name, module)
        if weight.requires_grad:
            parts.setdefault(id(weight), Part(f"{name}.weight".lstrip("."), module, weight))
    if not parts:
        raise ValueError(
            "the model has no prunable layer: none of Linear, Conv and ConvTranspose with a weight that requires "
            "gradients"
            if layers is None
            else "`layers` chooses no layer whose weight requires gradients"
        )
    _refuse_shared(model, parts, layers)
    return {p.name: p for p in parts.values()}


def _weight(name: str, module: nn.Module) -> nn.Parameter:
    weight = module._parameters.get("weight")
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"the weight of {name} has no shape yet: pass one batch through the model first")
    if weight is None:
        raise ValueError(
            f"the weight of {name} is not a parameter of its own (weight_norm, a parametrization or "
            "torch.nn.utils.prune computes it): remove that first, or leave the layer out with `layers`"
        )
    return weight


def _refuse_shared(model: nn.Module, parts: dict[int, Part], layers: Choice | None) -> None:
    start = {p.weight.data_ptr(): p for p in parts.values()}
    for name, module in model.named_modules():
        chosen = layers(name, module) if layers else isinstance(module, KINDS)
        for key, parameter in module._parameters.items():
            if parameter is None or parameter.numel() == 0:
                continue
            part = start.get(parameter.data_ptr())
            if part is None or (id(parameter) == id(part.weight) and chosen):
                continue
            raise ValueError(
                f"{part.name} shares its memory with {name}.{key}, which is not pruned: leave it out with "
                f"layers=lambda name, module: ..., or give the two their own weights"
            )
