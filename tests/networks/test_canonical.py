"""The canonical form: the function stays, and equal functions meet in one form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.networks.network import Layer, Network
from tests.contract.checks import same_bits
from tests.networks.test_network import random_network


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_function_is_unchanged(seed: int, depth: int, outputs: int, skip: bool) -> None:
    net = random_network(seed, (4, *(6,) * depth, outputs), skip=skip)
    x = np.random.default_rng(seed).standard_normal((50, 4))
    form = net.canonical()
    assert torch.allclose(form(x), net(x), atol=1e-9)
    assert torch.allclose(net.oriented()(x), net(x), atol=1e-9)
    again = form.canonical()
    assert [layer.shape for layer in again.layers] == [layer.shape for layer in form.layers]
    assert form.nonzeros <= net.nonzeros


def test_collinear_neurons_merge_and_dead_ones_go() -> None:
    w = np.array([[1.0, -1.0, 0], [3.0, -3.0, 0], [0, 0, 2.0], [0, 1.0, 1.0], [0, 0, 0]])
    net = Network.two_layer(w, [1.0, 2.0, 1.0, 0.0, 5.0])
    form = net.canonical()
    assert form.hidden == (2,)
    assert form.nonzeros == 3
    assert torch.allclose(form.layers[0].dense(), torch.tensor([[7.0, -7.0, 0], [0, 0, 2.0]]).double())
    assert form.layers[1].dense().tolist() == [[1.0, 1.0]]


def test_opposite_weights_cancel() -> None:
    net = Network.two_layer([[1.0, 2.0], [0.5, 1.0]], [1.0, -2.0])
    assert net.canonical().hidden == (0,)
    assert net.canonical().nonzeros == 0


def test_an_antipodal_pair_is_a_generator_and_a_line() -> None:
    net = Network.two_layer([[2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1.0, 3.0, -1.0], [0.5, -0.25, 0.0])
    form = net.canonical()
    assert form.nonzeros == 2
    assert form.skip is not None
    assert form.skip.dense().tolist() == [[-3.0, 0.0]]
    x = np.random.default_rng(0).standard_normal((40, 2))
    assert torch.allclose(form(x), net(x), atol=1e-12)


def test_a_moved_linear_part_does_not_show() -> None:
    """x.u = (u.x)_+ - (-u.x)_+ : flipping a neuron and correcting the skip part gives one oriented form."""
    rng = np.random.default_rng(1)
    w, v = rng.standard_normal((3, 4)), rng.standard_normal(3)
    w[:, 0] = [-1.0, 0.5, -2.0]
    plain = Network.two_layer(w, v)
    flipped = np.array([1.0, -1.0, -1.0])[:, None] * w
    moved = Network.two_layer(flipped, v, skip=Layer.from_dense((v[1:, None] * w[1:]).sum(0, keepdims=True)))
    x = rng.standard_normal((30, 4))
    assert torch.allclose(plain(x), moved(x), atol=1e-12)
    one, other = plain.oriented(), moved.oriented()
    assert torch.allclose(one.layers[0].dense(), other.layers[0].dense(), atol=1e-12)
    assert one.skip is not None
    assert other.skip is not None
    assert torch.allclose(one.skip.dense(), other.skip.dense(), atol=1e-12)


def test_order_and_scale_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    w, v = rng.standard_normal((5, 3)), rng.standard_normal((2, 5))
    order, scale = rng.permutation(5), 2.0 ** rng.integers(-3, 4, 5)
    one = Network.two_layer(w, v).canonical()
    other = Network.two_layer((scale[:, None] * w)[order], (v / scale)[:, order]).canonical()
    assert same_bits(one, other)


@pytest.mark.parametrize("tolerance", [1e-12, 1e-3])
def test_tolerance_says_what_is_equal(tolerance: float) -> None:
    net = Network.two_layer([[1.0, 1.0], [1.0, 1.0001]], [1.0, 1.0])
    assert net.canonical(tolerance).hidden == ((1,) if tolerance > 1e-4 else (2,))
