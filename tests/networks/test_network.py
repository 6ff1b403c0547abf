"""Layers and networks against dense torch modules."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.networks.network import Layer, Network, zero_network


def random_network(seed: int, widths: tuple[int, ...], density: float = 0.4, skip: bool = False) -> Network:
    """A random sparse network with some empty rows, columns and biases."""
    rng = np.random.default_rng(seed)
    layers = []
    for a, b in zip(widths, widths[1:], strict=False):
        w = rng.standard_normal((b, a)) * (rng.random((b, a)) < density)
        layers.append(Layer.from_dense(w, rng.standard_normal(b) * (rng.random(b) < 0.5)))
    linear = Layer.from_dense(rng.standard_normal((widths[-1], widths[0])), rng.standard_normal(widths[-1]))
    return Network(tuple(layers), linear if skip else None)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 7), min_size=2, max_size=4), st.booleans())
@settings(max_examples=30, deadline=None)
def test_forward_equals_the_dense_module(seed: int, widths: list[int], skip: bool) -> None:
    net = random_network(seed, tuple(widths), skip=skip)
    x = np.random.default_rng(seed).standard_normal((5, widths[0]))
    with torch.no_grad():
        dense = net.to_module()(torch.as_tensor(x))
    assert torch.allclose(net(x), dense, atol=1e-12)
    back = Network.from_module(net.to_module())
    assert torch.allclose(back(x), dense, atol=1e-12)
    assert (back.nonzeros, back.biases, back.skip_nonzeros) == (net.nonzeros, net.biases, net.skip_nonzeros)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_take_equals_dense_indexing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = random_network(seed, (6, 5)).layers[0]
    rows = torch.as_tensor(np.flatnonzero(rng.random(5) < 0.6))
    columns = torch.as_tensor(np.flatnonzero(rng.random(6) < 0.6))
    taken = layer.take(rows, columns)
    assert torch.equal(taken.dense(), layer.dense()[rows][:, columns])
    assert torch.equal(taken.dense_bias(), layer.dense_bias()[rows])


def test_triplets_add_duplicates_and_drop_zeros() -> None:
    layer = Layer.from_triplets((2, 3), [1, 0, 1, 0, 0], [2, 1, 2, 0, 0], [1.0, 3.0, 0.5, 2.0, -2.0])
    assert layer.nonzeros == 2
    assert layer.dense().tolist() == [[0, 3.0, 0], [0, 0, 1.5]]


def test_a_million_wide_network_costs_kilobytes() -> None:
    rng = np.random.default_rng(0)
    width, s = 1_000_000, 1000
    hidden = Layer.from_triplets((width, 784), rng.integers(width, size=s), rng.integers(784, size=s), np.ones(s))
    output = Layer.from_triplets(
        (1, width), np.zeros(s, int), hidden.rows.numpy()[np.arange(s) % len(hidden.rows)], np.ones(s)
    )
    net = Network((hidden, output))
    arrays = [t for layer in net.layers for t in (layer.rows, layer.indptr, layer.indices, layer.values)]
    assert sum(t.numel() * t.element_size() for t in arrays) < 50_000
    assert net(np.ones((3, 784))).shape == (3, 1)
    assert net.compact().hidden[0] <= s


def test_nonzeros_of_a_scalar_network_are_of_the_products() -> None:
    w = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0], [4.0, 5.0, 6.0]])
    assert Network.two_layer(w, [1.0, -2.0, 0.0]).nonzeros == 3
    assert Network.two_layer(w, [[1.0, -2.0, 0.0], [1.0, 0.0, 0.0]]).nonzeros == 6 + 3
    assert Network.from_dense([w[:1]]).nonzeros == 2
    assert zero_network(3, 2, [1.0, 2.0])(np.zeros((2, 3))).tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"indices": torch.tensor([1, 0], dtype=torch.int32)}, "increasing"),
        ({"indices": torch.tensor([0, 9], dtype=torch.int32)}, "0 to 2"),
        ({"indices": torch.tensor([0, 1])}, "int32"),
        ({"values": torch.tensor([1.0, 0.0])}, "zeros"),
        ({"values": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"indptr": torch.tensor([0, 1, 2], dtype=torch.int32)}, "disagree"),
        ({"indptr": torch.tensor([0, 1], dtype=torch.int32)}, "rise from 0"),
        ({"rows": torch.tensor([5], dtype=torch.int32)}, "rows"),
    ],
)
def test_a_broken_layer_is_refused(change: dict, words: str) -> None:
    good = {
        "rows": torch.tensor([1], dtype=torch.int32),
        "indptr": torch.tensor([0, 2], dtype=torch.int32),
        "indices": torch.tensor([0, 1], dtype=torch.int32),
        "values": torch.tensor([1.0, 2.0]),
    }
    Layer((2, 3), **good)
    with pytest.raises(ValueError, match=words):
        Layer((2, 3), **{**good, **change})


def test_layers_must_chain_and_inputs_must_fit() -> None:
    a, b = Layer.from_dense(np.ones((3, 2))), Layer.from_dense(np.ones((1, 4)))
    with pytest.raises(ValueError, match="3 outputs, the next reads 4"):
        Network((a, b))
    with pytest.raises(ValueError, match="rows of 2 inputs"):
        Network((a,))(np.ones((5, 3)))


def test_modules_of_another_kind_are_named() -> None:
    nn = torch.nn
    with pytest.raises(ValueError, match="'1' is a Tanh"):
        Network.from_module(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    with pytest.raises(ValueError, match="must end in a Linear"):
        Network.from_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    bad = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        bad[2].weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match="module '2'.*not finite"):
        Network.from_module(bad)


def test_copies_and_dtypes() -> None:
    net = random_network(3, (4, 6, 2), skip=True)
    x = np.ones((2, 4))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(net(x), other(x))
    single = net.to(torch.float32)
    assert single(x).dtype == torch.float32
    assert torch.allclose(single(x).double(), net(x), atol=1e-5)
