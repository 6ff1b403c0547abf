"""Growth from blocks of the gradient against the dense gradient of autograd."""

import pytest
import torch
from torch import nn

from sparelu.nn.largest_gradients import _Largest, largest_gradients


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


@pytest.mark.parametrize("block", [32, 500, 10**5])
def test_small_units_and_inputs_are_ruled_out_exactly(block: int) -> None:
    """Norms over seven orders of magnitude, dead units and dead inputs: most tiles are never formed."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 64, generator=g) * 10 ** torch.linspace(-4, 3, 64)[torch.randperm(64, generator=g)]
    y = torch.randn(5, 48, generator=g) * 10 ** torch.linspace(-4, 3, 48)[torch.randperm(48, generator=g)]
    x[:, 3], y[:, 7] = 0, 0
    dense = (y.double().T @ x.double()).flatten()
    taken = torch.randperm(48 * 64, generator=g)[:300].sort().values
    score = dense.abs()
    score[taken] = -1
    for k in (1, 40, 700):
        places, gradients = largest_gradients(x, y, k, taken, block)
        assert torch.equal(places, score.argsort(descending=True)[:k].sort().values)
        assert torch.allclose(gradients.double(), dense[places], rtol=1e-4)


def test_only_entries_that_may_be_large_are_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unit and one input tower above 99 others: after the first tile nothing else can come in."""
    formed, offer = [], _Largest.offer

    def counted(self: _Largest, tile: torch.Tensor, *rest: object) -> None:
        formed.append(tile.numel())
        offer(self, tile, *rest)

    monkeypatch.setattr(_Largest, "offer", counted)
    x, y = torch.rand(4, 100) + 1, torch.rand(4, 100) + 1
    y[:, 50] *= 1000
    places, _ = largest_gradients(x, y, 20, torch.empty(0, dtype=torch.int64), 400)
    assert (places // 100 == 50).all()
    assert sum(formed) <= 1000


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
