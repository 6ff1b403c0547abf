"""Backward elimination, orientation, and whole local searches: what is added, dropped, joined and split."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.networks.network import Network
from sparelu.outcome import Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.model import normal_equations
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.least_squares import refit
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.moments import moments
from sparelu.recover.exact.search import Search, SearchOptions, advance
from sparelu.recover.exact.steps.backward import eliminate, prune_to_budget
from sparelu.recover.exact.steps.orient import orient
from sparelu.recover.exact.warm_start import _Objective
from sparelu.run import fit
from tests.recover.exact.models import random_model, rows_of, tensor


def local_search(model: ReluModel, sample: Sample, rng: np.random.Generator, mse: float = 1e-3) -> Search:
    """From a model, on all rows, to its end without a warm start."""
    outs = model.affine.shape[0]
    options = SearchOptions(5, True, 1000, 50, 2, tensor(np.zeros(outs)))
    search = Search(
        model,
        Support.of(model),
        model,
        tensor(np.ones(outs)),
        "local search",
        1.0,
        mse,
        0.5,
        1000,
        1.0,
        cycle=1,
        full=True,
    )
    while search.phase == "local search":
        search = advance(search, sample, np.arange(sample.n), options, rng)
    return search


def _truth(outs: int) -> ReluModel:
    w = tensor([[1.0, -0.6, 0, 0, 0], [0, 0.8, 1.0, 0, 0.3], [0, 0, 0, 1.0, 0]])
    v = tensor([[1.0], [-1.0], [1.0]]) if outs == 1 else tensor([[1.0, 0.5, 0], [0, -1.0, 0.7], [0.4, 0, 2.0]])
    affine = tensor(np.random.default_rng(0).standard_normal((outs, 5)))
    return ReluModel.linear(affine).with_hinges(w, v).normalise()


def _patterns(model: ReluModel) -> set[tuple[bool, ...]]:
    return {tuple(row) for row in torch.cat([model.weight != 0, model.outputs != 0], 1).tolist()}


@pytest.mark.parametrize("outs", [1, 3])
def test_what_noise_explains_is_dropped_and_what_is_missing_added(outs: int) -> None:
    """A weight (and an output weight) is planted in the start; one of the true ones and a whole hinge are left out."""
    rng = np.random.default_rng(3)
    truth = _truth(outs)
    sample = rows_of(rng, truth, 6000, noise=0.05)
    weight, outputs = truth.weight.clone(), truth.outputs.clone()
    weight[0, 3], weight[1, 2] = 0.01, 0.0
    if outs > 1:
        outputs[0, 2], outputs[1, 2] = 0.01, 0.0
    start = replace(truth, weight=weight, outputs=outputs).take(torch.tensor([True, True, False]))
    search = local_search(start, sample, rng)
    assert search.phase == "done"
    assert search.stationary
    assert _patterns(search.model) == _patterns(truth)


@pytest.mark.parametrize("outs", [1, 3])
def test_duplicates_are_joined_over_all_outputs(outs: int) -> None:
    rng = np.random.default_rng(4)
    truth = _truth(outs)
    sample = rows_of(rng, truth, 3000, noise=0.05)
    twin = truth.weight[:1].clone()
    twin[0, 1] += 1e-3
    double = truth.with_hinges(twin / 2, truth.outputs[:1])
    double = replace(double, weight=double.weight * tensor([[0.5], [1], [1], [1]]))
    assert len(eliminate(refit(double, sample, steps=2), sample).model) == 3


@pytest.mark.parametrize("outs", [1, 3])
def test_budgets_are_reached_by_drops_of_least_cost(outs: int) -> None:
    rng = np.random.default_rng(5)
    truth = _truth(outs)
    sample = rows_of(rng, truth, 600, noise=0.05)
    whole = refit(truth, sample)
    assert prune_to_budget(whole, sample, None, 3) is whole
    one = prune_to_budget(whole, sample, whole.model.nonzeros - 1, 3)
    assert one.model.nonzeros == whole.model.nonzeros - 1
    errors = []
    for j, i in (truth.weight[:, :-1] != 0).nonzero().tolist():
        weight = truth.weight.clone()
        weight[j, i] = 0.0
        errors.append(refit(replace(truth, weight=weight).normalise(), sample).slope.level)
    assert one.slope.level <= min(errors) + 1e-2
    assert len(prune_to_budget(whole, sample, None, 2).model) == 2


@pytest.mark.parametrize("outs", [1, 3])
def test_orientations_are_read_off(outs: int) -> None:
    """ReLU networks with every pattern of signs come back without an affine part."""
    truth = replace(_truth(outs), affine=torch.zeros(outs, 5).double())
    x = np.random.default_rng(6).standard_normal((800, 4))
    full = tensor(np.column_stack([x, np.ones(800)]))
    for signs in itertools.product([-1.0, 1.0], repeat=3):
        relu = replace(truth, orientation=tensor(signs))
        sample = Sample(x, relu(full).numpy())
        fit_, read = orient(refit(truth, sample), sample)
        assert read is not None
        assert (read.free, read.open) == ((), ())
        found = fit_.model
        assert found.orientation.tolist() == list(signs)
        assert not bool(found.affine.any())
        torch.testing.assert_close(found(full), relu(full), rtol=1e-9, atol=1e-9)


def test_an_affine_part_that_no_orientation_explains_stays() -> None:
    rng = np.random.default_rng(7)
    truth = _truth(1)
    sample = rows_of(rng, truth, 800)
    found = orient(refit(truth, sample), sample)[0].model
    x, y = sample.tensors(torch.float64)
    torch.testing.assert_close(found(x), y, rtol=1e-9, atol=1e-9)
    assert bool(found.affine.any())


def test_two_hinges_of_one_input_at_places_close_by_are_parted() -> None:
    rng = np.random.default_rng(8)
    weight = tensor([[0.25, 0, 0, 0, 0.14], [0.1, 0, 0, 0, 0.08], [0, 0.5, 0, 0, 0.2]])
    none = ReluModel.linear(tensor(np.zeros((1, 5))))
    sample = rows_of(rng, none.with_hinges(weight, tensor([[-1.0], [-1.0], [1.0]])), 6000)
    joined = none.with_hinges(torch.stack([weight[0] + weight[1], weight[2]]), tensor([[-1.0], [1.0]]))
    found = local_search(joined, sample, rng).model.weight
    own = found[found[:, 0] != 0]
    np.testing.assert_allclose(sorted((-own[:, -1] / own[:, 0]).tolist()), [-0.8, -0.56], atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_hinge_that_stands_for_two_is_split_in_noise(seed: int) -> None:
    """The split and the missing axis are asked for at once; taken both, the axis would be there twice."""
    rng = np.random.default_rng(seed)
    weight = tensor([[-0.2, -0.81, 0, 0, 0, 0], [0, -0.88, 0, 0, 0, 0]])
    one = ReluModel.linear(tensor(np.zeros((1, 6))))
    sample = rows_of(rng, one.with_hinges(weight, tensor([[1.0], [1.0]])), 45000, noise=0.5)
    joined = one.with_hinges(weight.sum(0, keepdim=True), tensor([[1.0]]))
    found = local_search(joined, sample, rng)
    assert sorted((found.model.weight != 0).sum(1).tolist()) == [1, 2]


def test_the_warm_starts_gradient_is_that_of_autograd() -> None:
    rng = np.random.default_rng(1)
    x, y = tensor(rng.standard_normal((2500, 4))), tensor(rng.standard_normal(2500))
    task = _Objective(x, y, tensor([1.0, -1.0, 1.0]), 0.03)
    vector = tensor(rng.standard_normal(3 * 4 + 4 + 4)).requires_grad_()
    w, axis, affine = vector[:12].view(3, 4), vector[12:16], vector[16:]
    f = x @ affine + x.abs() @ axis / 2 + (x @ w.T).abs() @ tensor([0.5, -0.5, 0.5])
    penalty = 0.03 * ((vector[:16] ** 2 + 0.01**2).sqrt() - 0.01).sum()
    loss = (f - y).square().mean() + penalty
    loss.backward()
    value, slope = task(vector.detach())
    assert value == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(slope, vector.grad)


def test_moments_know_the_signs_of_the_hinges() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20000, 6))
    for sign, share in ((1.0, 0.0), (-1.0, 1.0)):
        y = sign * (x @ rng.standard_normal((6, 3))).clip(0).sum(1)
        y = (y - y.mean()) / y.std()
        found = moments(Sample(x, y[:, None]))
        assert found.negative == share
        one = np.column_stack([x, np.ones(20000)])
        affine = np.linalg.lstsq(one, y, rcond=None)[0]
        np.testing.assert_allclose(found.affine, affine, atol=1e-8)
        assert found.mse == pytest.approx(((y - one @ affine) ** 2).mean(), rel=1e-8)


@pytest.mark.parametrize("outs", [1, 3])
def test_a_network_is_recovered_without_holding_the_equations(monkeypatch: pytest.MonkeyPatch, outs: int) -> None:
    monkeypatch.setattr(normal_equations, "MEMORY", 0)
    shape = {"inputs": 12, "hidden": (6,), "nonzeros": 20 * min(outs, 2), "outputs": outs, "seed": 3}
    truth, data = planted_network(**shape), planted(rows=4000, test_rows=500, **shape)
    found = fit(Exact(), data, Budget((10,)), seed=0)
    assert found.status.name == "converged"
    assert found.network.nonzeros == truth.canonical().nonzeros


def test_a_hinge_that_a_combination_hides_is_found() -> None:
    """Its output weights are those of a neuron a thousand times as large in the others; labels are noisy."""
    rng = np.random.default_rng(7)
    w, v = np.zeros((4, 10)), np.zeros((3, 4))
    w[0, :2], w[1, 2:4], w[2, 4:6], w[3, 6:8] = (1, -1), (1, 0.5), (0.7, 0.7), (1, 1)
    v[0, :2], v[1, 1:3], v[2, 3] = (1, -1), (2, 1), 0.001
    truth = Network.two_layer(w, v)
    x = rng.standard_normal((1000, 10))
    y = truth(x).numpy()
    solution = fit(Exact(), Data(x, y + 0.01 * y.std(axis=0) * rng.standard_normal(y.shape)), Budget((4,)))
    a, b = solution.network.oriented(1e-6), truth.oriented()
    assert all(torch.equal(p.indices, q.indices) for p, q in zip(a.layers, b.layers, strict=True))


def test_the_published_vector_task_is_exact_where_it_is_identifiable() -> None:
    shape = {"inputs": 20, "hidden": (10,), "nonzeros": 40, "outputs": 4, "seed": 0}
    truth = planted_network(**shape)
    solution = fit(Exact(), planted(rows=3000, test_rows=0, **shape), Budget((10,)))
    assert solution.status is Status.converged
    a, b = solution.network.oriented(1e-6), truth.oriented()
    assert all(torch.equal(p.indices, q.indices) for p, q in zip(a.layers, b.layers, strict=True))
    assert solution.network.nonzeros == b.nonzeros < truth.nonzeros


def test_random_starts_have_both_signs() -> None:
    rng = np.random.default_rng(9)
    assert {float(v) for v in random_model(rng, 40).outputs[:, 0]} == {-1.0, 1.0}
