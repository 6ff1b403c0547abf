"""Duplicates against Monte Carlo, and the reading of rows."""

import numpy as np
import pytest
import torch

from sparelu.recover.exact.model.hinges import Sample, merge_duplicates, merge_indistinct
from sparelu.recover.exact.model.normal_equations import gram
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from tests.recover.exact.models import random_model, rows_of, tensor


def _pair(a: list[float], b: list[float], angle: float) -> ReluModel:
    weight = tensor([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
    return ReluModel.linear(tensor(np.zeros((len(a), 3)))).with_hinges(weight, tensor([a, b])).normalise()


def _change(model: ReluModel, joined: ReluModel) -> float:
    x = np.random.default_rng(4).standard_normal((2_000_000, 2))
    full = tensor(np.column_stack([x, np.ones(len(x))]))
    return float((model(full) - joined(full)).square().sum(1).mean())


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0], [0.4]), ([1.0], [-0.4]), ([1.0, 0.5], [0.4, 0.2]), ([1.0, 0.3], [0.2, 0.9]), ([1.0, 0.0], [0.0, 1.0])],
    ids=["wedge", "dipole", "parallel outputs", "two outputs", "orthogonal outputs"],
)
def test_merging_costs_what_its_tolerance_says(a: list[float], b: list[float]) -> None:
    """Monte Carlo of the mean square that joining changes, on both sides of the tolerance."""
    model = _pair(a, b, 0.12)
    joined = merge_duplicates(model, 1.0)
    assert len(joined) == 1
    change = _change(model, joined)
    assert len(merge_duplicates(model, 3 * change)) == 1
    assert len(merge_duplicates(model, change / 3)) == 2


@pytest.mark.parametrize(("a", "b"), [([1.0], [0.4]), ([1.0, 0.3], [0.2, 0.9])])
def test_no_direction_in_between_is_much_better(a: list[float], b: list[float]) -> None:
    model = _pair(a, b, 0.12)
    joined = merge_duplicates(model, 1.0)
    found = _change(model, joined)
    for turn in np.linspace(0.0, 0.12, 7):
        other = ReluModel.linear(joined.affine).with_hinges(
            tensor([[np.cos(turn), np.sin(turn), 0.0]]), joined.outputs * joined.weight.norm()
        )
        assert _change(model, other) > 0.9 * found


def test_hinges_of_one_direction_are_one_and_opposite_ones_cancel() -> None:
    w = tensor([[1.0, 2.0, 0.5], [-2.0, -4.0, -1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    model = ReluModel.linear(tensor(np.zeros((1, 3)))).with_hinges(w, tensor([[1.0], [1.0], [1.0], [-1.0]]))
    joined = merge_duplicates(model, 1e-20)
    torch.testing.assert_close(joined.weight.abs(), 3 * w[:1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hinges_are_joined_where_no_rows_lie_between(seed: int) -> None:
    """Of correlated inputs the rows' angle of two hinges is far less than that of their weights."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2000, 6)) + 3 * rng.standard_normal((2000, 1))
    weight = tensor(np.append(rng.standard_normal(6), 0.0))[None]
    apart = torch.zeros_like(weight)
    apart[0, :2] = tensor([1e-4, -1e-4])
    model = ReluModel.linear(tensor(np.zeros((1, 7))))
    two = model.with_hinges(torch.cat([0.48 * weight + apart, 0.52 * weight - apart]), tensor([[1.0], [1.0]]))
    assert len(merge_indistinct(two, Sample(x, np.zeros((2000, 1))))) == 1
    apart[0, :2] = tensor([0.02, 0.02])
    far = model.with_hinges(torch.cat([weight + apart, weight - apart]), tensor([[1.0], [1.0]]))
    z = np.column_stack([x, np.ones(2000)]) @ far.weight.numpy().T
    between = int((z[:, 0] * z[:, 1] < 0).sum())
    assert len(merge_indistinct(far, Sample(x, np.zeros((2000, 1))))) == (2 if between >= 12 else 1)


def test_rows_are_read_from_memory_maps_in_blocks(tmp_path) -> None:
    rng = np.random.default_rng(7)
    truth = random_model(rng)
    sample = rows_of(rng, truth, 5000)
    mapped = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=sample.x.shape)
    mapped[:] = sample.x
    other = Sample(mapped, sample.y)
    support = Support.of(truth)
    torch.testing.assert_close(gram(truth, support, other), gram(truth, support, sample))
    assert [len(y) for _, y in other.blocks()] == [2048, 2048, 904]
    kept = sample.without([0, 4999])
    assert kept.n == 4998
    np.testing.assert_array_equal(kept.y, sample.y[1:-1])
