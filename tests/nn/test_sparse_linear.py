"""The sparse layer against the dense one of torch: products, gradients, training, copies, memory."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparelu.networks.network import Layer
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.runtime.resources import Meter


def pair(density: float = 0.3, bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple[SparseLinear, nn.Linear]:
    """The same map twice, 13 inputs and 9 outputs, one output without weights."""
    torch.manual_seed(0)
    dense = nn.Linear(13, 9, bias, dtype=dtype)
    with torch.no_grad():
        dense.weight.mul_(torch.rand(9, 13) < density)
        dense.weight[4] = 0
    return SparseLinear.from_dense(dense), dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 13), (2, 3, 13), (13,), (1, 13), (0, 13)])
def test_products_and_gradients_are_those_of_the_dense_layer(
    dtype: torch.dtype, bias: bool, shape: tuple[int, ...]
) -> None:
    sparse, dense = pair(0.3, bias, dtype)
    x, z = (torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x.requires_grad_(), z.requires_grad_()
    y, wanted = sparse(x), dense(z)
    assert y.shape == wanted.shape
    y.sin().sum().backward()
    wanted.sin().sum().backward()
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(x.grad, z.grad, **close)
    torch.testing.assert_close(sparse.values.grad, dense.weight.grad.flatten()[sparse.places], **close)
    if bias:
        torch.testing.assert_close(sparse.bias.grad, dense.bias.grad, **close)


def test_a_gradient_of_one_part_alone() -> None:
    """Frozen values, or an input that needs no gradient, as in the first layer."""
    sparse, dense = pair()
    x = torch.randn(5, 13, dtype=torch.float64)
    sparse(x).sum().backward()
    assert sparse._transposed is None, "the transposed support is made only when it is used"
    sparse.values.requires_grad_(False)
    z = x.clone().requires_grad_()
    sparse(z).sum().backward()
    torch.testing.assert_close(z.grad, dense.weight.sum(0).expand(5, 13))


def test_no_second_derivative() -> None:
    sparse, _ = pair()
    y = sparse(torch.ones(2, 13, dtype=torch.float64)).square().sum()
    (first,) = torch.autograd.grad(y, sparse.values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.05),
        lambda p: torch.optim.Adam(p, lr=0.05, fused=True),
        lambda p: torch.optim.RMSprop(p, lr=0.05),
    ],
    ids=["SGD", "AdamW", "fused Adam", "RMSprop"],
)
def test_it_trains_as_a_masked_dense_layer(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Ten steps of two layers; the dense ones have their gradients masked by hand."""
    (a, p), (b, q) = pair(0.4), pair(0.6)
    q = nn.Linear(9, 4, dtype=torch.float64)
    b = SparseLinear.from_dense(q)
    sparse, dense = nn.Sequential(a, nn.ReLU(), b), nn.Sequential(p, nn.ReLU(), q)
    masks = {layer: layer.weight != 0 for layer in (p, q)}
    one, two = make(sparse.parameters()), make(dense.parameters())
    x = torch.randn(20, 13, dtype=torch.float64)
    for _ in range(10):
        for net, optimizer in ((sparse, one), (dense, two)):
            optimizer.zero_grad()
            (net(x) - 1).square().mean().backward()
        for layer, mask in masks.items():
            layer.weight.grad.mul_(mask)
        one.step()
        two.step()
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-9, atol=1e-9)
    assert one.state[a.values] == {} or all(s.numel() <= a.nonzeros for s in one.state[a.values].values())


def test_copies() -> None:
    """deepcopy, pickle and a state saved and read as plain tensors give the same outputs, and train on."""
    sparse, _ = pair()
    x = torch.randn(3, 13, dtype=torch.float64, requires_grad=True)
    sparse(x).sum().backward()
    file = io.BytesIO()
    torch.save(sparse.state_dict(), file)
    file.seek(0)
    fresh = SparseLinear.random(13, 9, nonzeros=5, seed=3, dtype=torch.float64)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for twin in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse)), fresh):
        assert torch.equal(twin(x), sparse(x))
        twin(x).sum().backward()
        assert twin.values.grad.shape == sparse.values.shape
        assert twin.indices.data_ptr() != sparse.indices.data_ptr()


