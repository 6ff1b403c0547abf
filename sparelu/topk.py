"""Which weights live: exact selection of the k largest, at once or block by block.

Ties are broken by position (the smaller index stays), so that the number kept is exact and the same
everywhere.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SAMPLE = 8192
"""Scores of which the floor of a selection is guessed. A selection from a million takes a third of the time then."""


def largest(scores: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """Return the indices of the ``k`` largest scores, in increasing order of index; ties keep the smaller index.

    Raises ``ValueError`` when ``k`` is outside 0..n or a score is NaN.
    """
    n = scores.numel()
    if not 0 <= k <= n:
        raise ValueError(f"cannot keep {k} of {n} scores: give a number from 0 to {n}")
    if n and torch.isnan(scores.max()):
        raise ValueError(f"{int(torch.isnan(scores).sum())} of {n} scores are NaN: check the weights and gradients")
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    places = _candidates(scores, k)
    return _ranked(scores, k) if places is None else places[_ranked(scores[places], k)]


def _candidates(scores: Float[Tensor, " n"], k: int) -> Int[Tensor, " m"] | None:
    """Return the places, in order, of a few more than the ``k`` largest and all tied with them; None where a sample
    cannot tell.

    The floor is the score above which k of n are expected from every (n / SAMPLE)-th score, less four deviations.
    """
    n = scores.numel()
    sample = scores[:: max(1, n // SAMPLE)]
    expected = k * sample.numel() / n
    rank = int(expected + 4 * math.sqrt(expected) + 4)
    if n < 4 * SAMPLE or 2 * rank > sample.numel():
        return None
    places = torch.nonzero(scores >= sample.topk(rank).values[-1])[:, 0]
    return places if places.numel() >= k else None


def _ranked(scores: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    threshold = torch.topk(scores, k, sorted=False).values.min()
    places = torch.nonzero(scores >= threshold)[:, 0]
    extra = places.numel() - k
    if extra:
        tied = torch.nonzero(scores[places] == threshold)[:, 0]
        keep = torch.ones_like(places, dtype=torch.bool)
        keep[tied[-extra:]] = False
        places = places[keep]
    return places


def largest_mask(scores: Tensor, k: int) -> Bool[Tensor, "..."]:
    """Return the selection of :func:`largest` as a mask of the shape of ``scores`` (any shape)."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[largest(scores.reshape(-1), k)] = True
    return mask.reshape(scores.shape)


@dataclass
class StreamingLargest:
    """Keep the ``k`` largest of a stream of scored items, in memory O(k + block).

    Feed blocks in any order with :meth:`add`; :meth:`result` is the same as one call of
    :func:`largest` on the whole stream, ties included.
    """

    k: int
    scores: Tensor = field(default_factory=lambda: torch.empty(0), init=False)
    _indices: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), init=False)
    _values: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    @property
    def indices(self) -> Int[Tensor, " k"]:
        """Return the indices in increasing order."""
        return self.result()[0]

    @property
    def values(self) -> Float[Tensor, " k"]:
        """Return those of :attr:`indices`."""
        return self.result()[1]

    def add(self, scores: Float[Tensor, " b"], indices: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """Offer a block: its scores, the global index of each item, and the value to carry along."""
        if scores.numel() and torch.isnan(scores.max()):
            raise ValueError("a score is NaN: check the weights and gradients")
        if self.scores.numel() == self.k > 0:
            keep = scores >= self.scores.min()
            scores, indices, values = scores[keep], indices[keep], values[keep]
        scores = torch.cat([self.scores.to(scores), scores])
        indices = torch.cat([self._indices.to(indices), indices])
        values = torch.cat([self._values.to(values), values])
        if scores.numel() > self.k:
            kept = self._kept(scores, indices)
            scores, indices, values = scores[kept], indices[kept], values[kept]
        self.scores, self._indices, self._values = scores, indices, values

    def _kept(self, scores: Tensor, indices: Tensor) -> Tensor:
        """Find which of more than ``k`` items stay; of those tied for the last places the smallest indices."""
        if not self.k:
            return indices.new_empty(0)
        threshold = torch.topk(scores, self.k, sorted=False).values.min()
        kept = torch.nonzero(scores >= threshold)[:, 0]
        extra = kept.numel() - self.k
        if not extra:
            return kept
        tied = torch.nonzero(scores[kept] == threshold)[:, 0]
        stays = torch.ones_like(kept, dtype=torch.bool)
        stays[tied[indices[kept[tied]].argsort()[-extra:]]] = False
        return kept[stays]

    def result(self) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        """Return the indices in increasing order, and their values."""
        order = self._indices.argsort()
        return self._indices[order], self._values[order]
