"""The normal equations of a refit: a matrix while that is small, else products streamed over the rows.

With the columns Phi = (sign(w_j.x) + e_j) x_i / 2 of the support and x_i, a step moves output o by Phi m_o, where m_o
is linear in the step: V_jo dw_ji + w_ji dV_jo, and da_oi. So one Gram matrix Phi'Phi gives the equations of all
outputs; the affine parts are eliminated, output by output. The largest output weight of a hinge is held, which sets its
scale.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.cholesky import cholesky, factor
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import CONVERGED, MEMORY, ROUNDING

PART = 256
"""Rows of a Gram matrix computed at a time: those above the diagonal are left out."""
ITERATIONS = 60
"""Conjugate gradient iterations of a step."""


@dataclass(frozen=True, eq=False)
class Gradient:
    """J'r of a model: ``weight`` (k, inputs), ``outputs`` (k, outs), ``affine`` (outs, inputs), and ``mse`` (outs,).

    Outputs count with ``precision`` 1 / mse_o of an earlier point, which maximises the likelihood under noise of
    unknown size in each.
    """

    model: ReluModel
    weight: Float[Tensor, "k inputs"]
    outputs: Float[Tensor, "k outs"]
    affine: Float[Tensor, "outs inputs"]
    mse: Float[Tensor, " outs"]
    precision: Float[Tensor, " outs"]
    rows: int

    @property
    def noise(self) -> Float[Tensor, " outs"]:
        """Return ``mse``, not below what rounding leaves."""
        return self.mse.clamp_min(ROUNDING)

    @property
    def level(self) -> float:
        """Sum of log mse_o, down to where no weight is off by a standard error: t^2 <= n mse / ROUNDING."""
        return float(self.mse.clamp_min(ROUNDING / self.rows).log().sum())

    @property
    def met(self) -> bool:
        """Tell whether every output is met to rounding."""
        return bool((self.mse < ROUNDING / self.rows).all())

    def left_of(self, before: "Gradient") -> float:
        """Return the squared error, outputs weighed as ``before``, as a share of that there."""
        return float(before.precision @ self.mse) / max(float(before.precision @ before.mse), ROUNDING**2)


def gates(model: ReluModel, x: Float[Tensor, "b inputs"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return the derivative (sign(z) + e) / 2 of every hinge on a block of rows, and its value (|z| + e z) / 2."""
    z = x @ model.weight.T.to(x)
    gate = z.sign().add_(model.orientation.to(x)).mul_(0.5)
    return gate, z.mul_(gate)


def gradient(model: ReluModel, sample: Sample, precision: Float[Tensor, " outs"]) -> Gradient:
    """Return J'r over all places, zeros of the support included, in one pass over the rows."""
    weight, outputs, affine = (torch.zeros_like(t) for t in (model.weight, model.outputs, model.affine))
    squares, weighed = torch.zeros_like(precision), model.outputs * precision
    for x, y in sample.blocks():
        gate, value = gates(model, x)
        r = y - x @ model.affine.T - value @ model.outputs
        weight.addmm_(gate.mul_(r @ weighed.T).T, x)
        outputs.addmm_(value.T, r)
        affine.addmm_(r.T, x)
        squares += r.square().sum(0)
    return Gradient(
        model, weight, outputs * precision, affine * precision[:, None], squares / sample.n, precision, sample.n
    )


def errors(model: ReluModel, sample: Sample) -> Float[Tensor, " outs"]:
    """Return the mean squared error of every output."""
    squares = torch.zeros_like(model.affine[:, 0])
    for x, y in sample.blocks():
        squares += (y - model(x)).square().sum(0)
    return squares / sample.n


def gram(model: ReluModel, support: Support, sample: Sample) -> Float[Tensor, "c c"]:
    """Return Phi'Phi in float64.

    Two hinges at a small angle t have columns that differ by a relative mean square of order t: float32 loses them.
    """
    size = int(support.weight.sum()) + sample.inputs
    total = model.affine.new_zeros(size, size)
    for x, _ in sample.blocks():
        columns = support.columns(gates(model, x)[0].T.contiguous(), x)
        for start in range(0, size, PART):
            part = slice(start, start + PART)
            total[part, : start + PART].addmm_(columns[part], columns[: start + PART].T)
    return total.tril() + total.tril(-1).T


