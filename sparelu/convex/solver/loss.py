"""Losses that are sums over rows and outputs, with their conjugates."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, log_softmax, softmax, xlogy

Targets = Float[np.ndarray, "n k"]

INSIDE = 0.99
"""Share of the way to the edge of the conjugate's domain that one step may go."""


@dataclass(frozen=True, eq=False)
class Loss(ABC):
    """L(f) = sum_r c_r phi(f_r, y_r) for outputs f (n, k), targets ``y`` (n, k), weights ``c`` (n,) of sum one.

    A dual point theta (n, k) belongs to outputs f when theta = -grad L(f).
    """

    y: Targets
    c: Float[np.ndarray, " n"]

    @abstractmethod
    def value(self, f: Targets) -> float:
        """Compute L(f)."""

    @abstractmethod
    def dual_point(self, f: Targets) -> Targets:
        """Compute -grad L(f)."""

    @abstractmethod
    def dual_value(self, theta: Targets) -> float:
        """Compute -L*(-theta), concave; minus infinity outside the domain."""


class Separable(Loss):
    """A loss that is a sum over outputs too, so that dual points and outputs belong to each other entry by entry."""

    @abstractmethod
    def outputs(self, theta: Targets) -> Targets:
        """Compute the outputs f with -grad L(f) = theta."""

    @abstractmethod
    def curvature(self, theta: Targets) -> Targets:
        """Compute -d f / d theta > 0, entry by entry."""

    @abstractmethod
    def longest_step(self, theta: Targets, direction: Targets) -> float:
        """Return the largest t at most one for which theta + t direction stays well inside the domain."""

    @abstractmethod
    def column(self, output: int) -> "Separable":
        """Return the loss of one output alone."""


class Squared(Separable):
    """phi = |f - y|^2 / 2. Conjugate: phi*(t) = t^2 / 2 + t y, so that f = y - theta / c."""

    def value(self, f: Targets) -> float:
        return float(0.5 * self.c @ ((f - self.y) ** 2).sum(axis=1))

    def dual_point(self, f: Targets) -> Targets:
        return self.c[:, None] * (self.y - f)

    def dual_value(self, theta: Targets) -> float:
        return float((theta * self.y).sum() - 0.5 * (theta**2 / self.c[:, None]).sum())

    def outputs(self, theta: Targets) -> Targets:
        return self.y - theta / self.c[:, None]

    def curvature(self, theta: Targets) -> Targets:
        return np.broadcast_to(1 / self.c[:, None], theta.shape)

    def longest_step(self, theta: Targets, direction: Targets) -> float:
        return 1.0

    def column(self, output: int) -> "Squared":
        return Squared(self.y[:, output : output + 1], self.c)


class Logistic(Separable):
    """phi = log(1 + exp(-y f)), y = -1 or 1, summed over outputs.

    With p = y theta / c in (0, 1): -phi*(-theta / c) is the entropy of p, and f = y log((1 - p) / p).
    """

    def value(self, f: Targets) -> float:
        return float(self.c @ np.logaddexp(0, -self.y * f).sum(axis=1))

    def dual_point(self, f: Targets) -> Targets:
        return self.c[:, None] * self.y * expit(-self.y * f)

    def dual_value(self, theta: Targets) -> float:
        p = self.y * theta / self.c[:, None]
        if p.min() < 0 or p.max() > 1:
            return -np.inf
        return float(-self.c @ (xlogy(p, p) + xlogy(1 - p, 1 - p)).sum(axis=1))

    def outputs(self, theta: Targets) -> Targets:
        p = self.y * theta / self.c[:, None]
        return self.y * (np.log1p(-p) - np.log(p))

    def curvature(self, theta: Targets) -> Targets:
        p = self.y * theta / self.c[:, None]
        return 1 / (self.c[:, None] * p * (1 - p))

    def longest_step(self, theta: Targets, direction: Targets) -> float:
        p, step = self.y * theta / self.c[:, None], self.y * direction / self.c[:, None]
        room = np.where(step > 0, 1 - p, p)
        with np.errstate(divide="ignore"):
            return min(1.0, INSIDE * float((room / np.abs(step)).min()))

    def column(self, output: int) -> "Logistic":
        return Logistic(self.y[:, output : output + 1], self.c)


class CrossEntropy(Loss):
    """phi = log sum exp f - f_label for one-hot ``y``: what networks of three and more classes are trained with.

    With q = y - theta / c a distribution over the outputs, -phi*(-theta / c) is its entropy.
    """

    def value(self, f: Targets) -> float:
        return float(-self.c @ (self.y * log_softmax(f, axis=1)).sum(axis=1))

    def dual_point(self, f: Targets) -> Targets:
        return self.c[:, None] * (self.y - softmax(f, axis=1))

    def dual_value(self, theta: Targets) -> float:
        q = self.y - theta / self.c[:, None]
        # The sum of q is one up to the rounding of theta / c; an entry below zero by more is outside the domain.
        rounding = 8 * np.finfo(float).eps
        if q.min() < -rounding or np.abs(q.sum(axis=1) - 1).max() > rounding * q.shape[1]:
            return -np.inf
        q = np.maximum(q, 0)
        return float(-self.c @ xlogy(q, q).sum(axis=1))
