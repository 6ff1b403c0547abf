"""Sparse ReLU networks as values: a chain of sparse layers, counting, forward pass, torch modules.

A :class:`~sparelu.networks.layer.Layer` keeps only its live rows, so that memory follows the nonzeros: a layer with a
million outputs and a thousand weights costs kilobytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from sparelu.networks.canonical import canonical_form, turn_generators
from sparelu.networks.convolution import Convolution
from sparelu.networks.layer import Layer as Layer
from sparelu.networks.layer import as_tensor
from sparelu.networks.one_input import evaluate_sorted
from sparelu.networks.torch_modules import build_module, read_module

ACTIVATIONS = 1 << 22
"""Activations (32 MB in float64) beyond which a network of one input is evaluated by sorting: no table, and quicker."""

IMAGES = 1024
"""Rows that a network with convolutions takes at a time: what lies between two of them is large."""


@dataclass(frozen=True, eq=False)
class Network:
    """Represent a feed-forward network: ReLU between ``parts``, none after the last, plus an affine ``skip`` x -> A x +
    c.

    ``parts`` are as they are stored and counted: layers, and convolutions, whose weights count once. :attr:`layers`
    has the same network as layers alone.

    Raises ``ValueError`` when the shapes do not chain.
    """

    parts: tuple[Layer | Convolution, ...]
    skip: Layer | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a Network needs at least one layer")
        for below, above in zip(self.parts, self.parts[1:], strict=False):
            if below.shape[0] != above.shape[1]:
                raise ValueError(
                    f"layers do not chain: one has {below.shape[0]} outputs, the next reads {above.shape[1]} inputs"
                )
        kinds = {part.dtype for part in (*self.parts, *([self.skip] if self.skip is not None else []))}
        if len(kinds) > 1:
            held = " and ".join(sorted(map(str, kinds)))
            raise ValueError(f"layers hold {held}: bring them to one dtype with Layer.to")
        if self.skip is not None and self.skip.shape != (self.outputs, self.inputs):
            raise ValueError(f"skip must have shape {(self.outputs, self.inputs)}, got {self.skip.shape}")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Return the parts as layers: convolutions with every weight written at every place that it is used."""
        return tuple(part.written_out for part in self.parts)

    @property
    def convolutions(self) -> int:
        """Count how many of the parts are convolutions."""
        return sum(isinstance(part, Convolution) for part in self.parts)

    @property
    def inputs(self) -> int:
        """Return the number of input features."""
        return self.parts[0].shape[1]

    @property
    def outputs(self) -> int:
        """Return the number of outputs."""
        return self.parts[-1].shape[0]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""
        return tuple(part.shape[0] for part in self.parts[:-1])

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.parts[0].dtype

    @property
    def fused(self) -> bool:
        """Tell whether the count is of products v_j w_j: one hidden layer and a scalar output, and no convolution."""
        return len(self.parts) == 2 and self.outputs == 1 and not self.convolutions

    @property
    def nonzeros(self) -> int:
        """Count the nonzero weights; of a one-hidden-layer network with scalar output, nonzeros of the products v_j
        w_j.

        Biases and the affine skip part are counted by :attr:`biases` and :attr:`skip_nonzeros`.
        """
        if not self.fused:
            return sum(part.nonzeros for part in self.parts)
        hidden, output = self.layers
        return int(torch.isin(hidden.outputs_of_values, output.indices).sum())

    @property
    def biases(self) -> int:
        """Count the nonzero biases of all layers, the skip's left out."""
        return sum(part.biases for part in self.parts)

    @property
    def skip_nonzeros(self) -> int:
        """Count the nonzero weights of the affine skip part."""
        return 0 if self.skip is None else self.skip.nonzeros

    @property
    def used_inputs(self) -> Int[Tensor, " used"]:
        """Return the indices of the inputs that reach an output, in increasing order."""
        live = self.compact()
        skip = [] if live.skip is None else [live.skip.indices]
        return torch.unique(torch.cat([live.layers[0].indices, *skip]))

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Network":
        """Return the same network in another dtype or on another device."""
        skip = None if self.skip is None else self.skip.to(dtype, device)
        return Network(tuple(part.to(dtype, device) for part in self.parts), skip)

    def __call__(self, x: ArrayLike | Tensor) -> Float[Tensor, "n outputs"]:
        """Return the outputs for the rows of ``x`` (n, inputs), computed in the network's own dtype.

        Raises ``ValueError`` when ``x`` has another number of columns.
        """
        work = self.compact()
        h = as_tensor(x).to(work.parts[0].device, self.dtype)
        if h.ndim != 2 or h.shape[1] != self.inputs:
            raise ValueError(f"the network reads rows of {self.inputs} inputs, got an array of shape {tuple(h.shape)}")
        if work.convolutions and len(h) > IMAGES:
            return torch.cat([work(piece) for piece in h.split(IMAGES)])
        affine = None if work.skip is None else work.skip(h)
        if work.inputs == 1 and len(work.layers) == 2 and len(h) * work.hidden[0] > ACTIVATIONS:
            sorted_out = evaluate_sorted(*work.layers, h[:, 0].detach().double().cpu().numpy())
            out = torch.from_numpy(sorted_out).to(h)
            return out if affine is None else out + affine
        for part in work.parts[:-1]:
            h = part(h).clamp_(min=0)
        out = work.parts[-1](h)
        return out if affine is None else out + affine

    def compact(self) -> "Network":
        """Return the same function without the hidden units that nothing feeds or nothing reads.

        Of a convolution these are channels that nothing feeds, or nothing reads at any place.
        """
        return self._compact

    @cached_property
    def _compact(self) -> "Network":
        parts = list(self.parts)
        changed = True
        while changed:
            changed = False
            for i in range(len(parts) - 1):
                below, above = parts[i], parts[i + 1]
                live = below.live[torch.isin(below.live, above.read(below.channels))].long()
                if live.numel() < below.channels:
                    parts[i], parts[i + 1] = below.writing(live), above.reading(live, below.channels)
                    changed = True
        return self if parts == list(self.parts) else Network(tuple(parts), self.skip)

    def canonical(self, tolerance: float = 1e-9) -> "Network":
        """Bring to the form of :mod:`sparelu.networks.canonical`: merged, without dead units, in a fixed scale and
        order.

        In float64 on the processor; ``tolerance`` is the relative rounding allowed in "equal direction". The function
        is unchanged up to rounding.
        """
        net = self.to(torch.float64, "cpu").compact()
        return Network(*canonical_form(net.layers, net.skip, tolerance)).compact()

    def oriented(self, tolerance: float = 1e-9) -> "Network":
        """Bring to the canonical form in which every neuron of a single hidden layer has its first weight positive.

        Two networks of one function agree in it even where a linear part was moved between neurons and skip.
        """
        net = self.canonical(tolerance)
        if len(net.layers) != 2:
            return net
        return Network(*turn_generators(*net.layers, net.skip, tolerance)).canonical(tolerance)

    def to_module(self) -> torch.nn.Module:
        """Build a dense ``torch.nn.Module`` of the same function, for training or export.

        ``nn.Sequential`` of Linear and ReLU, with Conv2d before; beside one Linear where there is a skip part. Raises
        ``ValueError`` for a network that ends in a convolution.
        """
        return build_module(self.parts, self.skip)

    @classmethod
    def from_module(cls, module: torch.nn.Module) -> "Network":
        """Read a chain of ``Linear`` and ``ReLU`` (as made by :meth:`to_module`, or ``nn.Sequential``).

        Identity, Dropout and Flatten are passed over; after :class:`~sparelu.networks.torch_modules.Images` it may
        begin with Conv2d, with or without BatchNorm2d, which is folded as it is in evaluation. Raises ``ValueError``
        naming the first submodule that is of another kind, or holds a number that is not finite.
        """
        return cls(*read_module(module))

    @classmethod
    def from_dense(cls, weights: Sequence[Any], biases: Sequence[Any] | None = None) -> "Network":
        """Build from dense matrices, each (outputs, inputs), and optional biases, from the input up."""
        bias = [None] * len(weights) if biases is None else list(biases)
        return cls(tuple(Layer.from_dense(w, b) for w, b in zip(weights, bias, strict=True)))

    @classmethod
    def two_layer(
        cls,
        w: ArrayLike,
        v: ArrayLike,
        bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        skip: Layer | None = None,
    ) -> "Network":
        """Build ``f(x) = v (w x + bias)_+ + output_bias + skip(x)`` from dense w (m, d) and v (k, m), or v (m,) for k =
        1.
        """
        out = torch.atleast_2d(as_tensor(v))
        return cls((Layer.from_dense(w, bias), Layer.from_dense(out, output_bias)), skip)


def zero_network(
    inputs: int, outputs: int, bias: ArrayLike | None = None, dtype: torch.dtype = torch.float64
) -> Network:
    """Return the network without weights: the constant ``bias``."""
    empty = np.empty(0, dtype=np.int64)
    values = torch.empty(0, dtype=dtype)
    return Network(
        (
            Layer.from_triplets((0, inputs), empty, empty, values),
            Layer.from_triplets((outputs, 0), empty, empty, values, bias),
        )
    )
