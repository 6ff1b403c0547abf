"""The own L-BFGS against closed forms and scipy's, on smooth functions and on one with kinks."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from sparelu.recover.exact.lbfgs import minimise


class _Counted:
    """A function by autograd, with a mean squared error that never ends the iterations, and its evaluations."""

    def __init__(self, function) -> None:
        self.function, self.mse, self.evaluations = function, 0.0, 0

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        self.evaluations += 1
        leaf = vector.clone().requires_grad_()
        value = self.function(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slope


def _rosenbrock(v: Tensor) -> Tensor:
    return (100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2).sum()


def test_a_quadratic_is_solved() -> None:
    rng = np.random.default_rng(0)
    a = torch.as_tensor(rng.standard_normal((40, 12)))
    b = torch.as_tensor(rng.standard_normal(40))
    counted = _Counted(lambda v: (a @ v - b).square().sum())
    found = minimise(counted, torch.zeros(12).double(), 100)
    assert float((a.T @ (a @ found - b)).abs().max()) < 1e-5
    torch.testing.assert_close(found, torch.linalg.lstsq(a, b[:, None]).solution[:, 0], rtol=1e-6, atol=1e-7)


def test_it_needs_no_more_evaluations_than_that_of_scipy_by_half() -> None:
    start = torch.full((10,), -1.2).double()
    own = _Counted(_rosenbrock)
    found = minimise(own, start, 400)
    other = _Counted(_rosenbrock)

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        f, g = other(torch.as_tensor(v))
        return f, g.numpy()

    theirs = optimize.minimize(value, start.numpy(), jac=True, method="L-BFGS-B", options={"maxcor": 20})
    assert float(_rosenbrock(found)) <= theirs.fun + 1e-9
    torch.testing.assert_close(found, torch.ones(10).double(), rtol=1e-5, atol=1e-5)
    assert own.evaluations <= 1.5 * other.evaluations + 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kinks_at_the_minimum_do_not_stop_it(seed: int) -> None:
    """sum |A v - b| with an interpolating v: its value there is 0, and no gradient exists."""
    rng = np.random.default_rng(seed)
    a = torch.as_tensor(rng.standard_normal((6, 6)) + 3 * np.eye(6))
    b = torch.as_tensor(rng.standard_normal(6))
    found = minimise(_Counted(lambda v: (a @ v - b).abs().sum()), torch.zeros(6).double(), 2000)
    assert float((a @ found - b).abs().sum()) < 1e-3


def test_it_ends_when_a_window_gains_little() -> None:
    slow = _Counted(lambda v: 1 + 1e-6 * (v - 3).pow(4).sum())
    slow.mse = 1.0
    found = minimise(slow, torch.zeros(3).double(), 400)
    assert slow.evaluations < 60
    assert float(slow.function(found)) < float(slow.function(torch.zeros(3).double()))


def test_a_start_that_cannot_fall_is_returned() -> None:
    start = torch.tensor([1.0, 2.0]).double()
    counted = _Counted(lambda v: (v - start).square().sum())
    assert torch.equal(minimise(counted, start, 50), start)
    assert counted.evaluations == 1
