"""Fits over two gloo ranks on loopback beside one process; this file run as a module is one of the ranks."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sparelu import catalogue
from sparelu.data import Budget, Data
from sparelu.digest import BLOCK_ROWS
from sparelu.experiments.evaluate import evaluate
from sparelu.method import Refusal
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, Status
from sparelu.recover.aiht.fitter import AIHT
from sparelu.run import Checkpoint, Limits, fit
from sparelu.runtime.distributed import ALONE, Alone, RankLost, Ranks, joined
from tests.contract.checks import same_bits
from tests.contract.table import FITTERS, PROBLEMS
from tests.contract.test_checks_can_fail import Random

ROUNDS = Limits(rounds=3)
SIZES = (1, 7, 1000, 100_003)
CASES = [(row, problem) for row in FITTERS for problem in row.serves if catalogue.METHODS[row.name].sums_over_rows]
BIG = 10_000


class Watched:
    """An array that notes which rows are read; not "in memory", so that it is streamed."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, np.zeros(len(values), bool)
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.read[rows] = True
        return self.values[rows]


def streamed() -> Data:
    """Rows that are read when asked; more than one piece of 4096."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BIG, 5)).astype(np.float32)
    return Data(Watched(x), (3 + np.maximum(x[:, 0] - x[:, 1], 0)).astype(np.float64))


def opposed() -> tuple[Data, Budget]:
    """Each half of the rows alone asks for input 1, with opposite signs; all of them for input 0."""
    x = np.tile(np.random.default_rng(1).standard_normal((200, 3)), (2, 1))
    return Data(x, x[:, 0] + np.repeat([6.0, -6.0], 200) * x[:, 1]), Budget((1,), nonzeros=1)


class Apart(Random):
    """A broken method: what it returns depends on the rank."""

    sums_over_rows: ClassVar[bool] = True

    def steps(self, data, budget, rng, start=None) -> Generator[Iterate, None, Status]:
        for i in super().steps(data, budget, rng, start):
            yield Iterate(i.progress, i.loss + data.ranks.rank, i.network, i.state)
        return Status.converged


def sums(ranks: Ranks) -> dict[str, Any]:
    """Every exchange on values that depend on the rank."""
    found: dict[str, Any] = {"part": ranks.rows(10), "total": ranks.total(ranks.rank + 0.5)}
    for n in SIZES:
        for dtype in (torch.float32, torch.float64):
            found[f"sum {n} {dtype}"] = ranks.sum(values(ranks.rank, n, dtype)).numpy()
        found[f"max {n}"] = ranks.maximum(values(ranks.rank, n, torch.float64)).numpy()
    found["first"] = ranks.from_first(values(ranks.rank, 3, torch.float64)).numpy()
    mean = values(ranks.rank, 4, torch.float64)
    found["number"] = ranks.mean(mean, float(ranks.rank), 10 * ranks.rank)
    found["mean"], found["exchanged"] = mean.numpy(), ranks.exchanged
    return found


def values(rank: int, n: int, dtype: torch.dtype) -> torch.Tensor:
    """What a rank gives to an exchange."""
    return torch.randn(n, dtype=dtype, generator=torch.Generator().manual_seed(rank))


def fits(ranks: Ranks) -> dict[str, Any]:
    """Every method that sums over rows, on every problem that it serves."""
    found = {}
    for row, problem in CASES:
        data, budget = PROBLEMS[problem]()
        method = catalogue.fitter(row.name, **row.settings)
        solution = fit(method, data.share(ranks), budget, limits=ROUNDS, standardise=problem == "classes")
        found[f"{row.name}, {problem}"] = (solution.network, [row["loss"] for row in solution.history])
    return found


def reading(ranks: Ranks, monkey: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is learned of streamed rows, and which of them are read."""
    monkey.setattr("sparelu.data.CHUNK", 4096)
    found: dict[str, Any] = {}
    data = streamed().share(ranks)
    s, budget = data.statistics, Budget((3,), nonzeros=4)
    found["statistics"] = np.stack([*s.mean, *s.sd, *s.y_mean, *s.y_sd])
    found["ranges"] = np.stack(data.ranges)
    found["aiht"] = fit(AIHT(epochs=3), data, budget).network
    found["read"] = data.x.read.copy()
    rng = np.random.default_rng(3)
    found["batches"] = [(x.numpy(), y.numpy()) for x, y in data.batches(1000, rng, whole=True)]
    found["gmp"] = fit(catalogue.fitter("gmp", epochs=2, least=10), data, budget).network
    found["judged"] = evaluate(found["gmp"], data)
    return found


