"""A masked multilayer perceptron with its gradient and Adam, on dense matrices that shrink with the support.

Weights of all layers lie in one vector, layer by layer from the input up, each (inputs, outputs); the biases follow.
So pruning, penalty and Adam are a few operations on vectors. Inputs and hidden units that have lost every path are
removed from the matrices (:meth:`MLP.compact`), which makes a nearly pruned network cheap to train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Data
from sparelu.networks.network import Layer, Network
from sparelu.train.fit.init import Draw
from sparelu.train.fit.losses import Loss


@dataclass
class MLP:
    """ReLU layers of ``widths`` (inputs, hidden ..., outputs), their moments and the mask of the weights that live.

    ``units[l]`` numbers what is left of level l in the full network of widths ``full``. With ``fused`` the products
    v_j w_j of a network with one hidden layer and one output are counted: then the output weights are not pruned.
    """

    full: tuple[int, ...]
    units: list[Tensor]
    value: Tensor
    alive: Tensor
    mean: Tensor
    square: Tensor
    fused: bool
    step: int = 0

    def __post_init__(self) -> None:
        self.gradient = torch.zeros_like(self.value)
        self._cut()

    @classmethod
    def started(
        cls, data: Data, hidden: Sequence[int], most: int, draw: Draw, columns: np.ndarray, rng: np.random.Generator
    ) -> "MLP":
        """Begin untrained, with weights and biases from ``draw``, reading the input ``columns`` of ``data``.

        Of each layer of the ``hidden`` widths at most ``most`` units are trained, the others never live.
        """
        sizes = (len(columns), *(min(w, most) for w in hidden), data.outputs)
        value = torch.tensor(draw(sizes, rng), dtype=data.dtype, device=data.device)
        units = [torch.as_tensor(columns), *(torch.arange(w) for w in sizes[1:])]
        alive = torch.ones(sum(a * b for a, b in pairwise(sizes)), dtype=torch.bool, device=data.device)
        return cls(
            (data.inputs, *hidden, data.outputs),
            [u.to(data.device) for u in units],
            value,
            alive,
            torch.zeros_like(value),
            torch.zeros_like(value),
            len(hidden) == 1 and data.outputs == 1,
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Count the units left at every level."""
        return tuple(u.numel() for u in self.units)

    @property
    def counted(self) -> slice:
        """Return the place of the weights that the budget counts, a leading part of ``value``."""
        a, b = self.widths[:2]
        return slice(0, a * b if self.fused else self.alive.numel())

    @property
    def nonzeros(self) -> int:
        """Count the active weights that the budget counts."""
        return int(self.alive[self.counted].sum())

    def split(self, vector: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """View a vector as matrices (inputs, outputs) and biases (outputs,); no biases where it has none."""
        sizes, at = self.widths, 0
        matrices, biases = [], []
        for a, b in pairwise(sizes):
            matrices.append(vector[at : at + a * b].view(a, b))
            at += a * b
        for b in sizes[1:] if vector.numel() > at else ():
            biases.append(vector[at : at + b])
            at += b
        return matrices, biases

    def _cut(self) -> None:
        self._weights, self._biases = self.split(self.value)
        self._weight_gradients, self._bias_gradients = self.split(self.gradient)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute every level, from ``x`` (b, inputs left) to the outputs (b, k)."""
        levels = [x]
        for weight, bias in zip(self._weights, self._biases, strict=True):
            levels.append(torch.addmm(bias, levels[-1], weight))
            if len(levels) <= len(self._weights):
                levels[-1].clamp_(min=0)
        return levels

    def backward(self, x: Tensor, y: Tensor, loss: Loss) -> float:
        """Put the gradient of the mean loss of the batch (x, y) into ``gradient``; the loss."""
        levels = self.forward(x)
        value, delta = loss(levels[-1], y)
        for i in range(len(self._weights) - 1, -1, -1):
            torch.mm(levels[i].t(), delta, out=self._weight_gradients[i])
            torch.sum(delta, 0, out=self._bias_gradients[i])
            if i:
                delta = (delta @ self._weights[i].t()).mul_(levels[i] > 0)
        return value

    def adam(
        self, rate: float, l1: float = 0.0, *, beta1: float = 0.9, beta2: float = 0.999, tiny: float = 1e-8
    ) -> None:
        """Take one step of Adam on the loss plus ``l1`` times the sum of |w|; weights that are not alive stay 0.

        Kingma and Ba 2015, algorithm 1: ``beta1`` and ``beta2`` are the decay of both moments, ``tiny`` keeps the
        quotient finite.
        """
        weights = self.alive.numel()
        if l1:
            self.gradient[:weights].add_(self.value[:weights].sign(), alpha=l1)
        self.gradient[:weights].mul_(self.alive)
        self.step += 1
        self.mean.lerp_(self.gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        scale = (self.square / (1 - beta2**self.step)).sqrt_().add_(tiny)
        self.value.addcdiv_(self.mean, scale, value=-rate / (1 - beta1**self.step))

    def keep(self, mask: Tensor) -> None:
        """Let only the weights of ``mask`` (over all of them) live; the others, and their mean gradients, become 0.

        A hidden unit without inputs is the constant relu(bias). Where its output weights go, what they carried goes
        into the biases above, so that this changes nothing.
        """
        kept, lost = self.split(mask)[0], self.split(self.alive & ~mask)[0]
        for i in range(len(kept) - 1):
            constant = self._biases[i].clamp(min=0) * ~kept[i].any(0)
            self._biases[i + 1].add_(constant @ (self._weights[i + 1] * lost[i + 1]))
        self.alive = mask
        for vector in (self.value, self.mean):
            vector[: mask.numel()].mul_(mask)

    def connected(self, mask: Tensor) -> Tensor:
        """Return the weights of ``mask`` that lie on a path from an input to an output."""
        matrices = [m.clone() for m in self.split(mask)[0]]
        for i in range(1, len(matrices)):
            matrices[i] &= matrices[i - 1].any(0)[:, None]
        for i in range(len(matrices) - 1, 0, -1):
            matrices[i - 1] &= matrices[i].any(1)[None, :]
        return torch.cat([m.flatten() for m in matrices])

    def attachable(self, mask: Tensor) -> Tensor:
        """Return the weights that would lie on a path if they joined ``mask``, all of whose weights do."""
        matrices = self.split(mask)[0]
        fed = [torch.ones_like(matrices[0][:, 0]), *(m.any(0) for m in matrices[:-1])]
        read = [*(m.any(1) for m in matrices[1:]), torch.ones_like(matrices[-1][0])]
        return torch.cat([(f[:, None] & r[None, :]).flatten() for f, r in zip(fed, read, strict=True)])

    def read(self) -> list[Tensor]:
        """Return the places of inputs and hidden units that something reads, at every level; all outputs."""
        matrices = self.split(self.alive)[0]
        return [*(m.any(1).nonzero()[:, 0] for m in matrices), torch.arange(self.widths[-1], device=self.value.device)]

    def compact(self) -> Tensor:
        """Remove inputs and hidden units that no living weight reads; the places of the inputs that stay.

        Hidden units that nothing feeds are constants: those that remain are kept, so that the function is the same.
        """
        left = self.read()
        vectors = [self._taken(v, left) for v in (self.value, self.mean, self.square, self.alive)]
        self.units = [u[i] for u, i in zip(self.units, left, strict=True)]
        self.value, self.mean, self.square, self.alive = vectors
        self.gradient = torch.zeros_like(self.value)
        self._cut()
        return left[0]

    def _taken(self, vector: Tensor, left: list[Tensor]) -> Tensor:
        matrices, biases = self.split(vector)
        parts = [m[a][:, b].flatten() for m, (a, b) in zip(matrices, pairwise(left), strict=True)]
        return torch.cat([*parts, *(c[i] for c, i in zip(biases, left[1:], strict=False))])

    def network(self, mean: np.ndarray | None = None, sd: np.ndarray | None = None) -> Network:
        """Return the network, of the full shape; outputs are multiplied by ``sd`` (k,) and moved by ``mean`` (k,)."""
        layers = []
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            a, b = torch.nonzero(weight, as_tuple=True)
            value, offset = weight[a, b].cpu(), bias.cpu().clone()
            below, above = self.units[i].cpu(), self.units[i + 1].cpu()
            if sd is not None and mean is not None and i == len(self._weights) - 1:
                scale = torch.as_tensor(sd, dtype=value.dtype)
                value, offset = value * scale[b.cpu()], offset * scale + torch.as_tensor(mean, dtype=value.dtype)
            shape = (self.full[i + 1], self.full[i])
            layers.append(Layer.from_triplets(shape, above[b.cpu()], below[a.cpu()], value, offset, above))
        return Network(tuple(layers))

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restored` reads."""
        return {
            "full": list(self.full),
            "units": {str(i): u.clone() for i, u in enumerate(self.units)},
            "value": self.value.clone(),
            "alive": self.alive.clone(),
            "mean": self.mean.clone(),
            "square": self.square.clone(),
            "fused": self.fused,
            "step": self.step,
        }

    @classmethod
    def restored(cls, state: Any, device: str) -> "MLP":
        """Restore the network of a :meth:`state`."""
        units = [state["units"][str(i)].to(device) for i in range(len(state["full"]))]
        vectors = [state[name].to(device).clone() for name in ("value", "alive", "mean", "square")]
        full, fused, step = tuple(state["full"]), bool(state["fused"]), int(state["step"])
        return cls(full, units, vectors[0], vectors[1], vectors[2], vectors[3], fused, step)

    def lifted(self, small: "MLP") -> Tensor:
        """Map the active weights of ``small``, which has some of this network's units, to a mask over this one's."""
        mask = torch.zeros_like(self.alive)
        places = [torch.searchsorted(u, v) for u, v in zip(self.units, small.units, strict=True)]
        for matrix, part, (a, b) in zip(
            self.split(mask)[0], small.split(small.alive)[0], pairwise(places), strict=True
        ):
            matrix[a[:, None], b[None, :]] = part
        return mask
