"""Which weight to add next: inputs of every neuron, and new neurons of one input, by what their columns explain."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.recover.cholesky import factor
from sparelu.recover.exact.model.hinges import at_a_time
from sparelu.recover.pursuit.neurons import SignedNeurons, TrainingRows, system

LOOKED_AT, PER_PLACE = 200, 3
"""Columns compared exactly in one growth, at least, and for each weight to add."""
SMALLEST = 1e-12
"""Mean square of a hinge, relative to the largest, that is rounding."""
SMALL = 1e-3
"""Size of an added weight, relative to what its column alone would ask for: the refit finds the rest."""
NEW = 1e-12
"""Share of a column that must be outside the span of those present."""


@dataclass(frozen=True, eq=False)
class Hinges:
    """New neurons of one input, (turn_h x_i + shift_hi)_+ for each row h of ``shift`` (k, d) and each input i.

    The first is active above a centre of its input, the second below it; with biases a third is active on all rows.
    """

    turn: Float[Tensor, " k"]
    shift: Float[Tensor, "k d"]

    @classmethod
    def of(cls, rows: TrainingRows) -> "Hinges":
        """Put hinges around the mean of every input, or without biases around 0."""
        inputs = rows.x[:, :-1]
        if not rows.biases:
            return cls(inputs.new_tensor([1.0, -1.0]), inputs.new_zeros(2, inputs.shape[1]))
        mean = inputs.mean(0)
        return cls(inputs.new_tensor([1.0, -1.0, 1.0]), torch.stack([-mean, mean, -inputs.amin(0)]))

    def __len__(self) -> int:
        return self.turn.numel()

    def sums(
        self, rows: TrainingRows, left: Tensor, curvature: Tensor
    ) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d"]]:
        """Compute c.r and c'Dc of all columns c; those below follow from those above by (t)_+ - (-t)_+ = t."""
        slope, power = torch.zeros_like(self.shift), torch.zeros_like(self.shift)
        size = at_a_time(left.device)
        for part in range(0, len(left), size):
            block = slice(part, part + size)
            above = (rows.x[block, :-1] + self.shift[0]).clamp_min(0)
            slope[0] += left[block] @ above
            power[0] += curvature[block] @ above.square()
        first, second = ((v @ rows.x)[:-1] for v in (left, curvature))
        squares = (curvature @ rows.squares)[:-1]
        for kind, shift in ((1, self.shift[0]), (2, self.shift[-1])):
            if kind < len(self):
                slope[kind] = first + shift * left.sum()
                power[kind] = squares + 2 * shift * second + shift.square() * curvature.sum()
        slope[1], power[1] = slope[0] - slope[1], power[1] - power[0]
        return slope, power.clamp_min(0)


def grown(net: SignedNeurons, rows: TrainingRows, count: int, width: int) -> SignedNeurons:
    """Give ``net`` ``count`` more weights, at most ``width`` neurons; fewer where no further column explains anything.

    A column c explains (c.r)^2 / 2 c'Dc of the loss when fitted alone, r being minus the slope and D the curvature of
    the loss in every row. The best of all by that measure are compared after the columns present are regressed out, and
    chosen one after another: orthogonal least squares (Chen, Billings and Luo 1989).
    """
    hinges = Hinges.of(rows) if len(net) < width else None
    chosen, sizes = _best(net, rows, hinges, count)
    weight, sign, d = net.weight.clone(), net.sign, net.weight.shape[1] - 1
    fresh = 0
    for place, size in zip(chosen.tolist(), sizes.tolist(), strict=True):
        kind, i = divmod(place, d)
        if kind < len(net):
            weight[kind, i] = SMALL * size
        elif hinges is not None and len(sign) < width:
            fresh += 1
            neuron = weight.new_zeros(1, d + 1)
            neuron[0, i], neuron[0, d] = hinges.turn[kind - len(net)], hinges.shift[kind - len(net), i]
            sign = torch.cat([sign, sign.new_tensor([1.0 if size > 0 else -1.0])])
            weight = torch.cat([weight, abs(size) * neuron])
    return replace(net, sign=sign, weight=weight)


