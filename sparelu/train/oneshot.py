"""One-shot pruning of trained layers from a few calibration rows: Wanda and SparseGPT.

Layers are pruned in the order in which they run, each with the inputs that the layers already pruned give it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparelu.topk import largest, largest_mask
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, pools
from sparelu.train.sparsifier.prunable import Part, parts_of, unwrapped
from sparelu.train.sparsifier.selection import Choice

Run = Callable[[nn.Module], Any]
"""Passes the calibration rows through a module; what it returns is not used."""

Solve = Callable[[Tensor, Tensor, int], Tensor]
"""Weights (groups, rows, inputs), second moments of the inputs and the number to keep; prunes the weights in place."""


def wanda(
    model: nn.Module,
    run: Run,
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    layers: Choice | None = None,
    allocation: str | Allocation = "uniform",
) -> Masks:
    """Keep in each output row the weights of largest |W_ij| ||X_j||_2; the others become zero in ``model``.

    Sun et al., A simple and effective pruning approach for large language models, 2024, equation 1. Rows keep the same
    number up to one: what is left over goes to the rows with the strongest next weight, so that the budget is exact.
    Convolutions are taken as linear maps of their patches.

    Raises ``ValueError`` for a budget or a model that cannot be pruned, transposed convolutions, and layers that
    ``run`` does not reach.
    """

    def solve(weight: Tensor, moments: Tensor, k: int) -> Tensor:
        score = weight.abs() * moments.sqrt()[:, None, :].to(weight)
        mask = by_row(score.flatten(0, 1), k).reshape(weight.shape)
        weight.mul_(mask)
        return mask

    return _prune(model, run, _squares, solve, density, nonzeros, layers, allocation)


def sparsegpt(
    model: nn.Module,
    run: Run,
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    layers: Choice | None = None,
    allocation: str | Allocation = "uniform",
    block: int = 128,
    damping: float = 0.01,
) -> Masks:
    """Prune column after column and let the columns not yet reached make up for it, in ``model``.

    Frantar and Alistarh, SparseGPT, 2023, algorithm 1, in float64: with U the upper Cholesky factor of the inverse of
    H = X'X + ``damping`` mean(diag) I, every ``block`` of columns drops the weights of smallest w^2 / U_cc^2, and each
    dropped weight moves the rest of its row by -(w / U_cc) U_c. The number kept is exact over the layer.

    Raises as :func:`wanda`.
    """

    def solve(weight: Tensor, moments: Tensor, k: int) -> Tensor:
        parts, done = [], 0
        ends = [round(k * (i + 1) / len(weight)) for i in range(len(weight))]
        for matrix, moment, end in zip(weight, moments, ends, strict=True):
            parts.append(_compensated(matrix, moment, end - done, block, damping))
            done = end
        return torch.stack(parts)

    return _prune(model, run, _products, solve, density, nonzeros, layers, allocation)


def by_row(score: Tensor, k: int) -> Tensor:
    """The mask (rows, columns) of the largest of each row, ``k`` in all, with numbers that differ by one at most."""
    each, extra = divmod(k, len(score))
    order = score.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(score, dtype=torch.bool).scatter_(1, order[:, :each], True)
    if extra:
        rows = largest(score.gather(1, order[:, each : each + 1])[:, 0], extra)
        mask[rows, order[rows, each]] = True
    return mask


def patches(module: nn.Module, x: Tensor) -> Tensor:
    """What each output of a Linear or Conv layer is a product of: (products, groups, inputs of one output)."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, 1, module.in_features)
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        raise ValueError(f"calibration knows Linear and Conv layers, not {type(module).__name__}: use `layers`")
    dimensions = len(module.kernel_size)
    x = x if x.ndim == dimensions + 2 else x[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode)
    for i, (size, step, gap) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        x = x.unfold(2 + i, (size - 1) * gap + 1, step)[..., ::gap]
    x = x.movedim(1, 1 + dimensions).flatten(0, dimensions)
    return x.reshape(len(x), module.groups, -1)


