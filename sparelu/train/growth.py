"""Where a linear layer should grow, without its dense gradient: the largest entries of G' X, block by block."""

import torch
from torch import Tensor

from sparelu.support import StreamingLargest

BLOCK = 1 << 20
"""Entries of the gradient that exist at one time: 4 MB in float32."""


def largest_gradients(
    inputs: Tensor, output_gradients: Tensor, k: int, taken: Tensor, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The ``k`` entries of largest |dL/dW| of y = x W' among those that are not ``taken``.

    ``inputs`` (..., n_in) and ``output_gradients`` dL/dy (..., n_out) are those of one backward pass, and ``taken`` are
    places i n_in + j of living weights W_ij, in increasing order. Returns places in increasing order and the gradients
    there. Memory is that of ``block`` entries (or one row) and of k; the dense gradient has n_out n_in. The work is
    that of the dense product. Ties keep the earlier place. This is the growth of RigL (Evci et al., 2020, section 3).

    Raises ``ValueError`` when fewer than ``k`` places are free or a gradient is not finite.
    """
    x = inputs.reshape(-1, inputs.shape[-1])
    g = output_gradients.reshape(-1, output_gradients.shape[-1])
    columns, outputs = x.shape[1], g.shape[1]
    if not 0 <= k <= outputs * columns - len(taken):
        raise ValueError(f"cannot grow {k} weights: {outputs * columns - len(taken)} places are free")
    best = StreamingLargest(k)
    rows = max(1, block // columns)
    for start in range(0, outputs, rows):
        gradient = (g[:, start : start + rows].T @ x).reshape(-1)
        if not bool(torch.isfinite(gradient).all()):
            raise ValueError("a gradient is not finite and cannot say where to grow: skip this batch")
        first, last = torch.searchsorted(taken, taken.new_tensor([start * columns, start * columns + len(gradient)]))
        free = torch.ones_like(gradient, dtype=torch.bool)
        free[taken[int(first) : int(last)] - start * columns] = False
        places = free.nonzero()[:, 0]
        best.add(gradient[places].abs(), places + start * columns, gradient[places])
    return best.result()
