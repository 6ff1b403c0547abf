"""``torchrun -m sparelu fit``: the same as one process; a rank is killed; what is refused."""

import contextlib
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
from click.testing import Result
from typer.testing import CliRunner

from sparelu import store
from sparelu.cli.__main__ import app
from sparelu.cli.session import FAILED, OK, REFUSED
from sparelu.networks.network import Network
from sparelu.runtime.distributed import Alone

TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "sparelu"]
FIT = ["fit", "planted:rows=2000,test_rows=100,hidden=4,nonzeros=10,inputs=20", "--hidden", "4"]
LONG = [*FIT, "--nonzeros", "10", "--method", "aiht", "--epochs", "40", "--save-every", "0"]


def torchrun(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command over two ranks in ``folder``, to the end."""
    return subprocess.run([*TWO, *command], cwd=folder, env=_quiet(), capture_output=True, text=True, check=False)


def alone(command: list[str]) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, command, env={"COLUMNS": "300"})


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
@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_ends_the_job_and_the_run_resumes(tmp_path: Path, monkeypatch, victim: int) -> None:
    monkeypatch.chdir(tmp_path)
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

    assert torchrun([*LONG, "--out", "cut", "--resume"], tmp_path).returncode == OK
    assert alone([*LONG, "--out", "whole"]).exit_code == OK
    for p, q in zip(network(tmp_path / "cut").layers, network(tmp_path / "whole").layers, strict=True):
        assert torch.equal(p.indices, q.indices)
        np.testing.assert_allclose(p.values, q.values, rtol=1e-9)


def test_ranks_of_a_file_judge_and_say_once_what_one_process_says(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4))
    np.save(tmp_path / "rows.npy", np.column_stack([x, np.abs(x[:, 0] - 1)]))
    fit = ["fit", "rows.npy", "--nonzeros", "6", "--hidden", "4", "--epochs", "5", "--least", "50", "--json"]
    one, two = alone([*fit, "--out", "one"]), torchrun([*fit, "--out", "two"], tmp_path)
    assert (one.exit_code, two.returncode) == (OK, OK), two.stderr
    found = [json.loads(text)["rows"][0] for text in (one.stdout, two.stdout)]
    for name in ("nonzeros", "score", "train_score"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-9)
    solution = store.load(tmp_path / "two" / "model.safetensors")
    assert solution.about["ranks"] == 2
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}

    again = torchrun([*fit, "--out", "two"], tmp_path)
    assert again.returncode == FAILED
    assert again.stderr.count("already holds a run") == 1
    assert "ended or stopped answering" not in again.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "exact"], "exact needs all rows in one process"),
        (["--method", "aiht", "--path"], "--path fits many networks"),
    ],
)
def test_what_ranks_cannot_share_is_refused(tmp_path: Path, monkeypatch, more: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sparelu.cli.fit.together", lambda *_: contextlib.nullcontext(Alone(0, 2)))
    done = alone([*FIT, "--nonzeros", "10", *more])
    assert done.exit_code == REFUSED
    assert words in done.stderr
    assert "path" in words or {"aiht,", "gmp,"} <= set(done.stderr.split("over ranks:")[1].split())
    assert not list(tmp_path.iterdir())
