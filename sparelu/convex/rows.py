"""The rows of a table as the convex programs read them, and their solutions as networks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sparelu.convex.solver.loss import CrossEntropy, Logistic, Loss, Separable, Squared
from sparelu.data import Data
from sparelu.networks.network import Network, zero_network


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows ``x`` (n, d), with a last column of ones where neurons have ``biases``, and the loss of all outputs.

    Biases count like weights: weight decay as optimisers apply it shrinks both. The output bias is then a weight of the
    constant column in ``ridge`` (n, q), q = 0 without biases. Rows count equally. Two classes are one logistic output,
    more are one logistic output each, that class against the rest.
    """

    x: Float[np.ndarray, "n d"]
    loss: Separable
    ridge: Float[np.ndarray, "n q"]

    @classmethod
    def of(cls, data: Data, biases: bool) -> "TrainingTable":
        """Read all rows in float64."""
        x = np.asarray(data.x[:], dtype=np.float64)
        n = len(x)
        ones = np.ones((n, 1 if biases else 0))
        y, c = targets(data), np.full(n, 1 / n)
        loss: Separable = Squared(y, c) if data.task == "regression" else Logistic(2 * y - 1, c)
        return cls(np.column_stack([x, ones]), loss, ones)

    @property
    def biases(self) -> bool:
        """Tell whether the last column of ``x`` is the constant that biases multiply."""
        return self.ridge.shape[1] > 0


def targets(data: Data) -> Float[np.ndarray, "n k"]:
    """Return numbers (n, k), or for labels 0 and 1: one column for two classes, one-hot for more."""
    y = np.asarray(data.y[:])
    if data.task == "regression":
        return np.asarray(y.reshape(len(y), -1), dtype=np.float64)
    return np.asarray(y[:, None] == (np.array([1]) if data.outputs == 1 else np.arange(data.outputs)), dtype=np.float64)


def training_loss(data: Data) -> Loss:
    """Return the loss that a network of these data is trained with: half squares, logistic, or cross-entropy."""
    y, c = targets(data), np.full(data.n, 1 / data.n)
    if data.task == "regression":
        return Squared(y, c)
    return Logistic(2 * y - 1, c) if data.outputs == 1 else CrossEntropy(y, c)


@dataclass(frozen=True, eq=False)
class ProductNeurons:
    """Neurons as products ``u`` (m, d) = |v_j| w_j with ``sign`` (m,) and the ``output`` (m,) that each feeds.

    ``constant`` (k,) are the output biases. With w = u / sqrt|u| and v = sign sqrt|u| weight decay is least:
    (|w|^2 + v^2) / 2 = |u|.
    """

    u: Float[np.ndarray, "m d"]
    sign: Float[np.ndarray, " m"]
    output: np.ndarray
    constant: Float[np.ndarray, " k"]

    def outputs(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Compute the outputs for rows, the constant column included where there are biases."""
        f = np.tile(self.constant, (len(x), 1))
        z = np.maximum(x @ self.u.T, 0) * self.sign
        for o in range(len(self.constant)):
            f[:, o] += z[:, self.output == o].sum(axis=1)
        return f

    def objective(self, table: TrainingTable, penalty: float) -> float:
        """Compute loss + penalty / 2 (sum of the squares of all weights and biases)."""
        weights = float(np.linalg.norm(self.u, axis=1).sum()) + 0.5 * float((self.constant**2).sum())
        return table.loss.value(self.outputs(table.x)) + penalty * weights

    def take(self, kept: np.ndarray) -> "ProductNeurons":
        """Return the named neurons alone."""
        return ProductNeurons(self.u[kept], self.sign[kept], self.output[kept], self.constant)

    def network(self, biases: bool) -> Network:
        """Return the network, weights balanced."""
        size = np.linalg.norm(self.u, axis=1)
        live = size > 0
        u, root = self.u[live], np.sqrt(size[live])
        inputs, k = self.u.shape[1] - biases, len(self.constant)
        constant = self.constant if self.constant.any() else None
        if not live.any():
            return zero_network(inputs, k, constant)
        v = np.zeros((k, len(u)))
        v[self.output[live], np.arange(len(u))] = self.sign[live] * root
        w = u / root[:, None]
        return Network.two_layer(w[:, :inputs], v, w[:, -1] if biases else None, constant)
