"""A worker that is killed is a failed row and no more; none outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sparelu.experiments.sweeps.sweep import Table, sweep
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.task import Call


def killed_at(n: int, deadly: int, once: str = "") -> dict[str, int]:
    """Return the square of ``n``; the process is killed where it is ``deadly``, or only the first time."""
    if n == deadly and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": n * n}


def test_a_killed_worker_is_a_failed_row(tmp_path: Path) -> None:
    calls = [Call("squares", killed_at, {"n": n, "deadly": 4}) for n in range(10)]
    rows = sweep(calls, tmp_path / "t.jsonl", engine=joblib_engine(2))
    assert [row["trial"]["settings"]["n"] for row in rows] == list(range(10))
    assert [row["status"] for row in rows] == ["measured"] * 4 + ["failed"] + ["measured"] * 5
    assert "its process was killed" in rows[4]["error"]
    assert [row["measured"]["square"] for row in rows if "measured" in row] == [n * n for n in range(10) if n != 4]
    again = sweep([Call("squares", killed_at, {"n": 4, "deadly": 5})], tmp_path / "t.jsonl")
    assert [row["status"] for row in again] == ["measured"]


def test_what_killed_a_worker_by_chance_is_run_again(tmp_path: Path) -> None:
    calls = [Call("squares", killed_at, {"n": n, "deadly": 1, "once": str(tmp_path / "once")}) for n in range(4)]
    rows = sweep(calls, tmp_path / "t.jsonl", engine=joblib_engine(2))
    assert [row["status"] for row in rows] == ["measured"] * 4
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 4
    assert len(Table(tmp_path / "t.jsonl").rows()) == 4


SLEEP = """
import os, sys, time
from pathlib import Path
from sparelu.experiments.sweeps.sweep import sweep
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.task import Call
from tests.experiments.sweeps.test_workers import asleep
sweep([Call("sleep", asleep, {"folder": sys.argv[1]})], Path(sys.argv[1], "t.jsonl"), engine=joblib_engine(2))
"""


def asleep(folder: str) -> dict[str, int]:
    """Say that this process is at work, and sleep for longer than anybody waits."""
    Path(folder, "at-work").touch()
    time.sleep(600)
    return {}


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """One has a task, one waits for a task that never comes."""
    with subprocess.Popen([sys.executable, "-c", SLEEP, str(tmp_path)]) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "at-work").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            below = _below(process.pid)
        finally:
            process.kill()
    assert len(below) >= 2
    deadline = time.monotonic() + 60  # of a machine that does other things; a look is a second
    while any(map(_is_alive, below)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(_is_alive, below))


def _below(process: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [one for one in listed if _state(one)[1:2] == [str(process)]]


def _is_alive(process: int) -> bool:
    return _state(process)[:1] not in ([], ["Z"])


def _state(process: int) -> list[str]:
    """Return the state of a process, the one above it, and more; nothing where it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
