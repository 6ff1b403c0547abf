"""Where a linear layer should grow, without its dense gradient: the largest entries of G' X, block by block."""

import torch
from torch import Tensor

from sparelu.support import StreamingLargest

BLOCK = 1 << 18
"""Entries of the gradient that exist at one time: 1 MB in float32."""


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
    best = _Largest(k)
    rows = max(1, block // columns)
    for start in range(0, outputs, rows):
        gradient = (g[:, start : start + rows].T @ x).reshape(-1)
        first, last = torch.searchsorted(taken, taken.new_tensor([start * columns, start * columns + len(gradient)]))
        best.offer(gradient, start * columns, taken[int(first) : int(last)])
    return best.result()


class _Largest:
    """The ``k`` largest magnitudes of a stream of blocks. What may be among them waits until there are k more.

    A ranking of k takes longer than a product of a block: ranked only then, a stream in no special order is ranked
    about as often as the logarithm of its length over k.
    """

    def __init__(self, k: int) -> None:
        self.best = StreamingLargest(k)
        self.places: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.waiting = 0

    def offer(self, gradient: Tensor, start: int, taken: Tensor) -> None:
        """A block of places from ``start`` on, of which ``taken`` are none."""
        magnitude = gradient.abs()
        if not bool(torch.isfinite(magnitude.max())):
            raise ValueError("a gradient is not finite and cannot say where to grow: skip this batch")
        magnitude[taken - start] = -1.0
        floor = self.best.scores.min() if len(self.best.scores) == self.best.k > 0 else magnitude.new_zeros(())
        places = (magnitude >= floor).nonzero()[:, 0]
        self.places.append(places + start)
        self.gradients.append(gradient[places])
        self.waiting += len(places)
        if self.waiting >= max(self.best.k, len(gradient)):
            self._rank()

    def result(self) -> tuple[Tensor, Tensor]:
        """Places in increasing order, and the gradients there."""
        self._rank()
        return self.best.result()

    def _rank(self) -> None:
        if self.waiting:
            gradients = torch.cat(self.gradients)
            self.best.add(gradients.abs(), torch.cat(self.places), gradients)
            self.places, self.gradients, self.waiting = [], [], 0
