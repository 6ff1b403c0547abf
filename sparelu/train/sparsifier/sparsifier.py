"""The engine: one object that keeps any torch module sparse in the user's own training loop.

    sparsifier = RigL(model, optimizer, density=0.1, total_steps=10_000)
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        sparsifier.step()              # in place of optimizer.step()

The module stays an ordinary dense one with exact zeros; nothing in it or in the optimiser is replaced.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from sparelu.train.sparsifier.checks import (
    check_masks,
    check_model,
    check_optimizer,
    check_state,
    module_names,
    warn_of_new_layers,
)
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, Pool, pools
from sparelu.train.sparsifier.mask_enforcement import Zeros
from sparelu.train.sparsifier.prunable import Choice, Part, parts_of, process_group, seeded, unwrapped
from sparelu.train.sparsifier.update_schedules import Move, Plan

Score = Callable[[Part, torch.Generator], Tensor]
"""A number for every weight of a part, the larger the better; the generator is the sparsifier's own.

A weight with minus infinity is never chosen.
"""


@dataclass(frozen=True)
class Rule:
    """A method: the living with the lowest ``drop`` go, those of all others with the highest ``grow`` come.

    ``start`` ranks the weights before the first step. ``observe`` is called at every step while the gradients are
    still dense, and so is ``grow`` where the support moves. With ``replaces_step`` a step that moves the support takes
    no step of the optimiser; with ``restarts`` a weight dropped and grown in one move starts again at 0. ``after`` is
    called with the number of the step at its end.
    """

    drop: Score
    grow: Score
    start: Score
    observe: Callable[[Part], None] | None = None
    replaces_step: bool = False
    restarts: bool = False
    after: Callable[[int], None] | None = None


class Choices(TypedDict, total=False):
    """What can be chosen for every method: see :class:`Sparsifier`."""

    density: float | None
    nonzeros: int | None
    masks: Mapping[str, Tensor] | None
    layers: Choice | None
    allocation: str | Allocation
    seed: int


class Sparsifier:
    """Keeps ``model`` within a number of nonzeros while ``optimizer`` trains it.

    Exactly one of ``density`` (share of the prunable weights), ``nonzeros`` (their number, met exactly) and ``masks``
    (by name, as :attr:`masks` gives them) sets the budget. ``layers(name, module)`` says which weights are pruned (see
    :data:`~sparelu.train.sparsifier.prunable.KINDS`); ``allocation`` is "uniform", "er", "erk", "global", or a
    function; ``plan`` says when the support moves, ``rule`` how. All random choices come from a generator seeded with
    ``seed``.

    Laws: after construction and after every step, weights and every optimiser slot of their shape are exactly zero off
    the support; the number of living weights is the one the plan asks for. The same holds on every process of a
    DistributedDataParallel model: process 0 decides. Gradients are zero off the support after ``step``.

    On a CPU make Adam with ``fused=True``: with masks or without, its step then takes less than half the time.

    Raises ``ValueError`` for a budget that does not fit, a model that cannot be pruned, and an optimiser that does not
    hold the model's weights; warns with :class:`LayerCollapseWarning` when a layer is left without weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        rule: Rule,
        plan: Plan,
        total_steps: int,
        density: float | None = None,
        nonzeros: int | None = None,
        masks: Mapping[str, Tensor] | None = None,
        layers: Choice | None = None,
        allocation: str | Allocation = "erk",
        seed: int = 0,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        self.model, self.optimizer = model, optimizer
        self.rule, self.plan, self.total_steps = rule, plan, total_steps
        self.parts = parts_of(model, layers)
        check_optimizer(self.parts, optimizer)
        self._modules = module_names(unwrapped(model))
        self.steps = 0
        self.generator = seeded(seed)
        self._collapsed: set[str] = set()
        self._zeros = Zeros(self.parts.values())
        self.pools = self._pools(density, nonzeros, masks, allocation)
        self._commit(self._start() if masks is None else dict(masks))

    @property
    def masks(self) -> Masks:
        """Copies of the masks by name."""
        return {n: p.mask for n, p in self.parts.items()}

    @property
    def nonzeros(self) -> int:
        """Living weights of all parts."""
        return sum(p.nonzeros for p in self.parts.values())

    @property
    def size(self) -> int:
        """Prunable weights, living or not."""
        return sum(p.weight.numel() for p in self.parts.values())

    @property
    def density(self) -> float:
        """Living weights over prunable weights."""
        return self.nonzeros / self.size

    @property
    def visited(self) -> float:
        """Share of the prunable weights that have lived at some time (R_s of Liu et al., ITOP, 2021)."""
        return sum(int(p.visited.count_nonzero()) for p in self.parts.values()) / self.size

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimiser's, so that ``torch.amp.GradScaler.step(sparsifier)`` works."""
        return self.optimizer.param_groups

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One training step: call it after ``loss.backward()``, in place of ``optimizer.step()``.

        Returns what the optimiser's ``step`` returns; None when the support moved instead. An error leaves masks,
        weights and the count of steps as they were.
        """
        self._check()
        moves = self._moves()
        if moves or self.rule.observe is not None:
            moves = self._resting(moves)
            for part in self.parts.values():
                part.follow()
                part.check_gradient()
        if self.rule.observe is not None:
            for part in self.parts.values():
                self.rule.observe(part)
        growth = self._growth(moves)
        result = None
        if not (moves and self.rule.replaces_step):
            result = self._zeros.step(self.optimizer, closure)
        if moves:
            self._move(moves, growth)
        if self.rule.after is not None:
            self.rule.after(self.steps)
        self.steps += 1
        return result

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale all gradients so that their norm, dropped weights left out, is at most ``max_norm``; the norm before.

        Call it before :meth:`step` in place of ``torch.nn.utils.clip_grad_norm_``, which counts dropped weights too and
        so clips a sparse model far more than its steps call for. Gradients of dropped weights are scaled alike.
        """
        masks = {id(p.weight): p.mask for p in self.parts.values()}
        held = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        living = [p.grad * masks[id(p)] if id(p) in masks else p.grad for p in held]
        norm = torch.nn.utils.get_total_norm(living)
        torch.nn.utils.clip_grads_with_norm_(held, max_norm, norm)
        return norm

    def apply(self) -> None:
        """Set weights and optimiser slots to zero off the support, as after loading weights from elsewhere.

        :meth:`step` does it when it sees that somebody wrote to them. What is written through ``.data`` it sees some
        steps later, or not at all at a few places: call this then.
        """
        self._zeros.apply(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs beside the states of model and optimiser: tensors and plain values only."""
        return {
            "method": type(self).__name__,
            "steps": self.steps,
            "total_steps": self.total_steps,
            "nonzeros": [p.nonzeros for p in self.pools],
            "generator": self.generator.get_state(),
            "masks": self.masks,
            "visited": {n: p.visited.clone() for n, p in self.parts.items()},
            "memory": {n: {k: v.clone() for k, v in p.memory.items()} for n, p in self.parts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; the training that follows is the same bit for bit.

        Raises ``ValueError`` when the state is of another method, model, length or budget.
        """
        check_state(state, self.state_dict(), self.parts, [p.nonzeros for p in self.pools])
        self.steps = int(state["steps"])
        self.generator.set_state(state["generator"].cpu())
        for name, part in self.parts.items():
            part.keep(state["masks"][name].to(part.weight.device))
            part.visited = state["visited"][name].to(part.weight.device, copy=True)
            part.memory = {k: v.to(part.weight.device, copy=True) for k, v in state["memory"][name].items()}
        self.apply()

    def _check(self) -> None:
        """Raises or warns when the model is not the one of the start."""
        model = unwrapped(self.model)
        check_model(self.parts, model)
        if sum(1 for _ in model.modules()) != len(self._modules):
            warn_of_new_layers(self._modules, model)
            self._modules = module_names(model)

    def _pools(
        self,
        density: float | None,
        nonzeros: int | None,
        masks: Mapping[str, Tensor] | None,
        choice: str | Allocation,
    ) -> tuple[Pool, ...]:
        if masks is None:
            return pools({n: tuple(p.weight.shape) for n, p in self.parts.items()}, density, nonzeros, choice)
        if density is not None or nonzeros is not None:
            raise ValueError("give exactly one of density, nonzeros and masks")
        check_masks(self.parts, masks)
        counts = {n: int(m.count_nonzero()) for n, m in masks.items()}
        if choice == "global":
            return (Pool(tuple(self.parts), sum(counts.values()), self.size),)
        return tuple(Pool((n,), counts[n], p.weight.numel()) for n, p in self.parts.items())

    def _start(self) -> Masks:
        scores = {n: self.rule.start(p, self.generator) for n, p in self.parts.items()}
        allowed, chosen = self.masks, {}
        for pool in self.pools:
            chosen.update(pool.select(scores, allowed, self.plan.first(pool.nonzeros, pool.size)))
        return chosen

    def _moves(self) -> list[Move]:
        """One move for each pool, or none at all when the support stays."""
        moves = [self.plan.move(self.steps, self.total_steps, p.nonzeros, p.size) for p in self.pools]
        if all(m is None for m in moves):
            return []
        return [Move(p.nonzeros, 0) if m is None else m for m, p in zip(moves, self.pools, strict=True)]

    def _resting(self, moves: list[Move]) -> list[Move]:
        """The moves without exchanges in pools that hold an idle weight; none at all when nothing is left to do.

        What would be grown there would not train, and what is dropped would be lost for nothing.
        """
        used = any(p.weight.grad is not None for p in self.parts.values())
        for part in self.parts.values():
            part.idle = not part.weight.requires_grad or (used and part.weight.grad is None)
        rest, changes = [], False
        for pool, move in zip(self.pools, moves, strict=False):
            living = sum(self.parts[n].nonzeros for n in pool.names)
            idle = move.grow and any(self.parts[n].idle for n in pool.names)
            rest.append(Move(living, 0) if idle else move)
            changes |= rest[-1] != Move(living, 0)
        return rest if changes else []

    def _growth(self, moves: list[Move]) -> Masks:
        """The scores for growing, while the gradients are dense; none when nothing grows."""
        if not any(m.grow for m in moves):
            return {}
        with torch.no_grad():
            return {n: self.rule.grow(p, self.generator) for n, p in self.parts.items()}

    def _move(self, moves: list[Move], growth: Masks) -> None:
        """Drop to ``keep`` weights, then grow until ``keep`` + ``grow`` live or there is no room.

        A weight that is dropped may be grown again at once; it keeps its value unless the rule restarts it.
        """
        masks = {n: p.mask for n, p in self.parts.items()}
        kept: Masks = {}
        with torch.no_grad():
            drop = {n: self.rule.drop(p, self.generator) for n, p in self.parts.items()}
            for pool, move in zip(self.pools, moves, strict=True):
                kept.update(pool.select(drop, masks, move.keep))
            if self.rule.restarts:
                for name, part in self.parts.items():
                    part.keep(kept[name])
                self.apply()
            chosen = dict(kept)
            for pool, move in zip(self.pools, moves, strict=True):
                if move.grow:
                    free = {n: ~kept[n] for n in pool.names}
                    missing = move.keep + move.grow - sum(int(kept[n].count_nonzero()) for n in pool.names)
                    chosen.update({n: kept[n] | m for n, m in pool.select(growth, free, missing).items()})
        self._commit(chosen)

    def _commit(self, masks: Masks) -> None:
        """Make ``masks`` the support, the same on every process, and warn of layers that are left empty."""
        group = process_group(self.model)
        for name, part in self.parts.items():
            mask = masks[name].to(part.weight.device)
            if group is not None:
                shared = mask.to(torch.uint8).contiguous()
                torch.distributed.broadcast(shared, group=group, group_src=0)
                mask = shared.bool()
            part.keep(mask)
            if not part.nonzeros and name not in self._collapsed:
                self._collapsed.add(name)
                part.warn_of_collapse()
        self._zeros.moved(self.optimizer)