@dataclass(frozen=True, eq=False)
class Variances:
    """Variance of every number of the support, 0 elsewhere and where a scale is held."""

    weight: Float[Tensor, "k inputs"]
    outputs: Float[Tensor, "k outs"]
    affine: Float[Tensor, "outs inputs"]


class NormalEquations(ABC):
    """J'J of a support, as far as a refit and its tests need it."""

    support: Support
    slack: ClassVar[float] = 1.0
    """How many times too large a squared t by :meth:`variances` may be: drops up to there are tried and measured."""

    @abstractmethod
    def solve(self, slope: Gradient, damping: float) -> tuple[ReluModel, float, float]:
        """Return the model after (J'J + damping diag)^-1 J'r, the share of the error it promises to take, the damping.

        Damping is raised where rounding asks for it.
        """

    @abstractmethod
    def variances(self, slope: Gradient) -> Variances:
        """Return the variances of all numbers at a point."""

    @abstractmethod
    def outside(self, slope: Gradient) -> Float[Tensor, "k outs"]:
        """Return the sum of squares of every hinge outside the span of the hinges and inputs that an output reads."""

    @abstractmethod
    def frame(self) -> tuple[Support, Float[Tensor, "f f"]]:
        """Return columns that a new one is judged beside, and the Cholesky factor of their Gram matrix."""

    @abstractmethod
    def restrict(self, support: Support, hinges: Bool[Tensor, " k"]) -> "NormalEquations | None":
        """Return the equations of a smaller support on some of the ``hinges``, without a look at the rows, if held."""


def normal_equations(model: ReluModel, support: Support, sample: Sample) -> NormalEquations:
    """Return equations that are held up to ``MEMORY``, streamed beyond."""
    if 8 * (int(support.weight.sum()) + sample.inputs) ** 2 <= MEMORY:
        return HeldEquations(support, gram(model, support, sample))
    return StreamedEquations.of(model, support, sample)


def free_outputs(model: ReluModel, support: Support) -> Bool[Tensor, "k outs"]:
    """Return the output weights that a step moves: all but the largest of every hinge."""
    held = torch.zeros_like(support.outputs)
    if len(model):
        held.scatter_(1, model.outputs.abs().argmax(1, keepdim=True), True)
    return support.outputs & ~held


