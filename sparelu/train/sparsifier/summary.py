"""What of a model is sparse, what is not, and why."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn

from sparelu.train.sparsifier.prunable import PrunableWeight, unwrapped
from sparelu.train.sparsifier.selection import WeightSelection, is_prunable, weight_names


class ParameterCount(NamedTuple):
    """One parameter: ``active`` of its ``size`` numbers; ``reason`` says why it is dense, empty when it is pruned."""

    name: str
    kind: str
    shape: tuple[int, ...]
    active: int
    size: int
    reason: str


def describe_parameters(
    model: nn.Module, parts: Mapping[str, PrunableWeight], selection: WeightSelection
) -> Iterator[ParameterCount]:
    """Yield every parameter of the model once, in the order of its modules."""
    held = {id(p.weight): p for p in parts.values()}
    seen: set[int] = set()
    for name, module in unwrapped(model).named_modules():
        for key, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            part, size = held.get(id(parameter)), parameter.numel()
            active = size if part is None else part.active
            reason = "" if part is not None else _why_dense(name, module, key, selection)
            full = f"{name}.{key}".lstrip(".")
            yield ParameterCount(full, type(module).__name__, tuple(parameter.shape), active, size, reason)


def _why_dense(name: str, module: nn.Module, key: str, selection: WeightSelection) -> str:
    parameter = module._parameters[key]
    if parameter is not None and parameter.ndim < 2:
        return "a vector (bias, normalisation)"
    if is_prunable(module) and key not in weight_names(module):
        return "not a weight of its layer"
    if parameter is not None and not parameter.requires_grad:
        return "frozen"
    if selection.chooses(name, module):
        return "trained only since this was made"
    if is_prunable(module):
        return "left out by the choice of layers"
    return f"not pruned unless it is named: parameters=['{f'{name}.{key}'.lstrip('.')}']"


def table_of(rows: list[ParameterCount]) -> str:
    """Return a table of text with a line for each row and one for all."""
    pruned = [r for r in rows if not r.reason]
    lines = [("parameter", "layer", "shape", "active", "of", "density, or why dense")]
    lines += [
        (
            r.name,
            r.kind,
            "x".join(map(str, r.shape)) or "1",
            f"{r.active:,}",
            f"{r.size:,}",
            r.reason or f"{r.active / r.size:.4g}",
        )
        for r in rows
    ]
    active, size = sum(r.active for r in pruned), sum(r.size for r in pruned)
    lines.append(("prunable", "", "", f"{active:,}", f"{size:,}", f"{active / size:.4g}"))
    total = sum(r.size for r in rows)
    lines.append(("all", "", "", f"{active + total - size:,}", f"{total:,}", f"{(active + total - size) / total:.4g}"))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    """Align texts to the left, numbers to the right; leave the last as it is."""
    cells = [f"{c:<{w}}" if i < 3 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=False))]
    return "  ".join([*cells, line[5]])
