"""A step of any optimiser after which weights and slots are exactly zero off the support, at little cost."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparelu.train.sparsifier.prunable import PrunableWeight

ZERO_KEEPING: frozenset[type[Optimizer]] = frozenset(
    {
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
    }
)
"""Optimisers that leave a weight at 0 and its slots at 0 where its gradient is 0 (with an ``eps`` above 0).

With these only the gradient is cleared at each step; with others, weights and slots are cleared as well, which costs
more. Adamax and Rprop are not here, since their slots do not stay at 0.
"""

ROOTED: frozenset[str] = frozenset({"exp_avg_sq", "square_avg", "sum"})
"""Slots of mean or summed squares, which these optimisers take the root of."""

LOOK = 16
"""Steps between two looks for writes that torch does not count: a look takes about 4% of a small model's step."""

Mark = tuple[int, int, int]
"""A tensor's identity, its address, and how often it was written to."""


class MaskEnforcement:
    """Keeps ``parts`` and the slots that an optimiser has for them at zero where their masks are False."""

    def __init__(self, parts: Iterable[PrunableWeight]) -> None:
        self.parts = tuple(parts)
        self._seen: list[Mark] = []
        self._steps = 0
        self._untouched = False
        self._lifted: list[tuple[PrunableWeight, list[Tensor]]] = []

    def apply(self, optimizer: Optimizer) -> None:
        """Set weights and slots to zero off the support."""
        for part in self.parts:
            part.follow()
            part.clear([part.weight, *part.slots(optimizer)])
        self._seen = self._marks(optimizer)

    def moved(self, optimizer: Optimizer) -> None:
        """Call after the mask changed: zero what ``optimizer`` keeps outside the new mask.

        The curvature that L-BFGS has gathered is one of all weights together and has no place by place zeros: it starts
        anew.
        """
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.state.clear()
        self.apply(optimizer)

    def before_step(self, optimizer: Optimizer, *, alone: bool) -> None:
        """Prepare a step of the optimiser, whose gradients are there: nothing of a dropped weight may move.

        Weights and slots are cleared after the step unless they are known to be zero. They are when the optimiser is of
        :data:`ZERO_KEEPING` and ``alone``, without hooks of others, and since the last step nobody wrote to them and
        none was added: torch counts the writes to each tensor. Those through ``.data`` it does not count; unless they
        are few they show at a sample of places, at every :data:`LOOK`-th step.
        """
        trusted = alone and _keeps_zeros(optimizer)
        self._untouched = trusted and self._marks(optimizer) == self._seen
        self._steps += 1
        if self._untouched and self._steps % LOOK == 0:
            self._untouched = not any(p.stray() for p in self.parts)
        self._lifted = self._lift(optimizer) if trusted else []
        self.clear_gradients()

    def after_step(self, optimizer: Optimizer) -> None:
        """Clear what :meth:`before_step` could not see to."""
        self.recover()
        marks = self._marks(optimizer)
        if self._untouched and [m[0] for m in marks] == [m[0] for m in self._seen]:
            self._seen = marks
        else:
            self.apply(optimizer)

    def recover(self) -> None:
        """Put zeros where :meth:`before_step` put ones."""
        for part, slots in self._lifted:
            part.clear(slots)
        self._lifted = []

    def _lift(self, optimizer: Optimizer) -> list[tuple[PrunableWeight, list[Tensor]]]:
        """Put ones in place of the zeros off the support in slots of which the step takes square roots; those slots.

        The root that torch calls on a CPU takes six times as long for zeros. With a gradient of 0 a weight of 0 moves
        by 0 over that root, so that what the slot holds there, until it is cleared after the step, changes nothing.
        """
        fused = {id(p) for g in optimizer.param_groups if g.get("fused") for p in g["params"]}
        lifted = []
        for part in self.parts:
            state = optimizer.state.get(part.weight, {})
            if part.weight.device.type != "cpu" or ROOTED.isdisjoint(state) or id(part.weight) in fused:
                continue
            slots = [state[name] for name in ROOTED & state.keys()]
            part.lift(slots)
            lifted.append((part, slots + [s for n, s in state.items() if n.startswith("max_")]))
        return lifted

    def clear_gradients(self) -> None:
        """Zero the gradients of dropped weights, which must not reach what an optimiser adds up over a whole tensor."""
        for part in self.parts:
            gradient = part.weight.grad
            if gradient is not None:
                if gradient.layout == torch.strided and 0 in gradient.stride():  # one number in several places
                    part.weight.grad = gradient = gradient.clone()
                part.follow()
                part.clear([gradient])

    def _marks(self, optimizer: Optimizer) -> list[Mark]:
        """Mark the version of each weight and of all tensors that the optimiser has for it."""
        found = []
        for part in self.parts:
            held = [t for t in optimizer.state.get(part.weight, {}).values() if isinstance(t, Tensor)]
            found += [(id(t), t.data_ptr(), t._version) for t in (part.weight, *held)]
        return found


def _keeps_zeros(optimizer: Optimizer) -> bool:
    return type(optimizer) in ZERO_KEEPING and all(g.get("eps", 1) > 0 for g in optimizer.param_groups)
