"""Chase: dynamic sparse training that lets whole channels go, those that it has made weak itself.

Yin et al., Dynamic sparsity is channel-level sparsity learner, 2023 (arXiv 2305.19454), after the authors' code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparelu.train.channels.channel_groups import ChannelGroup, Place, channel_groups, channel_rows
from sparelu.train.channels.remove import remove_channels
from sparelu.train.sparsifier.decay import cosine, cubic
from sparelu.train.sparsifier.layer_densities import Pool
from sparelu.train.sparsifier.prunable import PrunableWeight, process_group, unwrapped
from sparelu.train.sparsifier.scores import by_gradient, by_magnitude
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier, UpdateRule
from sparelu.train.sparsifier.update_schedules import Update, UpdateSchedule

ChannelScore = Callable[[Tensor, Tensor], Tensor]
"""Weights and masks (channels, weights of each) to a number for each channel; the lowest go first."""

REMOVED = "removed"
"""Name in the memory of a part: True where a weight belongs to a removed channel."""


def umm(weights: Tensor, masks: Tensor) -> Tensor:
    """Compute the unmasked mean magnitude: the mean of |w| over all weights of a channel, dropped ones counted as 0."""
    return weights.abs().mean(1)


def mmm(weights: Tensor, masks: Tensor) -> Tensor:
    """Compute the masked mean magnitude: the mean of |w| over the active weights of a channel, 0 without any."""
    return weights.abs().sum(1) / masks.sum(1).clamp(min=1)


@dataclass(frozen=True)
class SoftBound(UpdateSchedule):
    """Every ``every`` steps: up to the share ``until`` of the training cut to the budget, then grow beyond it.

    Weights beyond the budget are the share ``excess`` / 2 (1 + cos(pi t / T)) of all weights, T the end of that time;
    they train until the next visit. Afterwards visits drop the share f(t) of the budget and grow to the budget, f along
    half a cosine from ``fraction`` to ``last`` over the whole training. The defaults are the authors' for CIFAR-10.

    The last visit never grows beyond the budget here, however long ``every`` is.
    """

    every: int = 1000
    excess: float = 0.05
    until: float = 130 / 160
    fraction: float = 0.5
    last: float = 0.005

    def __post_init__(self) -> None:
        shares = 0 <= self.excess <= 1 and 0 <= self.last <= self.fraction <= 1 and 0 < self.until <= 1
        if self.every < 1 or not shares:
            raise ValueError(
                f"{self} needs every >= 1, 0 <= excess <= 1, 0 <= last <= fraction <= 1 and 0 < until <= 1"
            )

    def first(self, nonzeros: int, size: int) -> int:
        """Return all of the budget."""
        return nonzeros

    def move(self, step: int, total: int, nonzeros: int, size: int) -> Update | None:
        """Cut and grow beyond the budget, or drop and grow to it."""
        if step == 0 or step % self.every:
            return None
        end = int(self.until * total)
        if step < end and step + self.every < total:
            beyond = int(cosine(step / end, self.excess, 0.0) * size)
            return Update(nonzeros, min(beyond, size - nonzeros))
        drop = math.ceil(cosine(step / total, self.fraction, self.last) * nonzeros)
        return Update(nonzeros - drop, drop)


@dataclass(frozen=True)
class Removal:
    """When channels go: every ``every`` steps, half-way between two visits of weights, up to the share ``until``.

    The share that has gone rises from 0 to the one asked for by the cubic law of Zhu and Gupta, 2017. A layer keeps at
    least the share ``floor`` of what an even removal would leave it, and one channel. The defaults are the authors' for
    ResNet-50 on CIFAR-10; for VGG-19 they take ``every=8000, floor=0.2``.

    There is one more removal at the end of the time itself, so that the final number is exact.
    """

    every: int = 1000
    until: float = 130 / 160
    floor: float = 0.5

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.until <= 1 or not 0 <= self.floor <= 1:
            raise ValueError(f"{self} needs every >= 1, 0 < until <= 1 and 0 <= floor <= 1")

    def left(self, step: int, total: int, channels: int, sparsity: float, offset: int) -> int | None:
        """Count what is left of ``channels`` after the removal at ``step`` of ``total``; None when none goes then."""
        end = self.end(total)
        if step > end or ((step + offset) % self.every and step != end):
            return None
        return round(channels * (1 - cubic(step / end if end else 1.0, 0.0, sparsity)))

    def end(self, total: int) -> int:
        """Return the step of the last removal."""
        return min(int(self.until * total), total - 1)

    def least(self, width: int, sparsity: float) -> int:
        """Return how many channels a layer of ``width`` keeps at least, one apart."""
        return int(width * (1 - sparsity) * self.floor)


SOFT_BOUND, REMOVAL = SoftBound(), Removal()


def by_open_gradient(part: PrunableWeight, generator: torch.Generator) -> Tensor:
    """Score by |dL/dw|, and minus infinity in removed channels."""
    return by_gradient(part, generator).masked_fill(part.memory[REMOVED], -math.inf)


class Chase(Sparsifier):
    """Drop by magnitude and grow by the dense gradient over all layers together, remove the weakest channels.

    ``channel_sparsity`` is the share of the channels that go, over all layers that can lose some: those whose channels
    are not the model's output and, without ``residual``, are no residual sum (the paper's "prune skip" has it). A
    channel of a residual sum goes in all the layers that add to it at once, and counts as one. ``score`` ranks them.
    With a channel go its filters, biases, the normalisation's weights and all weights that read it, for good. The
    budget stays: fewer weights live until the next visit, which grows them elsewhere, as long as there is room.
    :meth:`shrink` then makes the smaller model.

    Layers begin with the numbers of ``allocation`` (exact, where the authors draw each weight) and share one budget
    from the first visit on. A weight dropped and grown in one visit starts again at 0. Ties go to the earlier weight or
    channel, while the authors draw. They leave the normalisation of removed channels to itself.

    Raises ``ValueError`` like :class:`Sparsifier`, and when the graph cannot be traced, no layer can lose a channel, or
    one would have to lose all.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        total_steps: int,
        channel_sparsity: float = 0.4,
        plan: SoftBound = SOFT_BOUND,
        removal: Removal = REMOVAL,
        residual: bool = False,
        score: ChannelScore = umm,
        **choices: Unpack[Choices],
    ) -> None:
        if not 0 <= channel_sparsity < 1:
            raise ValueError(f"channel_sparsity must be from 0 to below 1, got {channel_sparsity}")
        rule = UpdateRule(by_magnitude, by_open_gradient, restarts=True, after=self._remove, finish=self._remove_all)
        super().__init__(model, optimizer, rule=rule, plan=plan, total_steps=total_steps, **choices)
        self.channel_sparsity, self.removal, self.score = channel_sparsity, removal, score
        self.offset = plan.every // 2
        self.pools = (Pool(tuple(self.parts), sum(p.nonzeros for p in self.pools), self.size),)
        for part in self.parts.values():
            part.memory[REMOVED] = torch.zeros_like(part.mask)
        self.streams = self._thinned(residual) if channel_sparsity else {}
        self._check_floors()

    @property
    def removed(self) -> dict[str, Tensor]:
        """Mark, for each layer that can lose channels, by name, those that have gone: bool (channels,)."""
        return {n: self._rows(s.writers[0]).all(1) for n, s in self.streams.items()}

    def shrink(self, model: nn.Module | None = None) -> nn.Module:
        """Copy the model without the removed channels; the copy computes the same.

        ``model`` is this sparsifier's, or another of the same form whose weights of removed channels are 0 as well,
        such as an average. The authors then recompute the statistics of batch normalisations over the training rows:
        ``torch.optim.swa_utils.update_bn``. Raises ``ValueError`` when ``model`` still reads a removed channel.
        """
        return remove_channels(self.model if model is None else model, self.removed)

    def _thinned(self, residual: bool) -> dict[str, ChannelGroup]:
        held = {n.removesuffix(".weight") for n in self.parts}
        chosen, kept = {}, []
        for name, stream in channel_groups(self.model).items():
            others = [p.module for p in (*stream.writers, *stream.readers) if p.module not in held]
            reason = stream.kept or (f"{others[0]} is not pruned" if others else "")
            if not reason and stream.joined and not residual:
                reason = "it is part of a residual sum (residual=True lets its channels go)"
            if reason:
                kept.append(f"{name}: {reason}")
            else:
                chosen[name] = stream
        if not chosen:
            reasons = "; ".join(kept[:3]) or "torch.fx finds no layer in the forward pass"
            raise ValueError(f"no layer can lose a channel: {reasons}. Ask for channel_sparsity=0")
        return chosen

    def _check_floors(self) -> None:
        channels = sum(s.width for s in self.streams.values())
        floors = {n: self.removal.least(s.width, self.channel_sparsity) for n, s in self.streams.items()}
        if sum(max(1, f) for f in floors.values()) > round(channels * (1 - self.channel_sparsity)):
            empty = next(n for n, f in floors.items() if not f)
            raise ValueError(
                f"{empty} would lose all its {self.streams[empty].width} channels: ask for less than "
                f"channel_sparsity={self.channel_sparsity}, or leave the layer out with `layers`"
            )

    def _remove(self, step: int) -> None:
        """Carry out the removal of this step: marks, zeros, and the masks without what has gone."""
        channels = sum(s.width for s in self.streams.values())
        left = self.removal.left(step, self.total_steps, channels, self.channel_sparsity, self.offset)
        if left is None or not self.streams:
            return
        group = process_group(self.model)
        for name, gone in self._weakest(left).items():
            if group is not None:
                gone = _of_first_process(gone, group)
            stream = self.streams[name]
            for place in (*stream.writers, *stream.readers):
                marks = self._part(place).memory[REMOVED].movedim(place.axis, 0)
                marks[gone.repeat_interleave(place.block).to(marks.device)] = True
            self._silence(stream, gone)
        self._commit({n: p.mask & ~p.memory[REMOVED] for n, p in self.parts.items()})

    def _remove_all(self) -> None:
        """Remove at once what is still to be removed."""
        end = self.removal.end(self.total_steps)
        if self.steps <= end:
            self._remove(end)

    def _weakest(self, left: int) -> dict[str, Tensor]:
        """Choose each group's channels to remove so that ``left`` stay: lowest scores, no layer below its floor."""
        removed = {n: r.cpu() for n, r in self.removed.items()}
        alive = {n: int((~r).sum()) for n, r in removed.items()}
        floors = {n: max(1, self.removal.least(s.width, self.channel_sparsity)) for n, s in self.streams.items()}
        ranked = sorted(
            (score, position, name, channel)
            for position, (name, stream) in enumerate(self.streams.items())
            for channel, score in enumerate(self._scores(name, stream))
            if not removed[name][channel]
        )
        gone = {n: torch.zeros_like(r) for n, r in removed.items()}
        excess = sum(alive.values()) - left
        for _, _, name, channel in ranked:
            if excess > 0 and alive[name] > floors[name]:
                gone[name][channel] = True
                alive[name] -= 1
                excess -= 1
        return gone

    def _scores(self, name: str, stream: ChannelGroup) -> list[float]:
        """Score each channel, from all filters that write it."""
        weights = torch.cat([channel_rows(p, self._part(p).weight.detach()) for p in stream.writers], 1)
        masks = torch.cat([channel_rows(p, self._part(p).mask) for p in stream.writers], 1)
        scores = self.score(weights, masks)
        if not bool(torch.isfinite(scores).all()):
            raise ValueError(f"the weights of {name} are not finite: channels cannot be ranked; lower the step size")
        return scores.tolist()

    def _silence(self, stream: ChannelGroup, gone: Tensor) -> None:
        """Zero what a channel has of its own beside filters, in module and optimiser: biases and normalisations.

        No gradient reaches them any more, so that they stay there.
        """
        model = unwrapped(self.model)
        for places, keys in ((stream.writers, ("bias",)), (stream.norms, ("weight", "bias"))):
            for place in places:
                index = gone.repeat_interleave(place.block).nonzero()[:, 0]
                held = model.get_submodule(place.module)._parameters
                for parameter in (p for k in keys if (p := held.get(k)) is not None):
                    slots = [s for s in self.optimizer.state.get(parameter, {}).values() if isinstance(s, Tensor)]
                    for tensor in (parameter.detach(), *(s for s in slots if s.shape == parameter.shape)):
                        tensor.index_fill_(0, index.to(tensor.device), 0)

    def _part(self, place: Place) -> PrunableWeight:
        return self.parts[f"{place.module}.weight"]

    def _rows(self, place: Place) -> Tensor:
        return channel_rows(place, self._part(place).memory[REMOVED])


def _of_first_process(marks: Tensor, group: Any) -> Tensor:
    shared = marks.to(torch.uint8)
    torch.distributed.broadcast(shared, group=group, group_src=0)
    return shared.bool()
