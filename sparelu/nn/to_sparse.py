"""After training: a module whose Linear layers store and multiply only their nonzeros, where that is faster.

Measured on one core in float32, batch 64: compressed rows beat a dense 4096 x 4096 product below a density of about
0.2. The break-even depends on machine, size and batch, so that each layer is timed on the machine at hand.
"""

import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparelu.nn.sparse_linear import DTYPES, SparseLinear


class SlowerSparseWarning(UserWarning):
    """A layer is, or would be, slower in compressed rows than dense."""


@dataclass(frozen=True)
class LayerTiming:
    """The forward pass of one Linear layer, dense and in compressed rows: the quickest of several, in seconds.

    ``sparse`` says which of the two the converted module has.
    """

    name: str
    shape: tuple[int, int]
    density: float
    dense_seconds: float
    sparse_seconds: float
    sparse: bool

    @property
    def speedup(self) -> float:
        """Return dense over sparse seconds."""
        return self.dense_seconds / self.sparse_seconds


def to_sparse(model: nn.Module, *, batch: int = 64, force: bool = False) -> tuple[nn.Module, tuple[LayerTiming, ...]]:
    """Copy ``model`` with :class:`SparseLinear` for Linear where that is faster; return each layer's times, too.

    Every ``nn.Linear`` is timed both ways on ``batch`` rows with the threads torch has now. Those that would be slower
    stay dense, with a :class:`SlowerSparseWarning` that names layer and density; with ``force`` they are converted and
    the warning says what that costs. Exact zeros are dropped and nothing else: outputs agree up to rounding.

    Left as they are: convolutions (an unstructured sparse convolution is slower than a dense one here; channels that
    are all zero can be removed instead), subclasses of Linear, weights shared by several layers, and other types than
    float32 and float64. The copy trains on: see :class:`SparseLinear`. ``model`` is not changed.
    """
    uses = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    replaced: dict[int, nn.Module] = {}
    timings = []
    for name, module in model.named_modules():
        if type(module) is not nn.Linear or uses[id(module.weight)] > 1 or module.weight.dtype not in DTYPES:
            continue
        timing, sparse = _timed(name, module, batch, force)
        timings.append(timing)
        if timing.sparse:
            replaced[id(module)] = sparse
        if timing.speedup < 1:
            _warn(timing, batch)
    return copy.deepcopy(model, replaced), tuple(timings)


def _timed(name: str, linear: nn.Linear, batch: int, force: bool) -> tuple[LayerTiming, SparseLinear]:
    sparse = SparseLinear.from_dense(linear).train(linear.training).requires_grad_(linear.weight.requires_grad)
    x = torch.zeros(batch, linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
    slow, quick = _quickest(lambda: linear(x)), _quickest(lambda: sparse(x))
    chosen = force or quick <= slow
    return LayerTiming(name, sparse.shape, sparse.density, slow, quick, chosen), sparse


@torch.no_grad()
def _quickest(product: Callable[[], Tensor], *, seconds: float = 0.2, repeats: int = 5) -> float:
    """Measure a product for so many ``seconds``, and at least so often; return the quickest."""
    product()
    best, spent, times = float("inf"), 0.0, 0
    while times < repeats or spent < seconds:
        start = time.perf_counter()
        if product().is_cuda:
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        best, spent, times = min(best, took), spent + took, times + 1
    return best


def _warn(timing: LayerTiming, batch: int) -> None:
    state = "was converted all the same (force)" if timing.sparse else "stays dense"
    warnings.warn(
        f"{timing.name or 'the layer'} of shape {timing.shape} with density {timing.density:.3g} {state}: on {batch} "
        f"rows it takes {1e3 * timing.sparse_seconds:.3g} ms in compressed rows and "
        f"{1e3 * timing.dense_seconds:.3g} ms dense",
        SlowerSparseWarning,
        stacklevel=3,
    )
