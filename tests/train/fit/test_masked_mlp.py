"""The perceptron beside torch's autograd and Adam, and paths beside their enumeration."""

import itertools

import numpy as np
import pytest
import torch

from sparelu.data import Data
from sparelu.train.fit.init import he, uniform_weights
from sparelu.train.fit.losses import cross_entropy, logistic, loss_of, squared
from sparelu.train.fit.masked_mlp import MLP


def data(inputs: int = 5, outputs: int = 3, rows: int = 20) -> Data:
    rng = np.random.default_rng(0)
    return Data(rng.standard_normal((rows, inputs)), rng.standard_normal((rows, outputs)))


def started(hidden: tuple[int, ...], outputs: int = 3, inputs: int = 5, seed: int = 1) -> MLP:
    rng = np.random.default_rng(seed)
    return MLP.started(data(inputs, outputs), hidden, 100, uniform_weights, np.arange(inputs), rng)


def module(net: MLP) -> torch.nn.Module:
    return net.network().to_module()


@pytest.mark.parametrize("hidden", [(4,), (6, 3), (3, 4, 5)])
def test_gradient_is_that_of_autograd(hidden: tuple[int, ...]) -> None:
    net, (x, y) = started(hidden), data().tensors()
    reference = module(net)
    loss = 0.5 * (reference(x) - y).square().sum(1).mean()
    loss.backward()
    assert net.backward(x, y, squared) == pytest.approx(float(loss.detach()), rel=1e-12)
    matrices, biases = net.split(net.gradient)
    linears = [part for part in reference if isinstance(part, torch.nn.Linear)]
    assert len(linears) == len(matrices) == len(hidden) + 1
    for linear, weight, bias in zip(linears, matrices, biases, strict=True):
        torch.testing.assert_close(weight.T, linear.weight.grad, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(bias, linear.bias.grad, rtol=1e-10, atol=1e-13)


def test_losses_are_those_of_torch() -> None:
    rng = np.random.default_rng(3)
    z = torch.tensor(30 * rng.standard_normal((7, 4)), requires_grad=True)
    label = torch.tensor(rng.integers(0, 4, 7))
    reference = torch.nn.functional.cross_entropy(z, label)
    value, gradient = cross_entropy(z.detach(), label)
    assert value == pytest.approx(float(reference.detach()), rel=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(reference, z)[0], rtol=1e-10, atol=1e-15)

    logit, label = z[:, :1].detach().requires_grad_(), label % 2
    reference = torch.nn.functional.binary_cross_entropy_with_logits(logit[:, 0], label.double())
    value, gradient = logistic(logit.detach(), label)
    assert value == pytest.approx(float(reference.detach()), rel=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(reference, logit)[0], rtol=1e-10, atol=1e-15)


def test_the_loss_follows_the_task() -> None:
    x = np.zeros((4, 1))
    assert loss_of(data()) is squared
    assert loss_of(Data(x, np.array(["a", "b", "b", "a"]), "classification")) is logistic
    assert loss_of(Data(x, np.array([0, 1, 2, 1]), "classification")) is cross_entropy


@pytest.mark.parametrize("l1", [0.0, 0.03])
def test_steps_are_those_of_torch_adam(l1: float) -> None:
    net, (x, y) = started((4,)), data().tensors()
    reference = module(net)
    optimiser = torch.optim.Adam(reference.parameters(), lr=0.02)
    for _ in range(30):
        optimiser.zero_grad()
        penalty = sum(part.weight.abs().sum() for part in reference if isinstance(part, torch.nn.Linear))
        (0.5 * (reference(x) - y).square().sum(1).mean() + l1 * penalty).backward()
        optimiser.step()
        net.backward(x, y, squared)
        net.adam(0.02, l1)
    torch.testing.assert_close(net.network()(x), reference(x).detach(), rtol=1e-8, atol=1e-10)
    assert net.step == 30


def test_cut_weights_stay_zero_under_adam() -> None:
    net, (x, y) = started((4,)), data().tensors()
    net.backward(x, y, squared)
    net.adam(0.02)
    mask = torch.tensor(np.random.default_rng(5).random(net.alive.numel()) < 0.6)
    net.keep(mask)
    for _ in range(5):
        net.backward(x, y, squared)
        net.adam(0.02, 0.01)
    assert bool((net.value[: mask.numel()][~mask] == 0).all())
    assert bool((net.value[: mask.numel()][mask] != 0).all())
    assert net.nonzeros == net.network().nonzeros == int(mask.sum())


def paths(net: MLP, mask: torch.Tensor) -> torch.Tensor:
    """The weights on a path, by walking all of them."""
    matrices = [m.numpy() for m in net.split(mask)[0]]
    found = [np.zeros_like(m) for m in matrices]
    for walk in itertools.product(*(range(w) for w in net.widths)):
        steps = list(itertools.pairwise(walk))
        if all(m[a, b] for m, (a, b) in zip(matrices, steps, strict=True)):
            for m, (a, b) in zip(found, steps, strict=True):
                m[a, b] = True
    return torch.tensor(np.concatenate([m.ravel() for m in found]))


@pytest.mark.parametrize("hidden", [(4,), (3, 4), (3, 3, 2)])
def test_connected_weights_are_those_on_paths(hidden: tuple[int, ...]) -> None:
    net = started(hidden, outputs=2, inputs=3)
    loose = 0
    for seed in range(20):
        mask = torch.tensor(np.random.default_rng(seed).random(net.alive.numel()) < 0.3)
        linked = net.connected(mask)
        assert torch.equal(linked, paths(net, mask))
        loose += int((mask & ~linked).sum())
    assert loose > 20, "the masks must hold loose ends, or this shows nothing"


@pytest.mark.parametrize("hidden", [(4,), (3, 3)])
def test_attachable_weights_are_on_a_path_once_they_join(hidden: tuple[int, ...]) -> None:
    net = started(hidden, outputs=2, inputs=3)
    mask = net.connected(torch.tensor(np.random.default_rng(1).random(net.alive.numel()) < 0.3))
    joined = [mask.clone().index_fill_(0, torch.tensor([i]), True) for i in range(mask.numel())]
    wanted = torch.stack([paths(net, both)[i] for i, both in enumerate(joined)])
    assert torch.equal(net.attachable(mask), wanted)
    assert 0 < int((wanted & ~mask).sum()) < int((~mask).sum())


@pytest.mark.parametrize("hidden", [(6,), (5, 4), (4, 4, 4)])
def test_dropping_loose_ends_and_shrinking_change_no_output(hidden: tuple[int, ...]) -> None:
    x = data().tensors()[0]
    shrunk = 0
    for seed in range(10):
        net = started(hidden)
        mask = torch.tensor(np.random.default_rng(seed).random(net.alive.numel()) < 0.25)
        net.keep(mask)
        before = net.network()(x)
        net.keep(net.connected(mask))
        torch.testing.assert_close(net.network()(x), before, rtol=1e-12, atol=1e-12)
        widths, count = sum(net.widths), net.nonzeros
        columns = net.compact()
        shrunk += widths - sum(net.widths)
        torch.testing.assert_close(net.forward(x[:, columns])[-1], before, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net.network()(x), before, rtol=1e-12, atol=1e-12)
        assert net.network().nonzeros == net.nonzeros == count
    assert shrunk > 10, "some networks must shrink, or this shows nothing"


def test_lifted_undoes_shrinking() -> None:
    net = started((6, 4))
    mask = net.connected(torch.tensor(np.random.default_rng(2).random(net.alive.numel()) < 0.3))
    small = MLP.restored(net.state(), "cpu")
    small.keep(mask)
    small.compact()
    assert small.alive.numel() < mask.numel()
    assert torch.equal(net.lifted(small), mask)
    assert small.nonzeros == int(mask.sum())


def test_a_state_is_a_copy() -> None:
    net, (x, y) = started((4,)), data().tensors()
    state = net.state()
    net.backward(x, y, squared)
    net.adam(0.1)
    again = MLP.restored(state, "cpu")
    again.backward(x, y, squared)
    again.adam(0.1)
    assert torch.equal(again.value, net.value)
    assert not torch.equal(state["value"], net.value)
    assert again.step == net.step == 1


def test_starts_have_the_stated_spread() -> None:
    sizes, rng = (200, 300, 10), np.random.default_rng(0)
    drawn = he(sizes, rng)
    first = drawn[: 200 * 300]
    assert first.var() == pytest.approx(2 / 200, rel=0.02)
    assert not drawn[-310:].any()
    flat = uniform_weights(sizes, rng)
    assert abs(flat[: 200 * 300]).max() == pytest.approx(200**-0.5, rel=1e-3)
    assert abs(flat[-10:]).max() <= 300**-0.5
    assert len(drawn) == len(flat) == 200 * 300 + 300 * 10 + 310
