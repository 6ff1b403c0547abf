"""The score test against ordinary least squares: weights, output weights, hinges and splits that are missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sparelu.recover.exact.model.hinges import residual
from sparelu.recover.exact.model.least_squares import refit
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.steps.forward import (
    add_hinges,
    add_strongest,
    scale_residual,
    score_outputs,
    score_weights,
    structure,
)
from sparelu.recover.exact.steps.forward_splits import _gains, add_splits
from tests.recover.exact.models import random_model, rows_of, tensor


def _outside(columns: np.ndarray, column: np.ndarray) -> np.ndarray:
    return column - columns @ np.linalg.lstsq(columns, column, rcond=None)[0]


@pytest.mark.parametrize("outs", [1, 2])
def test_the_score_of_a_weight_is_its_gradient_over_that_of_noise(outs: int) -> None:
    """(sum_o V_o f.r_o / s_o^2)^2 / (sum_o V_o^2 f.f / s_o^2) for the column f, in float64."""
    rng = np.random.default_rng(0)
    truth = random_model(rng, outs=outs)
    sample = rows_of(rng, random_model(rng, outs=outs), 4000)
    fit = refit(truth, sample, steps=1)
    r = residual(fit.model, sample)
    unit, scale = scale_residual(r)
    found = score_weights(fit.model, sample, unit, scale)
    x, _ = sample.tensors(torch.float64)
    side = (x @ fit.model.weight.T).sign()
    strength = fit.model.outputs / scale
    weighed = (r / scale) @ strength.T
    slope = (side * weighed).T @ x
    want = slope.square() / (strength.square().sum(1)[:, None] * x.square().sum(0))
    want[fit.model.weight != 0] = 0.0
    torch.testing.assert_close(found.double(), want, rtol=1e-2, atol=1e-3)
    assert float(want.max()) > 1


def test_a_weight_of_a_hinge_that_few_rows_lie_beyond_is_judged_by_those() -> None:
    """Its t is that of regressing the residual on its column and the affine part."""
    rng = np.random.default_rng(7)
    weight = tensor([[1.0, 0.4, 0.0, 0.0, -2.2]])
    truth = ReluModel.linear(tensor(np.zeros((1, 5)))).with_hinges(weight, tensor([[1.0]]))
    sample = rows_of(rng, truth, 4000, noise=0.02)
    fit = refit(truth.take(torch.tensor([0])), sample, steps=1)
    short = replace(truth, weight=weight * tensor([1.0, 0, 1, 1, 1]))
    fit = refit(short, sample)
    x = np.column_stack([sample.x, np.ones(4000)])
    side = np.sign(x @ fit.model.weight[0].numpy())
    assert 50 < (side > 0).sum() < 100
    r = residual(fit.model, sample)
    column = _outside(x, side * x[:, 1])
    t = (r[:, 0].numpy() @ column) ** 2 / (column @ column) / float(r.square().mean())
    found = score_weights(fit.model, sample, *scale_residual(r))
    assert float(found[0, 1]) == pytest.approx(t, rel=0.05)
    assert int(found.argmax()) == 1
    few = replace(fit.model, weight=fit.model.weight * tensor([1.0, 1, 1, 1, 1.5]))
    assert float(score_weights(few, sample, *scale_residual(r)).max()) == 0.0


def test_the_score_of_an_output_weight_is_its_squared_t_statistic() -> None:
    rng = np.random.default_rng(2)
    truth = random_model(rng, outs=3)
    outputs = truth.outputs.clone()
    outputs[1, 2] = 0.5
    truth = replace(truth, outputs=outputs).normalise()
    sample = rows_of(rng, truth, 3000, noise=0.2)
    gone = outputs.clone()
    gone[1, 2] = 0.0
    fit = refit(replace(truth, outputs=gone), sample, steps=30, enough=1e-10)
    found = score_outputs(fit)
    x, _ = sample.tensors(torch.float64)
    h = ((x @ fit.model.weight.T).abs() / 2).numpy()
    live = fit.support.outputs[:, 2].numpy()
    column = _outside(np.column_stack([h[:, live], x.numpy()]), h[:, 1])
    r = residual(fit.model, sample)[:, 2].numpy()
    assert float(found[1, 2]) == pytest.approx((r @ column) ** 2 / (column @ column) / (r**2).mean(), rel=0.02)
    assert float(found.max()) == float(found[1, 2])
    assert bool((found[fit.support.outputs] == 0).all())


def test_the_strongest_above_one_are_added() -> None:
    t = torch.tensor([[0.5, 3.0], [2.0, 0.9]])
    mask, largest = add_strongest(t, 1)
    assert mask.nonzero().tolist() == [[0, 1]]
    assert largest == 3.0
    assert int(add_strongest(t, 10)[0].sum()) == 2


@pytest.mark.parametrize("outs", [1, 3])
def test_a_missing_hinge_is_found_with_its_output_weights(outs: int) -> None:
    rng = np.random.default_rng(6)
    weight = tensor([[1.0, 0.7, 0, 0, 0], [0, 0, 0, 1.5, 0]])
    outputs = tensor([[1.0], [-1.0]]) if outs == 1 else tensor([[1.0, 0.5, 0], [0, 0.4, -1.0]])
    truth = ReluModel.linear(tensor(np.zeros((outs, 5)))).with_hinges(weight, outputs)
    sample = rows_of(rng, truth, 4000, noise=0.1)
    fit = refit(truth.take(torch.tensor([True, False])), sample)
    unit, scale = scale_residual(residual(fit.model, sample))
    hinges, strongest = add_hinges(fit, sample, unit, scale, 1, rng, beside=weight[:0])
    assert strongest > 1
    assert (hinges.weight[0] != 0).nonzero()[:, 0].tolist() == [3]
    torch.testing.assert_close(hinges.outputs[0], outputs[1] / outputs[1].abs().max(), atol=0.1, rtol=0.0)
    assert 0.2 < float(hinges.weight.norm()) / 1.5 < 1.2  # alone, beside no constant: the refit finds the rest
    assert not bool(hinges.affine.any())
    again, _ = add_hinges(fit, sample, unit, scale, 1, np.random.default_rng(0), beside=weight[1:])
    assert not any(bool(torch.equal(w != 0, weight[1] != 0)) for w in again.weight)


def test_an_output_that_lacks_a_hinge_has_the_most_structure() -> None:
    rng = np.random.default_rng(8)
    x = torch.as_tensor(rng.standard_normal((5000, 7))).float()
    x[:, -1] = 1.0
    noise = torch.as_tensor(rng.standard_normal((5000, 3))).float()
    lacking = x[:, 0].abs() + x[:, 1] * x[:, 2]
    r = torch.stack([noise[:, 0], noise[:, 1], lacking - lacking.mean() + noise[:, 2]], dim=1)
    found = structure(x, r / r.std(0))
    assert int(found.argmax()) == 2
    assert float(found[:2].max()) < 3 * 2 * np.sqrt(6)
    assert float(found[2]) > 5 * float(found[:2].max())


@pytest.mark.parametrize("outs", [1, 2])
def test_the_gain_of_a_split_is_the_fall_of_the_error(outs: int) -> None:
    rng = np.random.default_rng(9)
    model = random_model(rng, outs=outs)
    sample = rows_of(rng, random_model(rng, outs=outs), 2000)
    r = residual(model, sample)
    unit, scale = scale_residual(r)
    j, i = ((model.weight != 0) & ((model.weight[:, :-1] != 0).sum(1) > 1)[:, None])[:, :-1].nonzero().T
    gains, share = _gains(model, sample, unit, scale, j, i)
    for gain, c, hinge, column in zip(gains, share, j.tolist(), i.tolist(), strict=True):
        weight, moved = model.weight.clone(), float(c) * float(model.weight[hinge, column])
        weight[hinge, column] -= moved
        axis = torch.zeros(1, 6).double()
        axis[0, column] = abs(moved)
        split = replace(model, weight=weight).with_hinges(axis, model.outputs[hinge, None] * c.sign())
        after = residual(split, sample)
        fall = float(((r.square() - after.square()) / scale.square()).sum())
        assert float(gain) == pytest.approx(fall, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("outs", [1, 2])
def test_a_hinge_that_stands_for_two_is_split(outs: int) -> None:
    rng = np.random.default_rng(10)
    outputs = tensor([[1.0], [1.0]]) if outs == 1 else tensor([[1.0, 0.5], [1.0, 0.5]])
    weight = tensor([[-0.2, -0.81, 0, 0, 0, 0], [0, -0.88, 0, 0, 0, 0]])
    two = ReluModel.linear(tensor(np.zeros((outs, 6)))).with_hinges(weight, outputs)
    sample = rows_of(rng, two, 20000, noise=0.05)
    joined = ReluModel.linear(two.affine).with_hinges(weight.sum(0, keepdim=True), outputs[:1])
    fit = refit(joined, sample)
    unit, scale = scale_residual(residual(fit.model, sample))
    parts, gain = add_splits(fit.model, sample, unit, scale, 25.0, 5)
    assert gain > 1
    assert (parts.weight[1] != 0).nonzero()[:, 0].tolist() == [1]
    assert add_splits(fit.model, sample, unit, scale, 1e9, 5)[0].weight.shape == fit.model.weight.shape
