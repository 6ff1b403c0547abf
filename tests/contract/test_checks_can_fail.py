"""For each law a method that breaks it, and the check that catches it."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import pytest

from sparelu.data import Budget, Data
from sparelu.method import Fitter, budget_reason
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, State, Status
from tests.contract import checks
from tests.contract.table import PROBLEMS


@dataclass(frozen=True)
class Random(Fitter):
    """Random hidden weights within the budget and least squares above: keeps every law."""

    name = "random-features"
    question = "train"
    paper = "none"

    def refuses(self, data: Data, budget: Budget) -> str | None:
        return budget_reason(data, budget)

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        weights = [np.asarray(w) for w in start["weights"]] if start is not None else []
        if weights:
            yield self.iterate(data, weights)
        while len(weights) < budget.hidden[0]:
            weights.append(self.draw(data, rng))
            yield self.iterate(data, weights)
        return Status.converged

    def draw(self, data: Data, rng: np.random.Generator) -> np.ndarray:
        w = np.zeros(data.inputs)
        w[rng.integers(data.inputs)] = rng.choice([-1.0, 1.0])
        return w

    def iterate(self, data: Data, weights: list[np.ndarray]) -> Iterate:
        x, y = np.asarray(data.x), np.asarray(data.y)
        features = np.column_stack([np.maximum(x @ np.stack(weights).T, 0), np.ones(len(x))])
        v = np.linalg.lstsq(features, y, rcond=None)[0]
        loss = float(np.mean((features @ v - y) ** 2))
        network = Network.two_layer(np.stack(weights), v[:-1], output_bias=v[-1:])
        return Iterate(len(weights) / 4, loss, lambda: network, lambda: {"weights": [w.copy() for w in weights]})


class TooMany(Random):
    """Uses more weights than allowed."""

    def draw(self, data: Data, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(data.inputs)


class GlobalState(Random):
    """Draws from NumPy's global generator."""

    def draw(self, data: Data, rng: np.random.Generator) -> np.ndarray:
        return super().draw(data, np.random.default_rng(np.random.randint(2**31)))  # noqa: NPY002


class Scribbler(Random):
    """Changes the inputs."""

    def draw(self, data: Data, rng: np.random.Generator) -> np.ndarray:
        np.asarray(data.x)[0, 0] += 1
        return super().draw(data, rng)


class Forgetful(Random):
    """Forgets the last weight when it is resumed."""

    def iterate(self, data: Data, weights: list[np.ndarray]) -> Iterate:
        good = super().iterate(data, weights)
        return Iterate(good.progress, good.loss, good.network, lambda: {"weights": weights[:-1] or weights})


class Lazy(Random):
    """Returns the same useless network always."""

    def iterate(self, data: Data, weights: list[np.ndarray]) -> Iterate:
        good = super().iterate(data, weights)
        return Iterate(good.progress, good.loss, lambda: Network.two_layer(np.eye(1, 6), [1e-6]), good.state)


class WrongShape(Random):
    """Returns a network of other inputs."""

    def iterate(self, data: Data, weights: list[np.ndarray]) -> Iterate:
        good = super().iterate(data, weights)
        return Iterate(good.progress, good.loss, lambda: Network.two_layer(np.eye(1, 9), [1.0]), good.state)


BROKEN = {
    checks.keeps_budget: TooMany,
    checks.seed_decides: GlobalState,
    checks.leaves_inputs: Scribbler,
    checks.resumes: Forgetful,
    checks.makes_progress: Lazy,
    checks.iterates_are_networks: WrongShape,
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda c: c.__name__)
def test_a_lawful_method_passes(check) -> None:
    check(Random(), *PROBLEMS["planted"].__wrapped__())


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda c: c.__name__)
def test_a_broken_method_is_caught(check) -> None:
    with pytest.raises(AssertionError):
        check(BROKEN[check](), *PROBLEMS["planted"].__wrapped__())
