"""Scaling for living inputs, against the variance that the dense layer gives (Monte Carlo) and counts by hand."""

import copy

import pytest
import torch
from torch import nn

from sparelu.train.sparsifier.sparse_init import scale_to_active
from sparelu.train.static import Magnitude, Static


def made(model: nn.Module, density: float = 0.1) -> Static:
    return Static(
        model, torch.optim.SGD(model.parameters(), lr=0.1), density=density, allocation="uniform", fan_in="all"
    )


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(400, 300, bias=False), (400,)),
        (nn.Conv2d(32, 64, 3, groups=2, bias=False), (32, 3, 3)),
        (nn.ConvTranspose2d(800, 80, 1, groups=2, bias=False), (800, 1, 1)),
    ],
    ids=["linear", "conv", "transposed"],
)
def test_outputs_are_as_large_as_those_of_the_dense_layer(model: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        model.weight.normal_()
        x = torch.randn(500, *shape)
        dense = model(x).square().mean()
        sparsifier = made(model)
        sparse = model(x).square().mean()
        scale_to_active(sparsifier.parts.values())
        scaled = model(x).square().mean()
    assert float(sparse / dense) == pytest.approx(0.1, rel=0.1)
    assert float(scaled / dense) == pytest.approx(1, rel=0.1)
    assert not model.weight[~sparsifier.masks["weight"]].any()


def test_every_unit_has_its_own_scale() -> None:
    """4 inputs, of which 1, 4 and none live: 2, 1, and nothing to scale."""
    model = nn.Linear(4, 3)
    mask = torch.tensor([[True, False, False, False], [True] * 4, [False] * 4])
    sparsifier = Static(model, torch.optim.SGD(model.parameters(), lr=0.1), masks={"weight": mask})
    before = model.weight.detach().clone()
    scale_to_active(sparsifier.parts.values())
    assert torch.equal(model.weight, before * torch.tensor([[2.0], [1], [1]]))


def test_groups_of_a_transposed_convolution_have_their_own_inputs() -> None:
    """Weights (inputs, outputs of a group, 1): inputs 0 and 1 feed output 0, inputs 2 and 3 output 1."""
    model = nn.ConvTranspose1d(4, 2, 1, groups=2)
    mask = torch.tensor([True, False, True, True]).reshape(4, 1, 1)
    sparsifier = Static(model, torch.optim.SGD(model.parameters(), lr=0.1), masks={"weight": mask})
    before = model.weight.detach().clone()
    scale_to_active(sparsifier.parts.values())
    wanted = before.flatten() * torch.tensor([2**0.5, 1, 1, 1])
    assert torch.allclose(model.weight.flatten(), wanted)


def test_random_supports_are_scaled_and_others_are_not() -> None:
    """Given masks, masks by magnitude, and weights that the optimiser has trained keep their values."""
    torch.manual_seed(0)
    start = nn.Linear(40, 30)
    scaled: dict[str, bool] = {}
    makers = {
        "random": lambda m, o: Static(m, o, density=0.2),
        "all": lambda m, o: Static(m, o, density=0.2, fan_in="all"),
        "magnitude": lambda m, o: Magnitude(m, o, density=0.2),
        "masks": lambda m, o: Static(m, o, masks={"weight": torch.rand(30, 40) < 0.2}),
    }
    for name, make in makers.items():
        model = copy.deepcopy(start)
        mask = make(model, torch.optim.SGD(model.parameters(), lr=0.1)).masks["weight"]
        ratio = (model.weight.detach() / start.weight.detach())[mask]
        scaled[name] = bool((ratio != 1).any())
        if scaled[name]:
            assert ratio.square().mul(mask.sum(1, keepdim=True).expand_as(mask)[mask]).tolist() == pytest.approx(
                [40.0] * int(mask.sum()), rel=1e-5
            )
    assert scaled == {"random": True, "all": False, "magnitude": False, "masks": False}
    model = copy.deepcopy(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    model(torch.ones(1, 40)).sum().backward()
    optimizer.step()
    sparsifier = Static(model, optimizer, density=0.2)
    assert torch.equal(model.weight, start.weight * sparsifier.masks["weight"])
    with pytest.raises(ValueError, match="fan_in must be 'active' or 'all', got 'living'"):
        Static(copy.deepcopy(start), torch.optim.SGD(start.parameters()), density=0.2, fan_in="living")
