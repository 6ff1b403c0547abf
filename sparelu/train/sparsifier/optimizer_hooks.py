"""What makes every step of an optimiser a step of the sparsifier, whoever calls it and in whatever loop."""

import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer


@runtime_checkable
class Stepped(Protocol):
    """What is called around a step; the gradients are those of the step, unscaled."""

    def before_step(self, optimizer: Optimizer) -> bool:
        """Prepare the step, once its gradients are there; whether the optimiser shall leave the weights alone."""

    def before_evaluation(self) -> None:
        """Prepare a further evaluation of the closure in the same step."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Finish the step."""

    def recover(self, optimizer: Optimizer) -> None:
        """Take back what ``before_step`` prepared for a step that was interrupted."""


class OptimizerHooks:
    """Calls ``owner`` around every step of ``optimizer``; with a closure, after its first evaluation.

    A step that the owner wants left out is taken without gradients, which every optimiser of torch leaves weights and
    slots alone for. Nothing happens at a step that a GradScaler leaves out.

    Raises ``ValueError`` for an optimiser that is hooked already, or whose steps cannot be seen.
    """

    def __init__(self, optimizer: Optimizer, owner: Stepped) -> None:
        self.optimizer, self.owner = optimizer, owner
        self._handles: list[Any] = []
        self._own = False
        self._begun = self._pending = self._skipped = False
        self._hidden: list[tuple[Tensor, Tensor]] = []
        self._spent: tuple[Tensor, Tensor, int, bool] | None = None

    @property
    def attached(self) -> bool:
        """Tell whether the steps of the optimiser are seen."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put the hooks in place."""
        if self._handles:
            return
        if not getattr(type(self.optimizer).step, "hooked", False):
            raise ValueError(
                f"the steps of {type(self.optimizer).__name__} cannot be seen, since torch has no hooks on them: give "
                "the torch.optim.Optimizer that it wraps"
            )
        for hook in self.optimizer._optimizer_step_pre_hooks.values():
            other = getattr(hook, "__self__", None)
            if isinstance(other, OptimizerHooks):
                raise ValueError(
                    f"the optimizer is attached to another sparsifier ({type(other.owner).__name__}): call its "
                    "detach() first, or make one optimizer for each sparsifier"
                )
        self._handles = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]

    def detach(self) -> None:
        """Take the hooks off."""
        self.recover()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def step(self, closure: Callable[[], Any] | None) -> Any:
        """Take a step of the optimiser, asked for through the sparsifier."""
        self._own = True
        try:
            return self.optimizer.step() if closure is None else self.optimizer.step(closure)
        finally:
            self._own = False
            self.recover()

    def recover(self) -> None:
        """Bring back what an interrupted step left hidden."""
        if self._pending:
            self._pending = False
            self._reveal()
            self.owner.recover(self.optimizer)

    def alone(self) -> bool:
        """Tell whether nobody else has hooks that run between those of the owner."""
        optimizer = self.optimizer
        last = list(optimizer._optimizer_step_pre_hooks.values())[-1:]
        return last == [self._before] and len(optimizer._optimizer_step_post_hooks) == 1

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the hooks, which torch copies with no optimiser, and what belongs to a step under way."""
        return {**self.__dict__, "_handles": [], "_spent": None, "_hidden": [], "attached": self.attached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach to the copied optimiser where the first was attached."""
        attached = state.pop("attached")
        self.__dict__.update(state)
        if attached:
            self.attach()

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.recover()
        self._begun = False
        hooks = optimizer._optimizer_step_post_hooks
        hooks[self._handles[1].id] = hooks.pop(self._handles[1].id)  # ours has the last word
        if _is_left_out(optimizer):
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._refuse_second_call()
            _unscale(optimizer)
            self._begin()
            return None

        def evaluate() -> Any:
            with torch.enable_grad():
                loss = closure()
            if self._begun:
                self.owner.before_evaluation()
                self._hide()
            else:
                self._begin()
            return loss

        return (args[0], evaluate, *args[2:]), {k: v for k, v in kwargs.items() if k != "closure"}

    def _begin(self) -> None:
        self._skipped = self.owner.before_step(self.optimizer)
        self._begun = self._pending = True
        self._hide()

    def _hide(self) -> None:
        """Put the gradients away from an optimiser that shall do nothing."""
        if self._skipped:
            held = [p for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
            self._hidden = [(p, p.grad) for p in held]
            for p in held:
                p.grad = None

    def _reveal(self) -> None:
        for parameter, gradient in self._hidden:
            parameter.grad = gradient
        self._hidden = []

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._begun:
            return
        self._begun = self._pending = False
        self._reveal()
        self.owner.after_step(optimizer)
        held = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        least = min(held, key=lambda p: p.grad.numel(), default=None)
        self._spent = None if least is None else (least, least.grad, least.grad._version, self._own)

    def _refuse_second_call(self) -> None:
        """Raise ``RuntimeError`` for ``optimizer.step()`` and ``sparsifier.step()`` on the same gradients.

        They are told by the smallest gradient of the last step: the same tensor, not written to since, or none left.
        """
        if self._spent is None or self._spent[3] == self._own:
            return
        parameter, gradient, version, _ = self._spent
        if parameter.grad is not gradient or gradient._version != version:
            groups = self.optimizer.param_groups
            if any(p.grad is not None for g in groups for p in g["params"]):
                return
        raise RuntimeError(
            "this step has been taken already: the sparsifier is attached to the optimizer, so that optimizer.step() "
            "and sparsifier.step() are the same. Call one of the two after each backward pass"
        )


_HOLDERS: "WeakValueDictionary[int, Any]" = WeakValueDictionary()
"""What keeps a weight sparse, by the weight's identity."""


def claim(weights: Mapping[str, Tensor], owner: Any) -> None:
    """Note that ``owner`` keeps the ``weights`` sparse. Raises ``ValueError`` for one that another owner keeps."""
    if any(_holder(w) not in (None, owner) for w in weights.values()):
        gc.collect()  # the last one's optimiser and hooks hold each other
    for name, weight in weights.items():
        other = _holder(weight)
        if other not in (None, owner):
            raise ValueError(
                f"{name} is attached to another sparsifier already ({type(other).__name__}): call its detach() first, "
                "or choose other layers"
            )
    _HOLDERS.update({id(w): owner for w in weights.values()})


def release(weights: Iterable[Tensor], owner: Any) -> None:
    """Take back a :func:`claim`."""
    for weight in weights:
        if _holder(weight) is owner:
            del _HOLDERS[id(weight)]


def _holder(weight: Tensor) -> Any:
    """Find the one that keeps this very weight; identities of weights that are gone may come again."""
    other = _HOLDERS.get(id(weight))
    return other if other is not None and any(p.weight is weight for p in other.parts.values()) else None


def _is_left_out(optimizer: Optimizer) -> bool:
    """Tell whether a GradScaler found an infinite gradient and leaves it to the (fused) optimiser to do nothing."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _unscale(optimizer: Optimizer) -> None:
    """Divide by the scale that a GradScaler leaves to a fused optimiser, so that scores see the gradient itself."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.div_(scale.to(p.grad.device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]


NEAR = 12
"""Frames between a GradScaler and what it asks for, at most: properties, and decorators of three frames each."""


def share_scaler_state(sparsifier: Any, optimizer: Optimizer) -> None:
    """Let a GradScaler that asks something of ``sparsifier`` hold both for one optimiser.

    It remembers by identity whether gradients were divided by the scale, and would divide again those of an optimiser
    that it knows under a second name. Raises ``RuntimeError``, as torch does, when ``unscale_`` is called twice.
    """
    frame, near = sys._getframe(1), 0
    while frame.f_back is not None and near < NEAR and not isinstance(frame.f_locals.get("self"), GradScaler):
        frame, near = frame.f_back, near + 1
    scaler = frame.f_locals.get("self")
    if not isinstance(scaler, GradScaler):
        return
    states = scaler._per_optimizer_states
    mine, theirs = states[id(sparsifier)], states[id(optimizer)]
    if mine is theirs:
        return
    if theirs["stage"] is not OptState.READY:
        if frame.f_code.co_name != "step":
            raise RuntimeError("unscale_() or step() has already been called on this optimizer since the last update()")
        mine.update(theirs)
    states[id(optimizer)] = mine
