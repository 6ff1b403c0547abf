"""Which weights of a module are pruned: the kinds of layers, or those that the caller names, leaves out or adds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Weights of a MultiheadAttention beside its ``out_proj``, which is a Linear of its own."""

KINDS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
"""Layers whose weights are pruned unless the caller chooses others, with the Conv1D of transformers.

Biases and normalisations are left alone, and so are embeddings unless they are named.
"""

Names = str | Sequence[str]
"""Names of modules, or patterns of them such as ``"encoder.*.linear1"``; a name stands for all that is within."""

Choice = Callable[[str, nn.Module], bool] | Names
"""Name and module to whether its weights are pruned, or the names of those that are."""

Place = tuple[str, nn.Module, str]
"""Name of a module, the module, and the name of one of its parameters."""


def is_transformers_conv1d(module: nn.Module) -> bool:
    """Tell the linear layer of GPT-2, whose weight is (inputs, outputs), without importing transformers."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def is_prunable(module: nn.Module) -> bool:
    """Tell whether the weights of the module are pruned unless the caller chooses others."""
    return isinstance(module, KINDS) or is_transformers_conv1d(module)


def weight_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters of a layer that are pruned."""
    if isinstance(module, nn.MultiheadAttention):
        return tuple(key for key in ATTENTION if module._parameters[key] is not None)
    if isinstance(module, nn.RNNBase):
        return tuple(key for key in module._flat_weights_names if key.startswith("weight_"))
    return ("weight_ih", "weight_hh") if isinstance(module, nn.RNNCellBase) else ("weight",)


@dataclass(frozen=True)
class WeightSelection:
    """``layers`` (by default all of :data:`KINDS`) but those to ``exclude``, and ``parameters`` of any module by name.

    A name or pattern that is that of a module chooses it, an embedding too, as long as it has a weight of two
    dimensions or more; one of a module that holds others chooses the layers of :data:`KINDS` within.
    """

    layers: Choice | None = None
    exclude: Choice = ()
    parameters: Names = ()

    def chooses(self, name: str, module: nn.Module) -> bool:
        """Tell whether the weights of the module are pruned."""
        taken = is_prunable(module) if self.layers is None else _takes(self.layers, name, module)
        return taken and not _leaves(self.exclude, name, module)

    def places(self, model: nn.Module) -> Iterator[Place]:
        """Yield the parameters that are chosen; those of a module may be missing from it.

        Raises ``ValueError`` for a name that chooses nothing, with the nearest there is.
        """
        modules = dict(model.named_modules())
        for wanted, option in ((self.layers, "layers"), (self.exclude, "exclude")):
            if wanted is not None and not callable(wanted):
                _check_names(_listed(wanted), list(modules), option)
        for name, module in modules.items():
            if self.chooses(name, module):
                yield from ((name, module, key) for key in weight_names(module))
        owners = {f"{n}.{k}".lstrip("."): (n, m, k) for n, m in modules.items() for k in m._parameters}
        _check_names(_listed(self.parameters), list(owners), "parameters")
        for full, place in owners.items():
            if any(fnmatchcase(full, p) for p in _listed(self.parameters)):
                yield place


def _takes(choice: Choice, name: str, module: nn.Module) -> bool:
    if callable(choice):
        return choice(name, module)
    if any(fnmatchcase(name, p) for p in _listed(choice)):
        weight = module._parameters.get("weight")
        return is_prunable(module) or (weight is not None and weight.ndim >= 2)
    return is_prunable(module) and any(_within(name, p) for p in _listed(choice))


def _leaves(choice: Choice, name: str, module: nn.Module) -> bool:
    if callable(choice):
        return choice(name, module)
    return any(_within(name, p) for p in _listed(choice))


def _within(name: str, pattern: str) -> bool:
    """Tell whether the pattern is that of the module or of one that holds it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:i]), pattern) for i in range(1, len(parts) + 1))


def _listed(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_names(patterns: Sequence[str], names: Sequence[str], option: str) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, 1, 0.0)
            raise ValueError(f"{option}={pattern!r} is the name of nothing in the model; the nearest is {near[0]!r}")
