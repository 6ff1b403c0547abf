"""The engine: one object that keeps any torch module sparse in the user's own training loop.

    sparsifier = RigL(model, optimizer, density=0.1, total_steps=10_000)
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()               # or sparsifier.step(), which is the same

The module stays an ordinary dense one with exact zeros; nothing in it or in the optimiser is replaced. The optimiser's
step is hooked, so that the loop may be anybody's: with a GradScaler, a closure, a trainer.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparelu.train.sparsifier.checks import (
    check_masks,
    check_model,
    check_optimizer,
    check_state,
    frozen_weights,
    inner_optimizer,
    module_names,
    warn_of_new_layers,
    warn_of_no_update,
    warn_of_unfrozen,
)
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, Pool, pools, pools_by_name
from sparelu.train.sparsifier.mask_enforcement import MaskEnforcement
from sparelu.train.sparsifier.optimizer_hooks import OptimizerHooks, claim, release, share_scaler_state
from sparelu.train.sparsifier.prunable import process_group, prunable_weights, seeded, unwrapped
from sparelu.train.sparsifier.rule import Choices as Choices
from sparelu.train.sparsifier.rule import UpdateRule as UpdateRule
from sparelu.train.sparsifier.scores import at_random
from sparelu.train.sparsifier.selection import Choice, Names, WeightSelection
from sparelu.train.sparsifier.sparse_init import FirstState, scale_to_active
from sparelu.train.sparsifier.summary import ParameterCount, describe_parameters, table_of
from sparelu.train.sparsifier.update_schedules import Update, UpdateSchedule


class Sparsifier(Optimizer):
    """Keeps ``model`` within a number of nonzeros while ``optimizer`` trains it.

    Exactly one of ``density`` (share of the prunable weights, or one for each by name or pattern), ``nonzeros`` (their
    number, met exactly) and ``masks`` (by name, as :attr:`masks` gives them) sets the budget. ``layers`` says which are
    pruned: names of modules, patterns of names, or a function of name and module; by default those of
    :data:`~sparelu.train.sparsifier.selection.KINDS`. ``exclude`` leaves some out, in the same words, and
    ``parameters`` adds those of any module by name; :meth:`summary` shows what has come of it. ``allocation`` spreads
    one density over the layers: "uniform", "er", "erk", "global", or a function. ``plan`` says when the support moves,
    ``rule`` how. All random choices come from a generator seeded with ``seed``. A support drawn at random has its
    weights scaled for the inputs that each unit has left (``fan_in`` "active"; "all" leaves them) unless the optimiser
    has trained them already.

    From its construction on every step of ``optimizer`` is one of the sparsifier: call ``optimizer.step()`` or
    :meth:`step`, with a closure, a GradScaler or a trainer. It can stand for the optimiser, so that schedulers take it.
    States are loaded in any order: until the first step :meth:`load_state_dict` gives back what construction changed.

    Laws: after construction and after every step, weights and every optimiser slot of their shape are exactly zero off
    the support; the number of active weights is the one the plan asks for. The same holds on every process of a
    DistributedDataParallel model: process 0 decides. Gradients are zero off the support after ``step``.

    On a CPU make Adam with ``fused=True``: with masks or without, its step then takes less than half the time.

    Raises ``ValueError`` for a budget that does not fit, a model that cannot be pruned, one that another sparsifier
    keeps, and an optimiser that does not hold the model's weights. Warns with :class:`LayerCollapseWarning` when a
    layer is left without weights, and with :class:`NoUpdateWarning` when the plan never moves the support.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        rule: UpdateRule,
        plan: UpdateSchedule,
        total_steps: int,
        density: float | Mapping[str, float] | None = None,
        nonzeros: int | None = None,
        masks: Mapping[str, Tensor] | None = None,
        layers: Choice | None = None,
        exclude: Choice = (),
        parameters: Names = (),
        allocation: str | Allocation = "erk",
        fan_in: str = "active",
        seed: int = 0,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        if fan_in not in ("active", "all"):
            raise ValueError(f"fan_in must be 'active' or 'all', got {fan_in!r}")
        self.parts = prunable_weights(model, layers, exclude, parameters)
        self.selection = WeightSelection(layers, exclude, parameters)
        self.model, self.optimizer = model, inner_optimizer(optimizer)
        self.rule, self.plan, self.total_steps = rule, plan, total_steps
        check_optimizer(self.parts, self.optimizer)
        self._modules = module_names(unwrapped(model))
        self._frozen = frozen_weights(unwrapped(model), self.selection)
        self.steps = self.updates = 0
        self.generator = seeded(seed)
        self._collapsed: set[str] = set()
        self._zeros = MaskEnforcement(self.parts.values())
        self._hooks = OptimizerHooks(self.optimizer, self)
        self._moves: list[Update] = []
        self._growth: Masks = {}
        self._first: FirstState | None = None
        self._forgets = False
        self.pools = self._pools(density, nonzeros, masks, allocation)
        self.attach()
        try:
            self._begin(masks, fan_in)
        except BaseException:
            self._let_go()
            raise

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the optimiser's."""
        share_scaler_state(self, self.optimizer)
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """Return the optimiser's."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the optimiser's."""
        return self.optimizer.defaults

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Answer a GradScaler before it steps: it divides the gradients by the scale itself."""
        share_scaler_state(self, self.optimizer)
        return False

    @property
    def masks(self) -> Masks:
        """Return copies of the masks by name."""
        return {n: p.mask for n, p in self.parts.items()}

    @property
    def active(self) -> int:
        """Count the weights of the support."""
        return sum(p.active for p in self.parts.values())

    @property
    def nonzeros(self) -> int:
        """Count the weights of the support and any others that are not zero: anew, so that it hides nothing."""
        return sum(p.count_nonzeros() for p in self.parts.values())

    @property
    def size(self) -> int:
        """Count the prunable weights, active or not."""
        return sum(p.weight.numel() for p in self.parts.values())

    @property
    def density(self) -> float:
        """Return nonzeros over prunable weights."""
        return self.nonzeros / self.size

    @property
    def explored(self) -> float:
        """Share of the prunable weights that have been active at some time (R_s of Liu et al., ITOP, 2021)."""
        return sum(int(p.explored.count_nonzero()) for p in self.parts.values()) / self.size

    def attach(self) -> None:
        """Make every step of the optimiser one of this sparsifier, as it is from construction on."""
        claim({n: p.weight for n, p in self.parts.items()}, self)
        self._hooks.attach()

    def detach(self) -> None:
        """Leave model and optimiser as they are now; nothing keeps the zeros any more.

        Warns when more weights are active than the budget has.
        """
        budget = sum(p.nonzeros for p in self.pools)
        if self.active > budget:
            warnings.warn(
                f"{self.active} weights are active and the budget is {budget}, since the plan has not ended: call "
                "finish() before",
                stacklevel=2,
            )
        self._let_go()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one training step, after ``loss.backward()``: the same as ``optimizer.step()``, which is called.

        Returns what it returns. An error leaves masks, weights and the count of steps as they were.
        """
        if not self._hooks.attached:
            raise RuntimeError("the sparsifier is detached from its optimizer: call attach() first")
        return self._hooks.step(closure)

    def finish(self) -> None:
        """Cut the support to the budget and let it rest from now on: for a training that ends before its plan does."""
        for part in self.parts.values():
            part.idle = part.weight.grad is None
        if self.rule.finish is not None:
            self.rule.finish()
        self._move([Update(p.nonzeros, 0) for p in self.pools], {})
        self.steps = max(self.steps, self.total_steps)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all that the optimiser holds."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Give the optimiser more to train; it stays dense."""
        self.optimizer.add_param_group(param_group)

    def before_step(self, optimizer: Optimizer) -> bool:
        """Begin a step of the optimiser (see :class:`~sparelu.train.sparsifier.optimizer_hooks.Stepped`)."""
        self._check()
        moves = self._planned()
        if moves or self.rule.observe is not None:
            moves = self._resting(moves)
            for part in self.parts.values():
                part.follow()
                part.check_gradient()
        if self.rule.observe is not None:
            for part in self.parts.values():
                self.rule.observe(part)
        self._moves, self._growth = moves, self._growth_scores(moves)
        self._first = None
        if self._forgets:
            self._forgets = False
            warnings.warn(
                "the model was as sparse as asked before, and another support was drawn at random, so that trained "
                "weights may be lost: load_state_dict() the sparsifier's state before the first step, or give masks",
                stacklevel=4,
            )
        if moves and self.rule.replaces_step:
            return True
        self._zeros.before_step(optimizer, alone=self._hooks.alone())
        return False

    def before_evaluation(self) -> None:
        """Clear the gradients of a further evaluation of a closure."""
        self._zeros.clear_gradients()

    def after_step(self, optimizer: Optimizer) -> None:
        """End a step of the optimiser."""
        moves, growth, self._growth = self._moves, self._growth, {}
        if not (moves and self.rule.replaces_step):
            self._zeros.after_step(optimizer)
        if moves:
            self._move(moves, growth)
            self._zeros.clear_gradients()
            self.updates += 1
        if self.rule.after is not None:
            self.rule.after(self.steps)
        self.steps += 1
        self._opt_called = True  # so that schedulers of this one know that the optimiser has stepped

    def recover(self, optimizer: Optimizer) -> None:
        """Take back what a step prepared that was interrupted."""
        self._zeros.recover()

    def summary(self) -> str:
        """Return a table of all parameters: how many are active, which are dense, and why."""
        return table_of(self.rows())

    def rows(self) -> list[ParameterCount]:
        """Return the lines of :meth:`summary` as values."""
        return list(describe_parameters(self.model, self.parts, self.selection))

    def numbers(self) -> dict[str, float]:
        """Return what to log of a training: densities, of all and of each weight, explored share, moves so far."""
        found = {"density": self.density, "explored": self.explored, "moves": float(self.updates)}
        return found | {f"density/{n}": p.active / p.weight.numel() for n, p in self.parts.items()}

    def __repr__(self) -> str:
        """Say what is sparse and what is not."""
        dense = sum(r.size for r in self.rows() if r.reason)
        state = "" if self._hooks.attached else ", detached"
        return (
            f"{type(self).__name__}({self.active:,} of {self.size:,} weights active in {len(self.parts)} layers, "
            f"budget {sum(p.nonzeros for p in self.pools):,}; {dense:,} other parameters dense; step "
            f"{self.steps:,} of {self.total_steps:,}{state})"
        )

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale all gradients so that their norm, dropped weights left out, is at most ``max_norm``; the norm before.

        Call it before :meth:`step` in place of ``torch.nn.utils.clip_grad_norm_``, which counts dropped weights too and
        so clips a sparse model far more than its steps call for. Gradients of dropped weights are scaled alike.
        """
        masks = {id(p.weight): p.mask for p in self.parts.values()}
        held = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        active = [p.grad * masks[id(p)] if id(p) in masks else p.grad for p in held]
        norm = torch.nn.utils.get_total_norm(active)
        torch.nn.utils.clip_grads_with_norm_(held, max_norm, norm)
        return norm

    def apply(self) -> None:
        """Set weights and optimiser slots to zero off the support, as after loading weights from elsewhere.

        :meth:`step` does it when it sees that somebody wrote to them. What is written through ``.data`` it sees some
        steps later, or not at all at a few places: call this then.
        """
        self._zeros.apply(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resume needs beside the states of model and optimiser: tensors and plain values only."""
        return {
            "method": type(self).__name__,
            "steps": self.steps,
            "updates": self.updates,
            "total_steps": self.total_steps,
            "nonzeros": [p.nonzeros for p in self.pools],
            "generator": self.generator.get_state(),
            "masks": self.masks,
            "visited": {n: p.explored.clone() for n, p in self.parts.items()},
            "memory": {n: {k: v.clone() for k, v in p.memory.items()} for n, p in self.parts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; the training that follows is the same bit for bit.

        The states of model and optimiser may be loaded before or after, and before or after this was made.

        Raises ``ValueError`` when the state is of another method, model, length or budget.
        """
        check_state(state, self.state_dict(), self.parts, [p.nonzeros for p in self.pools])
        if self._first is not None:
            self._first.restore()
            self._first = None
        self._forgets = False
        self.steps, self.updates = int(state["steps"]), int(state.get("updates", 0))
        self.generator.set_state(state["generator"].cpu())
        for name, part in self.parts.items():
            part.keep(state["masks"][name].to(part.weight.device))
            part.explored = state["visited"][name].to(part.weight.device, copy=True)
            part.memory = {k: v.to(part.weight.device, copy=True) for k, v in state["memory"][name].items()}
        self.apply()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the ``step`` that a scheduler has put in place of this one's."""
        return {k: v for k, v in self.__dict__.items() if k != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Keep the copied weights sparse where the first ones were kept so."""
        self.__dict__.update(state)
        if self._hooks.attached:
            claim({n: p.weight for n, p in self.parts.items()}, self)

    def _let_go(self) -> None:
        self._hooks.detach()
        release((p.weight for p in self.parts.values()), self)

    def _begin(self, masks: Mapping[str, Tensor] | None, fan_in: str) -> None:
        """Make the first support, and note what was there before."""
        parts = self.parts.values()
        first = self._first = FirstState(parts, self.optimizer)
        trained = any(self.optimizer.state.get(p.weight) for p in parts)
        drawn = masks is None and self.rule.start is None
        came = sum(int(p.weight.count_nonzero()) for p in parts)
        self._forgets = drawn and came <= sum(p.nonzeros for p in self.pools) < self.size
        self._commit(self._start() if masks is None else dict(masks))
        if drawn and fan_in == "active" and not trained:
            scale_to_active(parts)
            self.apply()
        first.settle()
        if self.rule.after is None:
            warn_of_no_update(self.plan, self.total_steps, self.pools)

    def _check(self) -> None:
        """Raise or warn when the model is not the one of the start."""
        model = unwrapped(self.model)
        check_model(self.parts, model)
        if sum(1 for _ in model.modules()) != len(self._modules):
            warn_of_new_layers(self._modules, model, self.selection)
            self._modules = module_names(model)
        if self._frozen:
            warn_of_unfrozen(self._frozen)

    def _pools(
        self,
        density: float | Mapping[str, float] | None,
        nonzeros: int | None,
        masks: Mapping[str, Tensor] | None,
        choice: str | Allocation,
    ) -> tuple[Pool, ...]:
        if isinstance(density, Mapping):
            if nonzeros is not None or masks is not None:
                raise ValueError("give exactly one of density, nonzeros and masks")
            return pools_by_name({n: tuple(p.weight.shape) for n, p in self.parts.items()}, density)
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
        start = self.rule.start or at_random
        scores = {n: start(p, self.generator) for n, p in self.parts.items()}
        allowed, chosen = self.masks, {}
        for pool in self.pools:
            chosen.update(pool.select(scores, allowed, self.plan.first(pool.nonzeros, pool.size)))
        return chosen

    def _planned(self) -> list[Update]:
        """Return one move for each pool, or none at all when the support stays."""
        if self.steps >= self.total_steps:
            return []
        moves = [self.plan.move(self.steps, self.total_steps, p.nonzeros, p.size) for p in self.pools]
        if all(m is None for m in moves):
            return []
        return [Update(p.nonzeros, 0) if m is None else m for m, p in zip(moves, self.pools, strict=True)]

    def _resting(self, moves: list[Update]) -> list[Update]:
        """Return the moves without exchanges in pools that hold an idle weight; none when nothing is left to do.

        What would be grown there would not train, and what is dropped would be lost for nothing.
        """
        used = any(p.weight.grad is not None for p in self.parts.values())
        for part in self.parts.values():
            part.idle = not part.weight.requires_grad or (used and part.weight.grad is None)
        rest, changes = [], False
        for pool, move in zip(self.pools, moves, strict=False):
            active = sum(self.parts[n].active for n in pool.names)
            idle = move.grow and any(self.parts[n].idle for n in pool.names)
            rest.append(Update(active, 0) if idle else move)
            changes |= rest[-1] != Update(active, 0)
        return rest if changes else []

    def _growth_scores(self, moves: list[Update]) -> Masks:
        """Compute the scores for growing, while the gradients are dense; none when nothing grows."""
        if not any(m.grow for m in moves):
            return {}
        with torch.no_grad():
            return {n: self.rule.grow(p, self.generator) for n, p in self.parts.items()}

    def _move(self, moves: list[Update], growth: Masks) -> None:
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
            if not part.active and name not in self._collapsed:
                self._collapsed.add(name)
                part.warn_of_collapse()
        self._zeros.moved(self.optimizer)
