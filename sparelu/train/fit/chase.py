"""Chase as a Fitter: what comes back has lost whole channels of its convolutions, and whole hidden units."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sparelu.data import Budget, Data
from sparelu.method import setting
from sparelu.networks.network import Network
from sparelu.train.channels.chase import Chase, Removal, SoftBound
from sparelu.train.fit.sparsifier_methods import RandomStart
from sparelu.train.fit.training import allowance
from sparelu.train.sparsifier.sparsifier import Choices, Sparsifier

VISITS = 20
"""Moves of the support at least: what a removal of channels takes away must be grown elsewhere before the end."""


@dataclass(frozen=True)
class ChaseTraining(RandomStart):
    """Weights move over all layers together while the weakest channels and hidden units go (Chase).

    The network that comes back is without them: a module of it is smaller, not only sparser.
    """

    name: ClassVar[str] = "chase"
    question: ClassVar[str] = "train"
    paper: ClassVar[str] = "Yin et al., Dynamic sparsity is channel-level sparsity learner, 2023"

    channel_sparsity: float = setting(0.4, "share of the channels and hidden units that go", low=0, below=1)
    every: int = setting(
        100, "minibatches between two moves of the support, at most a twentieth of the training", low=1
    )
    excess: float = setting(0.05, "share of all weights that first grows beyond the budget", low=0, high=1)
    until: float = setting(130 / 160, "share of the training in which channels go", above=0, high=1)
    least_channels: float = setting(
        0.5, "share of what an even removal would leave of a layer that is kept at least", low=0, high=1
    )

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """What every training refuses, counts of products, and layers too narrow to lose units."""
        reason = super().refuses(data, budget)
        if reason is not None or not self.channel_sparsity:
            return reason
        if len(budget.hidden) == 1 and data.outputs == 1 and not budget.channels:
            return (
                "with one hidden layer and one output, products of weights are counted, and no unit is removed by "
                "itself: give two hidden widths, or channel_sparsity 0"
            )
        most = allowance(data, budget)
        widths = (*budget.channels, *(min(width, most) for width in budget.hidden))
        removal = Removal(until=self.until, floor=self.least_channels)
        least = [max(1, removal.least(width, self.channel_sparsity)) for width in widths]
        if sum(least) > round(sum(widths) * (1 - self.channel_sparsity)):
            return (
                f"a share of {self.channel_sparsity:g} of {widths} channels and units cannot go while each layer keeps "
                "one: lower channel_sparsity, or widen `hidden` or `channels`"
            )
        return None

    def engine(self, module: nn.Module, optimizer: torch.optim.Optimizer, total: int, choices: Choices) -> Sparsifier:
        """See :class:`~sparelu.train.channels.chase.Chase`."""
        every = min(self.every, max(1, total // VISITS))
        plan = SoftBound(every=every, excess=self.excess, until=self.until)
        share, removal = self.channel_sparsity, Removal(every=every, until=self.until, floor=self.least_channels)
        return Chase(
            module, optimizer, total_steps=total, channel_sparsity=share, plan=plan, removal=removal, **choices
        )

    def finished(self, network: Network) -> Network:
        """Without the channels and units that are gone."""
        return network.compact()
