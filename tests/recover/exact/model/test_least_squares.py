"""Gradient, normal equations, steps and Wald statistics against autograd, dense least squares and scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize

from sparelu.recover.exact.model.hinges import residual
from sparelu.recover.exact.model.least_squares import Fit, accept, all_t, criterion, refit, regress, wald
from sparelu.recover.exact.model.normal_equations import (
    HeldEquations,
    StreamedEquations,
    errors,
    free_outputs,
    gradient,
    gram,
)
from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.model.tolerances import NOISELESS, ROUNDED, universal_threshold
from tests.recover.exact.models import jacobian, random_model, rows_of, tensor

KINDS = pytest.mark.parametrize("outs", [1, 3])
ORIENTED = pytest.mark.parametrize("oriented", [False, True])


def _free(model: ReluModel, support: Support) -> torch.Tensor:
    """Columns of the Jacobian that a step moves: of every hinge one output weight is held."""
    outputs = free_outputs(model, support)[support.outputs]
    weight, affine = (torch.ones(int(m.sum()), dtype=torch.bool) for m in (support.weight, support.affine))
    return torch.cat([weight, outputs, affine])


@KINDS
@ORIENTED
def test_gradient_and_error_are_those_of_autograd(outs: int, oriented: bool) -> None:
    rng = np.random.default_rng(0)
    model = random_model(rng, outs=outs, oriented=oriented)
    sample = rows_of(rng, random_model(rng, outs=outs), 3000)
    precision = tensor(rng.random(outs) + 0.5)
    found = gradient(model, sample, precision)
    whole = Support(*(torch.ones_like(t, dtype=torch.bool) for t in (model.weight, model.outputs, model.affine)))
    r = residual(model, sample)
    slope = jacobian(model, whole, sample, precision).T @ (r * precision.sqrt()).T.reshape(-1)
    parts = torch.cat([t.flatten() for t in (found.weight, found.outputs, found.affine)])
    torch.testing.assert_close(parts, slope)
    torch.testing.assert_close(found.mse, r.square().mean(0))
    torch.testing.assert_close(errors(model, sample), found.mse)
    assert found.level == pytest.approx(float(r.square().mean(0).log().sum()))


@KINDS
@ORIENTED
def test_a_step_solves_the_dense_least_squares_of_all_outputs(outs: int, oriented: bool) -> None:
    rng = np.random.default_rng(1)
    model = random_model(rng, outs=outs, oriented=oriented)
    sample = rows_of(rng, random_model(rng, outs=outs), 700)
    affine = torch.ones_like(model.affine, dtype=torch.bool)
    affine[0, 1] = False
    support = Support.of(replace(model, affine=model.affine * affine), affine)
    model = support.apply(model)
    slope = gradient(model, sample, tensor(rng.random(outs) + 0.5))
    moved, promise, _ = HeldEquations(support, gram(model, support, sample)).solve(slope, 0.0)
    j = jacobian(model, support, sample, slope.precision)[:, _free(model, support)]
    r = ((residual(model, sample)) * slope.precision.sqrt()).T.reshape(-1)
    step = torch.linalg.lstsq(j, r[:, None]).solution[:, 0]
    change = [
        (moved.weight - model.weight)[support.weight],
        (moved.outputs - model.outputs)[free_outputs(model, support)],
        (moved.affine - model.affine)[support.affine],
    ]
    torch.testing.assert_close(torch.cat(change), step)
    left = float((r - j @ step).square().sum() / r.square().sum())
    assert promise == pytest.approx(1 - left, rel=1e-9)
    assert bool((moved.weight[~support.weight] == 0).all())
    assert float(moved.affine[0, 1]) == 0.0


@KINDS
def test_wald_is_the_squared_t_statistic(outs: int) -> None:
    """Against the covariance of the dense problem, and for one output against dropping the column."""
    rng = np.random.default_rng(2)
    truth = random_model(rng, outs=outs)
    sample = rows_of(rng, truth, 900, noise=0.3)
    fit = refit(truth, sample, steps=50, enough=1e-12)
    support, t = fit.support, wald(fit, in_units=False)
    free = _free(fit.model, support)
    j = jacobian(fit.model, support, sample, 1 / fit.noise)[:, free]
    variance = torch.linalg.inv(j.T @ j).diagonal()
    p, outputs = int(support.weight.sum()), free_outputs(fit.model, support)
    q = int(outputs.sum())
    torch.testing.assert_close(t.weight[support.weight], fit.model.weight[support.weight].square() / variance[:p])
    torch.testing.assert_close(t.outputs[outputs], fit.model.outputs[outputs].square() / variance[p : p + q])
    assert bool(t.outputs[~outputs].isinf().all())
    finite = torch.cat([t.weight[support.weight], t.outputs[outputs]])
    np.testing.assert_allclose(np.sort(all_t(fit)), np.sort(finite.sqrt().numpy()))
    variances = fit.equations.variances(fit.slope)
    torch.testing.assert_close(variances.affine.flatten(), variance[p + q :])


def test_a_wald_statistic_is_the_rise_of_the_error_when_its_column_is_dropped() -> None:
    rng = np.random.default_rng(3)
    truth = random_model(rng)
    sample = rows_of(rng, truth, 400, noise=0.3)
    fit = refit(truth, sample, steps=50, enough=1e-13)
    j = jacobian(fit.model, fit.support, sample, torch.ones(1).double())[:, _free(fit.model, fit.support)].numpy()
    t = wald(fit, in_units=False).weight[fit.support.weight]
    numbers = torch.cat([fit.model.weight[fit.support.weight], fit.model.affine[0]]).numpy()
    target = j @ numbers + residual(fit.model, sample)[:, 0].numpy()
    whole = np.linalg.lstsq(j, target, rcond=None)[1][0]
    for i in range(len(t)):
        rest = np.linalg.lstsq(np.delete(j, i, axis=1), target, rcond=None)[1][0]
        assert float(t[i]) == pytest.approx((rest - whole) / (whole / sample.n), rel=1e-2, abs=0.02)


@KINDS
def test_a_refit_reaches_what_scipy_reaches(outs: int) -> None:
    rng = np.random.default_rng(4)
    truth = random_model(rng, outs=outs)
    sample = rows_of(rng, truth, 500, noise=0.2)
    fit = refit(replace(truth, weight=truth.weight * 1.05), sample, steps=50, enough=1e-10)
    x, y = sample.tensors(torch.float64)
    support, model = fit.support, fit.model
    weight = (1 / fit.noise).sqrt().numpy()
    start = torch.cat([model.weight[support.weight], model.outputs[support.outputs], model.affine.flatten()]).numpy()

    def misfit(values: np.ndarray) -> np.ndarray:
        parts, at = [], 0
        for mask in (support.weight, support.outputs, support.affine):
            size = int(mask.sum())
            parts.append(torch.zeros(mask.shape).double().masked_scatter(mask, tensor(values[at : at + size])))
            at += size
        moved = ReluModel(parts[0], model.orientation, parts[1], parts[2])
        return ((moved(x) - y).numpy() * weight).ravel()

    best = optimize.least_squares(misfit, start, xtol=1e-12, ftol=1e-12)
    assert float((misfit(start) ** 2).sum()) <= 2 * best.cost * (1 + 1e-6)


@KINDS
def test_a_refit_reaches_the_planted_numbers_from_near(outs: int) -> None:
    rng = np.random.default_rng(5)
    truth = random_model(rng, outs=outs)
    sample = rows_of(rng, truth, 900)
    near = replace(truth, weight=truth.weight * 1.03, affine=truth.affine * 0)
    fit = refit(near, sample)
    assert float(fit.slope.mse.max()) < 1e-22
    found = fit.model.normalise()
    torch.testing.assert_close(found.weight, truth.weight, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.outputs, truth.outputs, rtol=1e-8, atol=1e-9)


@KINDS
def test_equations_of_a_smaller_support_are_read_off(outs: int) -> None:
    rng = np.random.default_rng(6)
    model = random_model(rng, outs=outs)
    sample = rows_of(rng, model, 300)
    support = Support.of(model)
    whole = HeldEquations(support, gram(model, support, sample))
    keep = torch.tensor([True, True, False, True])
    smaller = model.take(keep)
    smaller = replace(smaller, weight=smaller.weight * (torch.arange(6) != 2))
    own = Support.of(smaller)
    found = whole.restrict(own, keep)
    assert found is not None
    torch.testing.assert_close(found.base, gram(model.take(keep), own, sample))  # gates as they were


@KINDS
@ORIENTED
def test_streamed_steps_gain_what_held_ones_do(outs: int, oriented: bool) -> None:
    rng = np.random.default_rng(7)
    model = random_model(rng, 6, 12, outs=outs, oriented=oriented)
    sample = rows_of(rng, random_model(rng, 6, 12, outs=outs), 6000)
    support = Support.of(model)
    slope = gradient(model, sample, 1 / errors(model, sample))
    _, best, _ = HeldEquations(support, gram(model, support, sample)).solve(slope, 1e-6)
    moved, promise, _ = StreamedEquations.of(model, support, sample).solve(slope, 1e-6)
    assert promise == pytest.approx(best, rel=0.02)
    assert gradient(moved, sample, slope.precision).level < slope.level


@KINDS
def test_streamed_variances_are_never_above_the_held_ones(outs: int) -> None:
    """They take every hinge by itself: the inverse of a diagonal block."""
    rng = np.random.default_rng(8)
    model = random_model(rng, 6, 12, outs=outs)
    sample = rows_of(rng, model, 6000, noise=0.1)
    support = Support.of(model)
    slope = gradient(model, sample, 1 / errors(model, sample))
    held = HeldEquations(support, gram(model, support, sample))
    whole, streamed = held.variances(slope), StreamedEquations.of(model, support, sample).variances(slope)
    assert bool((streamed.weight <= whole.weight * (1 + 1e-9)).all())
    assert bool(((streamed.weight > 0) == support.weight).all())
    assert bool((streamed.outputs <= whole.outputs * (1 + 1e-9)).all())
    columns = gram(model, support, sample)
    place = (support.places[0] == 0).nonzero()[:, 0]
    block = torch.linalg.inv(columns[place][:, place]).diagonal() / float(
        (model.outputs[0].square() / slope.noise).sum()
    )
    torch.testing.assert_close(streamed.weight[0, support.weight[0]], block)
    beside, root = StreamedEquations.of(model, support, sample).frame()
    x, _ = sample.tensors(torch.float64)
    torch.testing.assert_close(root @ root.T, x.T @ x)
    assert int(beside.weight.sum()) == 0


@KINDS
def test_regression_is_that_of_numpy(outs: int) -> None:
    rng = np.random.default_rng(9)
    model = random_model(rng, outs=outs)
    sample = rows_of(rng, random_model(rng, outs=outs), 800)
    x, y = sample.tensors(torch.float64)
    features = torch.cat([(x @ model.weight.T).abs() / 2, x], dim=1).numpy()
    solution = np.linalg.lstsq(features, y.numpy(), rcond=None)[0]
    torch.testing.assert_close(regress(model, sample)(x), tensor(features @ solution), rtol=1e-7, atol=1e-8)


def test_a_refit_of_settled_gates_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    truth = random_model(rng)
    sample = rows_of(rng, truth, 800, noise=0.1)
    fit = refit(truth, sample, steps=50, enough=1e-9)
    away = replace(fit.model, affine=fit.model.affine + 1.0)
    taken: list[int] = []
    solve = HeldEquations.solve
    monkeypatch.setattr(HeldEquations, "solve", lambda *a: taken.append(1) or solve(*a))
    again = refit(away, sample)
    assert len(taken) == 1
    assert again.mse == pytest.approx(fit.mse, rel=1e-4)


def test_thresholds_are_rarely_reached_by_noise() -> None:
    """Of so many standard normal numbers the largest squared one, in 400 searches; and labels that are exact."""
    rng = np.random.default_rng(10)
    for candidates in (2000, 20000):
        above = sum(
            float(rng.standard_normal(candidates).__pow__(2).max()) > universal_threshold(candidates, 1.0)
            for _ in range(400)
        )
        assert above <= 12
        largest = np.mean([(rng.standard_normal(candidates) ** 2).max() for _ in range(100)])
        assert universal_threshold(candidates, 1.0) < largest + 12
    assert universal_threshold(2000, NOISELESS / 10) == ROUNDED


def test_a_support_without_noise_lowers_the_criterion_and_is_accepted() -> None:
    rng = np.random.default_rng(11)
    truth = random_model(rng)
    sample = rows_of(rng, truth, 3000, noise=0.2)
    weight = truth.weight.clone()
    weight[weight == 0] = 1e-6
    large, small = refit(replace(truth, weight=weight), sample), refit(truth, sample)
    assert criterion(small) < criterion(large)
    assert accept(large, small)
    short: Fit = refit(replace(truth, weight=truth.weight * (torch.arange(6) != 0)), sample)
    assert criterion(short) > criterion(small)
    assert not accept(small, short)
