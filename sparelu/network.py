"""Sparse ReLU networks as values: layers in compressed sparse rows, counting, forward pass, torch modules.

A :class:`Layer` keeps only its live rows, so that memory follows the nonzeros: a layer with a million
outputs and a thousand weights costs kilobytes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Layer:
    """An affine map ``x -> W x + b`` with W of ``shape`` (outputs, inputs), stored by its live rows.

    ``rows`` names the outputs that have a weight or a bias, in increasing order; row ``rows[i]`` has the
    input indices ``indices[indptr[i]:indptr[i+1]]`` (increasing, unique) with the nonzero ``values``.
    ``bias[i]`` belongs to ``rows[i]``; every output that is not listed is zero. Indices are int32.

    Raises ``ValueError`` when any of this does not hold, or a number is not finite.
    """

    shape: tuple[int, int]
    rows: Int[Tensor, " r"]
    indptr: Int[Tensor, " r1"]
    indices: Int[Tensor, " nnz"]
    values: Float[Tensor, " nnz"]
    bias: Float[Tensor, " r"] | None = None

    def __post_init__(self) -> None:
        outputs, inputs = self.shape
        for name in ("rows", "indptr", "indices"):
            if getattr(self, name).dtype != torch.int32:
                raise ValueError(f"Layer.{name} must be int32, got {getattr(self, name).dtype}")
        if max(outputs, inputs) > INT32_MAX:
            raise ValueError(f"Layer shape {self.shape} does not fit int32 indices")
        if self.indptr.numel() != self.rows.numel() + 1 or self.indices.numel() != self.values.numel():
            raise ValueError("Layer arrays disagree: indptr has one entry more than rows, indices as many as values")
        counts = self.indptr.diff()
        if int(self.indptr[0]) != 0 or int(self.indptr[-1]) != self.indices.numel() or bool((counts < 0).any()):
            raise ValueError("Layer.indptr must rise from 0 to the number of values")
        _check_increasing(self.rows, outputs, "rows")
        key = self.outputs_of_values.to(torch.int64) * inputs + self.indices
        if key.numel() and (
            bool((key.diff() <= 0).any()) or int(self.indices.min()) < 0 or int(self.indices.max()) >= inputs
        ):
            raise ValueError(f"Layer.indices must be unique, increasing in each row, and from 0 to {inputs - 1}")
        if bool((self.values == 0).any()):
            raise ValueError("Layer.values holds zeros: a zero weight is not stored (Layer.from_triplets drops them)")
        numbers = self.values if self.bias is None else torch.cat([self.values, self.bias])
        if not bool(torch.isfinite(numbers).all()):
            raise ValueError("Layer has weights or biases that are not finite: the fit diverged or the file is damaged")

    @property
    def nonzeros(self) -> int:
        """Number of weights, biases not counted."""
        return self.values.numel()

    @property
    def biases(self) -> int:
        """Number of nonzero biases."""
        return 0 if self.bias is None else int(torch.count_nonzero(self.bias))

    @property
    def outputs_of_values(self) -> Int[Tensor, " nnz"]:
        """The output index of every stored value."""
        return self.rows.repeat_interleave(self.indptr.diff())

    @classmethod
    def from_triplets(
        cls,
        shape: tuple[int, int],
        rows: ArrayLike,
        columns: ArrayLike,
        values: ArrayLike,
        bias: ArrayLike | None = None,
        bias_rows: ArrayLike | None = None,
    ) -> "Layer":
        """Build from (row, column, value) in any order; duplicates add up and zeros are dropped.

        ``bias`` has one entry for each output, or for each of ``bias_rows``.
        """
        value = _tensor(values)
        dtype = value.dtype if value.is_floating_point() else torch.float64
        r, c = (_tensor(a).to("cpu", torch.int64) for a in (rows, columns))
        _check_range(r, shape[0], "rows")
        _check_range(c, shape[1], "columns")
        key, where = torch.unique(r * shape[1] + c, return_inverse=True)
        total = torch.zeros(key.numel(), dtype=dtype).index_add_(0, where, value.to("cpu", dtype).reshape(-1))
        key, total = key[total != 0], total[total != 0]
        r, c = key // shape[1], key % shape[1]
        biased, b = _bias_triplets(shape[0], bias, bias_rows, dtype)
        live = torch.unique(torch.cat([r, biased]))
        counts = torch.zeros(live.numel() + 1, dtype=torch.int64)
        counts[1:] = torch.bincount(torch.searchsorted(live, r), minlength=live.numel())
        full = None
        if bias is not None:
            full = torch.zeros(live.numel(), dtype=dtype)
            full[torch.searchsorted(live, biased)] = b
        return cls(shape, live.int(), counts.cumsum(0).int(), c.int(), total, full)

    @classmethod
    def from_dense(cls, weight: ArrayLike, bias: ArrayLike | None = None) -> "Layer":
        """Build from a dense matrix (outputs, inputs) and a bias (outputs,); exact zeros are dropped."""
        w = _tensor(weight).detach().cpu()
        r, c = torch.nonzero(w, as_tuple=True)
        b = None if bias is None else _tensor(bias).detach()
        return cls.from_triplets((w.shape[0], w.shape[1]), r, c, w[r, c], b)

    def dense(self) -> Float[Tensor, "outputs inputs"]:
        """The dense weight matrix."""
        weight = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device)
        weight[self.outputs_of_values.long(), self.indices.long()] = self.values
        return weight

    def dense_bias(self) -> Float[Tensor, " outputs"]:
        """The bias of every output, zeros included."""
        bias = torch.zeros(self.shape[0], dtype=self.values.dtype, device=self.values.device)
        if self.bias is not None:
            bias[self.rows.long()] = self.bias
        return bias

    def to_scipy(self) -> sparse.csr_array:
        """The weights as a SciPy CSR array of the full shape (memory follows the outputs)."""
        coordinates = (self.outputs_of_values.cpu().numpy(), self.indices.cpu().numpy())
        return sparse.coo_array((self.values.cpu().numpy(), coordinates), shape=self.shape).tocsr()

    def take(self, rows: Int[Tensor, " a"] | None = None, columns: Int[Tensor, " b"] | None = None) -> "Layer":
        """The layer of the named outputs and inputs alone (increasing), renumbered from 0."""
        keep = torch.ones(self.nonzeros, dtype=torch.bool, device=self.values.device)
        r, c = self.outputs_of_values.long(), self.indices.long()
        b_rows, shape = self.rows.long(), list(self.shape)
        b_keep = torch.ones_like(b_rows, dtype=torch.bool)
        if rows is not None:
            r, found = _position(r, rows)
            b_rows, b_keep = _position(b_rows, rows)
            keep, shape[0] = keep & found, rows.numel()
        if columns is not None:
            c, found = _position(c, columns)
            keep, shape[1] = keep & found, columns.numel()
        bias = None if self.bias is None else self.bias[b_keep]
        return Layer.from_triplets((shape[0], shape[1]), r[keep], c[keep], self.values[keep], bias, b_rows[b_keep])

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Layer":
        """The same layer in another dtype or on another device; values that round to zero are dropped."""
        d = dtype or self.values.dtype
        values = self.values.to(d)
        bias = None if self.bias is None else self.bias.to(d)
        layer = (
            self
            if d == self.values.dtype
            else Layer.from_triplets(self.shape, self.outputs_of_values, self.indices, values, bias, self.rows)
        )
        if device is None:
            return layer
        moved = {name: getattr(layer, name).to(device) for name in ("rows", "indptr", "indices", "values")}
        return replace(layer, **moved, bias=None if layer.bias is None else layer.bias.to(device))

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        """``x W' + b`` for rows ``x``."""
        live = torch.sparse.mm(self._csr, x.T).T if self.nonzeros else x.new_zeros(x.shape[0], self.rows.numel())
        if self.bias is not None:
            live = live + self.bias
        if self.rows.numel() == self.shape[0]:
            return live
        out = x.new_zeros(x.shape[0], self.shape[0])
        out[:, self.rows.long()] = live
        return out

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: torch cannot copy the CSR tensor that a call keeps."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}

    @cached_property
    def _csr(self) -> Tensor:
        with warnings.catch_warnings():  # torch announces once that its CSR support is in beta
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                self.indptr, self.indices, self.values, size=(self.rows.numel(), self.shape[1])
            )


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network: ReLU between ``layers``, none after the last, plus an affine ``skip`` x -> A x + c.

    Raises ``ValueError`` when the shapes do not chain.
    """

    layers: tuple[Layer, ...]
    skip: Layer | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a Network needs at least one layer")
        for below, above in zip(self.layers, self.layers[1:], strict=False):
            if below.shape[0] != above.shape[1]:
                raise ValueError(
                    f"layers do not chain: one has {below.shape[0]} outputs, the next reads {above.shape[1]} inputs"
                )
        kinds = {part.values.dtype for part in (*self.layers, *([self.skip] if self.skip is not None else []))}
        if len(kinds) > 1:
            held = " and ".join(sorted(map(str, kinds)))
            raise ValueError(f"layers hold {held}: bring them to one dtype with Layer.to")
        if self.skip is not None and self.skip.shape != (self.outputs, self.inputs):
            raise ValueError(f"skip must have shape {(self.outputs, self.inputs)}, got {self.skip.shape}")

    @property
    def inputs(self) -> int:
        """Number of input features."""
        return self.layers[0].shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.layers[-1].shape[0]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(layer.shape[0] for layer in self.layers[:-1])

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.layers[0].values.dtype

    @property
    def fused(self) -> bool:
        """Whether the count is of products v_j w_j: one hidden layer and a scalar output."""
        return len(self.layers) == 2 and self.outputs == 1

    @property
    def nonzeros(self) -> int:
        """Nonzero weights; of a one-hidden-layer network with scalar output, nonzeros of the products v_j w_j.

        Biases and the affine skip part are counted by :attr:`biases` and :attr:`skip_nonzeros`.
        """
        if not self.fused:
            return sum(layer.nonzeros for layer in self.layers)
        hidden, output = self.layers
        return int(torch.isin(hidden.outputs_of_values, output.indices).sum())

    @property
    def biases(self) -> int:
        """Nonzero biases of all layers, the skip's left out."""
        return sum(layer.biases for layer in self.layers)

    @property
    def skip_nonzeros(self) -> int:
        """Nonzero weights of the affine skip part."""
        return 0 if self.skip is None else self.skip.nonzeros

    @property
    def used_inputs(self) -> Int[Tensor, " used"]:
        """Indices of the inputs that reach an output, in increasing order."""
        live = self.compact()
        skip = [] if live.skip is None else [live.skip.indices]
        return torch.unique(torch.cat([live.layers[0].indices, *skip]))

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Network":
        """The same network in another dtype or on another device."""
        skip = None if self.skip is None else self.skip.to(dtype, device)
        return Network(tuple(layer.to(dtype, device) for layer in self.layers), skip)

    def __call__(self, x: ArrayLike | Tensor) -> Float[Tensor, "n outputs"]:
        """Outputs for the rows of ``x`` (n, inputs), computed in the network's own dtype.

        Raises ``ValueError`` when ``x`` has another number of columns.
        """
        work = self.compact()
        h = _tensor(x).to(work.layers[0].values.device, self.dtype)
        if h.ndim != 2 or h.shape[1] != self.inputs:
            raise ValueError(f"the network reads rows of {self.inputs} inputs, got an array of shape {tuple(h.shape)}")
        affine = None if work.skip is None else work.skip(h)
        for layer in work.layers[:-1]:
            h = layer(h).clamp_(min=0)
        out = work.layers[-1](h)
        return out if affine is None else out + affine

    def compact(self) -> "Network":
        """The same function without the hidden units that nothing feeds or nothing reads."""
        return self._compact

    @cached_property
    def _compact(self) -> "Network":
        layers = list(self.layers)
        changed = True
        while changed:
            changed = False
            for i in range(len(layers) - 1):
                below, above = layers[i], layers[i + 1]
                read = torch.unique(above.indices)
                live = below.rows[torch.isin(below.rows, read)].long()
                if live.numel() < below.shape[0]:
                    layers[i], layers[i + 1] = below.take(rows=live), above.take(columns=live)
                    changed = True
        return self if layers == list(self.layers) else Network(tuple(layers), self.skip)

    def canonical(self, tolerance: float = 1e-9) -> "Network":
        """The canonical form of :mod:`sparelu.canonical`: merged, without dead units, in a fixed scale and order."""
        from sparelu.canonical import canonical

        return canonical(self, tolerance)

    def to_module(self) -> torch.nn.Module:
        """A dense ``torch.nn.Module`` of the same function, for training or export."""
        from sparelu.modules import to_module

        return to_module(self)

    @classmethod
    def from_module(cls, module: torch.nn.Module) -> "Network":
        """Read a chain of ``Linear`` and ``ReLU`` (as made by :meth:`to_module`, or ``nn.Sequential``).

        Raises ``ValueError`` naming the first submodule that is of another kind, or holds a number that is not finite.
        """
        from sparelu.modules import from_module

        return from_module(module)

    @classmethod
    def from_dense(cls, weights: Sequence[Any], biases: Sequence[Any] | None = None) -> "Network":
        """From dense matrices, each (outputs, inputs), and optional biases, from the input up."""
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
        """``f(x) = v (w x + bias)_+ + output_bias + skip(x)`` from dense w (m, d) and v (k, m), or v (m,) for k = 1."""
        out = torch.atleast_2d(_tensor(v))
        return cls((Layer.from_dense(w, bias), Layer.from_dense(out, output_bias)), skip)


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    """A tensor as it is; anything else as NumPy reads it, so that lists of numbers are float64."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    return torch.as_tensor(array if array.flags.writeable else array.copy())  # torch takes no read-only memory


def _check_increasing(index: Tensor, bound: int, name: str) -> None:
    if index.numel() and (bool((index.diff() <= 0).any()) or int(index[0]) < 0 or int(index[-1]) >= bound):
        raise ValueError(f"Layer.{name} must increase strictly from 0 to at most {bound - 1}")


def _check_range(index: Tensor, bound: int, name: str) -> None:
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= bound):
        raise ValueError(f"{name} must lie in 0..{bound - 1}, got {int(index.min())}..{int(index.max())}")


def _bias_triplets(
    outputs: int, bias: ArrayLike | None, rows: ArrayLike | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Rows and values of the nonzero biases."""
    if bias is None:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=dtype)
    b = _tensor(bias).to("cpu", dtype).reshape(-1)
    r = torch.arange(outputs) if rows is None else _tensor(rows).to("cpu", torch.int64)
    if b.numel() != r.numel():
        raise ValueError(f"bias has {b.numel()} entries, wanted one for each of {r.numel()} outputs")
    return r[b != 0], b[b != 0]


def _position(index: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each ``index`` in the increasing list ``kept``, and whether it is there."""
    place = torch.searchsorted(kept.to(index), index)
    found = (
        (place < kept.numel()) & (kept.to(index)[place.clamp(max=max(kept.numel() - 1, 0))] == index)
        if kept.numel()
        else torch.zeros_like(index, dtype=torch.bool)
    )
    return place, found


def zero_network(
    inputs: int, outputs: int, bias: ArrayLike | None = None, dtype: torch.dtype = torch.float64
) -> Network:
    """The network without weights: the constant ``bias``."""
    empty = np.empty(0, dtype=np.int64)
    values = torch.empty(0, dtype=dtype)
    return Network(
        (
            Layer.from_triplets((0, inputs), empty, empty, values),
            Layer.from_triplets((outputs, 0), empty, empty, values, bias),
        )
    )
