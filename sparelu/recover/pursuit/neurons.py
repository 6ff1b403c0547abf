"""ReLU neurons fitted on a support, for squared and logistic loss: what pursuit grows and prunes.

f(x) = c + sum_j v_j (w_j.x)_+ with v_j = +-1, the scale of the output weight being in w_j. The last column of x is
the constant one, so its weight is the bias; without biases it is 0, and c too. Where the gates 1[w_j.x > 0] stay, f is
linear in its weights, with the columns v_j 1[w_j.x > 0] x_i: Gauss-Newton steps on them fit the weights, and what a
further weight would explain is read off its column.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.networks.network import Layer, Network
from sparelu.recover.cholesky import cholesky, factor
from sparelu.recover.levenberg_marquardt import levenberg_marquardt

Loss = Callable[[Tensor, Tensor], tuple[float, Tensor, Tensor]]
"""Outputs z (n,) and targets (n,) to the mean loss, minus its slope in every z, and its curvature in every z."""

TINY = 1e-9
"""A curvature that is taken for none; a logistic loss has it where the probability is as near to 0 or 1."""


def squared_derivatives(z: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor]:
    """Compute half the squared error, minus its slope, and its curvature."""
    gap = y - z
    return 0.5 * float(gap.square().mean()), gap, torch.ones_like(gap)


def logistic_derivatives(z: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor]:
    """Compute the cross-entropy in nats of labels y in {0, 1}, z the logit of 1, minus its slope, and its curvature."""
    share = torch.sigmoid(z)
    loss = torch.nn.functional.softplus(z) - y * z
    return float(loss.mean()), y - share, (share * (1 - share)).clamp_min(TINY)


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Inputs ``x`` (n, d + 1), targets ``y`` (n,), and the objective.

    ``shrinkage`` s adds the sum of s_i w_ji^2 / 2, biases left out. ``squares`` are those of x.
    """

    x: Float[Tensor, "n inputs"]
    y: Float[Tensor, " n"]
    loss: Loss
    biases: bool
    shrinkage: Float[Tensor, " inputs"]
    squares: Float[Tensor, "n inputs"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], loss: Loss, biases: bool, ridge: float
    ) -> "TrainingRows":
        """Take inputs without the constant column; weights shrink by ``ridge`` times the mean square of their input."""
        last = torch.full((len(x), 1), float(biases)).to(x)
        whole = torch.cat([x, last], dim=1)
        squares = whole.square()
        shrinkage = ridge * squares.mean(0)
        shrinkage[-1] = 0.0
        return cls(whole, y, loss, biases, shrinkage, squares)