@dataclass(frozen=True, eq=False)
class HeldEquations(NormalEquations):
    """The matrix itself: memory (p + inputs)^2."""

    support: Support
    base: Float[Tensor, "c c"]
    _eliminated: dict[bytes, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def eliminate(self, o: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return Phi'Phi (p, p) outside the affine columns of output ``o``, their factor, their products with Phi."""
        live = self.support.affine[o]
        key = live.cpu().numpy().tobytes()
        if key not in self._eliminated:
            p = len(self.support.places[0])
            places = live.nonzero()[:, 0] + p
            root, cross = factor(self.base[places][:, places]), self.base[places][:, :p]
            self._eliminated[key] = self.base[:p, :p] - cross.T @ torch.cholesky_solve(cross, root), root, cross
        return self._eliminated[key]

    def solve(self, slope: Gradient, damping: float) -> tuple[ReluModel, float, float]:
        return _System(self, slope).solve(damping)

    def variances(self, slope: Gradient) -> Variances:
        return _System(self, replace(slope, precision=1 / slope.noise)).variances()

    def outside(self, slope: Gradient) -> Tensor:
        lift, found = lift_outputs(slope.model, self.support), torch.zeros_like(slope.outputs)
        for o in range(found.shape[1]):
            live = self.support.outputs[:, o]
            inner = lift.T @ self.eliminate(o)[0] @ lift
            power = inner.diagonal().clone()
            if bool(live.any()):
                part = torch.linalg.lstsq(inner[live][:, live], inner[live]).solution
                power -= (inner[live] * part).sum(0)
            found[:, o] = torch.where(power > 1e-6 * inner.diagonal(), power, torch.inf)
        return found

    def frame(self) -> tuple[Support, Tensor]:
        return self.support, factor(self.base)

    def restrict(self, support: Support, hinges: Tensor) -> "HeldEquations | None":
        mask = torch.zeros_like(self.support.weight)
        mask[hinges] = support.weight
        kept = mask[self.support.places]
        places = torch.cat([kept, kept.new_ones(len(self.base) - len(kept))]).nonzero()[:, 0]
        return HeldEquations(support, self.base[places][:, places])


def lift_outputs(model: ReluModel, support: Support) -> Float[Tensor, "p k"]:
    """Return the matrix that takes a change of output weights to coefficients of Phi: w_ji at (ji, j)."""
    hinge, column = support.places
    lift = model.weight.new_zeros(len(hinge), len(model))
    lift[torch.arange(len(hinge), device=lift.device), hinge] = model.weight[hinge, column]
    return lift


class _System:
    """The equations of the weights, then of the free output weights output by output; affine parts eliminated."""

    def __init__(self, held: HeldEquations, slope: Gradient) -> None:
        self.held, self.slope, support, model = held, slope, held.support, slope.model
        self.places = support.places
        self.along = model.outputs[self.places[0]]
        self.free = free_outputs(model, support)
        self.lift = lift_outputs(model, support)
        ends = torch.tensor([len(self.along), *self.free.sum(0).tolist()]).cumsum(0).tolist()
        self.at = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.matrix, self.vector = self.along.new_zeros(ends[-1], ends[-1]), self.along.new_zeros(ends[-1])
        self.power = torch.zeros_like(self.vector)
        self.vector[self.at[0]] = slope.weight[self.places]
        self.taken = 0.0
        for o in range(self.free.shape[1]):
            self._add(o)
        self.matrix = self.matrix.tril() + self.matrix.tril(-1).T

    def _add(self, o: int) -> None:
        inner, root, cross = self.held.eliminate(o)
        weight, along, free = float(self.slope.precision[o]), self.along[:, o], self.free[:, o]
        affine = self.slope.affine[o, self.held.support.affine[o]]
        solved = torch.cholesky_solve(affine[:, None], root)[:, 0]
        self.taken += float(affine @ solved) / weight
        carried, lift = cross.T @ solved, self.lift[:, free]
        w, v, turned, base = self.at[0], self.at[o + 1], inner @ lift, self.held.base[: len(along), : len(along)]
        self.power[w] += weight * along.square() * base.diagonal()
        self.power[v] = weight * (lift * (base @ lift)).sum(0)
        self.matrix[w, w] += weight * along[:, None] * inner * along
        self.vector[w] -= along * carried
        self.matrix[v, w] = weight * turned.T * along
        self.matrix[v, v] = weight * lift.T @ turned
        self.vector[v] = self.slope.outputs[free, o] - lift.T @ carried

    def scale(self) -> tuple[Tensor, Tensor]:
        """Return the matrix in units of the sums of squares of its columns, and their square roots.

        Of the whole columns: one that is affine on the rows is nothing but rounding once the affine part is eliminated.
        """
        size = torch.where(self.power > 0, self.power, 1.0).sqrt()
        return self.matrix / size / size[:, None], size

    def solve(self, damping: float) -> tuple[ReluModel, float, float]:
        step = self.vector
        if len(step):
            matrix, size = self.scale()
            root, raised = cholesky(matrix + damping * torch.eye(len(matrix)).to(matrix), 0.0)
            damping = max(damping, raised)
            step = torch.cholesky_solve((step / size)[:, None], root)[:, 0] / size
        model, support = self.slope.model, self.held.support
        weight, outputs, affine = model.weight.clone(), model.outputs.clone(), model.affine.clone()
        dw = step[self.at[0]]
        weight[self.places] += dw
        for o in range(outputs.shape[1]):
            free, live = self.free[:, o], support.affine[o]
            _, corner, cross = self.held.eliminate(o)
            outputs[free, o] += step[self.at[o + 1]]
            change = self.along[:, o] * dw + self.lift[:, free] @ step[self.at[o + 1]]
            rest = self.slope.affine[o, live] / self.slope.precision[o] - cross @ change
            affine[o, live] += torch.cholesky_solve(rest[:, None], corner)[:, 0]
        total = self.slope.rows * float(self.slope.precision @ self.slope.mse)
        promise = (float(self.vector @ step) + self.taken) / max(total, 1e-300)
        return replace(model, weight=weight, outputs=outputs, affine=affine), promise, damping

    def covariance(self) -> Float[Tensor, "t t"]:
        """Return that of the weights and the free output weights."""
        if len(self.matrix) == 0:
            return self.matrix
        matrix, size = self.scale()
        return torch.cholesky_inverse(factor(matrix)) / size / size[:, None]

    def variances(self) -> Variances:
        covariance, model = self.covariance(), self.slope.model
        weight, outputs, affine = (torch.zeros_like(t) for t in (model.weight, model.outputs, model.affine))
        weight[self.places] = covariance.diagonal()[self.at[0]]
        for o in range(outputs.shape[1]):
            free, live, v = self.free[:, o], self.held.support.affine[o], self.at[o + 1]
            outputs[free, o] = covariance.diagonal()[v]
            _, root, cross = self.held.eliminate(o)
            # a_o = A^-1 (x'y - C m_o): its own noise and that of the weights.
            carried = torch.cholesky_solve(torch.cat([cross * self.along[:, o], cross @ self.lift[:, free]], 1), root)
            both = torch.cat([torch.arange(self.at[0].stop), torch.arange(v.start, v.stop)]).to(live.device)
            own = torch.cholesky_inverse(root).diagonal() / self.slope.precision[o]
            affine[o, live] = own + ((carried @ covariance[both][:, both]) * carried).sum(1)
        return Variances(weight, outputs, affine)


@dataclass(frozen=True, eq=False)
class StreamedEquations(NormalEquations):
    """Products with J'J, a pass over the rows each: memory linear in p, and the (inputs, inputs) moments of the rows.

    Sign gates square to 1, so the columns of one hinge are correlated as their inputs are, and two hinges are nearly
    orthogonal unless their hyperplanes are close. Variances take each hinge and each output weight by itself, as if the
    others were orthogonal, and new columns are judged beside the affine ones alone.
    """

    support: Support
    sample: Sample
    moments: Float[Tensor, "inputs inputs"]
    gated: Float[Tensor, "k inputs"]
    values: Float[Tensor, " k"]
    slack = 100.0

    @classmethod
    def of(cls, model: ReluModel, support: Support, sample: Sample) -> "StreamedEquations":
        """Return those of one pass: moments of the rows, and the sums of squares of all columns."""
        moments, gated = torch.zeros(sample.inputs, sample.inputs).to(model.affine), torch.zeros_like(model.weight)
        values, sums = torch.zeros_like(model.orientation), torch.zeros_like(model.orientation)
        for x, _ in sample.blocks():
            gate, value = gates(model, x)
            moments.addmm_(x.T, x)
            gated.addmm_(gate.square_().T, x.square())
            values += value.square().sum(0)
            sums += value.sum(0)
        return cls(support, sample, moments, gated.clamp_min(1e-300), values - sums.square() / sample.n)

    def _masks(self, model: ReluModel) -> tuple[Tensor, Tensor, Tensor]:
        return self.support.weight, free_outputs(model, self.support), self.support.affine

    def _flat(self, masks: tuple[Tensor, Tensor, Tensor], weight: Tensor, outputs: Tensor, affine: Tensor) -> Tensor:
        return torch.cat([t[mask] for t, mask in zip((weight, outputs, affine), masks, strict=True)])

    def solve(self, slope: Gradient, damping: float) -> tuple[ReluModel, float, float]:
        """Solve by conjugate gradients, products in float32."""
        model, masks = slope.model, self._masks(slope.model)
        strength = (model.outputs.square() @ slope.precision)[:, None]
        power = self.moments.diagonal() * slope.precision[:, None]
        diagonal = self._flat(masks, self.gated * strength, self.values[:, None] * slope.precision, power)
        diagonal = diagonal.clamp_min(1e-300)
        target = self._flat(masks, slope.weight, slope.outputs, slope.affine)
        step, r = torch.zeros_like(target), target.clone()
        z = r / diagonal
        direction, product = z, float(r @ z)
        enough = CONVERGED**2 * product
        for _ in range(ITERATIONS):
            if product <= enough:
                break
            image = self._product(slope, masks, direction) + damping * diagonal * direction
            size = product / float(direction @ image)
            step += size * direction
            r -= size * image
            z = r / diagonal
            before, product = product, float(r @ z)
            direction = z + (product / before) * direction
        moved = [t.clone() for t in (model.weight, model.outputs, model.affine)]
        for t, mask, part in zip(moved, masks, step.split([int(m.sum()) for m in masks]), strict=True):
            t[mask] += part
        total = slope.rows * float(slope.precision @ slope.mse)
        found = replace(model, weight=moved[0], outputs=moved[1], affine=moved[2])
        return found, float(target @ step) / max(total, 1e-300), damping

    def _product(self, slope: Gradient, masks: tuple[Tensor, Tensor, Tensor], vector: Tensor) -> Tensor:
        """Return J'J vector."""
        model, precision = slope.model, slope.precision.float()
        parts = [torch.zeros_like(t) for t in (model.weight, model.outputs, model.affine)]
        for t, mask, part in zip(parts, masks, vector.split([int(m.sum()) for m in masks]), strict=True):
            t[mask] = part
        weight, outputs, affine = (t.float() for t in parts)
        to_weight, to_outputs, to_affine = (torch.zeros_like(t) for t in (weight, outputs, affine))
        read = model.outputs.float()
        for x, _ in self.sample.blocks(dtype=torch.float32):
            gate, value = gates(model, x)
            image = ((gate * (x @ weight.T)) @ read + value @ outputs + x @ affine.T) * precision
            to_weight.addmm_(gate.mul_(image @ read.T).T, x)
            to_outputs.addmm_(value.T, image)
            to_affine.addmm_(image.T, x)
        return self._flat(masks, to_weight, to_outputs, to_affine).to(vector)

    def variances(self, slope: Gradient) -> Variances:
        model, precision = slope.model, 1 / slope.noise
        weight, outputs, affine = (torch.zeros_like(t) for t in (model.weight, model.outputs, model.affine))
        strength = model.outputs.square() @ precision
        size = self.moments.diagonal().clamp_min(1e-300).sqrt()
        for j, column in self._groups():
            scale = (self.gated[j, column] * strength[j]).sqrt() / size[column]
            own = self.moments[column][:, column] * scale * scale[:, None]
            weight[j, column] = torch.cholesky_inverse(factor(own)).diagonal()
        free = free_outputs(model, self.support)
        outputs[free] = (1 / (self.values[:, None] * precision).clamp_min(1e-300))[free]
        for o in range(len(precision)):
            column = self.support.affine[o].nonzero()[:, 0]
            root = factor(self.moments[column][:, column])
            affine[o, column] = torch.cholesky_inverse(root).diagonal() / precision[o]
        return Variances(weight, outputs, affine)

    def outside(self, slope: Gradient) -> Tensor:
        return self.values[:, None].expand_as(slope.outputs).clamp_min(1e-300)

    def frame(self) -> tuple[Support, Tensor]:
        none = torch.zeros_like(self.support.weight)
        return replace(self.support, weight=none), factor(self.moments)

    def restrict(self, support: Support, hinges: Tensor) -> None:
        return None

    def _groups(self) -> Iterator[tuple[int, Tensor]]:
        """Yield every hinge with the inputs it reads."""
        for j in range(len(self.support.weight)):
            (column,) = self.support.weight[j].nonzero(as_tuple=True)
            yield j, column
