"""Fits on the engine: the module they train, the losses, the published checks, and the budget."""

import numpy as np
import pytest
import torch

from sparelu import Budget, Data, Status, fit
from sparelu.catalogue import fitter
from sparelu.train.fit.init import uniform_weights
from sparelu.train.fit.losses import loss_of
from sparelu.train.fit.masked_mlp import MLP
from sparelu.train.fit.models import module_of
from sparelu.train.fit.with_sparsifier import objective_of

QUICK = {"least": 60, "rate": 0.02}


def table(task: str, outputs: int) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 6))
    if task == "regression":
        return Data(x, np.abs(x[:, :outputs]))
    return Data(x, rng.integers(0, max(2, outputs), 90), task)


@pytest.mark.parametrize(
    ("task", "outputs"), [("regression", 1), ("regression", 3), ("classification", 1), ("classification", 4)]
)
def test_module_and_losses_are_those_of_the_other_methods(task: str, outputs: int) -> None:
    """Outputs, loss and the gradients of all weights are those of the hand-written ones."""
    data = table(task, outputs)
    net = MLP.started(data, (7, 5), 100, uniform_weights, np.arange(6), np.random.default_rng(1))
    x = torch.as_tensor(np.asarray(data.x))
    y = data.targets()
    module = module_of(net)
    value = objective_of(data)(module(x), y)
    value.backward()
    assert float(value.detach()) == pytest.approx(net.backward(x, y, loss_of(data)), rel=1e-12)
    weights, biases = net.split(net.gradient)
    for linear, weight, bias in zip(module[::2], weights, biases, strict=True):
        torch.testing.assert_close(linear.weight.grad, weight.t(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(linear.bias.grad, bias, rtol=1e-9, atol=1e-12)


def counts(name: str, **settings: object) -> tuple[list[int], np.ndarray]:
    """Weights of each layer of a fit, and the matrix of the first."""
    solution = fit(fitter(name, **QUICK, **settings), table("classification", 3), Budget((12, 9), nonzeros=60))
    return [layer.nonzeros for layer in solution.network.layers], solution.network.layers[0].dense().numpy()


def test_the_budget_is_met_exactly_and_spread_as_asked() -> None:
    """6 x 12, 12 x 9 and 9 x 3: the same density everywhere, or in proportion to (inputs + outputs) / product."""
    assert sum(counts("rigl", every=10)[0]) == 60
    even = counts("static", allocation="uniform")[0]
    assert even == [21, 31, 8]
    assert counts("static")[0] != even


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_the_published_checks(name: str) -> None:
    """Shuffled: other places, as many in each layer. Drawn anew: the same places, other values."""
    numbers, chosen = counts(name)
    mixed_numbers, mixed = counts(name, check="shuffled")
    again_numbers, again = counts(name, check="reinitialised")
    assert numbers == mixed_numbers == again_numbers
    assert not np.array_equal(chosen != 0, mixed != 0)
    assert np.array_equal(chosen != 0, again != 0)
    assert not np.array_equal(chosen, again)


def test_the_support_moves_and_is_seen_in_the_history() -> None:
    """``visited``, the share of weights that ever lived, grows with RigL and stays with a static support."""
    data, budget = table("classification", 3), Budget((12, 9), nonzeros=60)
    moving = fit(fitter("rigl", **QUICK, every=5), data, budget).history
    still = fit(fitter("static", **QUICK), data, budget).history
    assert moving[-1]["visited"] > 1.1 * still[-1]["visited"]
    assert still[0]["visited"] == still[-1]["visited"] == pytest.approx(60 / (72 + 108 + 27))


def test_a_fit_that_diverges_says_so() -> None:
    data = table("regression", 3)
    solution = fit(fitter("rigl", least=60, rate=1e200), data, Budget((12,), nonzeros=30))
    assert solution.status is Status.diverged


def test_several_ranks_are_not_claimed() -> None:
    assert not fitter("rigl").sums_over_rows