@dataclass(frozen=True, eq=False)
class SignedNeurons:
    """Output signs ``sign`` (m,), weights ``weight`` (m, d + 1), and the output bias ``constant`` (1,)."""

    sign: Float[Tensor, " m"]
    weight: Float[Tensor, "m inputs"]
    constant: Float[Tensor, "1"]

    def __len__(self) -> int:
        return self.sign.numel()

    @property
    def nonzeros(self) -> int:
        """Count the weights on inputs; biases are not counted."""
        return int(torch.count_nonzero(self.weight[:, :-1]))

    def before(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n m"]:
        """Compute w_j.x, from the inputs that are read."""
        read = (self.weight != 0).any(0).nonzero()[:, 0]
        return x[:, read] @ self.weight[:, read].T

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, " n"]:
        """Compute the function, for rows with their last column."""
        return self.before(x).clamp_min(0) @ self.sign + self.constant

    def gates(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n m"]:
        """Return v_j where a neuron is active, else 0."""
        return (self.before(x) > 0).to(x) * self.sign

    def places(self, biases: bool) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """Return neurons and inputs of the weights that are fitted: the nonzero ones, and if asked every bias."""
        support = self.weight != 0
        support[:, -1] = biases
        j, i = support.nonzero(as_tuple=True)
        return j, i

    def with_values(self, places: tuple[Tensor, Tensor], value: Float[Tensor, " p"]) -> "SignedNeurons":
        """Put other weights at ``places``."""
        weight = self.weight.clone()
        weight[places] = value
        return replace(self, weight=weight)

    def live(self) -> "SignedNeurons":
        """Drop neurons that read no input: they are constants, and go into the output's."""
        keep = (self.weight[:, :-1] != 0).any(1)
        lost = self.weight[~keep, -1].clamp_min(0) @ self.sign[~keep]
        return SignedNeurons(self.sign[keep], self.weight[keep], self.constant + lost)

    def network(self, width: int, scale: float) -> Network:
        """Return the network of ``width`` neurons, its output multiplied by ``scale``."""
        weight = self.weight.cpu() * scale
        row, column = weight[:, :-1].nonzero(as_tuple=True)
        lives = torch.arange(len(self))
        hidden = Layer.from_triplets(
            (width, weight.shape[1] - 1), row, column, weight[row, column], weight[:, -1], lives
        )
        constant = self.constant.cpu() * scale
        output = Layer.from_triplets((1, width), torch.zeros_like(lives), lives, self.sign.cpu(), constant)
        return Network((hidden, output))


@dataclass(frozen=True, eq=False)
class System:
    """The linear problem of one step: ``columns`` (n, p), curvatures, what is left of every row, and the Hessian."""

    net: SignedNeurons
    places: tuple[Tensor, Tensor]
    columns: Float[Tensor, "n p"]
    left: Float[Tensor, " n"]
    curvature: Float[Tensor, " n"]
    hessian: Float[Tensor, "p p"]
    slope: Float[Tensor, " p"]
    value: float


def system(net: SignedNeurons, rows: TrainingRows) -> System:
    """Build the Gauss-Newton system of the weights at their places, and with biases of the output bias, last."""
    places = net.places(rows.biases)
    value, left, curvature = rows.loss(net(rows.x), rows.y)
    columns = net.gates(rows.x)[:, places[0]] * rows.x[:, places[1]]
    weight, ridge = net.weight[places], rows.shrinkage[places[1]]
    value += 0.5 * float(ridge @ weight.square())
    if rows.biases:
        columns = torch.cat([columns, torch.ones_like(left)[:, None]], dim=1)
        weight, ridge = (torch.cat([v, v.new_zeros(1)]) for v in (weight, ridge))
    n = len(left)
    hessian = (columns * curvature[:, None]).T @ columns / n + torch.diag(ridge)
    slope = columns.T @ left / n - ridge * weight
    return System(net, places, columns, left, curvature, hessian, slope, value)


def objective(net: SignedNeurons, rows: TrainingRows) -> float:
    """Compute the mean loss and ridge."""
    ridge = 0.5 * float((rows.shrinkage * net.weight.square()).sum())
    return rows.loss(net(rows.x), rows.y)[0] + ridge


@dataclass(frozen=True, eq=False)
class _Point:
    """Neurons with their objective; ``least`` is what rounding leaves of it."""

    net: SignedNeurons
    value: float
    least: float

    @property
    def level(self) -> float:
        """Return the log of the objective."""
        return math.log(max(self.value, 1e-300))

    @property
    def met(self) -> bool:
        """Tell whether nothing is left to explain."""
        return self.value <= self.least

    def left_of(self, before: "_Point") -> float:
        """Return the objective as a share of that at ``before``."""
        return self.value / before.value


@dataclass(frozen=True, eq=False)
class _Problem:
    """The weights of a support on some rows (:class:`~sparelu.recover.levenberg_marquardt.Problem`)."""

    rows: TrainingRows

    def equations(self, point: _Point) -> System:
        return system(point.net, self.rows)

    def solve(self, point: _Point, equations: System, damping: float) -> tuple[SignedNeurons, float, float]:
        found = equations if equations.net is point.net else system(point.net, self.rows)
        root, damping = cholesky(found.hessian, damping)
        step = torch.cholesky_solve(found.slope[:, None], root)[:, 0]
        weights = len(found.places[0])
        moved = point.net.with_values(found.places, point.net.weight[found.places] + step[:weights])
        if self.rows.biases:
            moved = replace(moved, constant=point.net.constant + step[weights:])
        return moved, 0.5 * float(found.slope @ step) / point.value, damping

    def evaluate(self, numbers: SignedNeurons, before: _Point) -> _Point:
        return replace(before, net=numbers, value=objective(numbers, self.rows))


def refit_neurons(
    net: SignedNeurons, rows: TrainingRows, steps: int, enough: float, least: float
) -> tuple[SignedNeurons, float]:
    """Return Levenberg-Marquardt on the support, until a step gains less than ``enough`` or the loss is ``least``."""
    start = _Point(net, objective(net, rows), least)
    if start.met:
        return net, start.value
    point, _ = levenberg_marquardt(_Problem(rows), start, steps=steps, enough=enough)
    return point.net, point.value


def saliency(
    net: SignedNeurons, rows: TrainingRows
) -> tuple[SignedNeurons, tuple[Tensor, Tensor], Float[Tensor, " p"]]:
    """Compute what dropping each weight and refitting costs to second order, w_i^2 / 2 (H^-1)_ii; inf for biases.

    Hassibi and Stork (1993), optimal brain surgeon.
    """
    found = system(net, rows)
    j, i = found.places
    inverse = torch.cholesky_inverse(factor(found.hessian)).diagonal()[: len(j)]
    cost = net.weight[j, i].square() / (2 * inverse)
    cost[i == net.weight.shape[1] - 1] = torch.inf
    return net, (j, i), cost
