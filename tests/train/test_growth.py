"""Growth from blocks of the gradient against the dense gradient of autograd."""

import pytest
import torch
from torch import nn

from sparelu.train.growth import largest_gradients


@pytest.mark.parametrize("block", [1, 20, 10**6])
@pytest.mark.parametrize("k", [0, 1, 17, 89])
def test_it_finds_the_largest_of_the_dense_gradient(block: int, k: int) -> None:
    """A layer of 10 inputs and 9 outputs, one of 90 places taken, rows in two dimensions."""
    torch.manual_seed(0)
    layer = nn.Linear(10, 9, bias=False).double()
    x = torch.randn(4, 3, 10, dtype=torch.float64)
    y = layer(x)
    y.retain_grad()
    y.square().sum().backward()
    dense = layer.weight.grad.flatten()
    taken = dense.abs().argmax().reshape(1)
    score = dense.abs()
    score[taken] = -1
    wanted = score.argsort(descending=True)[:k].sort().values
    places, gradients = largest_gradients(x, y.grad, k, taken, block)
    assert torch.equal(places, wanted)
    assert torch.allclose(gradients, dense[wanted], rtol=1e-12)


@pytest.mark.parametrize("block", [2, 100])
def test_ties_keep_the_earlier_place(block: int) -> None:
    """All gradients are 1; places 0 and 3 of 2 x 3 are taken."""
    places, _ = largest_gradients(torch.ones(1, 3), torch.ones(1, 2), 3, torch.tensor([0, 3]), block)
    assert places.tolist() == [1, 2, 4]


def test_bad_input() -> None:
    x, g = torch.ones(1, 3), torch.ones(1, 2)
    with pytest.raises(ValueError, match="cannot grow 5 weights: 4 places are free"):
        largest_gradients(x, g, 5, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="gradient is not finite"):
        largest_gradients(x * torch.nan, g, 1, torch.tensor([0]))
