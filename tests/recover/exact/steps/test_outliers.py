"""Wrong labels are told from noise and from what a model lacks; the network is found without them; they are named."""

import re

import numpy as np
import pytest

from sparelu.data import Budget, Data
from sparelu.outcome import Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.steps.outliers import find_outliers
from sparelu.run import Limits, fit
from tests.recover.exact.models import tensor
from tests.recover.exact.steps.test_rare_activations import truth
from tests.recover.exact.test_fitter import same_support

N = 2000
ZERO = ReluModel.linear(tensor(np.zeros((1, 7))))
"""A model whose residual is the labels."""


def rows(y: np.ndarray, x: np.ndarray | None = None) -> Sample:
    inputs = np.random.default_rng(0).standard_normal((len(y), 6)) if x is None else x
    return Sample(inputs, y.reshape(len(y), -1))


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_and_uniform_noise_have_no_wrong_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert not len(find_outliers(ZERO, rows(rng.standard_normal(N))))
    assert not len(find_outliers(ZERO, rows(0.3 * rng.standard_normal((N, 2)))))
    uniform = rng.uniform(-1, 1, N)
    assert not len(find_outliers(ZERO, rows(uniform)))


@pytest.mark.parametrize("size", [8.0, -8.0, 1e6])
def test_labels_wrong_by_chance_are_found(size: float) -> None:
    rng = np.random.default_rng(1)
    y = np.column_stack([rng.standard_normal(N), 1e-3 * rng.standard_normal(N)])
    wrong = np.sort(rng.choice(N, 40, replace=False))
    y[wrong[:20], 0] += size
    y[wrong[20:], 1] += 1e-3 * size
    assert find_outliers(ZERO, rows(y)).tolist() == wrong.tolist()


def test_a_spread_of_rounding_is_not_looked_at() -> None:
    y = 1e-14 * np.random.default_rng(2).standard_cauchy(N)
    assert not len(find_outliers(ZERO, rows(y)))


@pytest.mark.parametrize("distribution", ["normal", "heavy tails"])
def test_rows_beyond_a_hinge_that_lacks_are_no_wrong_labels(distribution: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((N, 6)) if distribution == "normal" else rng.standard_t(2, (N, 6))
    noise = 0.01 * rng.standard_normal(N)
    hinge = np.maximum(np.abs(x[:, 2]) - np.quantile(np.abs(x[:, 2]), 0.98), 0)
    assert not len(find_outliers(ZERO, rows(noise + hinge, x)))
    shuffled = rng.permutation(hinge)  # the same errors at other rows
    assert len(find_outliers(ZERO, rows(noise + shuffled, x)))


def labelled(wrong: int, noise: float) -> tuple[Data, np.ndarray]:
    """Two neurons and one that is active on few rows, ``wrong`` labels off by ten sd."""
    net, rng = truth(({3: 1.0, 4: 0.5}, -1.5)), np.random.default_rng(4)
    x = rng.standard_normal((N, 6))
    y = net(x).numpy()[:, 0] + noise * rng.standard_normal(N)
    rows = np.sort(rng.choice(N, wrong, replace=False))
    y[rows] += 10 * y.std() * rng.choice([-1, 1], wrong)
    return Data(x, y), rows


def test_the_network_behind_the_right_labels_is_found_and_the_wrong_ones_are_named() -> None:
    data, wrong = labelled(20, noise=0.0)
    solution = fit(Exact(), data, Budget((10,)), seed=1, limits=Limits(rounds=400))
    assert solution.status == Status.best_found  # the labels do not prove it: some are wrong
    assert same_support(solution.network, truth(({3: 1.0, 4: 0.5}, -1.5)))
    words = solution.certificates[0].assumptions[0].evidence
    named = [int(i) for i in re.search(r"rows ([\d, ]+) \(counted from 0\)", words).group(1).split(",")]  # type: ignore[union-attr]
    assert set(named) <= set(wrong.tolist())
    assert len(named) > 0.8 * len(wrong)  # the others are kept apart


def test_wrong_labels_in_noise_cost_no_more_than_their_rows() -> None:
    data, wrong = labelled(20, noise=0.05)
    x = np.random.default_rng(5).standard_normal((N, 6))
    right = data.take(np.setdiff1d(np.arange(N), wrong))
    target = truth(({3: 1.0, 4: 0.5}, -1.5))(x)
    errors = [
        float((fit(Exact(), d, Budget((10,)), seed=1, limits=Limits(rounds=400)).network(x) - target).square().mean())
        for d in (data, right)
    ]
    assert errors[0] < 3 * errors[1] < 1e-4