def _squares(x: Tensor) -> Tensor:
    return x.double().square().sum(0)


def _products(x: Tensor) -> Tensor:
    x = x.double()
    return torch.einsum("ngi,ngj->gij", x, x)


def _prune(
    model: nn.Module,
    run: Run,
    moments: Callable[[Tensor], Tensor],
    solve: Solve,
    density: float | None,
    nonzeros: int | None,
    layers: Choice | None,
    allocation: str | Allocation,
) -> Masks:
    parts = parts_of(model, layers)
    chosen = pools({n: tuple(p.weight.shape) for n, p in parts.items()}, density, nonzeros, allocation)
    if any(len(p.names) > 1 for p in chosen):
        raise ValueError("scores of different layers do not compare here: choose allocation uniform, er or erk")
    counts = {p.names[0]: p.nonzeros for p in chosen}
    for name in _order(model, run, parts):
        part = parts[name]
        weight = part.weight.detach()
        groups = getattr(part.module, "groups", 1)
        matrix = weight.reshape(groups, len(weight) // groups, -1)
        mask = solve(matrix, _gathered(model, run, part, moments), counts[name])
        weight.copy_(matrix.reshape(weight.shape))
        part.keep(mask.reshape(weight.shape))
        if not part.active:
            part.warn_of_collapse()
    return {n: p.mask for n, p in parts.items()}


def _order(model: nn.Module, run: Run, parts: dict[str, Part]) -> list[str]:
    """The names in the order in which the layers are called."""
    called: dict[str, None] = {}
    hooks = [
        p.module.register_forward_pre_hook(lambda module, inputs, name=n: called.setdefault(name))
        for n, p in parts.items()
    ]
    _calibrate(model, run, hooks)
    missing = [n for n in parts if n not in called]
    if missing:
        raise ValueError(f"the calibration rows do not reach {missing[0]}: leave it out with `layers`")
    return list(called)


def _gathered(model: nn.Module, run: Run, part: Part, moments: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of ``moments`` over all inputs of a layer."""
    sums: list[Tensor] = []

    def add(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        new = moments(patches(module, inputs[0].detach()))
        sums[:] = [sums[0] + new] if sums else [new]

    _calibrate(model, run, [part.module.register_forward_pre_hook(add)])
    return sums[0]


def _calibrate(model: nn.Module, run: Run, hooks: list[Any]) -> None:
    """Run in evaluation mode without gradients, and take the hooks off again."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            run(unwrapped(model))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _compensated(weight: Tensor, moment: Tensor, k: int, block: int, damping: float) -> Tensor:
    """Prune ``weight`` (rows, columns) in place to ``k``; the mask.

    The inverse of H restricted to the columns c, c + 1, ... is U[c:, c:]' U[c:, c:]: its first entry is U_cc^2 and its
    first row U_cc U[c, c:]. Optimal Brain Surgeon for column c, with those before it fixed, moves a row by
    -(w / U_cc^2) U_cc U[c, c:].
    """
    unused = moment.diagonal() == 0
    hessian = moment + torch.diag(damping * moment.diagonal().mean() + unused.double())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    u = torch.linalg.cholesky(inverse, upper=True)
    w = weight.double()
    w[:, unused] = 0
    mask = torch.zeros_like(w, dtype=torch.bool)
    columns = w.shape[1]
    for start, end in pairwise([*range(0, columns, block), columns]):
        quota = round(k * end / columns) - round(k * start / columns)
        mask[:, start:end] = largest_mask((w[:, start:end] / u.diagonal()[start:end]).square(), quota)
        error = torch.zeros_like(w[:, start:end])
        for c in range(start, end):
            error[:, c - start] = torch.where(mask[:, c], 0.0, w[:, c] / u[c, c])
            w[:, c:end] -= error[:, c - start, None] * u[c, c:end]
        w[:, end:] -= error @ u[start:end, end:]
    weight.copy_(w.mul_(mask))
    return mask
