"""Sweeps: addresses, caching, failures, refusals, torn files, and the joblib engine."""

import contextlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sparelu.experiments.sweeps import sweep as sweeping
from sparelu.experiments.sweeps.sweep import Table, sweep, trial_key
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.trial import Trial
from tests.contract.test_checks_can_fail import Random
from tests.experiments.toys import make_known

CURVE = Trial("curve", {"shape": "sine", "rows": 40}, method="random-features", hidden=(5,), nonzeros=5)


@pytest.fixture(autouse=True)
def _toy(monkeypatch) -> None:
    make_known(monkeypatch, Random)


def test_addresses_do_not_move() -> None:
    """Golden keys: results on disk are found by them."""
    assert trial_key(Trial("digits", nonzeros=500)) == "71bee2e2d45455eb"
    planted = Trial("planted", {"hidden": 20, "nonzeros": 100}, method="aiht", hidden=(20,), nonzeros=100, seed=2)
    assert trial_key(planted) == "149708c7bb173105"


def test_defaults_do_not_count_and_the_rest_does() -> None:
    plain = Trial("planted", nonzeros=5)
    assert trial_key(plain) == trial_key(replace(plain, parameters={"rows": 50000}, test_fraction=0.2))
    others = [
        replace(plain, seed=1),
        replace(plain, nonzeros=6),
        replace(plain, parameters={"rows": 60}),
        replace(plain, method="aiht"),
        replace(plain, task="regression"),
    ]
    assert len({trial_key(t) for t in [plain, *others]}) == 6


def test_done_rows_are_not_run_again(tmp_path: Path, monkeypatch) -> None:
    trials = [replace(CURVE, seed=s) for s in range(4)]
    first = sweep(trials[:2], tmp_path / "t.jsonl")
    ran: list[int] = []
    real = sweeping.run_row
    monkeypatch.setattr(sweeping, "run_row", lambda t: ran.append(t.seed) or real(t))
    rows = sweep(trials, tmp_path / "t.jsonl")
    assert ran == [2, 3]
    assert [r["key"] for r in rows] == [trial_key(t) for t in trials]
    assert rows[:2] == first
    assert all(r["status"] == "converged" and r["seconds"] > 0 and r["versions"]["torch"] for r in rows)


def test_refusals_and_failures_are_rows(tmp_path: Path, monkeypatch) -> None:
    wide = replace(CURVE, nonzeros=10**6)
    missing = replace(CURVE, data=str(tmp_path / "nothing.csv"), parameters={})
    rows = sweep([wide, missing], tmp_path / "t.jsonl")
    assert [r["status"] for r in rows] == ["refused", "failed"]
    assert "does not fit" in rows[0]["error"]
    assert "nothing.csv" in rows[1]["error"]
    ran: list[str] = []
    real = sweeping.run_row
    monkeypatch.setattr(sweeping, "run_row", lambda t: ran.append(t.data) or real(t))
    again = sweep([wide, missing], tmp_path / "t.jsonl")
    assert ran == [missing.data], "a failure is tried again, a refusal is not"
    assert [r["status"] for r in again] == ["refused", "failed"]


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_last_line_loses_that_row_only(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.jsonl"
    trials = [replace(CURVE, seed=s) for s in range(3)]
    whole = sweep(trials, path)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = Table(path).rows()
    assert [r["key"] for r in torn] == [r["key"] for r in whole[: 3 if cut == 1 else 2]]
    again = sweep(trials, path)
    assert [r["score"] for r in again] == [r["score"] for r in whole]
    assert len(Table(path).rows()) == 3


def test_stopping_keeps_what_is_done(tmp_path: Path) -> None:
    trials = [replace(CURVE, seed=s) for s in range(5)]
    seen: list[str] = []
    rows = sweep(
        trials, tmp_path / "t.jsonl", watch=lambda row, *_: seen.append(row["key"]), stop=lambda: len(seen) == 2
    )
    assert len(rows) == 2
    assert len(sweep(trials, tmp_path / "t.jsonl")) == 5


def test_joblib_gives_the_same_table(tmp_path: Path) -> None:
    trials = [Trial(f"nothing{s}.csv", nonzeros=5) for s in range(4)]
    here = sweep(trials, tmp_path / "a.jsonl")
    there = sweep(trials, tmp_path / "b.jsonl", engine=joblib_engine(2))
    stable = ("key", "trial", "status", "error")
    assert [{k: r[k] for k in stable} for r in here] == [{k: r[k] for k in stable} for r in there]
    assert json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])["threads"] == 1


def test_an_unreachable_scheduler_is_named(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    assert distributed
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        sweep([CURVE], tmp_path / "t.jsonl", engine=sweeping.dask_engine("tcp://127.0.0.1:9", timeout=1.0))


def test_a_lost_scheduler_is_named_and_finished_rows_are_kept(tmp_path: Path, monkeypatch) -> None:
    """The client of a scheduler that dies cancels its futures: seen with ``dask scheduler``, here played."""
    distributed = pytest.importorskip("distributed")
    pool = ThreadPoolExecutor(1)

    class Client(contextlib.nullcontext):
        loop = None

        def __init__(self, *_args, **_options) -> None:
            super().__init__(self)

        def submit(self, function, *arguments, **_options):
            return pool.submit(function, *arguments)

    def as_completed(tasks, loop):
        yield tasks[0]
        lost = Future()
        lost.cancel()
        yield lost

    monkeypatch.setattr(distributed, "Client", Client)
    monkeypatch.setattr(distributed, "as_completed", as_completed)
    trials = [replace(CURVE, seed=s) for s in range(3)]
    with pytest.raises(ValueError, match="the Dask scheduler at tcp://there:1 was lost; finished rows are kept"):
        sweep(trials, tmp_path / "t.jsonl", engine=sweeping.dask_engine("tcp://there:1"))
    pool.shutdown()
    assert [row["key"] for row in Table(tmp_path / "t.jsonl").rows()] == [trial_key(trials[0])]
    assert len(sweep(trials, tmp_path / "t.jsonl")) == 3