def test_a_damaged_state_is_refused_before_it_is_used() -> None:
    sparse, _ = pair()
    state = sparse.state_dict()
    state["indices"] = state["indices"] + 13
    with pytest.raises(RuntimeError, match="no compressed rows of a 9 x 13 matrix"):
        sparse.load_state_dict(state)
    state = sparse.state_dict()
    state["values"] = state["values"][1:]
    with pytest.raises(RuntimeError, match="entries for"):
        sparse.load_state_dict(state)


def test_a_random_layer() -> None:
    """Exact number, variance 2 over the living inputs of each output, the same for the same seed."""
    layer = SparseLinear.random(2000, 300, density=0.02, seed=5)
    assert layer.nonzeros == 12000
    weight = layer.to_dense().weight
    scaled = weight * ((weight != 0).sum(1, keepdim=True) / 2).sqrt()
    assert abs(float(scaled.detach()[weight != 0].square().mean()) - 1) < 4 * (2 / 12000) ** 0.5
    assert torch.equal(layer.values, SparseLinear.random(2000, 300, density=0.02, seed=5).values)
    assert not torch.equal(layer.places, SparseLinear.random(2000, 300, density=0.02, seed=6).places)


def test_layers_of_a_network() -> None:
    sparse, dense = pair()
    layer = sparse.to_layer()
    assert layer.nonzeros == sparse.nonzeros
    assert torch.equal(layer.dense(), dense.weight)
    x = torch.randn(4, 13, dtype=torch.float64)
    assert torch.equal(SparseLinear.from_layer(layer)(x), sparse(x))
    plain = SparseLinear.from_layer(Layer.from_triplets((3, 5), [1], [2], [2.0]))
    assert plain.bias is None
    torch.testing.assert_close(plain(torch.eye(5, dtype=torch.float64))[2], torch.tensor([0, 2.0, 0]).double())


def test_memory_follows_the_nonzeros() -> None:
    """A layer that would take 900 MB dense: building and two steps stay below 90 bytes for each nonzero."""
    nonzeros, batch = 450_000, 4
    SparseLinear.random(10, 10, nonzeros=5)(torch.ones(1, 10)).sum().backward()
    meter = Meter()
    layer = SparseLinear.random(15_000, 15_000, nonzeros=nonzeros)
    optimizer = torch.optim.Adam(layer.parameters())
    x = torch.ones(batch, 15_000, requires_grad=True)
    for _ in range(2):
        layer(x).square().mean().backward()
        optimizer.step()
    assert meter.peak_memory < 90 * nonzeros + 40 * batch * 15_000


def test_bad_input() -> None:
    sparse, _ = pair()
    with pytest.raises(ValueError, match="the input is torch.float32 and the layer torch.float64"):
        sparse(torch.ones(1, 13))
    with pytest.raises(ValueError, match="exactly one of density and nonzeros"):
        SparseLinear.random(3, 3)
    with pytest.raises(ValueError, match="ask for 1 to 9 nonzeros, not 10"):
        SparseLinear.random(3, 3, nonzeros=10)
    with pytest.raises(ValueError, match="must be float32 or float64"):
        SparseLinear(3, 3, torch.tensor([1]), torch.ones(1, dtype=torch.float16))
    with pytest.raises(ValueError, match="1 places and 2 values"):
        SparseLinear(3, 3, torch.tensor([1]), torch.ones(2))


def test_the_support_must_not_move_under_a_backward_pass() -> None:
    sparse, _ = pair()
    y: Tensor = sparse(torch.ones(2, 13, dtype=torch.float64)).sum()
    sparse.set_support(torch.tensor([0, 5]), torch.ones(2))
    with pytest.raises(RuntimeError, match="moved between forward and backward"):
        y.backward()
