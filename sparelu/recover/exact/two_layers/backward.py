"""What a refit of kinks of kinks does not need: weights of small t statistic, and those beyond a budget."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.tolerances import MERGE, ROUNDING, universal_threshold
from sparelu.recover.exact.two_layers.hinges import DeepKinks, live, tidied, without_dead
from sparelu.recover.exact.two_layers.least_squares import DeepFit, deep_refit, deep_saliency
from sparelu.recover.exact.two_layers.relu_model import deep_network, faced, turned

FEWEST = 1000
"""Candidates of a threshold at least."""
PASSES = 12


def deep_threshold(model: DeepKinks, mse: float) -> float:
    """Return the squared t statistic that noise alone rarely reaches among all weights."""
    return universal_threshold(max(model.vector().numel(), FEWEST), mse)


def support(model: DeepKinks) -> Tensor:
    """Return the mask of a refit: weights that are not zero and the affine part, whole unless the model is oriented."""
    mask = live(model)
    if bool((model.tilt != 0).any()):
        mask[-model.affine.numel() :] = model.affine != 0
    return mask


def without_weak(fit: DeepFit, sample: Sample, x: Float[Tensor, "n inputs"] | None = None) -> DeepFit:
    """Refit without the weights that the rows do not need; tidy on the rows ``x`` where the model is not oriented.

    Weights of small t can be needed together, so a drop that costs twice what their t statistics say is made smaller.
    """
    for _ in range(PASSES):
        t = deep_saliency(fit)
        level = deep_threshold(fit.model, fit.mse)
        inside = fit.free < fit.mask.numel() - fit.model.affine.numel()
        order = torch.where(inside, t, torch.inf).argsort()
        weak = fit.free[order[: int((t[inside] < level).sum())]]
        while len(weak):
            after = _dropped(fit, weak, sample, x)
            if after.mse <= 2 * max(fit.mse, ROUNDING) * (1 + level * len(weak) / sample.n):
                break
            weak = weak[: len(weak) // 4]
        if not len(weak):
            return fit
        fit = after
    return fit


def _dropped(fit: DeepFit, weak: Tensor, sample: Sample, x: Tensor | None) -> DeepFit:
    vector = fit.model.vector()
    vector[weak] = 0.0
    model = fit.model.with_vector(vector)
    joint = MERGE * max(fit.mse, ROUNDING) / sample.n
    model = without_dead(model) if x is None else tidied(model, x, joint)
    return deep_refit(model, support(model), sample, steps=8, enough=0.1)


def straightened(fit: DeepFit, sample: Sample) -> DeepFit:
    """Refit without the weights of the affine part that the rows do not need."""
    t, first = deep_saliency(fit), fit.mask.numel() - fit.model.affine.numel()
    mask = fit.mask.clone()
    mask[fit.free[(fit.free >= first) & (t < deep_threshold(fit.model, fit.mse))]] = False
    return deep_refit(fit.model, mask, sample, steps=6)


def trimmed(fit: DeepFit, sample: Sample, allowed: int | None) -> DeepFit:
    """Refit with at most ``allowed`` nonzeros in the network, the least salient ones dropped first."""
    while allowed is not None:
        excess = deep_network(fit.model, 1.0, torch.ones_like(fit.model.affine)).nonzeros - allowed
        inside = fit.free < fit.mask.numel() - fit.model.affine.numel()
        if excess <= 0 or not bool(inside.any()):
            break
        t = torch.where(inside, deep_saliency(fit), torch.inf)
        count = min(max(1, excess // 5), int(inside.sum()))
        fit = _dropped(fit, fit.free[t.argsort()[:count]], sample, None)
    return fit


def oriented_fit(fit: DeepFit, sample: Sample) -> DeepFit:
    """Orient a fit, and refit it on its support without the weights that its ReLU network makes needless.

    Orientations are read off sums of weights, so they are refitted to the end before.
    """
    fit = deep_refit(fit.model, fit.mask, sample, steps=20, enough=0.5)
    for step in (turned, faced):
        model = step(fit)
        fit = deep_refit(model, support(model), sample, steps=6)
    return straightened(without_weak(fit, sample), sample)


def deep_all_t(fit: DeepFit) -> np.ndarray:
    """Return |t| of all weights of the first and second layer."""
    return deep_saliency(fit)[fit.free < fit.mask.numel() - fit.model.affine.numel()].sqrt().cpu().numpy()
