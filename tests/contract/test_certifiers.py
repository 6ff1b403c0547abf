"""Every Certifier of the catalogue keeps every law; for each law a certifier that breaks it, and is caught."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from sparelu.catalogue import METHODS, certifier
from sparelu.data import Data
from sparelu.method import Certifier, Refusal, SettingError, settings_of
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate
from sparelu.run import certify

KNOWN = {name: method for name, method in METHODS.items() if issubclass(method, Certifier)}


def _network(sizes: tuple[int, ...], bias: bool = True, skip: bool = False) -> Network:
    rng = np.random.default_rng(sum(sizes))
    layers = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        w = rng.standard_normal((b, a)) * (rng.random((b, a)) < 0.6)
        layers.append(Layer.from_dense(w, rng.standard_normal(b) if bias else None))
    affine = Layer.from_dense(rng.standard_normal((sizes[-1], sizes[0]))) if skip else None
    return Network(tuple(layers), affine)


def _data(inputs: int, classes: int = 0) -> Data:
    rng = np.random.default_rng(inputs)
    x = rng.standard_normal((60, inputs))
    if classes:
        return Data(x, np.arange(60) % classes, "classification")
    return Data(x, np.abs(x[:, 0]) + rng.standard_normal(60))


def _student(d: int, dtype: torch.dtype = torch.float64) -> tuple[Network, Data]:
    """As many neurons as inputs, on the targets of the orthonormal teacher."""
    rng = np.random.default_rng(d)
    x = rng.standard_normal((60, d))
    net = Network.two_layer(np.eye(d) + 0.1 * rng.standard_normal((d, d)), np.ones(d))
    return net.to(dtype), Data(x, np.maximum(x, 0).sum(axis=1))


CASES: dict[str, Callable[[], tuple[Network, Data]]] = {
    "one input": lambda: (_network((1, 8, 1)), _data(1)),
    "two inputs, deep": lambda: (_network((2, 5, 4, 1)), _data(2)),
    "no biases": lambda: (_network((5, 6, 1), bias=False), _data(5)),
    "affine part": lambda: (_network((4, 6, 1), skip=True), _data(4)),
    "three classes": lambda: (_network((4, 8, 3)), _data(4, 3)),
    "two classes, float32": lambda: (_network((4, 8, 5, 1)).to(torch.float32), _data(4, 2)),
    "student": lambda: _student(3),
    "larger student": lambda: _student(5),
    "student, float32": lambda: _student(4, torch.float32),
    "no weights": lambda: (Network.two_layer(np.zeros((2, 3)), np.zeros(2), output_bias=np.ones(1)), _data(3)),
}


def seed_decides(method: Certifier, network: Network, data: Data) -> None:
    """Same seed, same certificate; global random state is neither read nor moved."""
    found = []
    for state in (0, 1):
        np.random.seed(state)  # noqa: NPY002 the global state is what is watched here
        torch.manual_seed(state)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        found.append(certify(method, network, data, seed=3))
        assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
        assert torch.equal(before[1], torch.get_rng_state())
    assert found[0] == found[1]


def leaves_inputs(method: Certifier, network: Network, data: Data) -> None:
    """Network and data are the same after as before."""
    before = [(p.indices.clone(), p.values.clone()) for p in network.layers]
    x, y = copy.deepcopy(np.asarray(data.x)), copy.deepcopy(np.asarray(data.y))
    certify(method, network, data)
    assert all(
        torch.equal(i, p.indices) and torch.equal(v, p.values) for (i, v), p in zip(before, network.layers, strict=True)
    )
    assert np.array_equal(x, np.asarray(data.x))
    assert np.array_equal(y, np.asarray(data.y))


def is_finite_and_in_words(method: Certifier, network: Network, data: Data) -> None:
    """A finite value of a Python float with a unit, claimed in words."""
    claim = certify(method, network, data)
    assert type(claim.value) is float
    assert math.isfinite(claim.value)
    assert len(claim.claim) > 20
    assert claim.unit


def has_evidence(method: Certifier, network: Network, data: Data) -> None:
    """At least one assumption, each in words; what is checked or violated says by what."""
    claim = certify(method, network, data)
    assert claim.assumptions
    for a in claim.assumptions:
        assert len(a.text) > 10
        assert a.state == "taken on trust" or a.evidence, f"{a.text!r} is {a.state} without evidence"


def refuses_wrong_width(method: Certifier, network: Network, data: Data) -> None:
    """Data of another width are refused, naming both widths."""
    wide = Data(np.zeros((5, network.inputs + 40)), np.arange(5.0))
    reason = method.refuses(network, wide)
    assert reason is not None
    assert str(network.inputs) in reason
    assert str(network.inputs + 40) in reason
    with pytest.raises(Refusal, match="cannot certify"):
        certify(method, network, wide)


def refusal_is_a_reason(method: Certifier, network: Network, data: Data) -> None:
    """A refusal is a sentence, with data and without; what is not refused is certified."""
    for given in (data, None):
        reason = method.refuses(network, given)
        assert reason is None or len(reason) > 20
        if reason is None:
            assert isinstance(certify(method, network, given), Certificate)


QUICK: dict[str, dict[str, Any]] = {"optimal": {"patterns": 0}}
"""Settings with which a certifier of seconds is one of tenths."""
CHECKS = (seed_decides, leaves_inputs, is_finite_and_in_words, has_evidence, refuses_wrong_width, refusal_is_a_reason)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", KNOWN)
def test_laws(name: str, case: str) -> None:
    method, (network, data) = certifier(name, **QUICK.get(name, {})), CASES[case]()
    if method.refuses(network, data) is not None:
        refusal_is_a_reason(method, network, data)
        return
    for check in CHECKS:
        check(method, network, data)


@pytest.mark.parametrize("name", KNOWN)
def test_every_certifier_serves_something(name: str) -> None:
    method = certifier(name)
    assert sum(method.refuses(*make()) is None for make in CASES.values()) >= 3


@pytest.mark.parametrize("name", KNOWN)
def test_settings_are_declared_and_guarded(name: str) -> None:
    for s in settings_of(KNOWN[name]):
        assert len(s.rule.help) > 5, f"{name}.{s.name} has no help"
        with pytest.raises(SettingError, match=s.name):
            s.check(name, object())
        with pytest.raises(SettingError, match="no setting"):
            certifier(name, **{s.name + "x": s.default})
    assert KNOWN[name].__doc__
    assert KNOWN[name].paper
    assert KNOWN[name].question in ("certify", "convex")


@dataclass(frozen=True)
class Count(Certifier):
    """Counts nonzeros: keeps every law."""

    name = "count"
    question = "certify"
    paper = "none"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        if data is not None and data.inputs != network.inputs:
            return f"the network reads {network.inputs} inputs, the data have {data.inputs}"
        return None

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        premise = Assumption("weights are not zero", "checked", "all were looked at")
        return Certificate("number of nonzero weights of the network", float(network.nonzeros), "weights", (premise,))


class Dice(Count):
    """Draws from NumPy's global generator."""

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        return Certificate("a number without any meaning", np.random.random(), "dice")  # noqa: NPY002


class Scribbler(Count):
    """Doubles the weights in place."""

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        network.layers[0].values.mul_(2)
        return super().certify(network, data, rng)


class Infinite(Count):
    """Claims infinity."""

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        return Certificate("a number that is not finite", math.inf, "weights")


class Silent(Count):
    """Says that it checked, and not how."""

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        return Certificate("some claim about the network", 1.0, "x", (Assumption("all is well here", "checked"),))


class Careless(Count):
    """Takes data of any width."""

    def refuses(self, network: Network, data: Data | None) -> str | None:
        return None


class Curt(Count):
    """Refuses in one word."""

    def refuses(self, network: Network, data: Data | None) -> str | None:
        return "no"


BROKEN = {
    seed_decides: Dice,
    leaves_inputs: Scribbler,
    is_finite_and_in_words: Infinite,
    has_evidence: Silent,
    refuses_wrong_width: Careless,
    refusal_is_a_reason: Curt,
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_a_lawful_certifier_passes_and_a_broken_one_is_caught(check) -> None:
    check(Count(), *CASES["no biases"]())
    with pytest.raises(AssertionError):
        check(BROKEN[check](), *CASES["no biases"]())
