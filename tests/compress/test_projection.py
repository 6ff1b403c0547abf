"""Outputs eliminated exactly: values, gradients, and the printed minima from random starts."""

import math

import numpy as np
import pytest
import torch

from sparelu.compress.frames import C0, G1, InvariantTarget, equal_norms, optimum
from sparelu.compress.projection import Form, LawTarget, NetworkTarget, Projection, descend_neurons
from sparelu.gaussian import TwoLayer, squared_distance

# Searched minima for w ~ N(0, I/d), where no simplex exists (M > d + 1): a printed table.
BEYOND = {
    (5, 8): 0.000717, (5, 11): 0.000392, (5, 12): 0.000316, (10, 12): 0.000715, (5, 20): 0.000101, (10, 20): 0.000374,
}  # fmt: skip


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape))


def searched(
    target: InvariantTarget, m: int, starts: int, steps: int = 1000
) -> tuple[float, torch.Tensor, torch.Tensor]:
    rng, zero = np.random.default_rng(0), torch.zeros(target.inputs, dtype=torch.float64)
    projection = Projection(LawTarget(target), Form(False, False, False, zero))
    found = [
        descend_neurons(projection, normal(rng, m, target.inputs), zero.new_zeros(m), steps) for _ in range(starts)
    ]
    weight, bias, loss = min(found, key=lambda f: f[2])
    return loss, weight, projection.solve(weight, bias).out


def gaussian_target(d: int) -> InvariantTarget:
    total = math.sqrt(2 / d) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return InvariantTarget(total, torch.zeros(d, dtype=torch.float64))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("linear", [True, False])
def test_value_is_a_distance_and_gradient_its_slope(bias: bool, offset: bool, linear: bool) -> None:
    rng = np.random.default_rng(0)
    parts = [normal(rng, *s) for s in ((2, 12), (12, 4), (12,), (2, 4), (2,))]
    net = TwoLayer(parts[0] / 12, *parts[1:])
    projection = Projection(NetworkTarget.of(net), Form(bias, offset, linear, normal(rng, 4)))
    at = rng.normal(size=3 * (5 if bias else 4))
    value, grad = projection(at)
    weight, b, _ = projection.unpack(at)
    student = projection.solve(weight, b)
    assert float(squared_distance(student, net)) == pytest.approx(value, rel=1e-7)
    numeric = [(projection(at + e)[0] - projection(at - e)[0]) / 2e-5 for e in 1e-5 * np.eye(len(at))]
    assert np.abs(grad - np.array(numeric)).max() < 1e-7
    for change in (1e-3, -1e-3):  # no outputs are better
        moved = TwoLayer(student.out + change, *list(vars(student).values())[1:])
        assert float(squared_distance(moved, net)) > value


@pytest.mark.parametrize(("d", "m"), [(5, 2), (5, 6), (10, 8), (10, 11), (20, 12)])
def test_random_starts_come_to_the_closed_form(d: int, m: int) -> None:
    """Outputs of either sign are allowed here, so this also says that no negative output helps."""
    loss, weight, out = searched(gaussian_target(d), m, 2)
    assert loss == pytest.approx(equal_norms(gaussian_target(d), m).loss, abs=1e-7)
    cosines = (weight @ weight.T)[~torch.eye(m, dtype=torch.bool)]
    assert (cosines + 1 / (m - 1)).abs().max() < 1e-3
    assert float(out.min()) > 0


@pytest.mark.parametrize(("d", "m"), [(5, 8), (10, 12)])
def test_random_starts_reach_the_printed_minima_where_no_simplex_exists(d: int, m: int) -> None:
    loss, weight, _ = searched(gaussian_target(d), m, 3)
    assert loss < BEYOND[d, m] + 6e-7
    assert loss > equal_norms(gaussian_target(d), m).loss
    if m == d + 2:  # two orthogonal simplices
        cosines = (weight @ weight.T)[~torch.eye(m, dtype=torch.bool)]
        assert torch.minimum(cosines.abs(), (cosines + 1 / (m // 2 - 1)).abs()).max() < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(("d", "m"), [(5, 11), (5, 12), (5, 20), (10, 20)])
def test_random_starts_reach_the_hardest_cells(d: int, m: int) -> None:
    assert searched(gaussian_target(d), m, 16, 3000)[0] < BEYOND[d, m] + 6e-7


@pytest.mark.parametrize(("m", "t"), [(5, 0.2), (5, 0.5), (5, 1.5), (3, 0.2), (3, 1.0), (2, 0.5), (2, 1.0)])
def test_with_a_pull_the_search_is_never_above_the_regimes(m: int, t: float) -> None:
    pull = torch.zeros(10, dtype=torch.float64)
    pull[0] = t
    target = InvariantTarget(1.0, pull, infinite=True)
    assert searched(target, m, 4)[0] < optimum(target, m).loss + 1e-6


def test_with_a_free_linear_part_orthonormal_neurons_are_best() -> None:
    d, m = 8, 5
    target = InvariantTarget(1.0, torch.full((d,), 0.3, dtype=torch.float64), infinite=True)
    rng = np.random.default_rng(3)
    projection = Projection(LawTarget(target), Form(False, False, True, torch.zeros(d, dtype=torch.float64)))
    found = [
        descend_neurons(projection, normal(rng, m, d), torch.zeros(m, dtype=torch.float64), 500)[2] for _ in range(3)
    ]
    assert min(found) == pytest.approx(C0 - C0**2 / (C0 + G1 / m), abs=1e-7)


def test_a_hidden_small_network_is_found_again() -> None:
    """Three neurons, each split into five equal ones: the distance comes to rounding."""
    rng = np.random.default_rng(4)
    weight, bias, out = normal(rng, 3, 4), normal(rng, 3), normal(rng, 2, 3)
    wide = TwoLayer.of(weight.repeat(5, 1), out.repeat(1, 5) / 5, bias.repeat(5))
    projection = Projection(NetworkTarget.of(wide), Form(True, False, False, torch.zeros(4, dtype=torch.float64)))
    found = [descend_neurons(projection, normal(rng, 3, 4), normal(rng, 3), 300)[2] for _ in range(3)]
    assert min(found) < 1e-8