def stopping(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """A stop that one rank alone asks for; the checkpoint, resumed; refusals; a method that comes apart."""
    data, budget = PROBLEMS["planted"]()
    shared, place, seen = data.share(ranks), Checkpoint(folder / "state", every=0.0), []
    method = AIHT(epochs=8)

    def stop() -> bool:
        return ranks.rank == ranks.size - 1 and len(seen) == 3

    cut = fit(method, shared, budget, checkpoint=place, watch=seen.append, stop=stop)
    found: dict[str, Any] = {"cut": (cut.status, len(cut.history))}
    found["rest"] = fit(method, shared, budget, checkpoint=Checkpoint(folder / "state", 1e9), resume=True).network
    found["whole"] = fit(method, shared, budget).network
    for name, given in (("refused", Random()), ("apart", Apart())):
        try:
            fit(given, shared, budget)
        except (Refusal, RankLost) as error:
            found[name] = str(error)
    found["opposed"] = fit(AIHT(epochs=2), opposed()[0].share(ranks), opposed()[1]).network
    return found


def work(task: str, folder: Path) -> Any:
    """What one rank does."""
    with joined("cpu", 4 if task == "silent" else 120) as ranks, pytest.MonkeyPatch.context() as monkey:
        if task == "sums":
            return sums(ranks)
        if task == "silent":
            return silent(ranks)
        return {**fits(ranks), **reading(ranks, monkey), **stopping(ranks, folder)}


def silent(ranks: Ranks) -> tuple[str, float]:
    """The last rank stops answering; what the others say, and after how many seconds."""
    ranks.total(1.0)
    if ranks.rank == ranks.size - 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    start = time.monotonic()
    try:
        ranks.total(1.0)
    except RankLost as error:
        return str(error), time.monotonic() - start
    return "", 0.0


def launch(task: str, size: int, folder: Path) -> list[subprocess.Popen[str]]:
    """Start the ranks, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.test_distributed", task, str(folder)],
            env={**os.environ, **address, "RANK": str(rank)},
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def results(task: str, size: int, folder: Path) -> list[Any]:
    """What every rank found."""
    processes = launch(task, size, folder)
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, said
    return [pickle.loads((folder / f"{task}{rank}").read_bytes()) for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process found."""
    return results("all", 1, tmp_path_factory.mktemp("alone"))[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """What two ranks found, and their folder."""
    folder = tmp_path_factory.mktemp("pair")
    return results("all", 2, folder), folder


def close(a: Network, b: Network, rounding: float = 1e-9) -> bool:
    """Whether two networks have the same support and, to rounding, the same numbers."""
    pairs = list(zip(a.layers, b.layers, strict=True))
    return all(torch.equal(p.indices, q.indices) and torch.equal(p.indptr, q.indptr) for p, q in pairs) and all(
        torch.allclose(p.values, q.values, rtol=rounding, atol=rounding * float(q.values.abs().max())) for p, q in pairs
    )


def test_parts_of_rows_are_consecutive_and_even() -> None:
    for n in (0, 1, 5, 12, 1001):
        for size in (1, 2, 5, 7):
            parts = [Alone(rank, size).rows(n) for rank in range(size)]
            assert [i for part in parts for i in range(n)[part]] == list(range(n))
            lengths = [part.stop - part.start for part in parts]
            assert max(lengths) - min(lengths) <= 1


def test_alone_every_exchange_gives_what_was_given() -> None:
    given = values(0, 5, torch.float32)
    assert ALONE.first
    for found in (ALONE.sum(given), ALONE.maximum(given), ALONE.from_first(given)):
        assert found is given
    assert (ALONE.mean(given, 0.3, 7), ALONE.total(0.1), ALONE.exchanged) == (0.3, 0.1, 0)
    assert torch.equal(given, values(0, 5, torch.float32))


def test_exchanges_of_three_ranks(tmp_path: Path) -> None:
    """Against NumPy in float64; and the same bits on all ranks."""
    found = results("sums", 3, tmp_path)
    assert [f.pop("part") for f in found] == [slice(0, 3), slice(3, 6), slice(6, 10)]
    for name, value in found[0].items():
        for other in found[1:]:
            assert np.asarray(value).tobytes() == np.asarray(other[name]).tobytes(), name
    assert found[0]["total"] == 4.5
    for n in SIZES:
        for dtype, atol in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
            want = sum(values(r, n, dtype).double().numpy() for r in range(3))
            np.testing.assert_allclose(found[0][f"sum {n} {dtype}"], want, atol=atol)
        want = np.max([values(r, n, torch.float64).numpy() for r in range(3)], axis=0)
        assert np.array_equal(found[0][f"max {n}"], want)
    assert np.array_equal(found[0]["first"], values(0, 3, torch.float64).numpy())
    parts = [values(r, 4, torch.float64).numpy() for r in range(3)]
    np.testing.assert_allclose(found[0]["mean"], np.average(parts, axis=0, weights=[0, 10, 20]), atol=1e-15)
    assert found[0]["number"] == pytest.approx((1 * 10 + 2 * 20) / 30)
    assert found[0]["exchanged"] == 8 + sum(20 * n for n in SIZES) + 3 * 8 + 6 * 8


@pytest.mark.parametrize(("row", "problem"), CASES, ids=lambda c: getattr(c, "name", c))
def test_two_ranks_fit_what_one_process_fits(alone: dict[str, Any], pair: Any, row: Any, problem: str) -> None:
    (network, losses), (other, _) = (found[f"{row.name}, {problem}"] for found in pair[0])
    want, history = alone[f"{row.name}, {problem}"]
    assert same_bits(network, other)
    rounding = 1e-9 if PROBLEMS[problem]()[0].dtype == torch.float64 else 1e-4
    assert close(network, want, rounding)
    np.testing.assert_allclose(losses, history, rtol=rounding, atol=rounding)


def test_each_rank_reads_its_rows_alone(pair: Any) -> None:
    """Of all rows a half, in one run; of every piece that minibatches are drawn from a half.

    The digest wants the rest of the block that the half ends in as well.
    """
    end = -(-BIG // 2 // BLOCK_ROWS) * BLOCK_ROWS
    for found, half in zip(pair[0], (slice(0, end), slice(BIG // 2, BIG)), strict=True):
        assert np.array_equal(np.flatnonzero(found["read"]), np.arange(BIG)[half])


def test_rows_of_a_file_teach_the_same(alone: dict[str, Any], pair: Any) -> None:
    for found in pair[0]:
        np.testing.assert_allclose(found["statistics"], alone["statistics"], rtol=1e-13)
        assert np.array_equal(found["ranges"], alone["ranges"])
        assert close(found["aiht"], alone["aiht"])
        assert close(found["gmp"], alone["gmp"], 1e-4)
        judged = evaluate(found["gmp"], streamed())
        for name in ("r2", "psnr", "score_error"):
            assert getattr(found["judged"], name) == pytest.approx(getattr(judged, name), rel=1e-12)
    halves = zip(*(found["batches"] for found in pair[0]), strict=True)
    for ((x0, y0), (x1, y1)), (x, y) in zip(halves, alone["batches"], strict=True):
        rows = np.concatenate([np.concatenate([x0, x1]), np.concatenate([y0, y1])], axis=1)
        both = np.concatenate([x, y], axis=1)
        assert np.array_equal(rows[np.lexsort(rows.T)], both[np.lexsort(both.T)])
        assert abs(len(x0) - len(x1)) < 200  # six standard deviations of a fair split of 1000


def test_the_largest_of_the_sums_stay_not_those_of_any_rank(pair: Any) -> None:
    data, budget = opposed()
    halves = [fit(AIHT(epochs=2), data.take(range(i, i + 200)), budget).network for i in (0, 200)]
    assert [set(n.layers[0].indices.tolist()) for n in halves] == [{1}, {1}]
    for found in pair[0]:
        assert set(found["opposed"].layers[0].indices.tolist()) == {0}


def test_a_stop_on_one_rank_stops_all_and_any_number_of_ranks_resumes(alone: dict[str, Any], pair: Any) -> None:
    found, folder = pair
    for f in found:
        assert f["cut"] == (Status.interrupted, 3)
        assert same_bits(f["rest"], f["whole"])
    data, budget = PROBLEMS["planted"]()
    place = Checkpoint(folder / "state", every=1e9)
    rest = fit(AIHT(epochs=8), data, budget, checkpoint=place, resume=True)
    assert len(rest.history) == 8
    assert close(rest.network, alone["whole"])


def test_what_cannot_be_shared_is_said(pair: Any) -> None:
    for found in pair[0]:
        assert "random-features needs all rows in one process" in found["refused"]
        assert "no longer have the same bits" in found["apart"]


def test_a_rank_that_stops_answering_is_named(tmp_path: Path) -> None:
    processes = launch("silent", 3, tmp_path)
    try:
        for process in processes[:2]:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    finally:
        processes[2].kill()
        processes[2].communicate()
    silent = f"rank 2 (host {socket.gethostname()}, process {processes[2].pid})"
    found = [pickle.loads((tmp_path / f"silent{rank}").read_bytes()) for rank in (0, 1)]
    assert any(silent in message for message, _ in found)
    for message, seconds in found:
        # The ranks meet at the first here, not at torchrun: one that notices late finds that gone.
        assert silent in message or "the host that they met at is gone" in message
        assert "rank 0" not in message
        assert "rank 1" not in message
        assert 3 < seconds < 40


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[2]) / f"{sys.argv[1]}{os.environ['RANK']}"
    out.write_bytes(pickle.dumps(work(sys.argv[1], out.parent)))
