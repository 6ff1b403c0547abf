"""What is known of a one-hidden-layer function: hinges of known hyperplanes, each turned to where it was read."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from sparelu.networks.network import Layer, Network
from sparelu.recover.exact.steps.orientation import orientations

PARALLEL = 0.99
PART = 0.1
"""A jump in a direction with such a cosine to that of a hinge, and at most such a part of it, corrects the hinge."""


@dataclass(frozen=True, eq=False)
class KnownHinges:
    """``sum_j out_j (normal_j . u + offset_j)_+`` in scaled inputs and outputs.

    ``error`` (m,) is the standard deviation of the entries of a normal, relative to its largest.
    """

    normal: Float[np.ndarray, "m inputs"]
    offset: Float[np.ndarray, " m"]
    out: Float[np.ndarray, "m outputs"]
    error: Float[np.ndarray, " m"]

    @classmethod
    def none(cls, inputs: int, outputs: int) -> "KnownHinges":
        """Return no hinge at all."""
        return cls(np.empty((0, inputs)), np.empty(0), np.empty((0, outputs)), np.empty(0))

    def __len__(self) -> int:
        return len(self.offset)

    def __call__(self, u: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n outputs"]:
        """Return the values at the rows ``u``."""
        return np.maximum(u @ self.normal.T + self.offset, 0) @ self.out

    @property
    def slack(self) -> Float[np.ndarray, " outputs"]:
        """Return the standard deviation of the values that the errors leave, per unit distance from the origin."""
        each = (self.error * np.abs(self.normal).max(axis=1, initial=0.0))[:, None] * self.out
        slack: np.ndarray = np.sqrt((each**2).sum(axis=0))
        return slack

    def take(self, rows: np.ndarray) -> "KnownHinges":
        """Return the named hinges alone."""
        return KnownHinges(self.normal[rows], self.offset[rows], self.out[rows], self.error[rows])

    def joined(self, other: "KnownHinges") -> "KnownHinges":
        """Return the hinges of both."""
        pairs = ("normal", "offset", "out", "error")
        return KnownHinges(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in pairs))

    def parallel(self, other: "KnownHinges") -> np.ndarray:
        """Return which hinges (m, other) have hyperplanes that differ less than a hinge read wrong does from its
        correction."""
        mine, theirs = (h.normal / np.linalg.norm(h.normal, axis=1, keepdims=True) for h in (self, other))
        small = np.linalg.norm(other.normal, axis=1) < PART * np.linalg.norm(self.normal, axis=1)[:, None]
        found: np.ndarray = (np.abs(mine @ theirs.T) > PARALLEL) & small
        return found

    def crossings(self, origin: np.ndarray, direction: np.ndarray) -> Float[np.ndarray, " m"]:
        """Return where the line ``origin + t direction`` crosses each hyperplane."""
        along = self.normal @ direction
        return -(self.normal @ origin + self.offset) / np.where(along == 0, np.finfo(float).tiny, along)

    def network(self, slope: np.ndarray, constant: np.ndarray) -> Network:
        """Return the network of the hinges beside the affine part ``slope`` (inputs, outputs), ``constant``."""
        skip = Layer.from_dense(slope.T) if slope.any() else None
        return Network.two_layer(self.normal, self.out.T, bias=self.offset, output_bias=constant, skip=skip)


def flips(hinges: KnownHinges, slope: np.ndarray, error: np.ndarray) -> Bool[np.ndarray, " m"]:
    """Return which hinges (m,) to turn so that their affine parts make up ``slope`` (inputs, outputs) within ``error``.

    out (z)_+ = out (|z| + z) / 2, so a slope that hinges on the side of e = +-1 leave is half a sum of e out normal.
    """
    if not len(hinges):
        return np.zeros(0, dtype=bool)
    half = hinges.out.T @ hinges.normal / 2
    sides = orientations(
        torch.as_tensor(np.column_stack([hinges.normal, hinges.offset])),
        torch.as_tensor(hinges.out),
        torch.as_tensor(np.column_stack([slope.T + half, np.zeros(len(half))])),
        torch.as_tensor(np.column_stack([error.T, np.ones(len(half))])),
    )
    turned: np.ndarray = sides.numpy() < 0
    return turned
