"""An oracle counts, keeps, refuses and resumes; what it is made of answers alike."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPRegressor

from sparelu.catalogue import METHODS, fitter
from sparelu.data import Budget
from sparelu.export.c import to_c
from sparelu.export.onnx import to_onnx
from sparelu.method import Fitter, Refusal
from sparelu.networks.network import Network
from sparelu.oracle import PROBES, REPEATS, Oracle, OracleError, QueryLimit
from sparelu.oracle_cache import AnswerCache, CacheError
from sparelu.oracle_sources import (
    ask_c,
    ask_command,
    ask_estimator,
    ask_module,
    ask_network,
    ask_onnx,
    open_oracle,
)
from sparelu.run import fit


def _network(inputs: int = 4, outputs: int = 1) -> Network:
    rng = np.random.default_rng(inputs)
    w, v = rng.standard_normal((5, inputs)), rng.standard_normal((outputs, 5))
    return Network.two_layer(w, v, bias=rng.standard_normal(5), output_bias=rng.standard_normal(outputs))


def _rows(n: int, inputs: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, inputs))


class Counter:
    """A sum of absolute values that counts its rows itself, and dies after ``life`` of them."""

    def __init__(self, life: float = np.inf) -> None:
        self.rows, self.calls, self.life = 0, 0, life

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.rows + len(x) > self.life:
            raise ConnectionError("the line is dead")
        self.rows, self.calls = self.rows + len(x), self.calls + 1
        return np.abs(x).sum(axis=1)


def test_every_row_is_counted_once_and_comes_in_batches() -> None:
    seen = Counter()
    oracle = Oracle(seen, 4, batch=7)
    x = _rows(30)
    assert np.array_equal(oracle.ask(x), np.abs(x).sum(1)[:, None])
    assert oracle.asked == oracle.n == seen.rows == 30
    assert seen.calls == 5
    assert oracle.ask(np.empty((0, 4))).shape == (0, 1)
    assert oracle.asked == 30


def test_the_function_cannot_change_the_rows() -> None:
    def spoil(x: np.ndarray) -> np.ndarray:
        x[:] = 0
        return x.sum(axis=1)

    x = _rows(3)
    before = x.copy()
    Oracle(spoil, 4).ask(x)
    assert np.array_equal(x, before)


def test_the_limit_is_never_passed() -> None:
    seen = Counter()
    oracle = Oracle(seen, 4, limit=10)
    oracle.ask(_rows(10))
    with pytest.raises(QueryLimit, match="10 rows are asked and 1 more go beyond the limit of 10"):
        oracle.ask(_rows(1, seed=1))
    assert seen.rows == oracle.asked == 10


def test_what_the_cache_knows_is_not_asked_again(tmp_path: Path) -> None:
    path, x = tmp_path / "deep" / "answers", _rows(20)
    first = Oracle(Counter(), 4, cache=path)
    y = first.ask(x)
    assert first.asked == 20
    assert np.array_equal(first.ask(x[::-1]), y[::-1])
    assert first.asked == 20
    first.close()
    seen = Counter()
    later = Oracle(seen, 4, cache=path, limit=25)
    assert later.asked == 20
    both = np.concatenate([x, _rows(5, seed=1)])
    assert np.array_equal(later.ask(both)[:20], y)
    assert seen.rows == 5
    assert later.asked == 25


def test_rows_repeated_in_one_batch_are_asked_once(tmp_path: Path) -> None:
    seen = Counter()
    oracle = Oracle(seen, 4, cache=tmp_path / "answers")
    x = _rows(3)[[0, 1, 0, 2, 1]]
    assert np.array_equal(oracle.ask(x)[:, 0], np.abs(x).sum(1))
    assert seen.rows == 3


def test_a_death_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    x = _rows(50)
    dying = Oracle(Counter(life=30), 4, batch=10, cache=tmp_path / "answers")
    with pytest.raises(OracleError, match=r"failed after 30 answered rows.*ConnectionError: the line is dead.*repeat"):
        dying.ask(x)
    dying.close()
    seen = Counter()
    assert np.array_equal(Oracle(seen, 4, cache=tmp_path / "answers").ask(x)[:, 0], np.abs(x).sum(1))
    assert seen.rows == 20


@pytest.mark.parametrize("cut", [1, 5, 27])
def test_a_torn_record_is_dropped(tmp_path: Path, cut: int) -> None:
    path, x = tmp_path / "answers", _rows(6)
    oracle = Oracle(Counter(), 4, cache=path)
    oracle.ask(x)
    oracle.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Oracle(Counter(), 4, cache=path)
    assert again.asked == 5
    assert np.array_equal(again.ask(x)[:, 0], np.abs(x).sum(1))
    again.close()
    assert len(AnswerCache(path, 4, 1)) == 6


def test_a_cache_that_cannot_be_right_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    oracle = Oracle(Counter(), 4, cache=path)
    oracle.ask(_rows(6))
    with pytest.raises(CacheError, match="another process asks"):
        AnswerCache(path, 4, 1)
    oracle.close()
    with pytest.raises(CacheError, match="not a cache of answers to"):
        AnswerCache(path, 5, 1)
    body = bytearray(path.read_bytes())
    body[-10] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(CacheError, match="record 5 of 6 is damaged"):
        AnswerCache(path, 4, 1)
    notes = tmp_path / "notes.txt"
    notes.write_text("not to be lost " * 20)
    with pytest.raises(CacheError, match="left as it is"):
        AnswerCache(notes, 4, 1)
    assert notes.read_text() == "not to be lost " * 20


def test_a_cache_of_another_function_is_seen(tmp_path: Path) -> None:
    first = Oracle(Counter(), 4, cache=tmp_path / "answers")
    _ = first.statistics
    first.close()
    other = Oracle(lambda x: 2 * np.abs(x).sum(1), 4, cache=tmp_path / "answers")
    with pytest.raises(OracleError, match="holds answers of another function"):
        _ = other.statistics


def _dropout() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Dropout(0.5), torch.nn.Linear(9, 1))


BAD = {
    "random": (
        lambda x: x.sum(1) + np.random.default_rng().standard_normal(len(x)),
        "answers the same row differently",
    ),
    "nan": (lambda x: np.log(x[:, 0]), "NaN or infinity"),
    "classes": (lambda x: (x[:, 0] > 0).astype(int), "whole numbers .*ask for the scores"),
    "classes as numbers": (lambda x: np.sign(x[:, 0]), "whole numbers only"),
    "strings": (lambda x: np.where(x[:, 0] > 0, "yes", "no"), "text or objects"),
    "yes or no": (lambda x: x[:, 0] > 0, "true and false"),
    "complex": (lambda x: x[:, 0] + 1j, "complex"),
    "one number": (lambda x: x.sum(), r"shape \(\), wanted \(32, 1\)"),
    "transposed": (lambda x: x.T @ x, r"shape \(4, 4\)"),
    "broken": (lambda x: 1 / 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_cannot_be_used_is_named(name: str) -> None:
    function, words = BAD[name]
    with pytest.raises(OracleError, match=words):
        _ = Oracle(function, 4).statistics


def test_an_answer_that_moves_later_is_named() -> None:
    drift = [0.0]
    oracle = Oracle(lambda x: x.sum(1) + drift[0], 4)
    x = _rows(5)
    y = oracle.ask(x)
    oracle.confirm(x, y)
    drift[0] = 1e-3
    with pytest.raises(OracleError, match="changed its answers while it was asked"):
        oracle.confirm(x, y)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": 0}, "at least one input"),
        ({"limit": 0}, "limit must be"),
        ({"batch": 0}, "batch must be"),
        ({"spread": 0.0}, "spread must be above 0"),
        ({"spread": np.ones(3)}, "one for each of 4 inputs"),
        ({"centre": np.nan}, "finite number"),
        ({"names": ("a",)}, "1 names for 4 inputs"),
    ],
)
def test_options_out_of_range_are_named(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Oracle(Counter(), **{"inputs": 4, **options})


def test_rows_that_cannot_be_asked_are_named() -> None:
    oracle = Oracle(Counter(), 4)
    with pytest.raises(ValueError, match="rows of 4 inputs"):
        oracle.ask(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="must be finite"):
        oracle.ask(np.full((1, 4), np.inf))
    assert oracle.asked == 0


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if issubclass(m, Fitter) and not m.asks])
def test_methods_of_data_refuse_an_oracle(name: str) -> None:
    with pytest.raises(Refusal, match=f"{name} cannot fit this: it needs rows of data"):
        fit(fitter(name), Oracle(Counter(), 4), Budget((3,), nonzeros=5))


def test_modules_are_asked_in_evaluation_mode_and_stay_as_they_were() -> None:
    module = _dropout().train()
    oracle = ask_module(module, 4)
    _ = oracle.statistics
    assert module.training
    exact = ask_module(module.double(), 4)
    x = _rows(5)
    with torch.no_grad():
        wanted = module.eval()(torch.as_tensor(x)).numpy()
    assert np.array_equal(exact.ask(x), wanted)
    assert np.allclose(oracle.ask(x), wanted, atol=1e-5)


def test_networks_files_and_libraries_answer_alike(tmp_path: Path) -> None:
    network, x = _network(4, 2), _rows(6)
    wanted = network(x).numpy()
    assert np.array_equal(ask_network(network).ask(x), wanted)
    to_onnx(network, tmp_path / "net.onnx")
    for oracle in (ask_onnx(tmp_path / "net.onnx"), open_oracle(str(tmp_path / "net.onnx"), None, 1)):
        assert (oracle.inputs, oracle.outputs) == (4, 2)
        assert np.allclose(oracle.ask(x), wanted, atol=1e-5)
    to_c(network, tmp_path)
    library = tmp_path / "net.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "network.c"], check=True)
    for oracle in (ask_c(library, 4, 2), open_oracle(f"{library}:network_predict", 4, 2)):
        assert np.allclose(oracle.ask(x), wanted, atol=1e-5)
    with pytest.raises(OracleError, match="nonsense"):
        ask_c(library, 4, 2, symbol="nonsense")
    with pytest.raises(OracleError, match="give --inputs"):
        open_oracle(str(library), None, 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_are_asked_by_their_predictions() -> None:
    x = _rows(40)
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=5, random_state=0).fit(x, np.abs(x[:, 0]))
    oracle = ask_estimator(model)
    assert (oracle.inputs, oracle.outputs, oracle.name) == (4, 1, "MLPRegressor")
    assert np.array_equal(oracle.ask(x)[:, 0], model.predict(x))


SUM = "import sys\nfor line in sys.stdin: print(repr(sum(abs(float(v)) for v in line.split(','))))"


def test_a_command_reads_rows_and_its_failures_are_told() -> None:
    x = _rows(5)
    oracle = ask_command([sys.executable, "-c", SUM], 4)
    assert np.array_equal(oracle.ask(x)[:, 0], [sum(abs(float(v)) for v in row) for row in x])
    assert oracle.asked == 5
    failing = ask_command([sys.executable, "-c", "import sys; sys.exit('no model')"], 4)
    with pytest.raises(OracleError, match="code 1: no model"):
        failing.ask(x)
    talking = ask_command([sys.executable, "-c", "print('hello')"], 4)
    with pytest.raises(OracleError, match="wanted a line of numbers"):
        talking.ask(x)
    counting = ask_command([sys.executable, "-c", "import sys\nfor line in sys.stdin: print(1)"], 4)
    with pytest.raises(OracleError, match="whole numbers"):
        counting.ask(x)
    with pytest.raises(OracleError, match="FileNotFoundError"):
        ask_command("no-such-program", 4).ask(x)


def test_probes_are_few_and_counted() -> None:
    oracle = Oracle(Counter(), 4, centre=[1.0, 2.0, 3.0, 4.0], spread=0.1)
    found = oracle.statistics
    assert oracle.asked == PROBES + REPEATS
    assert np.allclose(found.mean, [1, 2, 3, 4], atol=0.1)
    assert oracle.digest == Oracle(Counter(), 4, centre=[1.0, 2.0, 3.0, 4.0], spread=0.1).digest
    assert oracle.digest != Oracle(lambda x: 2 * x.sum(1), 4, centre=[1.0, 2.0, 3.0, 4.0], spread=0.1).digest
    assert oracle.asked == PROBES + REPEATS
