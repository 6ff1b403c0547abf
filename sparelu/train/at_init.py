"""Pruning before training: SNIP, GraSP and SynFlow give masks, which any sparsifier takes over.

    masks = snip(model, lambda m: cross_entropy(m(x), y), density=0.1)
    sparsifier = Static(model, optimizer, masks=masks)

The model is copied for scoring and stays as it is. Results mean little without the checks of :func:`sanity_checks`:
accuracy often stays when the mask is shuffled within each layer (Frankle et al., Pruning neural networks at
initialization: why are we missing the mark?, 2021). ``invert`` keeps the weights that a method would remove first,
which should do worse too; with ``allocation=as_in(masks)`` (:mod:`sparelu.train.analysis.pags`) each layer keeps as
many.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparelu.train.sparsifier.layer_densities import Allocation, Masks, Pool, erk, pools
from sparelu.train.sparsifier.prunable import PrunableWeight, prunable_weights, seeded, unwrapped
from sparelu.train.sparsifier.selection import Choice

Loss = Callable[[nn.Module], Tensor]
"""The loss of a module on the batch, or the batches, to score with."""

Train = Callable[[nn.Module, Masks], float]
"""Trains a module with masks and returns what is compared, such as its accuracy."""


def snip(
    model: nn.Module,
    loss: Loss,
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    rounds: int = 1,
    layers: Choice | None = None,
    allocation: str | Allocation = "global",
    invert: bool = False,
) -> Masks:
    """Keep the weights whose removal changes the loss most to first order: |w dL/dw|.

    Lee, Ajanthan and Torr, SNIP, 2019, equation 6. With several ``rounds`` the density falls as density^(i / rounds)
    and the rest is scored anew (de Jorge et al., Progressive skeletonization, 2021, Iterative SNIP).

    Raises ``ValueError`` for a budget or a model that cannot be pruned, and a score that is NaN.
    """
    score = partial(snip_scores, loss=loss)
    model = copy.deepcopy(unwrapped(model))
    return _cut(model, score, density, nonzeros, rounds, layers, allocation, invert)


def grasp(
    model: nn.Module,
    loss: Loss,
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    layers: Choice | None = None,
    allocation: str | Allocation = "global",
    invert: bool = False,
) -> Masks:
    """Keep the weights whose removal lowers the gradient norm most to first order: the largest w (H g).

    Wang, Zhang and Grosse, Picking winning tickets before training by preserving gradient flow, 2020, equation 8, with
    the sign of the authors' code: they remove the largest -w (H g). They divide the logits by 200 within ``loss``, take
    25 rows of each class, and draw linear layers anew while scoring; the first two are left to the caller, the last is
    not done.

    Raises as :func:`snip`.
    """
    score = partial(grasp_scores, loss=loss)
    return _cut(copy.deepcopy(unwrapped(model)), score, density, nonzeros, 1, layers, allocation, invert)


def synflow(
    model: nn.Module,
    shape: tuple[int, ...],
    *,
    density: float | None = None,
    nonzeros: int | None = None,
    rounds: int = 100,
    layers: Choice | None = None,
    allocation: str | Allocation = "global",
    invert: bool = False,
) -> Masks:
    """Keep the weights that carry the most synaptic flow, without data: |w dR/dw|, R the sum of outputs for ones.

    ``shape`` is that of one input, without the batch. All parameters and statistics are replaced by their absolute
    values; normalisations and dropout are in evaluation mode; numbers are float64, since R is a product over layers.
    Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow, 2020, algorithm 1.

    Raises as :func:`snip`.
    """
    positive = copy.deepcopy(unwrapped(model)).double().eval()
    with torch.no_grad():
        for tensor in (*positive.parameters(), *(b for b in positive.buffers() if b.is_floating_point())):
            tensor.abs_()
    ones = torch.ones((1, *shape), dtype=torch.float64, device=next(positive.parameters()).device)
    score = partial(snip_scores, loss=lambda m: m(ones).sum())
    return _cut(positive, score, density, nonzeros, rounds, layers, allocation, invert)


def snip_scores(model: nn.Module, parts: dict[str, PrunableWeight], loss: Loss) -> Masks:
    """Compute |w dL/dw| of every weight."""
    gradients = torch.autograd.grad(loss(model), [p.weight for p in parts.values()], materialize_grads=True)
    return {n: (p.weight.detach() * g).abs() for (n, p), g in zip(parts.items(), gradients, strict=True)}


def grasp_scores(model: nn.Module, parts: dict[str, PrunableWeight], loss: Loss) -> Masks:
    """Compute w (H g) of every weight, with g the gradient and H the Hessian in all weights of ``parts``.

    Attention is computed in the form that has a second derivative.
    """
    weights = [p.weight for p in parts.values()]
    with sdpa_kernel(SDPBackend.MATH):
        gradients = torch.autograd.grad(loss(model), weights, create_graph=True, materialize_grads=True)
        along = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
        products = torch.autograd.grad(along, weights, materialize_grads=True)
    return {n: p.weight.detach() * h for (n, p), h in zip(parts.items(), products, strict=True)}


def shuffled(masks: Masks, generator: torch.Generator) -> Masks:
    """Draw the same number in every layer at random places: does it matter which weights were chosen?"""
    order = {n: torch.randperm(m.numel(), generator=generator).to(m.device) for n, m in masks.items()}
    return {n: m.flatten()[order[n]].reshape(m.shape) for n, m in masks.items()}


def reinitialised(model: nn.Module, generator: torch.Generator, layers: Choice | None = None) -> nn.Module:
    """Copy with other initial weights: does it matter which values the chosen weights have?

    The weights of each layer are permuted, which draws them anew from whatever distribution they came from; the paper
    calls the initialiser again.
    """
    model = copy.deepcopy(unwrapped(model))
    for part in prunable_weights(model, layers).values():
        weight = part.weight.detach()
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return model


def sanity_checks(
    model: nn.Module,
    masks: Masks,
    train: Train,
    seed: int = 0,
    layers: Choice | None = None,
    inverted: Masks | None = None,
) -> dict[str, float]:
    """Return what ``train(module, masks)`` reaches with the masks, and with what should do worse.

    "shuffled" within each layer, "reinitialised" weights, masks drawn at "random" with as many weights spread as by
    Erdős-Rényi-Kernel, and the masks ``inverted`` where they are given: those of the same method with ``invert``. Each
    starts from its own copy of ``model``.
    """
    g = seeded(seed)
    shapes = {n: tuple(m.shape) for n, m in masks.items()}
    total = sum(int(m.sum()) for m in masks.values())
    full = {n: torch.ones_like(m) for n, m in masks.items()}
    scores = {n: torch.rand(m.shape, generator=g).to(m.device) for n, m in masks.items()}
    drawn: Masks = {}
    for pool in erk(shapes, total):
        drawn.update(pool.select(scores, full, pool.nonzeros))
    original = unwrapped(model)
    found = {
        "chosen": train(copy.deepcopy(original), masks),
        "shuffled": train(copy.deepcopy(original), shuffled(masks, g)),
        "reinitialised": train(reinitialised(original, g, layers), masks),
        "random": train(copy.deepcopy(original), drawn),
    }
    if inverted is not None:
        found["inverted"] = train(copy.deepcopy(original), inverted)
    return found


def _cut(
    model: nn.Module,
    score: Callable[[nn.Module, dict[str, PrunableWeight]], Masks],
    density: float | None,
    nonzeros: int | None,
    rounds: int,
    layers: Choice | None,
    allocation: str | Allocation,
    invert: bool,
) -> Masks:
    """Score and cut ``model``, a copy, in ``rounds`` that each keep the same share of what is left."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    parts = prunable_weights(model, layers)
    chosen = pools({n: tuple(p.weight.shape) for n, p in parts.items()}, density, nonzeros, allocation)
    for i in range(1, rounds + 1):
        scores = {n: -s if invert else s for n, s in score(model, parts).items()}
        masks = {n: p.mask for n, p in parts.items()}
        for pool in chosen:
            for name, mask in pool.select(scores, masks, _left(pool, i / rounds)).items():
                parts[name].keep(mask)
                parts[name].clear([parts[name].weight])
    for part in parts.values():
        if not part.active:
            part.warn_of_collapse()
    return {n: p.mask for n, p in parts.items()}


def _left(pool: Pool, progress: float) -> int:
    return round(pool.size * (pool.nonzeros / pool.size) ** progress)
