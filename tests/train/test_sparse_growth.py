"""Growth on sparse layers against the engine's RigL on dense ones, and resuming after the support has moved."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.to_sparse import SlowerSparseWarning, to_sparse
from sparelu.runtime.resources import Meter
from sparelu.train.dynamic import RigL
from sparelu.train.sparse_growth import SparseGrowth
from sparelu.train.sparsifier.update_schedules import Exploration

PLAN = Exploration(every=5, fraction=0.4)


def rows(step: int) -> torch.Tensor:
    return torch.randn(24, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Any, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        x = rows(step)
        (model(x)[:, 0] - x[:, 0] * x[:, 1]).square().mean().backward()
        sparsifier.step()


@pytest.mark.parametrize("block", [7, 10**6])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_rigl_without_the_dense_gradient(momentum: float, block: int) -> None:
    """Same masks, weights and batches: the same supports after every move and, up to rounding, the same weights."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(11, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    one = torch.optim.SGD(dense.parameters(), lr=0.05, momentum=momentum)
    engine = RigL(dense, one, density=0.3, total_steps=40, plan=PLAN)
    with pytest.warns(SlowerSparseWarning):
        sparse, _ = to_sparse(dense, force=True)
    two = torch.optim.SGD(sparse.parameters(), lr=0.05, momentum=momentum)
    growth = SparseGrowth(sparse, two, total_steps=40, plan=PLAN, block=block)
    moved, first = 0, sparse[0].places
    for step in range(40):
        advance(dense, one, engine, range(step, step + 1))
        advance(sparse, two, growth, range(step, step + 1))
        for i in (0, 2):
            mask = engine.masks[f"{i}.weight"]
            assert torch.equal(mask.flatten().nonzero()[:, 0], sparse[i].places), f"supports differ at step {step}"
            torch.testing.assert_close(sparse[i].to_dense().weight, dense[i].weight, rtol=1e-9, atol=1e-9)
        moved += not torch.equal(first, sparse[0].places)
        first = sparse[0].places
    assert moved >= 3


def test_several_backward_passes_count_together() -> None:
    """Two halves of a batch, summed, grow where the whole batch does."""
    ends = []
    for halves in (1, 2):
        model = nn.Sequential(SparseLinear.random(11, 7, density=0.3, dtype=torch.float64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        growth = SparseGrowth(model, optimizer, total_steps=10, plan=Exploration(every=1, fraction=0.5))
        for step in range(5):
            optimizer.zero_grad()
            for part in rows(step).chunk(halves):
                model(part).square().sum().backward()
            growth.step()
        ends.append(model[0].places)
    assert torch.equal(*ends)


@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("soft", [False, True])
def test_resuming_is_exact(grow: str, soft: bool) -> None:
    """From a file of plain tensors after 17 of 40 steps, into a model of other supports: the rest is the same."""
    plan = Exploration(every=5, fraction=0.4, soft=soft)

    def made(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, SparseGrowth]:
        parts = (SparseLinear.random(11, 20, density=0.2, seed=seed, dtype=torch.float64), nn.ReLU())
        model = nn.Sequential(*parts, SparseLinear.random(20, 1, density=0.5, seed=seed, dtype=torch.float64))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        return model, optimizer, SparseGrowth(model, optimizer, total_steps=40, plan=plan, grow=grow)

    whole = made(0)
    advance(*whole, range(17))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in whole], file)
    advance(*whole, range(17, 40))
    file.seek(0)
    again = made(1)
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    advance(*again, range(17, 40))
    for key, value in whole[0].state_dict().items():
        assert torch.equal(value, again[0].state_dict()[key]), key
    assert whole[0][0].nonzeros == 44
    assert not torch.equal(whole[0][0].places, made(0)[0][0].places)


def test_what_a_weight_has_moves_with_it() -> None:
    """Survivors keep value and slots; new weights have 0 in each; the parameter stays the same object."""
    model, before = nn.Sequential(SparseLinear.random(11, 9, density=0.3, dtype=torch.float64)), {}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    growth = SparseGrowth(model, optimizer, total_steps=10, plan=Exploration(every=4, fraction=0.5), grow="gradient")
    layer = model[0]
    parameter = layer.values
    advance(model, optimizer, growth, range(4))
    old, slot = layer.places.tolist(), optimizer.state[layer.values]["exp_avg"].tolist()
    before = dict(zip(old, zip(layer.values.tolist(), slot, strict=True), strict=True))
    advance(model, optimizer, growth, range(4, 5))
    assert layer.values is parameter
    now = zip(layer.values.tolist(), optimizer.state[layer.values]["exp_avg"].tolist(), strict=True)
    after = dict(zip(layer.places.tolist(), now, strict=True))
    assert len(after.keys() - before.keys()) > 0
    assert all(after[p] == before.get(p, (0.0, 0.0)) for p in after)


def test_memory_of_growth_is_that_of_a_block() -> None:
    """A dense gradient takes 576 MB, and so do the places that its ranking sorts; one move takes less than a tenth."""
    nonzeros, block = 144_000, 1 << 17
    layer = SparseLinear.random(12_000, 12_000, nonzeros=nonzeros)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    growth = SparseGrowth(layer, optimizer, total_steps=10, plan=Exploration(every=1, begin=0), block=block)
    layer(torch.randn(4, 12_000)).square().mean().backward()
    old = layer.places
    meter = Meter()
    growth.step()
    assert meter.peak_memory < 57e6
    assert not torch.equal(layer.places, old)
    assert layer.nonzeros == nonzeros


def test_bad_input() -> None:
    layer = SparseLinear.random(4, 4, nonzeros=6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the model has no SparseLinear"):
        SparseGrowth(nn.Linear(2, 2), optimizer, total_steps=1)
    with pytest.raises(ValueError, match="does not hold .values"):
        SparseGrowth(copy.deepcopy(layer), optimizer, total_steps=1)
    with pytest.raises(ValueError, match="'gradient' or 'random'"):
        SparseGrowth(layer, optimizer, total_steps=1, grow="magnitude")
    growth = SparseGrowth(layer, optimizer, total_steps=9, plan=Exploration(every=1, fraction=0.5, begin=0))
    with pytest.raises(ValueError, match="no backward pass"):
        growth.step()
    other = SparseGrowth(layer, optimizer, total_steps=10)
    with pytest.raises(ValueError, match="over 9 steps"):
        other.load_state_dict(growth.state_dict())
