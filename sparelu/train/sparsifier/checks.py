"""What a sparsifier refuses: optimisers, models, masks and states that are not those it was made for."""

import warnings
from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparelu.train.sparsifier.layer_densities import Pool
from sparelu.train.sparsifier.prunable import PrunableWeight
from sparelu.train.sparsifier.selection import WeightSelection, is_prunable, weight_names
from sparelu.train.sparsifier.update_schedules import NoUpdateWarning, UpdateSchedule

Parts = Mapping[str, PrunableWeight]
"""The weights by name."""


def inner_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimiser, or the one that a trainer's wrapper holds: that whose steps torch has hooks on.

    Raises ``ValueError`` for anything else.
    """
    while isinstance(optimizer, Optimizer) and not getattr(type(optimizer).step, "hooked", False):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"the optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def check_optimizer(parts: Parts, optimizer: Optimizer) -> None:
    """Raise ``ValueError`` when the optimiser does not hold a weight."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, part in parts.items():
        if id(part.weight) not in held:
            raise ValueError(
                f"the optimizer does not hold {name}: it was made from another model, or before the layer was "
                "replaced. Make the optimizer from this model's parameters first, or choose with `layers` those it "
                "holds (one sparsifier for each optimizer)"
            )


def check_model(parts: Parts, model: nn.Module) -> None:
    """Raise ``ValueError`` when a weight is no longer the one in ``model``, or has another shape."""
    for name, part in parts.items():
        now: nn.Module | None = model
        for step in part.path:
            now = None if now is None else now._modules.get(step)
        if now is not part.module or part.module._parameters.get(part.key) is not part.weight:
            raise ValueError(
                f"{name} was replaced after the sparsifier was made: make the optimizer and the sparsifier anew "
                "(masks=... takes over the old masks)"
            )
        if part.weight.shape != part.shape:
            raise ValueError(
                f"{name} had the shape {tuple(part.shape)} when the sparsifier was made and has "
                f"{tuple(part.weight.shape)} now: make the optimizer and the sparsifier anew"
            )


def module_names(model: nn.Module) -> frozenset[str]:
    """Return the names of all modules."""
    return frozenset(name for name, _ in model.named_modules())


def warn_of_new_layers(known: Set[str], model: nn.Module, selection: WeightSelection) -> None:
    """Warn of prunable layers that are not among the ``known`` modules: nothing keeps them sparse."""
    new = [n for n, m in model.named_modules() if n not in known and is_prunable(m) and selection.chooses(n, m)]
    if new:
        warnings.warn(
            f"{', '.join(new)} joined the model after the sparsifier was made and stays dense: to prune it, make the "
            "optimizer and the sparsifier anew",
            stacklevel=4,
        )


def frozen_weights(model: nn.Module, selection: WeightSelection) -> dict[str, Tensor]:
    """Return the weights by name that were left out only because they are frozen."""
    chosen = [(n, m) for n, m in model.named_modules() if selection.chooses(n, m)]
    found = {f"{n}.{k}".lstrip("."): m._parameters.get(k) for n, m in chosen for k in weight_names(m)}
    return {n: w for n, w in found.items() if w is not None and not w.requires_grad}


def warn_of_unfrozen(frozen: dict[str, Tensor]) -> None:
    """Warn once of weights that train now though they were ``frozen`` when the sparsifier was made."""
    new = [n for n, w in frozen.items() if w.requires_grad]
    if new:
        for name in new:
            del frozen[name]
        warnings.warn(
            f"{', '.join(new)} was frozen when the sparsifier was made and stays dense now that it trains: to prune "
            "it, make the sparsifier after unfreezing",
            stacklevel=5,
        )


def check_masks(parts: Parts, masks: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` when the masks are not bool, of the weights' names and shapes."""
    if set(masks) != set(parts):
        odd = sorted(set(masks) ^ set(parts))
        raise ValueError(f"the masks are not those of this model's prunable layers: they differ at {odd[0]}")
    for name, part in parts.items():
        if masks[name].shape != part.weight.shape or masks[name].dtype != torch.bool:
            raise ValueError(
                f"the mask of {name} must be bool of shape {tuple(part.weight.shape)}, "
                f"got {masks[name].dtype} of shape {tuple(masks[name].shape)}"
            )


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], parts: Parts, wanted: Sequence[int]) -> None:
    """Raise ``ValueError`` when ``state`` is not one that continues ``own``, with ``wanted`` nonzeros in each pool."""
    missing = sorted(own.keys() - state.keys() - {"updates"}) if isinstance(state, Mapping) else ["masks"]
    if missing:
        raise ValueError(f"this is no state of a sparsifier: it has no {missing[0]!r}; give what state_dict() returned")
    if state["method"] != own["method"]:
        raise ValueError(f"the state is of {state['method']}, not of {own['method']}")
    check_masks(parts, state["masks"])
    if list(state["nonzeros"]) != list(wanted) or state["total_steps"] != own["total_steps"]:
        raise ValueError(
            f"the state has {sum(state['nonzeros'])} nonzeros and {state['total_steps']} steps, this sparsifier "
            f"{sum(wanted)} and {own['total_steps']} (or another allocation): make it with the same arguments"
        )


def warn_of_no_update(plan: UpdateSchedule, total_steps: int, pools: Sequence[Pool]) -> None:
    """Warn when the support never moves though the ``plan`` is one to move it."""
    largest = max(pools, key=lambda pool: pool.nonzeros)
    steps = range(total_steps if plan.moves else 0)
    if plan.moves and all(plan.move(t, total_steps, largest.nonzeros, largest.size) is None for t in steps):
        warnings.warn(
            f"the support never moves: {plan} has no move for {largest.nonzeros} weights in {total_steps} steps. Give "
            "a plan with a smaller `every`, or use Static",
            NoUpdateWarning,
            stacklevel=5,
        )
