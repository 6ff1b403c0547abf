"""The weights of a module that can be pruned, and what is kept beside each: mask, places explored, memory of scores."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from sparelu.nn.support import WHOLE
from sparelu.train.sparsifier.selection import Choice, Names, WeightSelection

PROBES = 32
"""Places of a weight that are looked at for writes that torch does not count, as those through ``.data``."""

SALT = 0x5350415253
"""Sets the numbers of a sparsifier apart from others of the same seed."""


class LayerCollapseWarning(UserWarning):
    """A layer has no active weight: nothing passes through it."""


@dataclass(eq=False)
class PrunableWeight:
    """A weight of one layer, ``True`` in ``mask`` where it lives, and in ``explored`` where it ever has.

    ``memory`` holds what a score remembers from step to step, tensors of the shape of the weight. An ``idle`` weight
    takes no part in this step: it is frozen, or the batch has not passed through its layer.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter
    memory: dict[str, Tensor] = field(default_factory=dict)
    explored: Tensor = field(init=False)
    idle: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        # One whole number of the weight's width for each weight: 0 where it lives, else that width in bits. A shift to
        # the left by it clears a tensor in half the time of a bool mask, which torch widens to a copy first.
        self._shift = torch.zeros_like(self.weight, dtype=WHOLE[self.weight.dtype.itemsize], requires_grad=False)
        self._probe = self._dead_places()
        self.explored = torch.zeros_like(self.weight, dtype=torch.bool, requires_grad=False)
        self.shape = self.weight.shape
        *path, self.key = self.name.split(".")
        self.path = tuple(path)

    @property
    def mask(self) -> Tensor:
        """Return a copy of the mask."""
        return self._shift == 0

    @property
    def active(self) -> int:
        """Count the weights of the support."""
        return self._shift.numel() - int(self._shift.count_nonzero())

    def count_nonzeros(self) -> int:
        """Count the weights of the support and all others that are not zero."""
        return int(((self._shift == 0) | (self.weight.detach() != 0)).count_nonzero())

    def gradient(self) -> Tensor:
        """Return the gradient of the last backward pass, of dropped weights too when read before the step; 0 when idle.

        Raises ``ValueError`` when there is none.
        """
        if self.idle:
            return torch.zeros_like(self.weight)
        if self.weight.grad is None:
            raise ValueError(f"{self.name} has no gradient: call step() after loss.backward() and before zero_grad()")
        return self.weight.grad

    def check_gradient(self) -> None:
        """Raise ``ValueError`` when there is a gradient, the weight is not idle, and it is not finite."""
        if self.idle or self.weight.grad is None:
            return
        gradient = torch.view_as_real(self.weight.grad) if self.weight.is_complex() else self.weight.grad
        if not all(bool(torch.isfinite(end)) for end in gradient.aminmax()):
            raise ValueError(
                f"the gradient of {self.name} is not finite and cannot say where to grow; nothing was changed: "
                "skip this batch (zero_grad() and go on), or lower the step size"
            )

    def keep(self, mask: Tensor) -> None:
        """Put ``mask`` in place, in the memory order of the weight."""
        self._shift = torch.empty_like(self._shift).copy_(~mask).mul_(8 * self._shift.itemsize)
        self._probe = self._dead_places()
        self.explored |= mask

    def stray(self) -> bool:
        """Tell whether something is not zero at one of a sample of the places where the mask is False.

        On a CPU only: elsewhere the step would wait for the answer.
        """
        return self.weight.device.type == "cpu" and bool(self.weight.detach()[self._probe].any())

    def _dead_places(self) -> tuple[Tensor, ...]:
        """Choose a sample of them, evenly spread."""
        size = self._shift.numel()
        spread = torch.arange(0, size, max(1, size // PROBES), device=self._shift.device)
        places = torch.unravel_index(spread, self._shift.shape)
        dead = self._shift[places] != 0
        return tuple(p[dead] for p in places)

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
        device = self.weight.device
        if self._shift.device != device:
            self._shift, self.explored = self._shift.to(device), self.explored.to(device)
            self._probe = self._dead_places()
            self.memory = {n: t.to(device) for n, t in self.memory.items()}

    def clear(self, tensors: list[Tensor]) -> None:
        """Set ``tensors`` of the weight's shape to zero where the mask is False, NaN and infinity too.

        Raises ``ValueError`` for one that is not dense.
        """
        for t in tensors:
            if t.layout != torch.strided:
                raise ValueError(
                    f"{self.name} has a gradient or a slot of layout {t.layout}, and a mask needs dense ones: make the "
                    "layer with sparse=False, or leave it out with `layers`"
                )
            t.detach().view(WHOLE[t.dtype.itemsize]).bitwise_left_shift_(self._shift_of(t))

    def lift(self, tensors: list[Tensor]) -> None:
        """Set ``tensors`` of the weight's shape, zero where the mask is False, to one there: by their bits.

        The bits of one, as a whole number, are a multiple of the shift.
        """
        for t in tensors:
            whole = WHOLE[t.dtype.itemsize]
            one = int(torch.ones((), dtype=t.dtype).view(whole))
            t.view(whole).add_(self._shift_of(t), alpha=one // (8 * t.itemsize))

    def _shift_of(self, t: Tensor) -> Tensor:
        """Return the shifts for a tensor that may be of another width than the weight."""
        if t.itemsize == self._shift.itemsize:
            return self._shift
        return self._shift.to(WHOLE[t.itemsize]) * t.itemsize // self._shift.itemsize

    def slots(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """List the optimiser's tensors of the weight's shape."""
        held = optimizer.state.get(self.weight, {}).values()
        return [s for s in held if isinstance(s, Tensor) and s.shape == self.weight.shape]


def seeded(seed: int) -> torch.Generator:
    """Make a generator that shares no numbers with ``torch.manual_seed(seed)``.

    Those drew the initial weights, most likely: a mask drawn from the same numbers would keep the largest weights.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, SALT]).generate_state(1, np.uint64)[0]))


def wrappers(model: nn.Module) -> list[nn.Module]:
    """List the module, what (Distributed)DataParallel or ``torch.compile`` wrap in it, and so on inwards."""
    chain = [model]
    while True:
        last = chain[-1]
        parallel = isinstance(last, (DataParallel, DistributedDataParallel))
        inner = last._modules.get("module" if parallel else "_orig_mod")
        if inner is None:
            return chain
        chain.append(inner)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel and ``torch.compile``."""
    return wrappers(model)[-1]


def process_group(model: nn.Module) -> Any:
    """Return the processes that train one DistributedDataParallel model together; None for any other."""
    groups = [m.process_group for m in wrappers(model) if isinstance(m, DistributedDataParallel)]
    return groups[0] if groups else None


def prunable_weights(
    model: nn.Module, layers: Choice | None = None, exclude: Choice = (), parameters: Names = ()
) -> dict[str, PrunableWeight]:
    """Return the weights to prune by name, each once: those that train of the :class:`WeightSelection`.

    A weight shared by several chosen layers goes by the first one's name and counts once. Raises ``ValueError`` when
    there is none, when one is shared with a module that is not chosen, has no shape yet, or is computed from others.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model must be a torch.nn.Module, got {type(model).__name__}: give model, then optimizer")
    model = unwrapped(model)
    selection = WeightSelection(layers, exclude, parameters)
    parts: dict[int, PrunableWeight] = {}
    chosen = set()
    for name, module, key in selection.places(model):
        weight = _weight(name, module, key)
        chosen.add((name, key))
        if weight.requires_grad and weight.numel():
            parts.setdefault(id(weight), PrunableWeight(f"{name}.{key}".lstrip("."), module, weight))
    if not parts:
        raise ValueError(
            "the model has no prunable layer: none of Linear, Bilinear, Conv, ConvTranspose, MultiheadAttention, RNN, "
            "LSTM and GRU with a weight that requires gradients. Name others with `layers` or `parameters`"
            if layers is None
            else "`layers` chooses no layer whose weight requires gradients"
        )
    _refuse_shared(model, parts, chosen)
    return {p.name: p for p in parts.values()}


def _weight(name: str, module: nn.Module, key: str) -> nn.Parameter:
    weight, kind = module._parameters.get(key), type(module).__name__
    layer = f"{name} ({kind})" if name else f"the model itself ({kind})"
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"the {key} of {layer} has no shape yet: pass one batch through the model first")
    if weight is None:
        raise ValueError(
            f"the {key} of {layer} is not a parameter of its own (it has none, or weight_norm, a parametrization or "
            "torch.nn.utils.prune computes it): remove that first, or leave the layer out with `layers`"
        )
    if type(weight).__name__ == "DTensor" or type(weight).__name__ == "FlatParameter":
        raise ValueError(
            f"the {key} of {layer} is a {type(weight).__name__}: it is sharded over processes by FSDP (fully_shard), "
            "and a mask needs all of a weight. Train with DistributedDataParallel, or leave the layer out by `exclude`"
        )
    if weight.device.type == "meta" or weight.dtype.itemsize not in WHOLE:
        raise ValueError(
            f"the {key} of {layer} is {weight.dtype} on {weight.device}: give it a real device and a dtype of at most "
            "8 bytes, or leave the layer out with `layers`"
        )
    return weight


def _refuse_shared(model: nn.Module, parts: dict[int, PrunableWeight], chosen: set[tuple[str, str]]) -> None:
    start = {p.weight.data_ptr(): p for p in parts.values()}
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is None or parameter.numel() == 0:
                continue
            part = start.get(parameter.data_ptr())
            if part is None or (id(parameter) == id(part.weight) and (name, key) in chosen):
                continue
            raise ValueError(
                f"{part.name} shares its memory with {f'{name}.{key}'.lstrip('.')}, which is not pruned: choose both "
                f"with layers=[...] or parameters=[{part.name!r}, '{name}.{key}'], leave both out with "
                f"exclude=[{part.name.rpartition('.')[0]!r}], or give the two their own weights"
            )
