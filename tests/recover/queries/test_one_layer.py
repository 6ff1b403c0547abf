"""One hidden layer is recovered from few answers; what cannot be recovered is named."""

from pathlib import Path

import numpy as np
import pytest

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.method import Refusal
from sparelu.oracle import Oracle, OracleError, QueryLimit
from sparelu.outcome import Solution, Status
from sparelu.run import Checkpoint, Limits, fit
from tests.contract.checks import same_bits
from tests.recover.queries.planted import Planted, gap, planted, same_support


def recover(oracle: Oracle, hidden: int, seed: int = 0, **options) -> Solution:
    return fit(fitter("queries"), oracle, Budget((hidden,)), seed=seed, **options)


KINDS = {
    "dense": {"inputs": 12, "width": 10},
    "sparse": {"inputs": 60, "width": 12, "each": 3},
    "one input each": {"inputs": 40, "width": 12, "each": 1},
    "no biases": {"inputs": 30, "width": 14, "bias": 0.0},
    "tiny biases": {"inputs": 30, "width": 14, "each": 4, "bias": 1e-5},
    "three outputs": {"inputs": 20, "width": 15, "outputs": 3},
    "three outputs, sparse": {"inputs": 60, "width": 15, "outputs": 3, "each": 4},
    "negative outputs": {"inputs": 15, "width": 12, "negative": True},
    "a skip part": {"inputs": 15, "width": 12, "skip": True},
    "two outputs and a skip part": {"inputs": 15, "width": 12, "outputs": 2, "skip": True},
    "more neurons than inputs": {"inputs": 8, "width": 24},
    "two inputs": {"inputs": 2, "width": 12},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_comes_back(kind: str, seed: int) -> None:
    truth = planted(**KINDS[kind], seed=seed)
    oracle = truth.oracle()
    solution = recover(oracle, len(truth.w), seed)
    assert gap(solution.network, truth) < 1e-6
    assert same_support(solution.network, truth)
    assert solution.status is Status.converged
    assert solution.certificates[0].holds


@pytest.mark.parametrize("each", [4, 30])
def test_a_sparse_network_takes_few_answers(each: int) -> None:
    truth = planted(392, 48, each=each, seed=each)
    oracle = truth.oracle()
    solution = recover(oracle, 48)
    assert same_support(solution.network, truth)
    assert gap(solution.network, truth) < 1e-8
    assert oracle.asked <= 16 * 48 * each + 20 * 48 + 392
    assert solution.network.nonzeros == 48 * each


def test_a_dense_network_takes_about_an_answer_a_weight() -> None:
    truth = planted(300, 32, seed=5)
    oracle = truth.oracle()
    solution = recover(oracle, 32)
    assert gap(solution.network, truth) < 1e-6
    assert oracle.asked <= 1.6 * 300 * 32


def test_sides_of_neurons_are_those_that_leave_no_skip_part() -> None:
    truth = planted(30, 20, each=5, seed=3)
    network = recover(truth.oracle(), 20).network
    assert network.skip is None
    p, q = network.canonical(1e-7), truth.network().canonical(1e-7)
    assert np.allclose(p.layers[0].dense(), q.layers[0].dense(), atol=1e-8)


@pytest.mark.parametrize("angle", [1e-2, 1e-4])
def test_neurons_of_nearly_one_hyperplane_are_told_apart(angle: float) -> None:
    truth = planted(10, 6, seed=7)
    w, b = truth.w.copy(), truth.b.copy()
    w[1], b[1] = w[0] + angle * w[1], b[0] + angle
    twins = Planted(w, b, truth.v, truth.a, truth.c)
    solution = recover(twins.oracle(), 6)
    x = np.random.default_rng(0).standard_normal((500, 10))
    assert solution.network.hidden == (6,)
    assert np.abs(solution.network(x).numpy() - twins(x)).max() < 1e-6


def test_inputs_of_any_place_and_size() -> None:
    truth = planted(6, 8, seed=2)
    centre, spread = 100.0 + np.arange(6.0), 10.0 ** np.arange(-2.0, 4.0)
    oracle = Oracle(lambda x: truth((x - centre) / spread), 6, centre=centre, spread=spread)
    network = recover(oracle, 8).network
    x = centre + spread * np.random.default_rng(1).standard_normal((200, 6))
    assert np.abs(network(x).numpy() - truth((x - centre) / spread)).max() < 1e-7


def test_antipodal_pairs_and_functions_without_kinks() -> None:
    pair = Oracle(lambda x: np.maximum(x[:, 0] + x[:, 1], 0) + 2 * np.maximum(-x[:, 0] - x[:, 1], 0), 5)
    network = recover(pair, 4).network
    x = np.random.default_rng(0).standard_normal((50, 5))
    assert network.hidden == (1,)
    assert np.abs(network(x).numpy()[:, 0] - pair.ask(x)[:, 0]).max() < 1e-9
    plane = recover(Oracle(lambda x: x @ np.arange(5.0) + 1, 5), 4)
    assert plane.status is Status.converged
    assert plane.network.hidden == (0,)
    assert np.allclose(plane.network(x).numpy()[:, 0], x @ np.arange(5.0) + 1)


ROUNDED = {
    "nine decimals": lambda y: np.round(y, 9),
    "eight decimals": lambda y: np.round(y, 8),
    "float32": lambda y: y.astype(np.float32),
}


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("each", [None, 3])
def test_rounded_answers_are_never_called_exact(name: str, each: int | None) -> None:
    truth = planted(20, 8, each=each, seed=1)
    solution = recover(truth.oracle(ROUNDED[name]), 8)
    assert solution.status is Status.best_found
    claim = solution.certificates[0]
    assert [a.text for a in claim.assumptions if a.state == "violated"][-1:] == ["answers are of float64"]
    if name != "float32":
        assert same_support(solution.network, truth)
        assert gap(solution.network, truth) < 1e-5


BAD = {
    "tanh": (lambda x: np.tanh(x).sum(1), OracleError, "not piecewise linear"),
    "square": (lambda x: (x**2).sum(1), OracleError, "not piecewise linear"),
    "clipped": (lambda x: np.clip(x.sum(1) + np.abs(x[:, 0]), -1, 1), Refusal, "is clipped .* at -?1,"),
    "many kinks": (lambda x: np.abs(np.mod(x, 1.0) - 0.5).sum(1), OracleError, "raise `hidden`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_network_is_named(name: str) -> None:
    function, error, words = BAD[name]
    with pytest.raises(error, match=words):
        recover(Oracle(function, 6), 12)


def test_kinks_off_hyperplanes_are_named() -> None:
    first, rng = planted(8, 10, outputs=6), np.random.default_rng(0)
    v = rng.standard_normal(6)
    deep = Oracle(lambda x: np.maximum(first(x), 0) @ v, 8)
    with pytest.raises(Refusal, match=r"do not lie on whole hyperplanes.*all its hidden layers"):
        recover(deep, 60)


def test_an_oracle_that_moves_in_the_middle_is_named() -> None:
    truth, seen = planted(8, 6), [0]

    def moving(x: np.ndarray) -> np.ndarray:
        seen[0] += len(x)
        return truth(x) + (0.1 if seen[0] > 200 and len(x) == 3 else 0.0)

    with pytest.raises(OracleError, match="changed its answers"):
        recover(Oracle(moving, 8), 6)


def test_refusals_say_what_to_give() -> None:
    method, oracle = fitter("queries"), planted(5, 4).oracle()
    data = Data(np.eye(5), np.arange(5.0))
    for given, budget, words in (
        (data, Budget((4,)), "give it an Oracle"),
        (oracle, Budget((4, 3, 2, 2, 2)), "hidden"),
        (oracle, Budget((4,), nonzeros=5), "leave the number of nonzeros out"),
    ):
        reason = method.refuses(given, budget)
        assert reason is not None
        assert words in reason
    with pytest.raises(Refusal, match="give its centre and spread"):
        fit(method, oracle, Budget((4,)), standardise=True)
    assert oracle.asked == 0


def test_seed_decides_and_the_global_state_is_left_alone() -> None:
    truth = planted(10, 6)
    np.random.seed(0)  # noqa: NPY002 the global state is what is watched here
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = (recover(truth.oracle(), 6, seed=4) for _ in range(2))
    assert same_bits(one.network, two.network)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert not same_bits(one.network, recover(truth.oracle(), 6, seed=5).network)


def test_a_run_that_stops_goes_on_without_asking_twice(tmp_path: Path) -> None:
    truth = planted(10, 6)
    whole, kept = truth.oracle(), Checkpoint(tmp_path / "state", 0.0)
    wanted = recover(whole, 6)
    first = truth.oracle()
    stopped = recover(first, 6, checkpoint=kept, limits=Limits(rounds=2))
    assert stopped.status is Status.max_steps
    second = truth.oracle()
    found = recover(second, 6, checkpoint=kept, resume=True)
    assert same_bits(found.network, wanted.network)
    assert first.asked + second.asked < whole.asked + 60


def test_a_limit_and_a_cache_divide_the_work(tmp_path: Path) -> None:
    truth = planted(10, 6)
    whole = truth.oracle()
    wanted = recover(whole, 6)
    with pytest.raises(QueryLimit, match="raise the limit"):
        recover(truth.oracle(limit=200, cache=tmp_path / "answers"), 6)
    late = truth.oracle(limit=whole.asked - 20, cache=tmp_path / "answers")
    assert recover(late, 6).status is Status.max_steps
    late.close()
    last = truth.oracle(cache=tmp_path / "answers")
    found = recover(last, 6)
    assert found.status is Status.converged
    assert np.allclose(found.network.oriented().layers[0].dense(), wanted.network.oriented().layers[0].dense())
    assert last.asked <= whole.asked + 20
