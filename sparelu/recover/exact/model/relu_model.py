"""The model of exact recovery, f_o(x) = a_o.x + sum_j V_jo (|w_j.x| + e_j w_j.x) / 2, for any number of outputs.

Since (t)_+ = (t + |t|) / 2, a ReLU network of one hidden layer is a sum of hinges V_j |w_j.x| / 2 and an affine
part. A hinge does not know which side of its hyperplane is active, which takes away the sign ambiguity
(w.x)_+ - (-w.x)_+ = w.x that keeps plain ReLU networks in wrong basins, and its columns sign(w.x) x_i are far better
conditioned than gated ones. The orientation e_j is 0 while the hinges are sought and +-1 once it is read off.
The last input is the constant 1, so its weight is the bias. (c w_j, V_j / c) is the same function for c > 0: the
largest output weight of a hinge is +-1, so that of one output all are signs and the weights carry the size.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparelu.networks.network import Layer, Network


@dataclass(frozen=True, eq=False)
class ReluModel:
    """``weight`` w (k, inputs), ``orientation`` e (k,), ``outputs`` V (k, outs), ``affine`` a (outs, inputs).

    All float64 on one device. ``inputs`` counts the constant.
    """

    weight: Float[Tensor, "k inputs"]
    orientation: Float[Tensor, " k"]
    outputs: Float[Tensor, "k outs"]
    affine: Float[Tensor, "outs inputs"]

    @classmethod
    def linear(cls, affine: Float[Tensor, "outs inputs"]) -> "ReluModel":
        """Return the affine function alone."""
        outs, inputs = affine.shape
        return cls(affine.new_zeros(0, inputs), affine.new_zeros(0), affine.new_zeros(0, outs), affine)

    def __len__(self) -> int:
        return self.orientation.numel()

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outs"]:
        """Return the values for rows whose last column is 1, in the dtype of ``x``."""
        z = x @ self.weight.T.to(x)
        return x @ self.affine.T.to(x) + (z.abs() + z * self.orientation.to(x)) @ (self.outputs.to(x) / 2)

    @property
    def nonzeros(self) -> int:
        """Count weights on inputs, and with several outputs the output weights; biases are not counted."""
        own = int(torch.count_nonzero(self.weight[:, :-1]))
        return own if self.outputs.shape[1] == 1 else own + int(torch.count_nonzero(self.outputs))

    @property
    def length(self) -> Float[Tensor, "k outs"]:
        """Compute the contribution of every hinge to every output: V_jo |w_j|."""
        return self.outputs * self.weight.norm(dim=1, keepdim=True)

    @property
    def live(self) -> Bool[Tensor, " k"]:
        """Mark the hinges that read an input and reach an output."""
        return (self.weight[:, :-1] != 0).any(1) & (self.outputs != 0).any(1)

    def take(self, keep: Tensor) -> "ReluModel":
        """Return the hinges of an index or a mask alone."""
        return ReluModel(self.weight[keep], self.orientation[keep], self.outputs[keep], self.affine)

    def with_hinges(self, weight: Float[Tensor, "q inputs"], outputs: Float[Tensor, "q outs"]) -> "ReluModel":
        """Return the model with further hinges, not oriented."""
        return ReluModel(
            torch.cat([self.weight, weight]),
            torch.cat([self.orientation, torch.zeros_like(weight[:, 0])]),
            torch.cat([self.outputs, outputs]),
            self.affine,
        )

    def normalise(self) -> "ReluModel":
        """Return the same function with largest output weights +-1, without hinges that read or reach nothing.

        A hinge of a bias alone is a constant, and goes to the affine part.
        """
        live, model = self.live, self
        if bool(self.weight[~live, -1].any()):
            bias, affine = self.weight[~live, -1], self.affine.clone()
            affine[:, -1] += (bias.abs() + bias * self.orientation[~live]) @ self.outputs[~live] / 2
            model = replace(self, affine=affine)
        model = model.take(live)
        size = model.outputs.abs().amax(1, keepdim=True)
        return replace(model, weight=model.weight * size, outputs=model.outputs / size)

    def combine(self, mix: Float[Tensor, " outs"]) -> "ReluModel":
        """Return the combination sum_o mix_o f_o, a model of one output."""
        return replace(self, outputs=self.outputs @ mix[:, None], affine=mix[None] @ self.affine).normalise()

    def scale_outputs(self, scale: Float[Tensor, " outs"]) -> "ReluModel":
        """Return the model with every output larger by ``scale``."""
        return replace(self, outputs=self.outputs * scale, affine=self.affine * scale[:, None]).normalise()

    def scale_inputs(self, scale: Float[Tensor, " inputs"]) -> "ReluModel":
        """Return the same function of inputs that are larger by ``scale`` (1 for the constant)."""
        return replace(self, weight=self.weight / scale, affine=self.affine / scale)

    def network(self) -> Network:
        """Return the ReLU network; what orientation does not explain is its skip part.

        A hinge of orientation 0 becomes (w.x)_+ and half its linear function goes to the skip part.
        """
        side = torch.where(self.orientation == 0, 1.0, self.orientation)
        moved = (self.outputs * ((self.orientation - side) / 2)[:, None]).T @ self.weight
        skip = (self.affine + moved).cpu()
        w = (self.weight * side[:, None]).cpu()
        bias = w[:, -1] if bool(w[:, -1].any()) else None
        constant = skip[:, -1] if bool(skip[:, -1].any()) else None
        linear = Layer.from_dense(skip[:, :-1]) if bool(skip[:, :-1].any()) else None
        return Network((Layer.from_dense(w[:, :-1], bias), Layer.from_dense(self.outputs.T.cpu(), constant)), linear)


@dataclass(frozen=True, eq=False)
class Support:
    """What may be nonzero: masks of ``weight`` (k, inputs), ``outputs`` (k, outs) and ``affine`` (outs, inputs)."""

    weight: Bool[Tensor, "k inputs"]
    outputs: Bool[Tensor, "k outs"]
    affine: Bool[Tensor, "outs inputs"]

    @classmethod
    def of(cls, model: ReluModel, affine: Bool[Tensor, "outs inputs"] | None = None) -> "Support":
        """Return the nonzeros of ``model``, and ``affine`` or all of the affine part."""
        whole = torch.ones_like(model.affine, dtype=torch.bool)
        return cls(model.weight != 0, model.outputs != 0, whole if affine is None else affine)

    def apply(self, model: ReluModel) -> ReluModel:
        """Return ``model`` with zeros off the support."""
        return replace(
            model,
            weight=model.weight * self.weight,
            outputs=model.outputs * self.outputs,
            affine=model.affine * self.affine,
        )

    @cached_property
    def places(self) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """Return hinge and input of every weight."""
        hinge, column = self.weight.nonzero(as_tuple=True)
        return hinge, column

    @property
    def size(self) -> int:
        """Count the hinges' numbers: weights, biases and output weights, less the one of each that sets its scale."""
        return int(self.weight.sum()) + int(self.outputs.sum()) - len(self.outputs)

    def columns(self, gate: Float[Tensor, "k b"], x: Float[Tensor, "b inputs"]) -> Float[Tensor, "c b"]:
        """Return the columns gate_j x_i of the weights and x_i of the affine part, transposed."""
        inputs, (hinge, column) = x.T.contiguous(), self.places
        return torch.cat([gate[hinge] * inputs[column], inputs])
