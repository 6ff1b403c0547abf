"""Backward elimination: what the Wald test calls noise, what is there twice, and what a budget does not hold."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample, merge_duplicates, merge_indistinct
from sparelu.recover.exact.model.least_squares import Fit, accept, explains_as_well, refit, wald
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import CONVERGED, MERGE, NOISELESS

ROUNDS = 8
"""Drops in a row before anything is added."""
SHARE = 5
"""A budget is reached by drops of a fifth of the excess at a time."""


def eliminate(fit: Fit, sample: Sample) -> Fit:
    """Return the fit without what noise explains or is there twice, refitted until nothing changes."""
    for _ in range(ROUNDS):
        smaller = drop_weak(fit, sample) or merge(fit, sample)
        if smaller is None:
            break
        fit = smaller
    return fit


def drop_weak(fit: Fit, sample: Sample) -> Fit | None:
    """Return a refit without the numbers below their threshold, of near hinges one; None when nothing can go.

    Numbers of small t can be needed together (two hinges of one direction share what either would carry), so a drop
    that is not accepted is made smaller.
    """
    t = wald(fit).flat()
    order = t.argsort()
    weak = order[: int((t < fit.equations.slack).sum())]
    while True:
        model = remove(fit.model, weak)
        joined = merge_duplicates(model, MERGE / fit.rows, 1 / fit.noise)
        smaller = _refit_if_accepted(fit, joined, sample, model.live if len(joined) == int(model.live.sum()) else None)
        if smaller is not None or len(weak) == 0:
            return smaller
        weak = weak[: len(weak) // 4]


def merge(fit: Fit, sample: Sample) -> Fit | None:
    """Return a refit with hinges that no row tells apart joined, where rounding is all that is left; None without."""
    if not bool((fit.slope.mse < NOISELESS).all()):
        return None
    return _refit_if_accepted(fit, merge_indistinct(fit.model, sample), sample, None)


def _refit_if_accepted(fit: Fit, model: ReluModel, sample: Sample, hinges: Tensor | None) -> Fit | None:
    support = Support.of(model)
    if support.size >= fit.support.size:
        return None
    before = None if hinges is None else fit.equations.restrict(support, hinges)
    after = refit(model, sample, support, steps=6, enough=CONVERGED, before=before)
    return after if accept(fit, after) else None


def drop_idle(fit: Fit, sample: Sample, idle: Bool[Tensor, "k inputs"]) -> Fit:
    """Return a refit without the ``idle`` weights, if the rest meets the rows as well."""
    if not bool(idle.any()):
        return fit
    after = refit(replace(fit.model, weight=fit.model.weight * ~idle).normalise(), sample, steps=6)
    return after if explains_as_well(after, fit) else fit


def remove(model: ReluModel, places: Tensor) -> ReluModel:
    """Return the model with zeros at flat ``places`` of the weights, then the output weights."""
    weight, outputs, cut = model.weight.clone(), model.outputs.clone(), model.weight.numel()
    weight.view(-1)[places[places < cut]] = 0.0
    outputs.view(-1)[places[places >= cut] - cut] = 0.0
    return replace(model, weight=weight, outputs=outputs)


def prune_to_budget(fit: Fit, sample: Sample, allowed: int | None, width: int) -> Fit:
    """Return the fit of at most ``width`` hinges and ``allowed`` nonzeros, those of least Wald statistic dropped."""
    if len(fit.model) > width:
        fit = refit(truncate_to_budget(fit.model, None, width), sample)
    while allowed is not None and fit.model.nonzeros > allowed:
        t = wald(fit)
        t.weight[:, -1] = torch.inf
        gone = t.flat().argsort()[: max(1, (fit.model.nonzeros - allowed) // SHARE)]
        fit = refit(remove(fit.model, gone).normalise(), sample, steps=4)
    return fit


def truncate_to_budget(model: ReluModel, allowed: int | None, width: int) -> ReluModel:
    """Return the ``width`` hinges and the ``allowed`` nonzeros that matter most, by |V_j| |w_ji| and |V_jo| |w_j|."""
    strength = model.length.norm(dim=1)
    if len(model) > width:
        model = model.take(strength.argsort(descending=True)[:width].sort().values)
    if allowed is None or model.nonzeros <= allowed:
        return model
    parts = [model.weight[:, :-1].abs() * model.outputs.norm(dim=1, keepdim=True)]
    if model.outputs.shape[1] > 1:
        parts.append(model.length.abs())
    value = torch.cat(parts, dim=1)
    mask = torch.zeros_like(value, dtype=torch.bool)
    mask.view(-1)[value.flatten().topk(allowed).indices] = True
    inputs = model.weight.shape[1] - 1
    weight = torch.cat([model.weight[:, :-1] * mask[:, :inputs], model.weight[:, -1:]], dim=1)
    outputs = model.outputs * mask[:, inputs:] if len(parts) > 1 else model.outputs
    return replace(model, weight=weight, outputs=outputs).normalise()
