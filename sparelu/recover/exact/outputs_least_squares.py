"""Several outputs at once: Levenberg-Marquardt for shared directions, the output weights and every affine part.

f_o(x) = a_o.x + sum_j V_jo (|w_j.x| + e_j w_j.x) / 2. Let Phi be the columns (sign(w_j.x) + e_j) x_i / 2 of the support
and x_i: to first order a step moves output o by Phi m_o with m_o linear in the step, dw_ji V_jo + w_ji dV_jo and da_oi.
So one Gram matrix Phi'Phi, that of a single output, gives the normal equations of all; the affine parts are eliminated,
output by output. An output counts with weight 1 / mse_o, which maximises the likelihood under noise of unknown size
in every output. Of a kink the weight of largest size stays as it is: (c w_j, V_j / c) is the same function.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparelu.recover.cholesky import cholesky, factor
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.least_squares import ROUNDING
from sparelu.recover.exact.normal_equations import Support, gram
from sparelu.recover.exact.relu_model import Found


@dataclass(frozen=True, eq=False)
class Places:
    """What may be nonzero: ``weight`` (k, d + 1), ``outputs`` (k, outs), ``affine`` (outs, d + 1)."""

    weight: Bool[Tensor, "k inputs"]
    outputs: Bool[Tensor, "k outs"]
    affine: Bool[Tensor, "outs inputs"]

    @property
    def size(self) -> int:
        """Weights, biases and output weights."""
        return int(self.weight.sum() + self.outputs.sum())

    @classmethod
    def of(cls, found: Found) -> "Places":
        """The nonzeros of ``found``, and all of the affine part."""
        return cls(found.weight != 0, found.outputs != 0, torch.ones_like(found.affine, dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class Joint:
    """A fit of outputs of unit variance: errors ``mse`` (outs,), Gram matrix ``base``, ``slope`` Phi'r (c, outs)."""

    found: Found
    places: Places
    mse: Float[Tensor, " outs"]
    base: Float[Tensor, "c c"]
    slope: Float[Tensor, "c outs"]
    rows: int

    @property
    def support(self) -> Support:
        return Support.of(self.places.weight)

    @property
    def noise(self) -> Float[Tensor, " outs"]:
        """``mse``, not below what rounding leaves."""
        return self.mse.clamp_min(ROUNDING)

    @property
    def kinks(self) -> Kinks:
        """The directions as kinks of output weight 1, without an affine part."""
        f = self.found
        return Kinks(torch.ones_like(f.tilt), f.weight, f.tilt, torch.zeros_like(f.affine[0]))


def unit(found: Found) -> Found:
    """The same function with hidden rows of unit norm, without the kinks that have no weight on either side."""
    found = found.take((found.weight[:, :-1] != 0).any(1) & (found.outputs != 0).any(1))
    size = found.weight.norm(dim=1, keepdim=True)
    return replace(found, weight=found.weight / size, outputs=found.outputs * size)


def _slopes(found: Found, support: Support, sample: Sample) -> tuple[Tensor, Tensor]:
    """Phi'r (c, outs) and the squared residuals of every output (outs,)."""
    size, outs = len(support), found.affine.shape[0]
    slope, squares = found.affine.new_zeros(size + sample.inputs, outs), found.affine.new_zeros(outs)
    for x, y in sample.blocks():
        z = x @ found.weight.T
        gate = (z.sign() + found.tilt) / 2
        r = y - x @ found.affine.T - (z * gate) @ found.outputs
        slope[:size].addmm_((gate[:, support.kink] * x[:, support.column]).T, r)
        slope[size:].addmm_(x.T, r)
        squares += r.square().sum(0)
    return slope, squares


