"""Optimisers that take roots of their slots: the ones put in for the zeros must not be seen by anyone."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.static import Static

MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "Adam, foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, fused=True),
    "AMSGrad": lambda p: torch.optim.AdamW(p, amsgrad=True, weight_decay=0.1),
    "NAdam": torch.optim.NAdam,
    "RAdam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9),
    "Adagrad": torch.optim.Adagrad,
}


def batch(step: int) -> Tensor:
    return torch.randn(16, 12, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_training_is_that_of_masked_gradients(make: Callable[..., torch.optim.Optimizer], dtype: torch.dtype) -> None:
    """Bit for bit what the optimiser does alone when the gradients are masked by hand, and slots end at zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 33), nn.ReLU(), nn.Linear(33, 5)).to(dtype)
    optimizer = make(model.parameters())
    sparsifier = Static(model, optimizer, density=0.2)
    twin, masks = copy.deepcopy(model), sparsifier.masks
    alone = make(twin.parameters())
    for step in range(12):
        for net, opt in ((model, optimizer), (twin, alone)):
            opt.zero_grad()
            net(batch(step).to(dtype)).square().sum().backward()
        for name, mask in masks.items():
            twin.get_parameter(name).grad.mul_(mask)
        sparsifier.step()
        alone.step()
        for name, mask in masks.items():
            assert torch.equal(model.get_parameter(name), twin.get_parameter(name))
            for key, slot in optimizer.state[model.get_parameter(name)].items():
                if isinstance(slot, Tensor) and slot.shape == mask.shape:
                    assert not slot[~mask].any(), f"{key} is not zero off the support after step {step}"
                    assert torch.equal(slot, alone.state[twin.get_parameter(name)][key])


def test_a_step_that_fails_leaves_zeros() -> None:
    model = nn.Linear(6, 6)
    optimizer = torch.optim.Adam(model.parameters())
    sparsifier = Static(model, optimizer, density=0.5)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 6)).sum().backward()
        sparsifier.step()

    step()
    optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(TypeError):
        step()
    slot = optimizer.state[model.weight]["exp_avg_sq"]
    assert not slot[~sparsifier.masks["weight"]].any()
