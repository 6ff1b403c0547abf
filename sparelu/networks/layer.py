"""One sparse affine map in compressed sparse rows, only its live rows stored."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

INT32_MAX = torch.iinfo(torch.int32).max


@dataclass(frozen=True, eq=False)
class Layer:
    """Represent an affine map ``x -> W x + b`` with W of ``shape`` (outputs, inputs), stored by its live rows.

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
        """Return the number of weights, biases not counted."""
        return self.values.numel()

    @property
    def biases(self) -> int:
        """Return the number of nonzero biases."""
        return 0 if self.bias is None else int(torch.count_nonzero(self.bias))

    @property
    def cells(self) -> int:
        """Count the weights that there could be."""
        return self.shape[0] * self.shape[1]

    @property
    def kernel(self) -> "Layer":
        """Return the weights as they are stored, itself."""
        return self

    @property
    def kind(self) -> str:
        """Say what tables add to its name: nothing."""
        return ""

    @property
    def channels(self) -> int:
        """Count the outputs: what a convolution has one of for every channel, a layer has once."""
        return self.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.values.device

    @property
    def live(self) -> Int[Tensor, " live"]:
        """Return the outputs that something feeds: a weight or a bias."""
        return self.rows

    @property
    def written_out(self) -> "Layer":
        """Return itself: see :attr:`sparelu.networks.convolution.Convolution.written_out`."""
        return self

    def read(self, channels: int) -> Int[Tensor, " read"]:
        """Return the channels that are read of inputs that are images of ``channels`` channels, or rows of so many
        numbers.
        """
        return torch.unique(self.indices % channels) if self.nonzeros else self.indices

    def writing(self, live: Int[Tensor, " a"]) -> "Layer":
        """Return it with the named outputs alone."""
        return self.take(rows=live)

    def reading(self, live: Int[Tensor, " a"], channels: int) -> "Layer":
        """Return it reading the named of their ``channels`` alone."""
        places = self.shape[1] // max(1, channels)
        at = torch.arange(places, device=live.device)[:, None] * channels + live.long()
        return self.take(columns=at.reshape(-1))

    @property
    def outputs_of_values(self) -> Int[Tensor, " nnz"]:
        """Return the output index of every stored value."""
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
        value = as_tensor(values)
        dtype = value.dtype if value.is_floating_point() else torch.float64
        r, c = (as_tensor(a).to("cpu", torch.int64) for a in (rows, columns))
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
        w = as_tensor(weight).detach().cpu()
        r, c = torch.nonzero(w, as_tuple=True)
        b = None if bias is None else as_tensor(bias).detach()
        return cls.from_triplets((w.shape[0], w.shape[1]), r, c, w[r, c], b)

    def dense(self) -> Float[Tensor, "outputs inputs"]:
        """Return the dense weight matrix."""
        weight = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device)
        weight[self.outputs_of_values.long(), self.indices.long()] = self.values
        return weight

    def dense_bias(self) -> Float[Tensor, " outputs"]:
        """Return the bias of every output, zeros included."""
        bias = torch.zeros(self.shape[0], dtype=self.values.dtype, device=self.values.device)
        if self.bias is not None:
            bias[self.rows.long()] = self.bias
        return bias

    def to_scipy(self) -> sparse.csr_array:
        """Return the weights as a SciPy CSR array of the full shape (memory follows the outputs)."""
        coordinates = (self.outputs_of_values.cpu().numpy(), self.indices.cpu().numpy())
        return sparse.coo_array((self.values.cpu().numpy(), coordinates), shape=self.shape).tocsr()

    def take(self, rows: Int[Tensor, " a"] | None = None, columns: Int[Tensor, " b"] | None = None) -> "Layer":
        """Return the layer of the named outputs and inputs alone (increasing), renumbered from 0."""
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
        """Return the same layer in another dtype or on another device; values that round to zero are dropped."""
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
        """Compute ``x W' + b`` for rows ``x``."""
        live = torch.sparse.mm(self._csr, x.T).T if self.nonzeros else x.new_zeros(x.shape[0], self.rows.numel())
        if self.bias is not None:
            live = live + self.bias
        if self.rows.numel() == self.shape[0]:
            return live
        out = x.new_zeros(x.shape[0], self.shape[0])
        out[:, self.rows.long()] = live
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: torch cannot copy the CSR tensor that a call keeps."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}

    @cached_property
    def _csr(self) -> Tensor:
        with warnings.catch_warnings():  # torch announces once that its CSR support is in beta
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                self.indptr, self.indices, self.values, size=(self.rows.numel(), self.shape[1])
            )


def as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return a tensor as it is; read anything else as NumPy reads it, so that lists of numbers are float64."""
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
    """Return the rows and values of the nonzero biases."""
    if bias is None:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=dtype)
    b = as_tensor(bias).to("cpu", dtype).reshape(-1)
    r = torch.arange(outputs) if rows is None else as_tensor(rows).to("cpu", torch.int64)
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
