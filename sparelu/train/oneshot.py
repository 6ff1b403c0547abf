"""One-shot pruning of trained layers from a few calibration rows: Wanda, SparseGPT, and a refit of any mask.

Layers are pruned in the order in which they run, each with the inputs that the layers already pruned give it.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparelu.topk import largest, largest_mask
from sparelu.train.calibration import Run, gather, order_of_calls, to_matrix, to_weight
from sparelu.train.sparsifier.checks import check_masks
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, pools
from sparelu.train.sparsifier.prunable import PrunableWeight, prunable_weights
from sparelu.train.sparsifier.selection import Choice

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

    Raises ``ValueError`` for a budget or a model that cannot be pruned, recurrent layers, and layers that ``run`` does
    not reach.
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


def least_squares_refit(
    model: nn.Module,
    run: Run,
    *,
    masks: Mapping[str, Tensor] | None = None,
    density: float | None = None,
    nonzeros: int | None = None,
    layers: Choice | None = None,
    allocation: str | Allocation = "uniform",
    damping: float = 0.0,
) -> Masks:
    """Keep the weights of ``masks`` in ``model``, or the largest ones, and fit them to what the layers gave before.

    The rows of a layer are least squares of their own: with the kept weights S and the dropped D of a row w, the error
    ||X (v - w)||^2 of outputs is least at v_S = w_S + (X_S'X_S)^-1 X_S'X_D w_D. ``model`` is the dense one. With
    ``damping``, that times the mean of the diagonal is added to X_S'X_S, for fewer rows than weights; without, a
    singular one gives the smallest change. In float64. Where inputs differ in scale, the masks of :func:`wanda` (on a
    copy) are better than those of the largest weights.

    Raises as :func:`wanda`, and for masks that are not those of the model.
    """
    parts = prunable_weights(model, layers)
    if masks is None:
        chosen = pools({n: tuple(p.weight.shape) for n, p in parts.items()}, density, nonzeros, allocation)
        scores = {n: p.weight.detach().abs() for n, p in parts.items()}
        masks, everything = {}, {n: p.mask | True for n, p in parts.items()}
        for pool in chosen:
            masks |= pool.select(scores, everything, pool.nonzeros)
    elif density is not None or nonzeros is not None:
        raise ValueError("give exactly one of density, nonzeros and masks")
    check_masks(parts, masks)
    wanted = dict(masks)

    def solve(name: str, weight: Tensor, moments: Tensor) -> Tensor:
        mask = to_matrix(parts[name], wanted[name]).contiguous()
        for group, rows, moment in zip(weight, mask, moments, strict=True):
            for row, kept in zip(group, rows, strict=True):
                row.copy_(_fitted(row.double(), kept, moment, damping))
        return mask

    return _solve_in_order(model, run, parts, _products, solve)


def _fitted(row: Tensor, kept: Tensor, moment: Tensor, damping: float) -> Tensor:
    """Fit a row on its ``kept`` weights by least squares, given X'X of all."""
    if bool(kept.all()) or not bool(kept.any()):
        return row * kept
    own = moment[kept][:, kept]
    if damping:
        own = own + torch.diag(damping * own.diagonal().mean() * torch.ones_like(own.diagonal()))
    change = torch.linalg.lstsq(own, moment[kept][:, ~kept] @ row[~kept], driver="gelsd").solution
    fitted = torch.zeros_like(row)
    fitted[kept] = row[kept] + change
    return fitted


def by_row(score: Tensor, k: int) -> Tensor:
    """Mask the largest of each row (rows, columns), ``k`` in all, with numbers that differ by one at most."""
    each, extra = divmod(k, len(score))
    order = score.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(score, dtype=torch.bool).scatter_(1, order[:, :each], True)
    if extra:
        rows = largest(score.gather(1, order[:, each : each + 1])[:, 0], extra)
        mask[rows, order[rows, each]] = True
    return mask


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
    parts = prunable_weights(model, layers)
    chosen = pools({n: tuple(p.weight.shape) for n, p in parts.items()}, density, nonzeros, allocation)
    if any(len(p.names) > 1 for p in chosen):
        raise ValueError("scores of different layers do not compare here: choose allocation uniform, er or erk")
    counts = {p.names[0]: p.nonzeros for p in chosen}
    return _solve_in_order(model, run, parts, moments, lambda name, w, m: solve(w, m, counts[name]))


def _solve_in_order(
    model: nn.Module,
    run: Run,
    parts: Mapping[str, PrunableWeight],
    moments: Callable[[Tensor], Tensor],
    solve: Callable[[str, Tensor, Tensor], Tensor],
) -> Masks:
    """Solve each weight as a matrix with the moments of its inputs, in the order in which the layers run."""
    for name in order_of_calls(model, run, parts):
        part = parts[name]
        weight = part.weight.detach()
        matrix = to_matrix(part, weight).contiguous()
        mask = solve(name, matrix, gather(model, run, part, moments))
        weight.copy_(to_weight(part, matrix))
        part.keep(to_weight(part, mask))
        if not part.active:
            part.warn_of_collapse()
    return {n: p.mask for n, p in parts.items()}


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
