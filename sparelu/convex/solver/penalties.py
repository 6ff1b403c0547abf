"""Proximal maps of the penalties and their derivatives: groups, groups with sparse weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sparelu.convex.solver.program import Blocks

Sizes = Float[np.ndarray, " b"]


@dataclass(frozen=True, eq=False)
class Curvature:
    """Derivative of a proximal map at the blocks ``index``: block i has ``common[i]`` I + R_i R_i', R_i in ``factors``.

    ``factors`` is one array (d k, r) a block.
    """

    index: Int[np.ndarray, " m"]
    common: Float[np.ndarray, " m"]
    factors: list[np.ndarray]


class Penalty(ABC):
    """A positively homogeneous penalty of blocks, a norm or one with the indicator of cones.

    For such a penalty Omega the squared distance of w / sigma to the dual ball is |prox(w)|^2 / sigma^2.
    """

    @abstractmethod
    def value(self, u: Blocks) -> float:
        """Compute the penalty of blocks that keep the constraints."""

    @abstractmethod
    def shrink(self, w: Blocks, sigma: float) -> Blocks:
        """Compute prox_{sigma Omega}(w), with exact zeros."""

    @abstractmethod
    def curvature(self, w: Blocks, u: Blocks, sigma: float) -> Curvature:
        """Return the derivative of the map at ``w``, where it gave ``u``; blocks of derivative zero are left out."""

    @abstractmethod
    def dual_norm(self, g: Blocks) -> float:
        """Compute the least t for which g lies in t times the dual ball."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return what later results depend on besides their arguments, to the last bit."""

    @abstractmethod
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` returned."""


class Memoryless(Penalty):
    """A penalty whose results depend on nothing but their arguments."""

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        return None


@dataclass(frozen=True)
class GroupNorm(Memoryless):
    """``weight`` sum_i |u_i|, the group lasso."""

    weight: float

    def value(self, u: Blocks) -> float:
        return self.weight * float(block_norms(u).sum())

    def shrink(self, w: Blocks, sigma: float) -> Blocks:
        return _shrunk(w, sigma * self.weight)

    def curvature(self, w: Blocks, u: Blocks, sigma: float) -> Curvature:
        index = np.flatnonzero(u.any(axis=(1, 2)))
        size = block_norms(w[index])
        a = 1 - sigma * self.weight / size
        direction = w[index] / size[:, None, None]
        factors = [np.sqrt(1 - ai) * v.reshape(-1, 1) for ai, v in zip(a, direction, strict=True)]
        return Curvature(index, a, factors)

    def dual_norm(self, g: Blocks) -> float:
        return float(block_norms(g).max(initial=0.0)) / self.weight


@dataclass(frozen=True)
class SparseGroupNorm(Memoryless):
    """``weight`` sum_i |u_i| + ``entries`` sum_i |u_i|_1 (sparse group lasso, Simon et al. 2013).

    Its proximal map is the soft threshold, then that of the group.
    """

    weight: float
    entries: float

    def value(self, u: Blocks) -> float:
        return self.weight * float(block_norms(u).sum()) + self.entries * float(np.abs(u).sum())

    def shrink(self, w: Blocks, sigma: float) -> Blocks:
        return _shrunk(_soft(w, sigma * self.entries), sigma * self.weight)

    def curvature(self, w: Blocks, u: Blocks, sigma: float) -> Curvature:
        index = np.flatnonzero(u.any(axis=(1, 2)))
        factors = []
        for s in _soft(w[index], sigma * self.entries):
            flat, size = s.reshape(-1), float(np.linalg.norm(s))
            a = 1 - sigma * self.weight / size
            support = np.flatnonzero(flat)
            columns = np.zeros((flat.size, support.size + 1))
            columns[support, np.arange(support.size)] = np.sqrt(a)
            columns[:, -1] = np.sqrt(1 - a) * flat / size
            factors.append(columns)
        return Curvature(index, np.zeros(index.size), factors)

    def dual_norm(self, g: Blocks) -> float:
        """Solve |soft(g, t entries)| = t weight for the block where t is largest, by bisection to the last bit."""
        low, high = 0.0, float(block_norms(g).max(initial=0.0)) / self.weight
        while low < (middle := 0.5 * (low + high)) < high:
            inside = (block_norms(_soft(g, middle * self.entries)) <= middle * self.weight).all()
            low, high = (low, middle) if inside else (middle, high)
        return high


def block_norms(u: Blocks) -> Sizes:
    """Compute the Euclidean norm of every block."""
    return np.sqrt(np.einsum("bdk,bdk->b", u, u))


def _shrunk(w: Blocks, threshold: float) -> Blocks:
    size = block_norms(w)
    factor = np.zeros_like(size)
    np.divide(size - threshold, size, out=factor, where=size > threshold)
    return w * factor[:, None, None]


def _soft(w: Blocks, threshold: float) -> Blocks:
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)
