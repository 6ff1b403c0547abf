"""A linear layer that stores and trains only its nonzeros.

Everything it does (building, forward, backward, a step of any torch optimiser, saving) takes memory linear in the
nonzeros, the outputs and inputs of the layer, and the activations. Values are an ordinary dense vector, so that
optimisers, ``deepcopy``, ``pickle``, ``state_dict`` and safetensors work, which sparse parameters of torch break.
"""

import functools
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sparelu.networks.network import Layer
from sparelu.nn import support

DTYPES = (torch.float32, torch.float64)


class SparseLinear(nn.Module):
    """y = x W' + b with W of shape (outputs, inputs) in compressed rows: the support is fixed, its values train.

    ``places`` are the living weights, i inputs + j for W_ij, in increasing order, and ``values`` (nnz,) their values.
    ``values`` is a parameter; ``indptr`` (outputs + 1,) and ``indices`` (nnz,) are int32 buffers. A value that becomes
    zero stays in the support. Products are ``torch.sparse``'s, on any device that has them. The first backward pass
    that needs the gradient of the input keeps the transposed support too (8 bytes for each nonzero): with it that
    product takes a fifth of the time of torch's own.

    Raises ``ValueError`` for places that do not fit, too many nonzeros for int32, and values not in float32 or float64.
    """

    indptr: Tensor
    indices: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        places: Int[Tensor, " nnz"],
        values: Float[Tensor, " values"],
        bias: Float[Tensor, " out"] | None = None,
    ) -> None:
        super().__init__()
        if values.dtype not in DTYPES:
            raise ValueError(
                f"the values must be float32 or float64, which torch's sparse kernels have: {values.dtype}"
            )
        if len(values) != len(places):
            raise ValueError(f"{len(places)} places and {len(values)} values: give as many of each")
        self.in_features, self.out_features = in_features, out_features
        self.values = nn.Parameter(values)
        self.bias = None if bias is None else nn.Parameter(bias)
        indptr, indices = support.compressed(places, self.shape)
        self.register_buffer("indptr", indptr)
        self.register_buffer("indices", indices)
        self._transposed: tuple[Tensor, Tensor, Tensor] | None = None
        self.passes: list[tuple[Tensor, Tensor]] | None = None

    @classmethod
    def random(
        cls,
        in_features: int,
        out_features: int,
        *,
        density: float | None = None,
        nonzeros: int | None = None,
        bias: bool = True,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> "SparseLinear":
        """Draw a random support of exactly ``nonzeros`` weights, or of the share ``density``; normal values, bias 0.

        The variance is 2 over the number of living inputs of each output (Evci et al., Gradient flow in sparse neural
        networks and how lottery tickets win, 2022, equation 4), not over all inputs as in dense layers.
        """
        size = in_features * out_features
        if (density is None) == (nonzeros is None):
            raise ValueError("give exactly one of density and nonzeros")
        k = nonzeros if density is None else round(density * size)
        if k is None or not 1 <= k <= size:
            raise ValueError(f"the layer has {size} weights: ask for 1 to {size} nonzeros, not {k}")
        g = torch.Generator().manual_seed(seed)
        places = support.random_places(size, k, g)
        fan_in = support.row_starts(places, (out_features, in_features)).diff()
        scale = np.repeat((2 / fan_in.to(dtype)).sqrt().numpy(), fan_in.numpy())
        values = torch.randn(k, generator=g, dtype=dtype).mul_(torch.from_numpy(scale))
        return cls(in_features, out_features, places, values, torch.zeros(out_features, dtype=dtype) if bias else None)

    @classmethod
    def from_dense(cls, linear: nn.Linear) -> "SparseLinear":
        """Copy the nonzero weights of ``linear`` and its bias."""
        weight = linear.weight.detach().reshape(-1)
        places = weight.nonzero()[:, 0]
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return cls(linear.in_features, linear.out_features, places, weight.index_select(0, places), bias)

    @classmethod
    def from_layer(cls, layer: Layer) -> "SparseLinear":
        """Copy the weights of a layer of a :class:`~sparelu.networks.network.Network`."""
        places = layer.outputs_of_values.long() * layer.shape[1] + layer.indices
        bias = None if layer.bias is None else layer.dense_bias()
        return cls(layer.shape[1], layer.shape[0], places, layer.values.clone(), bias)

    def to_layer(self) -> Layer:
        """Return the weights as a layer of a :class:`~sparelu.networks.network.Network`, zeros left out."""
        bias = None if self.bias is None else self.bias.detach().cpu()
        rows, values = support.rows_of(self.indptr).cpu(), self.values.detach().cpu()
        return Layer.from_triplets(self.shape, rows, self.indices.cpu(), values, bias)

    def to_dense(self) -> nn.Linear:
        """Return the same map as an ``nn.Linear``."""
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, self.values.device, self.values.dtype
        )
        with torch.no_grad():
            linear.weight.zero_().view(-1).index_copy_(0, self.places, self.values)
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    @property
    def shape(self) -> tuple[int, int]:
        """Return (outputs, inputs)."""
        return self.out_features, self.in_features

    @property
    def nonzeros(self) -> int:
        """Count the weights of the support."""
        return len(self.values)

    @property
    def density(self) -> float:
        """Return the weights of the support over all places."""
        return self.nonzeros / (self.in_features * self.out_features)

    @property
    def places(self) -> Int[Tensor, " nnz"]:
        """Return the places of the active weights, in increasing order."""
        return support.places_of(self.indptr, self.indices, self.in_features)

    def set_support(self, places: Int[Tensor, " nnz"], values: Float[Tensor, " nnz"]) -> None:
        """Move to other places from now on. The parameter stays the same object; its gradient is dropped.

        The slots of an optimiser are left to the caller (``SparseGrowth`` moves them).
        """
        indptr, indices = support.compressed(places, self.shape)
        self._put(values.to(self.values), indptr, indices)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Compute the outputs (..., out_features) of ``x`` (..., in_features). Second derivatives are not defined."""
        if x.dtype != self.values.dtype:
            raise ValueError(f"the input is {x.dtype} and the layer {self.values.dtype}: convert one of them")
        rows = x.reshape(-1, self.in_features)
        y = _SparseProduct.apply(rows, self.values, self)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the support of W' and the order of its values, made once for each support."""
        if self._transposed is None or self._transposed[0].device != self.indices.device:
            self._transposed = support.transposed(self.indptr, self.indices, self.in_features)
        return self._transposed

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, nonzeros={self.nonzeros} "
            f"({self.density:.3g}), bias={self.bias is not None}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles what can be made again."""
        return {**self.__dict__, "_transposed": None, "passes": None}

    def _put(self, values: Tensor, indptr: Tensor, indices: Tensor) -> None:
        self.values.grad = None
        if values.shape == self.values.shape:
            with torch.no_grad():
                self.values.copy_(values)
        else:
            self.values.data = values.detach().clone()
        self.indptr, self.indices, self._transposed = indptr, indices, None

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over another support of the same matrix too, as after growth, once it is checked."""
        given = [state_dict.get(prefix + name) for name in ("values", "indptr", "indices")]
        values, indptr, indices = given
        if values is not None and indptr is not None and indices is not None:
            try:
                support.check_compressed(indptr, indices, self.shape, prefix + "indptr")
                if values.shape != indices.shape:
                    raise ValueError(f"{prefix}values has {len(values)} entries for {len(indices)} indices")
                device = self.values.device
                self._put(values.to(self.values), indptr.to(device, copy=True), indices.to(device, copy=True))
            except ValueError as error:
                error_msgs.append(str(error))
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _SparseProduct(torch.autograd.Function):
    """X W' for rows X (b, n_in), with the gradient of the values on the support alone.

    dL/dX = G W and dL/dW_ij = sum over the batch of G_i X_j, with G = dL/dY (b, n_out): the last is a sampled product
    of two dense matrices, of which only the entries in the support are ever formed. Dense factors have the batch as
    their last dimension, where it is contiguous; what comes out is a view the other way round, so that a chain of
    sparse layers and activations copies nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, layer: SparseLinear) -> Tensor:
        ctx.layer = layer
        ctx.indptr, ctx.indices = layer.indptr, layer.indices
        ctx.save_for_backward(x, values)
        weight = csr(layer.indptr, layer.indices, values, layer.shape)
        return torch.sparse.mm(weight, x.t()).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    layer, (x, values) = ctx.layer, ctx.saved_tensors
    if layer.indices is not ctx.indices:
        raise RuntimeError("the support of a SparseLinear moved between forward and backward: run the batch again")
    dx = dv = None
    if layer.passes is not None:
        layer.passes.append((x.detach(), g.detach()))
    if ctx.needs_input_grad[0]:
        dx = _across(layer, values, g)
    if ctx.needs_input_grad[1]:
        dv = torch.zeros_like(values)
        pattern = csr(ctx.indptr, ctx.indices, dv, layer.shape)
        torch.sparse.sampled_addmm(pattern, g.t(), x, beta=0.0, out=pattern)
    return dx, dv, None


def _across(layer: SparseLinear, values: Tensor, g: Tensor) -> Tensor:
    """Compute G W, in a function of its own so that the values in the other order do not outlive it."""
    indptr, indices, order = layer.transposed()
    weight = csr(indptr, indices, values.index_select(0, order), (layer.in_features, layer.out_features))
    return torch.sparse.mm(weight, g.t()).t()


def csr(indptr: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a torch CSR matrix on these arrays, which are neither copied nor checked."""
    _announce()
    return torch.sparse_csr_tensor(indptr, indices, values.detach(), shape, check_invariants=False)


@functools.cache
def _announce() -> None:
    """Let torch say once, unheard, that its CSR matrices are in beta state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty = torch.zeros(0, dtype=torch.int32)
        torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.int32), empty, torch.zeros(0), (1, 1), check_invariants=False
        )
