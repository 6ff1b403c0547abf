"""Dynamic sparse training of layers that hold only their nonzeros: drop by magnitude, grow by gradient or at random."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparelu.nn.largest_gradients import BLOCK, largest_gradients
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.support import random_free_places
from sparelu.topk import largest
from sparelu.train.sparsifier.prunable import seeded
from sparelu.train.sparsifier.update_schedules import Exploration, Update, UpdateSchedule

RIGL_PLAN = Exploration()


class SparseGrowth:
    """RigL or SET on every :class:`SparseLinear` of ``model``; call :meth:`step` in place of ``optimizer.step()``.

    With ``grow`` "gradient" a step at which the support moves takes no step of the optimiser, as in RigL (Evci et al.,
    2020); with "random" it moves after the step, as in SET (Mocanu et al., 2018). Each layer keeps its own number of
    weights, at times more where the ``plan`` says so. A weight dropped and grown at once keeps value and slots; new
    ones are 0. It is what :class:`~sparelu.train.dynamic.RigL` does to a dense layer with masks, without its memory:
    the gradient of all places is formed ``block`` entries at a time, from the inputs of the layer and the
    gradients of its outputs in the backward passes since the last step, which are kept at such steps only. The work of
    that one step is at most that of a dense gradient (see :func:`~sparelu.nn.largest_gradients.largest_gradients`).

    One process; the supports are in the model's ``state_dict``, the rest in this one's.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        total_steps: int,
        plan: UpdateSchedule = RIGL_PLAN,
        grow: str = "gradient",
        block: int = BLOCK,
        seed: int = 0,
    ) -> None:
        self.layers = {n: m for n, m in model.named_modules() if isinstance(m, SparseLinear)}
        if not self.layers:
            raise ValueError("the model has no SparseLinear: make one, or convert the model with to_sparse()")
        if grow not in ("gradient", "random"):
            raise ValueError(f"grow must be 'gradient' or 'random', got {grow!r}")
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, layer in self.layers.items():
            if id(layer.values) not in held:
                raise ValueError(f"the optimizer does not hold {name}.values: make it from this model's parameters")
        self.optimizer, self.plan, self.total_steps = optimizer, plan, total_steps
        self.grow, self.block = grow, block
        self.generator = seeded(seed)
        self.budgets = {n: layer.nonzeros for n, layer in self.layers.items()}
        self.steps = 0
        self._listen()

    def step(self) -> None:
        """Take one training step, after ``loss.backward()``. An error leaves the supports as they were."""
        moves = self._moves()
        if not (moves and self.grow == "gradient"):
            self.optimizer.step()
        chosen = {n: self._chosen(n, move) for n, move in moves.items()}
        for name, places in chosen.items():
            self._move(self.layers[name], places)
        self.steps += 1
        self._listen()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs beside the states of model and optimiser."""
        return {
            "grow": self.grow,
            "steps": self.steps,
            "total_steps": self.total_steps,
            "budgets": dict(self.budgets),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`, once model and optimiser have theirs.

        Raises ``ValueError`` when it is of another model, rule or length.
        """
        if state["budgets"].keys() != self.budgets.keys():
            raise ValueError("the state is of a model with other sparse layers")
        if (state["grow"], state["total_steps"]) != (self.grow, self.total_steps):
            raise ValueError(
                f"the state grows by {state['grow']} over {state['total_steps']} steps: make this one alike"
            )
        self.steps, self.budgets = int(state["steps"]), dict(state["budgets"])
        self.generator.set_state(state["generator"].cpu())
        self._listen()

    def _moves(self) -> dict[str, Update]:
        found = {
            n: self.plan.move(self.steps, self.total_steps, self.budgets[n], layer.in_features * layer.out_features)
            for n, layer in self.layers.items()
        }
        return {n: m for n, m in found.items() if m is not None}

    def _listen(self) -> None:
        """Let the layers keep inputs and gradients of their outputs where the coming step grows by them."""
        moves = self._moves() if self.grow == "gradient" else {}
        for name, layer in self.layers.items():
            layer.passes = [] if name in moves else None

    def _chosen(self, name: str, move: Update) -> Tensor:
        layer = self.layers[name]
        places = layer.places
        best = largest(layer.values.detach().abs(), min(move.keep, layer.nonzeros))
        kept = places.index_select(0, best)
        if not move.grow:
            return kept
        size = layer.in_features * layer.out_features
        if self.grow == "random":
            grown = random_free_places(size, move.grow, kept.cpu(), self.generator).to(kept.device)
        else:
            if not layer.passes:
                raise ValueError(f"{name} has seen no backward pass since the last step: call step() after one")
            x, g = (torch.cat(parts) for parts in zip(*layer.passes, strict=True))
            grown, _ = largest_gradients(x, g, move.grow, kept, self.block)
        return torch.cat([kept, grown]).sort().values

    def _move(self, layer: SparseLinear, places: Tensor) -> None:
        """Put the support in place with the values and optimiser slots that its weights have, 0 for new ones."""
        old = layer.places
        where = torch.searchsorted(old, places).clamp_(max=len(old) - 1)
        lived = old.index_select(0, where) == places

        def carried(entries: Tensor) -> Tensor:
            return entries.index_select(0, where).mul_(lived)

        state = self.optimizer.state.get(layer.values, {})
        shape = layer.values.shape
        slots = {k: carried(s) for k, s in state.items() if isinstance(s, Tensor) and s.shape == shape}
        layer.set_support(places, carried(layer.values.detach()))
        state.update(slots)
