"""The parts of exact recovery against autograd, Monte Carlo, enumeration and ordinary least squares."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import sparelu.recover.exact.least_squares
from sparelu.recover.exact.forward import more_kinks, more_weights
from sparelu.recover.exact.hinges import Kinks, Sample, merged, residual
from sparelu.recover.exact.least_squares import Fit, gradient, refit, saliency
from sparelu.recover.exact.moments import moments
from sparelu.recover.exact.normal_equations import Held, Support, gram
from sparelu.recover.exact.orientation import orientations
from sparelu.recover.exact.search import Plan, Search, advance
from sparelu.recover.exact.warm_start import _Objective


def _kinks(rng: np.random.Generator, k: int = 4, d: int = 5, tilt: bool = False) -> Kinks:
    weight = torch.as_tensor(rng.standard_normal((k, d + 1)) * (rng.random((k, d + 1)) < 0.6))
    weight[:, 0] += 1.0
    side = torch.as_tensor(rng.choice([-1.0, 0.0, 1.0], k)) if tilt else torch.zeros(k, dtype=torch.float64)
    return Kinks(torch.as_tensor(rng.choice([-1.0, 1.0], k)), weight, side, torch.as_tensor(rng.standard_normal(d + 1)))


def _sample(rng: np.random.Generator, kinks: Kinks, n: int = 300, noise: float = 0.0) -> Sample:
    x = rng.standard_normal((n, kinks.weight.shape[1] - 1))
    full = torch.as_tensor(np.column_stack([x, np.ones(n)]))
    return Sample(x, kinks(full).numpy() + noise * rng.standard_normal(n))


def _jacobian(kinks: Kinks, support: Support, sample: Sample) -> torch.Tensor:
    """By autograd."""
    x, _ = sample.tensors(torch.float64)
    free = torch.zeros(len(support) + support.affine.numel(), dtype=torch.float64)
    return torch.autograd.functional.jacobian(lambda step: support.added(kinks, step)(x), free)


@pytest.mark.parametrize("tilt", [False, True])
def test_gram_and_gradient_are_those_of_autograd(tilt: bool) -> None:
    rng = np.random.default_rng(0)
    kinks = _kinks(rng, tilt=tilt)
    sample = _sample(rng, _kinks(rng))
    support = Support.of(kinks.weight != 0, torch.tensor([True, False, True, True, True, True]))
    j = _jacobian(kinks, support, sample)
    slope, squares = gradient(kinks, support, sample)
    r = residual(kinks, sample)
    torch.testing.assert_close(gram(kinks, support, sample), j.T @ j)
    torch.testing.assert_close(slope, j.T @ r)
    assert squares == pytest.approx(float(r @ r))


def test_the_students_gradient_is_that_of_autograd() -> None:
    rng = np.random.default_rng(1)
    x, y = torch.as_tensor(rng.standard_normal((2500, 4))), torch.as_tensor(rng.standard_normal(2500))
    task = _Objective(x, y, torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64), 0.03)
    vector = torch.as_tensor(rng.standard_normal(3 * 4 + 4 + 4)).requires_grad_()
    w, axis, affine = vector[:12].view(3, 4), vector[12:16], vector[16:]
    f = x @ affine + x.abs() @ axis / 2 + (x @ w.T).abs() @ torch.tensor([0.5, -0.5, 0.5], dtype=torch.float64)
    penalty = 0.03 * ((vector[:16] ** 2 + 0.01**2).sqrt() - 0.01).sum()
    loss = (f - y).square().mean() + penalty
    loss.backward()
    value, slope = task(vector.detach())
    assert value == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(slope, vector.grad)


def test_refit_reaches_the_planted_weights_from_near() -> None:
    rng = np.random.default_rng(2)
    truth = _kinks(rng)
    sample = _sample(rng, truth, 800)
    near = Kinks(truth.sign, truth.weight * 1.1, truth.tilt, truth.affine * 0)
    fit = refit(near, Support.of(truth.weight != 0), sample)
    assert fit.mse < 1e-24
    torch.testing.assert_close(fit.kinks.weight, truth.weight, rtol=1e-9, atol=1e-11)


def test_saliency_is_the_rise_of_the_error_when_a_column_is_dropped() -> None:
    rng = np.random.default_rng(3)
    truth = _kinks(rng)
    sample = _sample(rng, truth, 400, noise=0.3)
    support = Support.of(truth.weight != 0)
    j = _jacobian(truth, support, sample)
    target = j @ torch.cat([truth.weight[support.kink, support.column], truth.affine]) + residual(truth, sample)
    whole = np.linalg.lstsq(j.numpy(), target.numpy(), rcond=None)
    solved = support.added(Kinks(truth.sign, truth.weight * 0, truth.tilt, truth.affine * 0), torch.as_tensor(whole[0]))
    mse = whole[1][0] / sample.n
    t = saliency(Fit(solved, mse, Held(support, j.T @ j), sample.n))
    for i in range(len(support)):
        rest = np.linalg.lstsq(np.delete(j.numpy(), i, axis=1), target.numpy(), rcond=None)[1][0]
        assert float(t[i]) == pytest.approx((rest - whole[1][0]) / mse, rel=1e-6)


@pytest.mark.parametrize(("signs", "expected"), [((1.0, 1.0), "wedge"), ((1.0, -1.0), "dipole")])
def test_merging_costs_what_its_tolerance_says(signs: tuple[float, float], expected: str) -> None:
    """Monte Carlo of the mean square that joining changes, on both sides of the tolerance."""
    angle, a, b = 0.12, 1.0, 0.4
    weight = torch.tensor([[a, 0.0, 0.0], [b * np.cos(angle), b * np.sin(angle), 0.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    kinks = Kinks(torch.tensor(signs, dtype=torch.float64), weight, zero, torch.zeros(3, dtype=torch.float64))
    joined = merged(kinks, 1.0)
    assert len(joined) == 1
    x = np.random.default_rng(4).standard_normal((2_000_000, 2))
    full = torch.as_tensor(np.column_stack([x, np.ones(len(x))]))
    change = float((kinks(full) - joined(full)).square().mean())
    assert len(merged(kinks, 3 * change)) == 1
    assert len(merged(kinks, change / 3)) == 2, expected


def test_kinks_of_one_direction_are_one_and_opposite_ones_cancel() -> None:
    w = torch.tensor([[1.0, 2.0, 0.5], [-2.0, -4.0, -1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    sign = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    joined = merged(Kinks(sign, w, sign * 0, w[0] * 0), 1e-20)
    torch.testing.assert_close(joined.weight.abs(), 3 * w[:1])


def test_orientations_are_the_only_ones_that_explain_the_affine_part() -> None:
    """Against enumeration of all sign patterns, for fewer and for more kinks than inputs."""
    for seed, (k, d) in enumerate([(3, 5), (7, 4), (8, 5)]):
        rng = np.random.default_rng(seed)
        w = rng.standard_normal((k, d)) * (rng.random((k, d)) < 0.5)
        w[:, 0] = rng.standard_normal(k)
        v, e = rng.choice([-1.0, 1.0], k), rng.choice([-1.0, 1.0], k)
        a = (v * e) @ w / 2
        fits = [p for p in itertools.product([-1.0, 1.0], repeat=k) if np.abs((v * p) @ w / 2 - a).max() < 1e-9]
        assert len(fits) == 1
        weight = torch.as_tensor(np.column_stack([w, np.zeros(k)]))
        affine = torch.as_tensor(np.append(a, 0.0))[None]
        found = orientations(weight, torch.as_tensor(v)[:, None], affine, torch.full((1, d + 1), 1e-9).double())
        assert found.tolist() == list(fits[0])


def test_moments_know_the_signs_of_the_kinks() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20000, 6))
    for sign, share in ((1.0, 0.0), (-1.0, 1.0)):
        y = sign * (x @ rng.standard_normal((6, 3))).clip(0).sum(1)
        y = (y - y.mean()) / y.std()
        found = moments(Sample(x, y))
        assert found.negative == share
        one = np.column_stack([x, np.ones(20000)])
        affine = np.linalg.lstsq(one, y, rcond=None)[0]
        np.testing.assert_allclose(found.affine, affine, atol=1e-8)
        assert found.mse == pytest.approx(((y - one @ affine) ** 2).mean(), rel=1e-8)
        np.testing.assert_allclose(found.power, (one**2).mean(0))


def test_growth_asks_for_what_is_missing() -> None:
    """A weight and a kink are left out of a fit; t of the weight against that of ordinary least squares."""
    rng = np.random.default_rng(6)
    truth = Kinks(
        torch.tensor([1.0, -1.0], dtype=torch.float64),
        torch.tensor([[1.0, 0.7, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.5, 0.0]], dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(5, dtype=torch.float64),
    )
    sample = _sample(rng, truth, 4000, noise=0.1)
    short = truth.take(torch.tensor([True, False]))
    fit = refit(short, Support.of(short.weight != 0), sample)
    grown, _ = more_kinks(fit, sample, residual(fit.kinks, sample), 30.0, 1, rng)
    assert (grown.weight[1] != 0).nonzero()[:, 0].tolist() == [3]
    assert grown.sign[1] == -1.0
    mask = truth.weight != 0
    mask[0, 1] = False
    fit = refit(truth, Support.of(mask), sample)
    found, count, _ = more_weights(fit.kinks, sample, residual(fit.kinks, sample), 30.0, 1)
    assert count == 1
    assert bool(found[0, 1])


def test_a_weight_of_a_kink_that_few_rows_lie_beyond_is_judged_by_those() -> None:
    """Its t is that of regressing the residual on its column and the affine part."""
    rng = np.random.default_rng(7)
    weight = torch.tensor([[1.0, 0.4, 0.0, 0.0, -2.2]]).double()
    truth = Kinks.none(torch.zeros(5, dtype=torch.float64)).with_kinks(torch.ones(1).double(), weight)
    sample = _sample(rng, truth, 4000, noise=0.02)
    mask = weight != 0
    mask[0, 1] = False
    fit = refit(truth, Support.of(mask), sample)
    x = np.column_stack([sample.x, np.ones(4000)])
    side = np.sign(x @ fit.kinks.weight[0].numpy())
    assert 50 < (side > 0).sum() < 100
    r = residual(fit.kinks, sample)
    column, plain = side * x[:, 1], x
    column = column - plain @ np.linalg.lstsq(plain, column, rcond=None)[0]
    t = (r.numpy() @ column) ** 2 / (column @ column) / float(r.square().mean())
    found = more_weights(fit.kinks, sample, r, 0.0, 1)
    assert found[0][0, 1]
    assert found[2] == pytest.approx(t, rel=0.05)
    few = replace(fit.kinks, weight=fit.kinks.weight * torch.tensor([1.0, 1, 1, 1, 1.5]).double())
    assert more_weights(few, sample, r, 0.0, 1)[2] == 0.0


def test_two_kinks_of_one_input_at_places_close_by_are_parted() -> None:
    rng = np.random.default_rng(8)
    none = Kinks.none(torch.zeros(5, dtype=torch.float64))
    weight = torch.tensor([[0.25, 0, 0, 0, 0.14], [0.1, 0, 0, 0, 0.08], [0, 0.5, 0, 0, 0.2]]).double()
    truth = none.with_kinks(torch.tensor([-1.0, -1.0, 1.0]).double(), weight)
    sample = _sample(rng, truth, 6000)
    joined = none.with_kinks(torch.tensor([-1.0, 1.0]).double(), torch.stack([weight[0] + weight[1], weight[2]]))
    search = Search(joined, joined.weight != 0, "refit", 1.0, 1e-3, cycle=1, full=True)
    while search.phase == "refit":
        search = advance(search, sample, np.arange(6000), Plan(5, 1000, 6000, 50, 2, 0.0), rng)
    assert search.phase == "done"
    found = search.kinks.weight[search.kinks.weight[:, 0] != 0]
    places = sorted((-found[:, -1] / found[:, 0]).tolist())
    np.testing.assert_allclose(places, [-0.8, -0.56], atol=1e-9)


def test_a_refit_of_settled_gates_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    truth = _kinks(rng)
    sample = _sample(rng, truth, 800, noise=0.1)
    support = Support.of(truth.weight != 0)
    fit = refit(truth, support, sample, steps=50, enough=1e-9)
    away = replace(fit.kinks, affine=fit.kinks.affine + 1.0)
    taken: list[int] = []
    step = sparelu.recover.exact.least_squares._descend
    monkeypatch.setattr("sparelu.recover.exact.least_squares._descend", lambda *a: taken.append(1) or step(*a))
    again = refit(away, support, sample)
    assert len(taken) == 1
    assert again.mse == pytest.approx(fit.mse, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_kink_that_stands_for_two_is_split_in_noise(seed: int) -> None:
    """The split and the missing axis are asked for at once; taken both, the axis would be there twice."""
    rng = np.random.default_rng(seed)
    one = Kinks.none(torch.zeros(6, dtype=torch.float64))
    two = one.with_kinks(
        torch.ones(2).double(), torch.tensor([[-0.2, -0.81, 0, 0, 0, 0], [0, -0.88, 0, 0, 0, 0]]).double()
    )
    sample = _sample(rng, two, 45000, noise=0.5)
    joined = one.with_kinks(torch.ones(1).double(), two.weight.sum(0, keepdim=True))
    search = Search(joined, joined.weight != 0, "refit", 1.0, 0.01, cycle=1, full=True)
    while search.phase == "refit":
        search = advance(search, sample, np.arange(sample.n), Plan(5, 1000, 45000, 50, 2, 0.0), rng)
    assert search.phase == "done"
    assert sorted((search.kinks.weight != 0).sum(1).tolist()) == [1, 2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_kinks_that_no_row_tells_apart_are_joined(seed: int) -> None:
    """Of correlated inputs the rows' angle of two kinks is far less than that of their weights."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((8000, 6))
    x = base + 3 * rng.standard_normal((8000, 1))
    one = Kinks.none(torch.zeros(7, dtype=torch.float64))
    weight = torch.as_tensor(np.append(rng.standard_normal(6), 0.0))[None]
    truth = one.with_kinks(torch.ones(1).double(), weight)
    y = truth(torch.as_tensor(np.column_stack([x, np.ones(8000)]))).numpy().astype(np.float32)
    apart = torch.zeros_like(weight)
    apart[0, :2] = torch.tensor([1e-3, -1e-3])
    two = one.with_kinks(torch.ones(2).double(), torch.cat([0.48 * weight + apart, 0.52 * weight - apart]))
    search = Search(two, two.weight != 0, "refit", 1.0, 1e-9, cycle=1, full=True)
    search = advance(search, Sample(x, y.astype(np.float64)), np.arange(8000), Plan(5, 1000, 8000, 50, 2, 0.0), rng)
    assert len(search.kinks) == 1


def test_a_sample_reads_memory_maps_in_blocks(tmp_path) -> None:
    rng = np.random.default_rng(7)
    truth = _kinks(rng)
    sample = _sample(rng, truth, 5000)
    mapped = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=sample.x.shape)
    mapped[:] = sample.x
    other = Sample(mapped, sample.y)
    support = Support.of(truth.weight != 0)
    torch.testing.assert_close(gram(truth, support, other), gram(truth, support, sample))
    assert [len(y) for _, y in other.blocks()] == [2048, 2048, 904]
