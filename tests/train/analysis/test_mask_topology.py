"""Diagnoses: what is an edge in each kind of layer, the control of equal density, and what it tells apart."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from sparelu.networks.network import Layer, Network
from sparelu.train.analysis.mask_topology import (
    NUMBERS,
    Compared,
    diagnose,
    diagnose_layers,
    distance,
    graphs,
    mean_over_layers,
    scattered,
)

BLOCKS = np.kron(np.eye(4), np.ones((20, 15)))


def random_mask(seed: int = 0, density: float = 0.25) -> np.ndarray:
    return np.random.default_rng(seed).random((80, 60)) < density


def test_every_kind_of_matrix_is_the_same_graph() -> None:
    mask = random_mask()
    as_scipy = (sparse.csr_array(mask), sparse.coo_array(mask), sparse.csr_matrix(mask))
    kinds = (mask, torch.from_numpy(mask), Layer.from_dense(1.0 * mask), *as_scipy)
    found = [diagnose(kind, draws=2) for kind in kinds]
    assert all(d.topology == found[0].topology and d.random == found[0].random for d in found)


def test_the_control_keeps_density_and_values_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    weights = sparse.csr_array(BLOCKS * rng.standard_normal(BLOCKS.shape))
    drawn = scattered(weights, rng)
    assert drawn.nnz == weights.nnz
    assert sorted(drawn.data) == sorted(weights.data)
    places = np.flatnonzero(drawn.toarray())
    assert np.mean(np.isin(places, np.flatnonzero(weights.toarray()))) == pytest.approx(0.25, abs=0.05)


def test_values_are_scattered_without_order() -> None:
    """Rising values must not stay rising: neighbours among the places drawn are in order half of the time."""
    drawn = scattered(sparse.csr_array(np.arange(1.0, 2001)[None]), np.random.default_rng(0)).toarray()[0]
    assert np.mean(np.diff(drawn) > 0) == pytest.approx(0.5, abs=0.03)


def test_a_random_mask_is_no_news_and_blocks_are() -> None:
    """Four components: the gap is far below that of all 39 random masks of density 1/4."""
    blocks = diagnose(BLOCKS).numbers["gap"]
    assert blocks.outside
    assert blocks.value == pytest.approx(math.sqrt(14) + math.sqrt(19) - math.sqrt(15 * 20))
    assert blocks.value < blocks.low - 5
    assert blocks.low < blocks.mean < blocks.high


def test_a_random_mask_is_outside_as_often_as_stated() -> None:
    """With four draws two in five: 100 masks, 40 expected, standard deviation 4.9."""
    masks = (np.random.default_rng([7, s]).permutation(600).reshape(20, 30) < 200 for s in range(100))
    outside = sum(diagnose(mask, draws=4, seed=s).numbers["gap"].outside for s, mask in enumerate(masks))
    assert 25 <= outside <= 55


def test_density_alone_moves_every_number_and_its_control_with_it() -> None:
    sparse_one, dense_one = (diagnose(random_mask(density=p), draws=9).numbers for p in (0.1, 0.5))
    for name in ("gap", "imdb"):
        assert dense_one[name].value > 2 * sparse_one[name].value
        assert dense_one[name].mean > 2 * sparse_one[name].mean


def test_convolutions_are_unfolded() -> None:
    """Against the matrices written out by hand: output o, and input channel i at place (a, b) of the kernel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, (2, 3)), nn.ConvTranspose2d(8, 5, 2), nn.Linear(7, 4))
    found = graphs(model)
    first, second = (model[i].weight.detach().numpy() for i in (0, 1))
    conv, transposed = np.zeros((8, 18)), np.zeros((5, 32))
    for o in range(8):
        for i in range(3):
            for a in range(2):
                for b in range(3):
                    conv[o, (i * 2 + a) * 3 + b] = first[o, i, a, b]
    for o in range(5):
        for i in range(8):
            for a in range(2):
                for b in range(2):
                    transposed[o, (i * 2 + a) * 2 + b] = second[i, o, a, b]
    assert np.array_equal(found["0.weight"].toarray(), conv)
    assert np.array_equal(found["1.weight"].toarray(), transposed)
    assert np.array_equal(found["2.weight"].toarray(), model[2].weight.detach().numpy())


