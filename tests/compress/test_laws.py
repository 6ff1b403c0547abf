"""The laws of a Compressor, over every method of the folder, and a broken method that each law catches."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sparelu import run
from sparelu.catalogue import METHODS
from sparelu.data import Budget, Data
from sparelu.method import Compressor
from sparelu.networks.network import Network
from sparelu.outcome import Certificate
from tests.contract.checks import same_bits

QUICK = {"population": {"restarts": 3, "steps": 15, "screening": 5, "refit_steps": 5}}
COMPRESSORS = [kind(**QUICK.get(kind.name, {})) for kind in METHODS.values() if issubclass(kind, Compressor)]


def case() -> tuple[Network, Budget, Data]:
    """Thirty neurons of which twenty-four are copies, so that every method can serve it."""
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(6, 7)), rng.uniform(0.5, 1, size=6)
    x = rng.normal(size=(40, 7))
    return Network.two_layer(np.tile(w, (5, 1)), np.tile(v, 5) / 5), Budget(hidden=(6,)), Data(x, x[:, 0])


def keeps_the_budget(method: Compressor) -> None:
    network, budget, data = case()
    for rows in (None, data):
        solution = run.compress(method, network, budget, rows)
        assert solution.network.hidden[0] <= budget.hidden[0]
        assert solution.within_budget


def seed_decides(method: Compressor) -> None:
    network, budget, data = case()
    np.random.seed(0)  # noqa: NPY002 the global state is what is watched here
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = run.compress(method, network, budget, data, seed=3)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
    torch.manual_seed(1)
    assert same_bits(first.network, run.compress(method, network, budget, data, seed=3).network)


def leaves_inputs(method: Compressor) -> None:
    network, budget, data = case()
    kept, x = copy.deepcopy(network), data.x.copy()
    run.compress(method, network, budget, data)
    assert same_bits(network, kept)
    assert np.array_equal(x, data.x)


def keeps_shape_and_claims(method: Compressor) -> None:
    network, budget, data = case()
    solution = run.compress(method, network, budget, data)
    assert (solution.network.inputs, solution.network.outputs) == (7, 1)
    assert solution.network.dtype is network.dtype
    assert solution.certificates
    assert all(np.isfinite(c.value) and c.unit for c in solution.certificates)


LAWS = (keeps_the_budget, seed_decides, leaves_inputs, keeps_shape_and_claims)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("method", COMPRESSORS, ids=lambda m: m.name)
def test_every_method_keeps_every_law(method: Compressor, law: Callable[[Compressor], None]) -> None:
    law(method)


@dataclass(frozen=True)
class Broken(Compressor):
    """Breaks one law, as ``how`` says."""

    how = ""
    name = "broken"
    question = "compress"
    paper = ""

    def refuses(self, network: Network, budget: Budget, data: Data | None) -> str | None:
        return None

    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        claim = (Certificate("none", 0.0, "output"),)
        weight = network.layers[0].dense()[:6]
        match self.how:
            case "too wide":
                return network, claim
            case "global state":
                weight = weight + torch.rand(6, 7)
            case "writes":
                network.layers[0].values.mul_(2)
            case _:
                claim = ()
        return Network.two_layer(weight, torch.ones(6, dtype=torch.float64)), claim


@pytest.mark.parametrize(
    ("how", "law"), list(zip(("too wide", "global state", "writes", "no claim"), LAWS, strict=True))
)
def test_every_law_can_be_broken(how: str, law: Callable[[Compressor], None]) -> None:
    broken = Broken()
    object.__setattr__(broken, "how", how)
    with pytest.raises(AssertionError):
        law(broken)
