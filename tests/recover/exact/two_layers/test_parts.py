"""The parts of recovery with two hidden layers, against autograd, enumeration and identities."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sparelu.networks.network import Network
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.two_layers.backward import oriented_fit, without_weak
from sparelu.recover.exact.two_layers.equality import same_form, skeleton
from sparelu.recover.exact.two_layers.hinges import DeepKinks, live, tidied
from sparelu.recover.exact.two_layers.least_squares import asked, deep_refit, deep_saliency
from sparelu.recover.exact.two_layers.relu_model import deep_network
from sparelu.recover.exact.two_layers.warm_start import _Objective


def drawn(seed: int, k1: int = 3, k2: int = 2, inputs: int = 5) -> DeepKinks:
    rng = np.random.default_rng(seed)

    def t(*shape: int) -> Tensor:
        return torch.as_tensor(rng.standard_normal(shape))

    zero1, zero2 = torch.zeros(k1).double(), torch.zeros(k2).double()
    sign = torch.as_tensor(rng.choice([-1.0, 1.0], k2))
    return DeepKinks(t(k1, inputs), zero1, t(k1), t(k2, k1), t(k2, inputs), sign, zero2, t(inputs))


def inputs(n: int, d: int, seed: int = 7) -> Tensor:
    x = torch.as_tensor(np.random.default_rng(seed).standard_normal((n, d)))
    x[:, -1] = 1.0
    return x


def jacobian(model: DeepKinks, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda v: model.with_vector(v)(x), model.vector())


@pytest.mark.parametrize("oriented", [False, True])
def test_the_gram_matrix_and_the_asking_statistics_are_those_of_autograd(oriented: bool) -> None:
    model, x = drawn(0), inputs(60, 5)
    if oriented:
        side = torch.tensor([1.0, -1.0, 1.0]).double()
        model = DeepKinks(**{**vars(model), "tilt": side, "side": side[:2]})
    y = inputs(60, 5, 8)[:, 0]
    fit = deep_refit(model, live(model), Sample(x[:, :-1].numpy(), y.numpy()), steps=0)
    j = jacobian(model, x)
    torch.testing.assert_close(fit.gram, j[:, fit.free].T @ j[:, fit.free])
    empty = model.with_vector(torch.where(torch.arange(len(model.vector())) % 3 == 0, 0.0, model.vector()))
    t, mse = asked(empty, Sample(x[:, :-1].numpy(), y.numpy()))
    j, r = jacobian(empty, x), y - empty(x)
    want = (j.T @ r).square() / (j.square().sum(0).clamp_min(1e-300) * r.square().mean())
    assert mse == pytest.approx(float(r.square().mean()))
    torch.testing.assert_close(t, torch.where(empty.vector() != 0, 0.0, want))


def test_the_gradient_of_the_student_is_that_of_autograd() -> None:
    model, x = drawn(1), inputs(50, 5)
    task = _Objective(x, x[:, 0] * 2, model, 0.1)
    value, slope = task(model.vector())
    v = model.vector().requires_grad_()
    part = v[: task.penalised]
    loss = (model.with_vector(v)(x) - x[:, 0] * 2).square().mean() + 0.1 * (
        (part**2 + task.eps**2).sqrt() - task.eps
    ).sum()
    loss.backward()
    assert value == pytest.approx(loss.item())
    torch.testing.assert_close(slope, v.grad)


def test_tidying_keeps_the_function_and_finds_what_is_redundant() -> None:
    model, x = drawn(2), inputs(400, 5)
    doubled = model.with_first(-2 * model.weight[:1], torch.ones(1).double(), torch.ones(2, 1).double())
    zero = torch.zeros(3, 5).double()
    reads = torch.tensor([[0.0, 0, 0, 0], [0, 2.0, 0, 0], [1.0, 1, 1, 1]]).double()
    zero[0], zero[1] = torch.arange(5.0), -3 * model.weight[1]
    wide = doubled.with_second(torch.ones(3).double(), reads, zero)
    wide = wide.with_second(wide.sign[:1], -wide.inner[:1], -wide.direct[:1])
    small = tidied(wide, x, 1e-20)
    assert small.widths == (4, 2)  # three planes and |B.x|; the two kinks that bend
    torch.testing.assert_close(small(x), wide(x))


def test_the_network_of_a_model_without_orientation_is_its_function() -> None:
    model, x = drawn(3), inputs(100, 5)
    net = deep_network(model, 1.7, torch.tensor([1.0, 2, 3, 4, 1]).double())
    raw = x[:, :-1] * torch.tensor([1.0, 2, 3, 4]).double()
    torch.testing.assert_close(net(raw)[:, 0], 1.7 * model(x))


def planted(w: list[list[float]], u: list[list[float]]) -> Network:
    return Network.from_dense([np.array(w), np.array(u), np.ones((1, len(u)))])


def as_kinks(net: Network, absorb: bool) -> DeepKinks:
    """(t)_+ = (t + |t|) / 2 twice; with ``absorb`` the lone positive input of the first kink enters as a linear one."""
    w, u = (layer.dense() for layer in net.layers[:2])
    ends = [torch.cat([t, torch.zeros(len(t), 1).double()], dim=1) for t in (w, u @ w / 2)]
    inner, through, affine = u / 2, u.sum(0) / 4, ends[1].sum(0) / 2
    if absorb:
        moved = u[0, 0] * ends[0][0] / 2
        inner[0, 0], through[0] = 0.0, through[0] - u[0, 0] / 4
        ends[1][0], affine = ends[1][0] + moved, affine + moved / 2
    zeros = torch.zeros(len(w)).double(), torch.zeros(len(u)).double()
    return DeepKinks(ends[0], zeros[0], through, inner, ends[1], torch.ones(len(u)).double(), zeros[1], affine)


@pytest.mark.parametrize("absorb", [False, True])
def test_orientations_are_read_off(absorb: bool) -> None:
    truth = planted([[1, 0.5, 0, 0], [0, -1, 0.3, 0], [0, 0, 1, 1]], [[0.8, -1, -0.7], [-0.6, 0.5, 0.9]])
    x = inputs(3000, 5)
    sample = Sample(x[:, :-1].numpy(), truth(x[:, :-1])[:, 0].numpy())
    model = as_kinks(truth, absorb)
    torch.testing.assert_close(model(x), truth(x[:, :-1])[:, 0])
    fit = oriented_fit(without_weak(deep_refit(model, live(model), sample), sample, x), sample)
    found = deep_network(fit.model, 1.0, torch.ones(5).double())
    assert (found.skip, [layer.nonzeros for layer in found.layers]) == (None, [6, 6, 2])
    assert same_form(found, truth)
    torch.testing.assert_close(found(x[:, :-1]), truth(x[:, :-1]))


def test_a_weight_that_is_not_needed_has_a_small_statistic() -> None:
    truth = planted([[1, 0.5, 0, 0], [0, -1, 0.3, 0], [0, 0, 1, 1]], [[0.8, -1, 0.7], [-0.6, 0.5, 0.9]])
    x = inputs(2000, 5)
    y = truth(x[:, :-1])[:, 0] + 0.05 * inputs(2000, 5, 9)[:, 0]
    model = as_kinks(truth, False)
    mask = live(model)
    extra = 2  # weight of the first plane on the third input, zero in truth
    mask[extra] = True
    fit = deep_refit(model, mask, Sample(x[:, :-1].numpy(), y.numpy()))
    t = deep_saliency(fit)
    assert float(t[fit.free == extra]) < 16 < float(t[fit.free == 1])


def test_networks_of_one_function_have_one_skeleton() -> None:
    """(z)_+ = z + (-z)_+ with z linear in the first layer; a nonnegative neuron split in two; scales moved."""
    a = planted([[1, 2, 0], [0, -1, 1], [1, 0, 0]], [[1, -1, 0], [0, 1, 2], [0, 0, -1]])
    w = np.array([[2, 4, 0], [0, -0.5, 0.5], [3, 0, 0], [0, 5, 5]])
    u = np.array([[-0.5, 2, 0, 0], [0, 2, 0, 0], [0, 0, 2 / 3, 0], [0.5, 0, 0, 0], [0, 2, 0, 0]])
    b = Network.from_dense([w, u, np.array([[1, 1, 1, 1, -1.0]])])
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((200, 3)))
    torch.testing.assert_close(a(x), b(x))
    assert same_form(a, b)
    assert same_form(b, a)
    assert skeleton(a).nonzeros == 5 + 2 + 3
    other = planted([[1, 2, 0], [0, -1, 1], [1, 0, 0]], [[1, -1, 0.1], [0, 1, 2], [0, 0, -1]])
    assert not same_form(a, other)
    with pytest.raises(ValueError, match="two hidden layers"):
        skeleton(Network.two_layer(np.eye(2), np.ones(2)))
