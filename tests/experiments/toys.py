"""A method that costs nothing, for the tests of what stands around a fit."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import pytest

from sparelu import catalogue
from sparelu.cli.declarations import declaration_of, declarations
from sparelu.data import Budget, Data
from sparelu.method import Fitter, Method, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State, Status


@dataclass(frozen=True)
class Shrunk(Fitter):
    """Least squares on (x_j)_+ of the first inputs, as many as the budget has, times ``shrink``: 1 is best."""

    name = "shrunk"
    question = "train"
    paper = "none"

    shrink: float = setting(0.5, "factor of the weights", above=0)
    rounds: int = setting(1, "rounds, all the same", low=1)

    def refuses(self, data: Data, budget: Budget) -> str | None:
        return budget_reason(data, budget)

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        x, y = np.asarray(data.x), np.asarray(data.y)
        s = min(budget.count(data.inputs, data.outputs) or 0, data.inputs, budget.hidden[0])
        v = self.shrink * np.linalg.lstsq(np.maximum(x[:, :s], 0), y, rcond=None)[0]
        network = Network.two_layer(np.eye(s, data.inputs), v)
        loss = float(np.mean((np.maximum(x[:, :s], 0) @ v - y) ** 2))
        for i in range(0 if start is None else int(start["round"]), self.rounds):
            yield Iterate((i + 1) / self.rounds, loss, lambda: network, lambda i=i: {"round": i})
        return Status.converged


def make_known(monkeypatch: pytest.MonkeyPatch, method: type[Method]) -> None:
    """Add a method, for one test, to all and to what is declared of all."""
    declared = declarations().methods  # as they are without it
    monkeypatch.setitem(catalogue.METHODS, method.name, method)
    monkeypatch.setitem(declared, method.name, declaration_of(method))


def hinges(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x (rows, 6) and y = (x_0)_+ + 0.7 (x_1)_+ + 0.4 (x_2)_+ + noise of standard deviation 0.3."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6))
    return x, np.maximum(x[:, :3], 0) @ [1.0, 0.7, 0.4] + 0.3 * rng.standard_normal(rows)
