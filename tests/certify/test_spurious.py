"""A student at the printed spurious minimum is told from one at the global minimum, and from other problems."""

import numpy as np
import pytest
import torch

from sparelu.certify.spurious import Spurious
from sparelu.certify.student_teacher import StudentTeacher, reduced_minimum, reduced_weights
from sparelu.data import Data
from sparelu.networks.network import Network
from sparelu.run import certify


def taught(d: int, seed: int = 0) -> Data:
    x = np.random.default_rng(seed).standard_normal((3000, d))
    return Data(x, np.maximum(x, 0).sum(axis=1))


def student(weight: torch.Tensor, seed: int) -> Network:
    """The weights with neurons in another order and another split between the layers."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 2, len(weight))
    order = rng.permutation(len(weight))
    return Network.two_layer(scale[:, None] * weight.numpy()[order], 1 / scale)


@pytest.mark.parametrize("d", [6, 8])
def test_the_printed_minimum_is_recognised_wherever_it_is_entered_from(d: int) -> None:
    loss, parameters = reduced_minimum(d)
    noise = 0.02 * torch.from_numpy(np.random.default_rng(d).standard_normal((d, d)))
    claim = certify(Spurious(), student(reduced_weights(parameters, d) + noise, d), taught(d))
    assert f"S_{d - 1} x S_1" in claim.claim
    assert claim.value == pytest.approx(loss, rel=1e-4)
    assert claim.holds
    assert not claim.vacuous
    assert "least curvature there 0.0" in claim.assumptions[2].evidence


def test_the_global_minimum_is_no_spurious_one() -> None:
    noise = 0.02 * torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6)))
    claim = certify(Spurious(), student(torch.eye(6, dtype=torch.float64) + noise, 1), taught(6))
    assert "the global minimum" in claim.claim
    assert claim.value < 1e-8
    assert claim.holds


def test_other_teachers_inputs_and_places_violate_a_premise() -> None:
    net = student(reduced_weights(reduced_minimum(6)[1], 6), 2)
    data = taught(6)
    x, y = np.asarray(data.x), np.asarray(data.y)
    tilted = x + x[:, :1]
    states = {
        "teacher": certify(Spurious(), net, Data(x, np.abs(x).sum(axis=1))).assumptions[0].state,
        "scale": certify(Spurious(), net, Data(2 * x, 2 * y)).assumptions[1].state,
        "correlated": certify(Spurious(), net, Data(tilted, np.maximum(tilted, 0).sum(axis=1))).assumptions[1].state,
        "far": certify(Spurious(near=1e-9), student(torch.eye(6).double() + 0.1, 3), data).assumptions[2].state,
    }
    assert set(states.values()) == {"violated"}, states


def test_the_value_is_the_loss_of_the_minimum_by_sampling() -> None:
    loss, parameters = reduced_minimum(6)
    weight = reduced_weights(parameters, 6)
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((400_000, 6)))
    gap = 0.5 * ((x @ weight.T).clamp(min=0).sum(1) - x.clamp(min=0).sum(1)).square()
    claim = certify(Spurious(), student(weight, 4), taught(6))
    assert abs(claim.value - float(gap.mean())) < 4 * float(gap.std()) / 400_000**0.5
    assert StudentTeacher.identity(6).loss(weight) == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Network.two_layer(np.eye(3), np.array([1.0, 1, -1])), "positive output weights"),
        (Network.two_layer(np.eye(3)[:2], np.ones(2)), "2 neurons of 3 inputs"),
        (Network.two_layer(np.eye(3), np.ones(3), bias=np.ones(3)), "without biases"),
        (Network.from_dense([np.eye(3), np.eye(3), np.ones((1, 3))]), "one hidden layer"),
    ],
)
def test_what_the_theory_does_not_serve_is_refused_by_name(network: Network, words: str) -> None:
    reason = Spurious().refuses(network, taught(3))
    assert reason is not None
    assert words in reason
    assert Spurious().refuses(Network.two_layer(np.eye(3), np.ones(3)), None) is not None
