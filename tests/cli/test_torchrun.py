"""``torchrun -m sparelu fit``: the same as one process; a rank is killed; what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sparelu import store
from sparelu.cli.session import FAILED, OK
from sparelu.network import Network
from tests.contract.checks import same_bits

TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
ONE = [sys.executable, "-m"]
FIT = ["sparelu", "fit", "planted:rows=2000,test_rows=100,hidden=4,nonzeros=10,inputs=20", "--hidden", "4"]
LONG = [*FIT, "--nonzeros", "10", "--method", "aiht", "--epochs", "40", "--save-every", "0"]


def run(command: list[str], folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run to the end in ``folder``."""
    return subprocess.run([*command, *more], cwd=folder, env=_quiet(), capture_output=True, text=True, check=False)


def _quiet() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}


def network(folder: Path) -> Network:
    """What a run came to."""
    return store.load(folder / "model.safetensors").network


def ranks_of(launcher: int) -> dict[int, int]:
    """Process of each rank that ``launcher`` started."""
    found = {}
    for name in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((name / "stat").read_text().rsplit(")", 1)[1].split()[1])
            given = (name / "environ").read_bytes().split(b"\0") if parent == launcher else []
        except OSError:  # it ended meanwhile
            continue
        found.update({int(item[5:]): int(name.name) for item in given if item.startswith(b"RANK=")})
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_job_and_any_number_of_ranks_resumes(tmp_path: Path, victim: int) -> None:
    job = subprocess.Popen([*TWO, *LONG, "--out", "cut"], cwd=tmp_path, env=_quiet(), stderr=subprocess.PIPE, text=True)
    state, end = tmp_path / "cut" / "checkpoint.safetensors", time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < end, "no state was saved"
        time.sleep(0.02)
    killed = ranks_of(job.pid)[victim]
    os.kill(killed, signal.SIGKILL)
    _, said = job.communicate(timeout=60)
    assert job.returncode == FAILED
    assert said.count(f"rank {victim} (host") == 1
    assert f"process {killed}) ended or stopped answering" in said
    assert "repeat the same command with --resume" in said
    assert not (tmp_path / "cut" / "model.safetensors").exists()

    command, whole = (TWO, TWO) if victim else (ONE, TWO)
    rest = run([*command, *LONG], tmp_path, "--out", "cut", "--resume")
    assert rest.returncode == OK, rest.stderr
    assert run([*whole, *LONG], tmp_path, "--out", "whole").returncode == OK
    a, b = network(tmp_path / "cut"), network(tmp_path / "whole")
    if command == whole:
        assert same_bits(a, b)
    for p, q in zip(a.layers, b.layers, strict=True):
        assert torch.equal(p.indices, q.indices)
        np.testing.assert_allclose(p.values, q.values, rtol=1e-9)


def test_ranks_of_a_file_judge_and_say_once_what_one_process_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4))
    np.save(tmp_path / "rows.npy", np.column_stack([x, np.abs(x[:, 0] - 1)]))
    fit = ["sparelu", "fit", "rows.npy", "--nonzeros", "6", "--hidden", "4", "--epochs", "5", "--least", "50", "--json"]
    found = []
    for command, out in ((ONE, "one"), (TWO, "two")):
        done = run([*command, *fit], tmp_path, "--out", out)
        assert done.returncode == OK, done.stderr
        found.append(json.loads(done.stdout)["rows"][0])
    for name in ("nonzeros", "score", "train_score"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-9)
    solution = store.load(tmp_path / "two" / "model.safetensors")
    assert solution.about["ranks"] == 2
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}

    again = run([*TWO, *fit], tmp_path, "--out", "two")
    assert again.returncode == FAILED
    assert again.stderr.count("already holds a run") == 1
    assert "ended or stopped answering" not in again.stderr


def test_methods_that_need_all_rows_are_refused_with_those_that_do_not(tmp_path: Path) -> None:
    done = run([*TWO, *FIT, "--method", "exact"], tmp_path)
    assert done.returncode == FAILED
    assert done.stderr.count("exact needs all rows in one process") == 1
    assert "aiht" in done.stderr.split("choose a method that fits over ranks:")[1]
