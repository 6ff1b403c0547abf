"""A sweep on a real Dask scheduler with two worker processes on loopback, one of them killed in the middle."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from sparelu.experiments.sweeps.sweep import Table, dask_engine, sweep, trial_key
from sparelu.experiments.trials.trial import Trial

distributed = pytest.importorskip("distributed")


@pytest.fixture
def cluster():
    """Two worker processes under nannies, which start a new worker for a dead one."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
            yield local


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_and_repeats_nothing(cluster, tmp_path: Path) -> None:
    parameters = {"inputs": 20, "rows": 3000, "test_rows": 500, "hidden": 5, "nonzeros": 10}
    trials = [Trial("planted", parameters, method="aiht", hidden=(5,), nonzeros=10, seed=s) for s in range(8)]
    killed: list[int] = []

    def kill_one() -> None:
        while len(Table(tmp_path / "cluster.jsonl").rows()) < 2:
            time.sleep(0.01)
        pid = next(iter(cluster.workers.values())).pid
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    rows = sweep(trials, tmp_path / "cluster.jsonl", engine=dask_engine(cluster.scheduler_address))
    killer.join()
    assert killed
    lines = (tmp_path / "cluster.jsonl").read_text().splitlines()
    assert len(lines) == len(trials), "one line for each trial: nothing lost, nothing twice"
    assert [r["key"] for r in rows] == [trial_key(t) for t in trials]
    here = sweep(trials, tmp_path / "here.jsonl")
    assert [(r["score"], r["nonzeros"]) for r in rows] == [(r["score"], r["nonzeros"]) for r in here]