class Normal:
    """Normal equations of the free weights, then the live output weights output by output; affine parts eliminated."""

    def __init__(self, joint: Joint, free: bool = True) -> None:
        self.joint, found = joint, joint.found
        support, places = joint.support, joint.places
        self.size = len(support)
        self.lift = found.weight.new_zeros(self.size, len(found.weight))
        place = torch.arange(self.size, device=self.lift.device)
        self.lift[place, support.kink] = found.weight[support.kink, support.column]
        largest = found.weight.abs().argmax(1)
        self.free = (support.column != largest[support.kink]) & free
        self.along = found.outputs[support.kink]
        counts = [int(self.free.sum()), *places.outputs.sum(0).tolist()]
        ends = torch.tensor(counts).cumsum(0).tolist()
        self.at = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self._eliminated: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}
        self.matrix, self.vector = found.weight.new_zeros(ends[-1], ends[-1]), found.weight.new_zeros(ends[-1])
        for o in range(places.outputs.shape[1]):
            self._add(o)
        self.matrix = self.matrix.tril() + self.matrix.tril(-1).T

    def eliminated(self, o: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of output o: the Gram matrix (p, p) outside its affine columns, their factor, their products with Phi."""
        key = self.joint.places.affine[o].cpu().numpy().tobytes()
        if key not in self._eliminated:
            live, base, p = self.joint.places.affine[o].nonzero()[:, 0] + self.size, self.joint.base, self.size
            root = factor(base[live][:, live])
            cross = base[live][:, :p]
            self._eliminated[key] = base[:p, :p] - cross.T @ torch.cholesky_solve(cross, root), root, cross
        return self._eliminated[key]

    def _add(self, o: int) -> None:
        inner, root, cross = self.eliminated(o)
        live, weight = self.joint.places.outputs[:, o], 1 / float(self.joint.noise[o])
        affine = self.joint.slope[self.size :, o][self.joint.places.affine[o]]
        slope = self.joint.slope[: self.size, o] - cross.T @ torch.cholesky_solve(affine[:, None], root)[:, 0]
        lift, along = self.lift[:, live], self.along[self.free, o]
        w, v, turned = self.at[0], self.at[o + 1], inner @ self.lift[:, live]
        self.matrix[w, w] += weight * along[:, None] * inner[self.free][:, self.free] * along
        self.matrix[v, w] = weight * turned[self.free].T * along
        self.matrix[v, v] = weight * lift.T @ turned
        self.vector[w] += weight * along * slope[self.free]
        self.vector[v] = weight * lift.T @ slope

    def scaled(self) -> tuple[Tensor, Tensor]:
        """The matrix with unit diagonal, and the square roots of its diagonal."""
        size = self.matrix.diagonal().sqrt()
        size = torch.where(size > 0, size, 1.0)
        return self.matrix / size / size[:, None], size

    def moved(self, damping: float) -> tuple[Found, float]:
        """``found`` after a damped step, and the damping that was possible."""
        step = self.vector
        if len(step):
            matrix, size = self.scaled()
            root, damping = cholesky(matrix, damping)
            step = torch.cholesky_solve((step / size)[:, None], root)[:, 0] / size
        found, support, places = self.joint.found, self.joint.support, self.joint.places
        dw = torch.zeros_like(self.along[:, 0])
        dw[self.free] = step[self.at[0]]
        weight, outputs, affine = found.weight.clone(), found.outputs.clone(), found.affine.clone()
        weight[support.kink, support.column] += dw
        for o in range(outputs.shape[1]):
            live = places.outputs[:, o]
            _, corner, cross = self.eliminated(o)
            outputs[live, o] += step[self.at[o + 1]]
            change = self.along[:, o] * dw + self.lift[:, live] @ step[self.at[o + 1]]
            rest = self.joint.slope[self.size :, o][places.affine[o]] - cross @ change
            affine[o, places.affine[o]] += torch.cholesky_solve(rest[:, None], corner)[:, 0]
        return replace(found, weight=weight, outputs=outputs, affine=affine), damping

    def covariance(self) -> Float[Tensor, "t t"]:
        """Of the free weights and the live output weights."""
        if len(self.matrix) == 0:
            return self.matrix
        matrix, size = self.scaled()
        return torch.cholesky_inverse(factor(matrix)) / size / size[:, None]

    def variances(self) -> tuple[Float[Tensor, "k inputs"], Float[Tensor, "k outs"], Float[Tensor, "outs inputs"]]:
        """Of the weights (0 where one is held), the output weights and the affine entries on the support."""
        covariance = self.covariance()
        places, support, values = self.joint.places, self.joint.support, covariance.diagonal()
        weight, outputs = torch.zeros_like(self.joint.found.weight), torch.zeros_like(self.joint.found.outputs)
        weight[support.kink[self.free], support.column[self.free]] = values[self.at[0]]
        affine = torch.zeros_like(self.joint.found.affine)
        for o in range(outputs.shape[1]):
            live, w, v = places.outputs[:, o], self.at[0], self.at[o + 1]
            outputs[live, o] = values[v]
            _, root, cross = self.eliminated(o)
            # a_o = A^-1 (x'y - C m_o): its own noise and that of the weights.
            moves = torch.cat([cross[:, self.free] * self.along[self.free, o], cross @ self.lift[:, live]], dim=1)
            carried = torch.cholesky_solve(moves, root)
            part = torch.cat([torch.cat([covariance[w, w], covariance[w, v]], 1),
                              torch.cat([covariance[v, w], covariance[v, v]], 1)])  # fmt: skip
            own = torch.cholesky_inverse(root).diagonal() * self.joint.noise[o]
            affine[o, places.affine[o]] = own + ((carried @ part) * carried).sum(1)
        return weight, outputs, affine


def saliencies(joint: Joint) -> tuple[Float[Tensor, "k inputs"], Float[Tensor, "k outs"]]:
    """Squared t statistic of every weight and output weight; infinite where nothing is estimated."""
    weight, outputs, _ = Normal(joint).variances()
    found = joint.found
    return (
        torch.where(weight > 0, found.weight.square() / weight, torch.inf),
        torch.where(joint.places.outputs & (outputs > 0), found.outputs.square() / outputs, torch.inf),
    )


def fitted(found: Found, places: Places, sample: Sample) -> Joint:
    """``found`` as it stands, with the sums that a step needs."""
    mask = places.weight
    found = replace(
        found, weight=found.weight * mask, outputs=found.outputs * places.outputs, affine=found.affine * places.affine
    )
    kinks = Kinks(torch.ones_like(found.tilt), found.weight, found.tilt, torch.zeros_like(found.affine[0]))
    base = gram(kinks, Support.of(mask), sample)
    slope, squares = _slopes(found, Support.of(mask), sample)
    return Joint(found, places, squares / sample.n, base, slope, sample.n)


def refit_jointly(
    found: Found, places: Places, sample: Sample, steps: int = 12, enough: float = 1e-2, free: bool = True
) -> Joint:
    """Levenberg-Marquardt on ``places`` until a step gains less than ``enough``, or ``steps`` steps.

    ``sample`` has targets (n, outs) of unit variance. A gain is the fall of the sum of log mse_o. Without ``free`` the
    directions stay, and one step is the linear regression of every output.
    """
    joint, damping = fitted(found, places, sample), 1e-6 if free else 0.0
    for _ in range(steps):
        moved = _descended(joint, sample, damping, free)
        if moved is None:
            break
        before = joint.noise.log().sum()
        joint, damping = moved
        gain = float(before - joint.noise.log().sum())
        if gain < enough:
            break
    return joint


def _descended(joint: Joint, sample: Sample, damping: float, free: bool) -> tuple[Joint, float] | None:
    """One accepted step with the damping for the next; None when no damping helps."""
    normal, before = Normal(joint, free), float(joint.noise.log().sum())
    support = joint.support
    for _ in range(9):
        moved, damping = normal.moved(damping)
        slope, squares = _slopes(moved, support, sample)
        if float((squares / sample.n).clamp_min(ROUNDING).log().sum()) < before:
            kinks = replace(joint.kinks, weight=moved.weight)
            base = joint.base if not free else gram(kinks, support, sample)
            return Joint(moved, joint.places, squares / sample.n, base, slope, joint.rows), damping / 10
        damping = max(damping * 10, 1e-9)
    return None
