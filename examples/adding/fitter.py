"""Neurons of one random input each, one a round: a Fitter in one file, ``sparelu/train/random_hinges.py``."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch

from sparelu.data import Budget, Data
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State, Status


@dataclass(frozen=True)
class RandomHinges(Fitter):
    """Add the best of some random hinges of one input each, again and again, with output weights by least squares.

    Source: Rahimi and Recht, Weighted sums of random kitchen sinks, 2009. Departs from it: hinges of one input, and of
    ``tries`` drawn in a round the one that correlates most with the residual is kept, instead of all.
    """

    name = "random-hinges"
    question = "train"
    paper = "Rahimi and Recht, Weighted sums of random kitchen sinks, 2009"

    tries: int = setting(20, "hinges drawn in each round, of which one is kept", low=1)

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Refuse what is not regression of one target with one hidden layer."""
        if data.task != "regression" or data.outputs != 1:
            return "it serves regression of one target: choose gmp for classes or several targets"
        return budget_reason(data, budget, depth=(1, 1))

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield after every neuron; the state is the hinges so far: input, sign and knot of each, (k, 3)."""
        x, y = np.asarray(data.x[:], dtype=np.float64), np.asarray(data.y[:], dtype=np.float64)
        units = min(budget.hidden[0], budget.count(data.inputs, data.outputs) or 0)
        hinges = np.empty((0, 3)) if start is None else np.asarray(start["hinges"])
        if start is not None:
            yield _iterate(x, y, hinges, units, budget.hidden[0])  # a resumed fit begins with the iterate it is from
        while len(hinges) < units:
            column = rng.integers(data.inputs, size=self.tries)
            drawn = np.stack(
                [column, rng.choice([-1, 1], self.tries), x[rng.integers(data.n, size=self.tries), column]]
            )
            values = _values(x, drawn.T) - _values(x, drawn.T).mean(axis=0)
            residual = y - _design(x, hinges) @ _weights(x, y, hinges)
            best = np.argmax(np.abs(residual @ values) / (np.linalg.norm(values, axis=0) + np.finfo(float).tiny))
            hinges = np.vstack([hinges, drawn.T[best]])
            yield _iterate(x, y, hinges, units, budget.hidden[0])
        return Status.max_steps


def _values(x: np.ndarray, hinges: np.ndarray) -> np.ndarray:
    """Return max(0, sign * (x - knot)) of every row and hinge, (n, k)."""
    column, sign, knot = hinges[:, 0].astype(int), hinges[:, 1], hinges[:, 2]
    return np.maximum(sign * (x[:, column] - knot), 0)


def _design(x: np.ndarray, hinges: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), _values(x, hinges)])


def _weights(x: np.ndarray, y: np.ndarray, hinges: np.ndarray) -> np.ndarray:
    """Return the constant and the output weights of least squares, (1 + k,); of many as good the shortest."""
    weights: np.ndarray = np.linalg.lstsq(_design(x, hinges), y, rcond=None)[0]
    return weights


def _iterate(x: np.ndarray, y: np.ndarray, hinges: np.ndarray, units: int, width: int) -> Iterate:
    """Return what there is after so many neurons; the network and the state are made only when they are wanted."""
    weights = _weights(x, y, hinges)
    loss = float(np.mean((_design(x, hinges) @ weights - y) ** 2))

    def network() -> Network:
        w, v, b = np.zeros((width, x.shape[1])), np.zeros(width), np.zeros(width)
        at = np.arange(len(hinges))
        w[at, hinges[:, 0].astype(int)], b[at], v[at] = hinges[:, 1], -hinges[:, 1] * hinges[:, 2], weights[1:]
        return Network.two_layer(w, v, bias=b, output_bias=weights[:1])

    return Iterate(len(hinges) / units, loss, network, lambda: {"hinges": torch.from_numpy(hinges)})
