"""Converged means exact: the evidence, and networks that no rows tell apart."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Solution, Status
from sparelu.recover.exact.certificate import Evidence, apart, dependent, gridded, rounding, weigh
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.relu_model import scalar
from sparelu.run import fit


def premise(solution: Solution, start: str) -> Assumption:
    (found,) = (a for claim in solution.certificates for a in claim.assumptions if a.text.startswith(start))
    return found


def same(found: Network, truth: Network) -> bool:
    a, b = found.oriented(1e-6), truth.oriented()
    return torch.equal(a.layers[0].indices, b.layers[0].indices) and torch.equal(a.layers[0].indptr, b.layers[0].indptr)


def rows_of(truth: Network, n: int = 1500, seed: int = 0) -> Data:
    x = np.random.default_rng(seed).standard_normal((n, truth.inputs))
    return Data(x, truth(x).numpy()[:, 0])


def test_rounding_follows_the_precision_of_the_labels() -> None:
    assert rounding(np.array([1.5])) == pytest.approx(2.0**-23 / 12**0.5)
    assert rounding(np.array([1 / 3])) == pytest.approx(2.0**-54 / 12**0.5)


@pytest.mark.parametrize(("moved", "wrong"), [(0.0, 0), (1e-9, 100)])
def test_rows_that_rounding_does_not_explain_are_counted(moved: float, wrong: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 3))
    w = torch.tensor([[1.0, -2.0, 0.0, 0.0]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    sample = Sample(x, np.maximum(x[:, 0] - 2 * x[:, 1], 0))
    moved_kinks = Kinks(one, w, one, torch.tensor([0.0, 0.0, 0.0, moved], dtype=torch.float64))
    found = weigh(
        scalar(moved_kinks, 1.0), sample, sample.y[:, None], x,
        fitted=100, inside=1e-15, least=np.inf, rest=True, cut=False, aside=0,
    )  # fmt: skip
    assert (found.wrong, found.rows) == (wrong, 100)
    assert found.error == pytest.approx(moved / sample.y.std(), rel=1e-5, abs=1e-14)
    assert found.certificate("").holds == (wrong == 0)


def test_the_share_of_inputs_is_that_of_a_binomial_law() -> None:
    """A set of the share that is claimed escapes all rows with probability at most 1 %: drawn 20,000 times."""
    rows = apart(3000)
    own = Evidence(1, 1, 2700, rows, 0, 0.0, 0.0, 0.0, rest=True, cut=False, least=np.inf)
    claim = own.certificate("")
    share = float(claim.claim.split("less than ")[1].split("%")[0]) / 100
    missed = np.random.default_rng(1).binomial(rows, share, 20000) == 0
    assert 0.001 < missed.mean() < 0.015


def test_converged_is_never_said_of_a_wrong_support() -> None:
    """From too few rows to enough; both ends of the range must occur for the test to say anything."""
    said = set()
    for rows in (110, 250, 1000):
        for seed in range(2):
            shape = {"inputs": 15, "hidden": (6,), "nonzeros": 20, "seed": seed}
            data = planted(rows=rows, test_rows=0, **shape)
            solution = fit(Exact(cycles=2), data, Budget((6,)))
            right = same(solution.network, planted_network(**shape))
            said.add(solution.status)
            assert solution.status is not Status.converged or right
            assert (solution.status is Status.converged) == solution.certificates[0].holds
    assert said == {Status.converged, Status.best_found}


def test_noise_is_not_called_exact() -> None:
    shape = {"inputs": 10, "hidden": (3,), "nonzeros": 8}
    solution = fit(Exact(cycles=2), planted(rows=1500, test_rows=0, noise=0.05, **shape), Budget((3,)))
    assert same(solution.network, planted_network(**shape))
    assert solution.status is Status.best_found
    met = premise(solution, "rows kept apart")
    assert met.state == "violated"
    assert solution.certificates[0].value == pytest.approx(0.05, rel=0.15)


def test_inputs_of_another_law_are_named() -> None:
    """The constants are those of Gaussian inputs; the evidence on rows kept apart needs no law."""
    shape = {"inputs": 10, "hidden": (3,), "nonzeros": 8}
    solution = fit(Exact(), planted(rows=3000, test_rows=0, law="uniform", **shape), Budget((3,)))
    assert solution.status is Status.converged
    assert premise(solution, "inputs are standard normal").state == "violated"


def test_neurons_that_no_rows_tell_apart_are_one_network() -> None:
    """Two antipodal pairs on a shared input, a collinear pair, a neuron without output: many networks, one function."""
    w = np.zeros((8, 5))
    w[0, :2], w[2, 1:3] = (1.0, 2.0), (-1.0, 1.5)
    w[1], w[3] = -w[0], -0.5 * w[2]
    w[4, 3], w[5, 3], w[6, 4], w[7, :] = 1.0, 2.0, 1.0, 1.0
    v = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 0.0])
    truth = Network.two_layer(w, v)
    solution = fit(Exact(), rows_of(truth), Budget((8,)))
    assert solution.status is Status.converged
    assert same(solution.network, truth)
    assert solution.network.hidden == (4,)
    assert premise(solution, "the columns of the canonical support").state == "checked"


def test_a_kink_beyond_the_rows_is_within_what_is_claimed() -> None:
    """(x_0 + 6)_+ is x_0 + 6 on all rows: the claim is about all but a share of the inputs, and says so."""
    w = np.array([[1.0, 0, 0], [0, 1.0, 1.0]])
    truth = Network.two_layer(w, np.ones(2), np.array([6.0, 0.0]))
    solution = fit(Exact(), rows_of(truth), Budget((2,)))
    assert solution.status is Status.converged
    assert solution.network.hidden == (1,)
    assert "differs on less than" in solution.certificates[0].claim


@pytest.mark.parametrize("seed", [1, 2])
def test_pixels_of_zero_and_one_do_not_decide_a_network(seed: int) -> None:
    """x_i is 0 or 1, so that (w x_i)_+ is linear and many networks are one function on all rows."""
    shape = {"inputs": 12, "hidden": (5,), "nonzeros": 15, "biases": 0.5, "seed": seed}
    data = planted(rows=1500, test_rows=0, law="bernoulli", **shape)
    solution = fit(Exact(cycles=2), data, Budget((12,)))
    assert premise(solution, "rows kept apart").state == "checked"
    assert not same(solution.network, planted_network(**shape))
    assert solution.status is Status.best_found
    assert premise(solution, "every weight stands clear").state == "violated"


@pytest.mark.parametrize("of", ["copy", "sum", "constant", "none"])
def test_inputs_that_are_linear_in_others_are_counted(of: str) -> None:
    """Against NumPy's rank of the centred rows."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 4)) * np.array([1.0, 100.0, 1e-3, 1.0]) + 5
    more = {"copy": x[:, 1], "sum": x[:, 0] - 3 * x[:, 3], "constant": np.full(300, 7.0), "none": x[:, 0] ** 2}[of]
    x = np.column_stack([x, more])
    weight = torch.ones(1, 5)
    expected = 5 - np.linalg.matrix_rank((x - x.mean(axis=0)) / x.std(axis=0).clip(1e-9), tol=1e-6)
    assert dependent(weight, x) == expected == (of != "none")
    assert dependent(weight * torch.tensor([1.0, 1, 1, 1, 0]), x) == (of in ("copy", "sum"))


@pytest.mark.parametrize("levels", [2, 9, 256])
def test_inputs_on_a_grid_are_counted_where_kinks_read_them(levels: int) -> None:
    rng = np.random.default_rng(4)
    x = np.column_stack([rng.integers(0, levels, 2000), rng.standard_normal(2000).clip(0)])
    assert gridded(torch.ones(1, 2), x) == 1
    assert gridded(torch.tensor([[0.0, 1.0]]), x) == 0


def test_a_copied_input_leaves_the_support_undecided() -> None:
    """Either copy can carry any part of a weight."""
    w = np.zeros((2, 5))
    w[0, :2], w[1, 2:5] = (1.0, -1.0), (1.0, 1.0, -1.5)
    truth = Network.two_layer(w, np.ones(2))
    x = np.random.default_rng(5).standard_normal((1000, 5))
    data = Data(np.column_stack([x, x[:, 0]]), truth(x).numpy()[:, 0])
    solution = fit(Exact(cycles=1), data, Budget((2,)))
    assert solution.status is Status.best_found
    assert premise(solution, "the inputs tell networks apart").state == "violated"
