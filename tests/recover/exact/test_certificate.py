"""Converged means exact: the evidence, and networks that no rows tell apart."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Solution, Status
from sparelu.recover.exact.certificate import Evidence, SearchFacts, rows_kept_apart, weigh
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.inputs import read_columns
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


TRUTH = Network.two_layer(np.array([[1.0, -2.0, 0.0], [0.0, 1.0, 1.0]]), np.array([1.0, -1.0]), np.array([0.2, 0.0]))


def judged(network: Network, data: Data, rows: int = 500, **facts: object) -> Evidence:
    """Evidence on the first ``rows`` of data, the rest fitted; by default of a search that has nothing to say."""
    known = {"fitted": data.n - rows, "inside": 0.0, "affine": 1.0, "t": np.full(8, 1e9), "at_rest": True, "cut": False}
    apart = data.x[:rows], np.asarray(data.y[:rows], dtype=np.float64).reshape(rows, -1)
    return weigh(network, apart, data.x[rows:], read_columns(data), SearchFacts(**{**known, **facts}))


def violated(evidence: Evidence) -> list[str]:
    return [a.text for a in evidence.certificate("").assumptions if a.state == "violated"]


def test_the_network_itself_is_met() -> None:
    evidence = judged(TRUTH, rows_of(TRUTH))
    assert violated(evidence) == []
    assert evidence.value < 1e-15
    assert Evidence.restored(evidence.state) == evidence


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_noise_of_few_roundings_is_seen(kind: type, offset: float) -> None:
    """Labels rounded to a type, then moved by noise of so many steps and rounded again; thirty draws each."""
    x = np.random.default_rng(0).standard_normal((1000, 3))
    clean = TRUTH(x).numpy()[:, 0] + offset
    step = np.spacing(np.abs(clean).astype(kind)).astype(np.float64)
    moved = Network(TRUTH.layers[:1] + (TRUTH.layers[1].__class__.from_dense(TRUTH.layers[1].dense(), [offset]),))
    for times, said in ((0.0, False), (1.0, True), (5.0, True), (30.0, True)):
        for seed in range(30):
            noise = times * step * np.random.default_rng(seed).standard_normal(1000)
            labels = (clean + noise).astype(kind).astype(np.float64)
            seen = "rows kept apart are met to rounding" in violated(judged(moved, Data(x, labels)))
            assert seen == said


@pytest.mark.parametrize("outside", [0.0, 1e-3])
def test_every_output_is_met(outside: float) -> None:
    """An error of one output is not averaged away by coarse digits of another."""
    both = Network.two_layer(np.array([[1.0, -2.0, 0.0], [0.0, 1.0, 1.0]]), np.array([[1.0, -1.0], [0.0, 1.0]]))
    x = np.random.default_rng(0).standard_normal((1000, 3))
    y = both(x).numpy()
    labels = np.column_stack([np.round(y[:, 0], 1), y[:, 1] + outside])
    met = "rows kept apart are met to rounding" not in violated(judged(both, Data(x, labels)))
    assert met == (outside == 0)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"at_rest": False}, "nothing is left to add, drop, split or merge"),
        ({"cut": True}, "the budget holds the whole network"),
        ({"t": np.array([1e9, 90.0])}, "every weight stands clear of zero"),
        ({"t": np.full(8, 1e6)}, "every weight stands clear of zero"),
        ({"excluded": [17]}, "rows kept apart are met to rounding"),
        ({"open_signs": [1]}, "the side on which each neuron is active is unique"),
        ({"fitted": 9}, "labels outnumber what is fitted"),
    ],
)
def test_each_premise_can_fail_alone(facts: dict, said: str) -> None:
    assert violated(judged(TRUTH, rows_of(TRUTH), **facts)) == [said]


def test_copies_of_fitted_rows_prove_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3))
    for noise in (0.0, 1e-9):
        many = np.tile(x, (30, 1))
        many += noise * np.random.default_rng(1).standard_normal(many.shape)
        evidence = judged(TRUTH, Data(many, TRUTH(many).numpy()[:, 0]))
        assert "labels outnumber what is fitted" in violated(evidence)
        assert evidence.vacuous


def test_the_share_of_inputs_is_that_of_a_binomial_law() -> None:
    """A set of the share that is claimed escapes all rows with probability at most 1 %: drawn 20,000 times."""
    rows = rows_kept_apart(3000)
    claim = judged(TRUTH, rows_of(TRUTH, 3000), rows=rows).certificate("")
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


@pytest.mark.parametrize("seed", [2, 3])
def test_pixels_of_zero_and_one_do_not_decide_a_network(seed: int) -> None:
    """x_i is 0 or 1, so that (w x_i)_+ is linear and many networks are one function on all rows."""
    shape = {"inputs": 12, "hidden": (5,), "nonzeros": 15, "biases": 0.5, "seed": seed}
    data = planted(rows=1500, test_rows=0, law="bernoulli", **shape)
    solution = fit(Exact(cycles=2), data, Budget((12,)))
    assert premise(solution, "rows kept apart").state == "checked"
    assert not same(solution.network, planted_network(**shape))
    assert solution.status is Status.best_found
    assert {"every weight stands clear of zero", "rows decide where the hinges are"} & {
        a.text for a in solution.certificates[0].assumptions if a.state == "violated"
    }


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
