"""The command ``recover``: a program is asked, its network comes back; refusals have their exit code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparelu import store
from sparelu.cli.session import OK, REFUSED, USAGE
from sparelu.data import Budget
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status
from tests.cli.runs import invoke

PROGRAM = """
import sys
for line in sys.stdin:
    a, b, c, d = map(float, line.split(","))
    y = 4 + max(a - 2 * c + 0.3, 0) - 2 * max(3 * b + 0.5 * d - 1, 0) + 0.5 * max(c + d + 0.2, 0)
    print(repr({form}(y)))
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sparelu", "recover", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(form=""))
    return f"{sys.executable} -S {path}"


def test_a_program_is_recovered_and_its_answers_are_kept(tmp_path: Path, program: str) -> None:
    # of the rows asked, six were asked again on purpose and are kept once
    out = tmp_path / "run"
    done = _run(program, "--inputs", "4", "--hidden", "8", "--out", str(out), "--json")
    assert done.returncode == OK, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["hidden"], found["nonzeros"]) == ("converged", [3], 6)
    network = store.load(out / "model.safetensors").network
    x = np.random.default_rng(0).standard_normal((50, 4))
    w = np.array([[1.0, 0, -2, 0], [0, 3, 0, 0.5], [0, 0, 1, 1]])
    wanted = np.maximum(x @ w.T + [0.3, -1, 0.2], 0) @ [1.0, -2, 0.5] + 4
    assert np.abs(network(x).numpy()[:, 0] - wanted).max() < 1e-8
    assert (out / "answers").stat().st_size >= 28 * (found["rows_asked"] - 6)
    again = _run(program, "--inputs", "4", "--hidden", "8", "--out", str(out))
    assert again.returncode == USAGE
    assert "already holds a run" in again.stderr


def test_the_run_is_read_by_the_other_commands(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((3, 4)), rng.standard_normal((1, 3))
    network = Network.from_dense([w, v])
    store.save(Solution(network, Status.converged, "none", {}, Budget((3,)), 0, True), tmp_path / "m.safetensors")
    run, rows = tmp_path / "run", tmp_path / "rows.csv"
    done = invoke("recover", str(tmp_path / "m.safetensors"), "--hidden", "6", "--out", str(run))
    assert done.exit_code == OK, done.output
    x = rng.standard_normal((9, 4))
    np.savetxt(rows, x, delimiter=",", header="x0,x1,x2,x3", comments="")
    shown = invoke("show", str(run))
    assert shown.exit_code == OK, shown.output
    assert "rows asked" in shown.stdout
    assert "What may be claimed" in shown.stdout
    told = invoke("predict", str(run), str(rows))
    assert told.exit_code == OK, told.output
    assert np.loadtxt(told.stdout.splitlines()[1:]) == pytest.approx(np.maximum(x @ w.T, 0) @ v[0], abs=1e-7)
    assert invoke("export", str(run)).exit_code == OK
    for wants_data in (("certify",), ("compress", "--neurons", "2"), ("report",)):
        refused = invoke(wants_data[0], str(run), *wants_data[1:])
        assert refused.exit_code == USAGE
        assert "sparelu show prints it" in refused.stderr


def test_a_limit_stops_and_a_higher_one_goes_on(tmp_path: Path, program: str) -> None:
    flags = (program, "--inputs", "4", "--hidden", "8", "--out", str(tmp_path / "run"))
    stopped = _run(*flags, "--limit", "120")
    assert stopped.returncode == USAGE
    assert "raise the limit" in stopped.stderr
    done = _run(*flags, "--resume", "--json")
    assert done.returncode == OK, done.stderr
    assert json.loads(done.stdout)["status"] == "converged"


def test_what_cannot_be_asked_is_named(tmp_path: Path, program: str) -> None:
    out = ("--out", str(tmp_path / "run"))
    missing = _run(program, *out)
    assert missing.returncode == USAGE
    assert "give --inputs" in missing.stderr
    clipped = tmp_path / "clipped.py"
    clipped.write_text(PROGRAM.format(form="(lambda y: min(max(y, 3.5), 4.5))"))
    refused = _run(f"{sys.executable} -S {clipped}", "--inputs", "4", "--hidden", "8", "--out", str(tmp_path / "other"))
    assert refused.returncode == REFUSED
    assert "clipped" in refused.stderr