def test_modules_and_networks_have_the_same_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10)).double()
    for layer in (model[0], model[2]):
        layer.weight.data *= torch.rand(layer.weight.shape) < 0.4
    ours = diagnose_layers(Network.from_module(model), draws=3)
    theirs = diagnose_layers(model, draws=3)
    assert list(ours) == ["layers.0", "layers.1"]
    assert list(theirs) == ["0.weight", "2.weight"]
    assert [d.topology for d in ours.values()] == [d.topology for d in theirs.values()]


def test_masks_decide_what_is_an_edge() -> None:
    """A weight of the mask that is 0, as after growth, is an edge; one off the mask is none."""
    model = nn.Linear(40, 30)
    mask = torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    model.weight.data[0] = 0
    found = diagnose_layers(model, masks={"weight": mask}, draws=1)["weight"].topology
    assert found.density == int(mask.sum()) / 1200
    assert found.gap == diagnose(mask, draws=1).topology.gap


def test_layers_are_averaged_with_their_controls() -> None:
    """Where a number is not defined, as the gap of the second layer, it counts as 0."""
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 2))
    layers = diagnose_layers(model, draws=3)
    mean = mean_over_layers(layers)
    first, second = (d.numbers for d in layers.values())
    assert mean["gap"].value == pytest.approx(first["gap"].value / 2)
    assert math.isnan(second["gap"].value)
    assert math.isnan(second["gap"].mean)
    assert not second["gap"].outside
    assert mean["weighted_gap"].value == pytest.approx((first["weighted_gap"].value + second["weighted_gap"].value) / 2)
    assert mean["length"].mean == pytest.approx((first["length"].mean + second["length"].mean) / 2)
    assert set(mean) == set(NUMBERS)


def test_distance_to_an_anchor_has_its_control() -> None:
    model = nn.Sequential(nn.Linear(60, 80), nn.Linear(80, 10))
    before = diagnose_layers(model, draws=3)
    anchor = {n: d.topology for n, d in before.items()}
    assert distance(before, anchor).value == 0
    model[0].weight.data *= torch.from_numpy(BLOCKS)
    moved = distance(diagnose_layers(model, draws=3), anchor)
    wanted = np.linalg.norm(diagnose(model[0].weight, draws=1).topology.coordinate - anchor["0.weight"].coordinate) / 2
    assert moved.value == pytest.approx(wanted)
    assert moved.low > 0
    with pytest.raises(ValueError, match="the layers differ"):
        distance(before, {})


def test_the_seed_decides() -> None:
    mask = random_mask()
    assert diagnose(mask, draws=3).random == diagnose(mask, draws=3).random
    assert diagnose(mask, draws=3).random != diagnose(mask, draws=3, seed=1).random
    assert len(set(diagnose(mask, draws=3).random)) == 3


def test_every_number_is_printed_with_its_control() -> None:
    text = str(diagnose(BLOCKS))
    assert text.count("random: ") == len(NUMBERS)
    assert "gap -9.22 (random: " in text
    assert str(Compared(1.0, 2.0, 1.5, 2.5)) == "1 (random: 2, 1.5 to 2.5) *"
    assert str(Compared(2.0, 2.0, 1.5, 2.5)) == "2 (random: 2, 1.5 to 2.5)"


def test_a_layer_left_empty_has_no_numbers() -> None:
    found = diagnose(np.zeros((80, 60)), draws=2)
    assert (found.topology.density, found.topology.inputs, found.topology.outputs) == (0, 0, 0)
    assert found.topology.length == 0
    assert math.isnan(found.numbers["gap"].value)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="got 4 dimensions"):
        diagnose(torch.ones(2, 3, 3, 3))
    with pytest.raises(ValueError, match="not finite"):
        diagnose(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        diagnose(BLOCKS, draws=0)
    with pytest.raises(ValueError, match="0.weight has groups"):
        diagnose_layers(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
    with pytest.raises(ValueError, match="not those of this model's layers"):
        diagnose_layers(nn.Linear(3, 3), masks={"0.weight": torch.ones(3, 3, dtype=torch.bool)})