def _best(
    net: SignedNeurons, rows: TrainingRows, hinges: Hinges | None, count: int
) -> tuple[Int[Tensor, " q"], Tensor]:
    """Choose the places, kind * d + input, of the columns to add, and their coefficients."""
    value, left, curvature = rows.loss(net(rows.x), rows.y)
    shrink = len(left) * rows.shrinkage[:-1]
    gain = _alone(net, rows, hinges, left, curvature, shrink)
    many = min(max(LOOKED_AT, PER_PLACE * count), int((gain > 0).sum()))
    place = gain.topk(many).indices
    root = curvature.sqrt()
    column = _columns(net, rows, hinges, place) * root[:, None]
    before = column.square().sum(0)
    left = left / root
    present = system(net, rows)
    if present.columns.shape[1]:
        inside = present.columns * root[:, None]
        both = torch.cat([column, left[:, None]], dim=1)
        both = both - inside @ torch.cholesky_solve(inside.T @ both / len(left), factor(present.hessian))
        column, left = both[:, :-1], both[:, -1]
    return _one_by_one(place, column, left, before, shrink[place % len(shrink)], count)


def _alone(
    net: SignedNeurons, rows: TrainingRows, hinges: Hinges | None, left: Tensor, curvature: Tensor, shrink: Tensor
) -> Float[Tensor, " c"]:
    """Compute what each column explains when fitted alone, neurons first, then hinges; 0 for weights that are there."""
    gates = net.gates(rows.x)
    slope = (gates * left[:, None]).T @ rows.x
    power = (gates.square() * curvature[:, None]).T @ rows.squares
    slope, power = (t[:, :-1] for t in (slope, power))
    slope = torch.where(net.weight[:, :-1] == 0, slope, 0.0)
    parts = [_explained(slope, power + shrink)]
    if hinges is not None:
        slope, power = hinges.sums(rows, left, curvature)
        parts.append(_explained(slope, torch.where(power > SMALLEST * power.amax(), power + shrink, 0.0)))
    return torch.cat(parts).flatten()


def _explained(slope: Tensor, power: Tensor) -> Tensor:
    return torch.where(power > 0, slope.square() / power, 0.0)


def _columns(net: SignedNeurons, rows: TrainingRows, hinges: Hinges | None, place: Tensor) -> Float[Tensor, "n c"]:
    """Compute the columns at ``place``."""
    d = net.weight.shape[1] - 1
    kind, i = place // d, place % d
    gates = net.gates(rows.x)
    ones = gates.new_ones(len(gates), 0 if hinges is None else len(hinges))
    column = torch.cat([gates, ones], dim=1)[:, kind] * rows.x[:, i]
    if hinges is not None:
        new = kind >= len(net)
        which = kind[new] - len(net)
        column[:, new] = (hinges.turn[which] * column[:, new] + hinges.shift[which, i[new]]).clamp_min(0)
    return column


def _one_by_one(
    place: Tensor, column: Tensor, left: Tensor, before: Tensor, shrink: Tensor, count: int
) -> tuple[Int[Tensor, " q"], Tensor]:
    """Choose the columns that explain most, each given those before it, and their coefficients."""
    chosen, sizes = [], []
    for _ in range(min(count, len(place))):
        power = column.square().sum(0)
        inner = left @ column
        gain = torch.where(power > NEW * before, inner.square() / (power + shrink).clamp_min(1e-300), 0.0)
        k = int(gain.argmax())
        if float(gain[k]) <= 0:
            break
        chosen.append(k)
        sizes.append(float(inner[k] / (power[k] + shrink[k])))
        unit = column[:, k] / power[k].sqrt()
        left = left - unit * (unit @ left)
        column = column - torch.outer(unit, unit @ column)
        before[k] = torch.inf
    return place[torch.tensor(chosen, dtype=torch.int64, device=place.device)], torch.tensor(sizes)
