"""PAGS on candidates whose topology is known, and its control of shuffled ones."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparelu.train.analysis.mask_topology import diagnose_layers
from sparelu.train.analysis.pags import as_in, select_by_topology, snip_candidates, synflow_candidates
from sparelu.train.at_init import snip
from sparelu.train.sparsifier.layer_densities import erk


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))


def masks_of(seed: int, count: int = 300) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (30, 40), "2.weight": (20, 30)}
    return {n: (torch.randperm(a * b, generator=g) < count).reshape(a, b) for n, (a, b) in shapes.items()}


def counts(masks: dict[str, Tensor]) -> dict[str, int]:
    return {n: int(m.sum()) for n, m in masks.items()}


@pytest.mark.parametrize("criterion", ["imdb", "gap"])
def test_every_layer_is_the_last_of_a_chain_of_improvements(criterion: str) -> None:
    """The chain is walked by hand over the numbers that the diagnosis gives of each candidate."""
    net, start, drawn = model(), masks_of(0), [masks_of(s) for s in range(1, 30)]
    for weight in net.parameters():
        weight.data *= 30  # the weighted gaps decide the length, so that a smaller gap is no shorter coordinate
    numbers = [{n: d.topology for n, d in diagnose_layers(net, masks=m, draws=1).items()} for m in [start, *drawn]]
    found = select_by_topology(net, start, drawn, criterion=criterion)
    chosen = {}
    for name in start:
        best = 0
        for i in range(1, len(numbers)):
            new, old = numbers[i][name], numbers[best][name]
            better = new.imdb >= old.imdb if criterion == "imdb" else new.gap < old.gap
            if better and new.length >= old.length:
                best = i
        chosen[name] = best
        assert best > 0
        assert torch.equal(found.masks[name], drawn[best - 1][name])
        assert found.selection.topology[name] == numbers[best][name]
        assert found.selection.start[name] == numbers[0][name]
    assert len(set(chosen.values())) == 2, "layers of different candidates are combined"
    assert counts(found.masks) == counts(start)
    assert found.tried == 29


def test_the_control_is_as_good_where_candidates_are_random() -> None:
    """Random candidates are their own control: both selections rise, by about as much."""
    net = model()
    found = select_by_topology(net, masks_of(0), (masks_of(s) for s in range(1, 60)))
    for name in found.masks:
        here, there = found.selection.topology[name].imdb, found.control.topology[name].imdb
        assert here > found.selection.start[name].imdb
        assert there > found.control.start[name].imdb
        assert here == pytest.approx(there, rel=0.25)
    assert counts(found.control.masks) == counts(found.masks)
    assert "in brackets the same selection among shuffled ones" in str(found)


def test_the_control_is_worse_where_candidates_have_topology() -> None:
    """Complete graphs between 12 outputs and 20 inputs at random places: s_2 = 0. Shuffled, nothing of it is left."""
    net = model()

    def block(seed: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(seed)
        found = {n: torch.zeros(m.shape, dtype=torch.bool) for n, m in masks_of(0).items()}
        for mask in found.values():
            rows, columns = (
                torch.from_numpy(rng.permutation(n)[:k]) for n, k in zip(mask.shape, (12, 20), strict=True)
            )
            mask[rows[:, None], columns] = True
        return found

    found = select_by_topology(net, block(0), (block(s) for s in range(1, 10)))
    for name in found.masks:
        assert found.selection.topology[name].imdb == pytest.approx(20 / 31 * (np.sqrt(11) + np.sqrt(19)))
        assert found.control.topology[name].imdb < 1.5


def test_candidates_have_the_counts_of_the_start() -> None:
    net = model()
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(60, 40, generator=g), torch.randint(0, 20, (60,), generator=g)

    def loss(i: int) -> object:
        return lambda m: nn.functional.cross_entropy(m(x[20 * i : 20 * i + 20]), y[20 * i : 20 * i + 20])

    before = {n: p.clone() for n, p in net.named_parameters()}
    start = snip(net, loss(0), density=0.3)
    by_snip = list(snip_candidates(net, [loss(1), loss(2)], start))
    by_flow = list(synflow_candidates(net, (40,), start, 2, rounds=3))
    assert [counts(m) for m in by_snip + by_flow] == [counts(start)] * 4
    for pair in (by_snip, by_flow):
        assert any(not torch.equal(pair[0][n], pair[1][n]) for n in start)
    assert all(torch.equal(p, before[n]) for n, p in net.named_parameters())


def test_an_allocation_like_given_masks() -> None:
    masks = masks_of(0)
    masks["2.weight"][0] = True
    pools = as_in(masks)({"0.weight": (30, 40), "2.weight": (20, 30)}, sum(counts(masks).values()))
    assert {p.names[0]: p.nonzeros for p in pools} == counts(masks)
    assert [p.size for p in pools] == [p.size for p in erk({"0.weight": (30, 40), "2.weight": (20, 30)}, 600)]
    with pytest.raises(ValueError, match=r"the masks have \d+ weights, not 5"):
        as_in(masks)({"0.weight": (30, 40), "2.weight": (20, 30)}, 5)


def test_bad_input() -> None:
    net, start = model(), masks_of(0)
    with pytest.raises(ValueError, match="criterion must be one of imdb, gap, got 'naive'"):
        select_by_topology(net, start, [], criterion="naive")
    with pytest.raises(ValueError, match="no candidate"):
        select_by_topology(net, start, [])
    with pytest.raises(ValueError, match="a candidate has 299 weights in 0.weight and the start 300"):
        select_by_topology(net, start, [masks_of(1, 299)])
