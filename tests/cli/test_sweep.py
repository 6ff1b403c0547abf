"""The command line of a sweep: what is printed, and what is said when something is wrong."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparelu.cli import sweep as sweeping
from sparelu.cli.__main__ import app
from sparelu.cli.session import FAILED, OK, USAGE
from sparelu.experiments.sweeps.sweep import Table
from tests.experiments import victims

GRID = """
format = 1
[[trials]]
data = "curve"
method = "gmp"
hidden = 16
nonzeros = [6, 8, 500]
seed = [0, 1]
parameters = { shape = "sine", rows = 100 }
settings.gmp = { epochs = 1, least = 5 }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a grid of four rows and two refusals."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def invoke(*arguments: str):
    """Run a command in this process; result with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_rows_are_printed_and_kept(folder: Path) -> None:
    done = invoke("sweep", "grid.toml", "--workers", "1", "--json")
    assert done.exit_code == OK, done.output
    rows = json.loads(done.stdout)
    assert [r["status"] for r in rows] == ["max_steps"] * 4 + ["refused"] * 2
    assert [r["key"] for r in Table(folder / "runs" / "grid.jsonl").rows()] == [r["key"] for r in rows]
    again = invoke("sweep", "grid.toml", "--workers", "1")
    assert "runs/grid.jsonl: 6 of 6 rows" in again.output
    assert len((folder / "runs" / "grid.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("format = 1", "format = 2"), "grid.toml: written for a newer sparelu (format 2, this one reads up to 1)"),
        (("nonzeros", "nonzero"), "grid.toml: a trial has no field 'nonzero'; did you mean 'nonzeros'"),
        (("[[trials]]", "[[trial]]"), "grid.toml: there is no key 'trial'; did you mean 'trials'"),
        (("[6, 8, 500]", "[]"), "the grid is empty: nonzeros is an empty list"),
        ((GRID, "format = 1"), "the grid is empty: give at least one [[trials]] block"),
        (("format = 1", 'format = "one"'), "format must be a whole number, got 'one'"),
        (("[[trials]]", "[trials]"), "trials must be [[trials]] blocks"),
    ],
)
def test_a_bad_grid_is_one_message(folder: Path, change: tuple[str, str], words: str) -> None:
    (folder / "grid.toml").write_text(GRID.replace(*change))
    done = invoke("sweep", "grid.toml")
    assert done.exit_code == USAGE, done.output
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert not (folder / "runs").exists()


def test_an_unreachable_scheduler_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweeping, "dask_engine", functools.partial(sweeping.dask_engine, timeout=0.5))
    done = invoke("sweep", "grid.toml", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert done.exit_code == USAGE
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    missing = invoke("sweep", "grid.toml", "--engine", "dask")
    assert "--scheduler ADDRESS" in missing.stderr
    assert "did you mean 'dask'" in invoke("sweep", "grid.toml", "--engine", "dsk").stderr


def test_a_table_has_one_writer(folder: Path) -> None:
    holder = "import sys; from pathlib import Path; from sparelu.experiments.sweeps.sweep import Table\n"
    holder += "with Table(Path('t.jsonl')).held(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        done = invoke("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1")
        process.communicate(b"")
    assert done.exit_code == USAGE
    assert "t.jsonl: another process is writing this table" in done.stderr.replace("\n", " ")
    assert invoke("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1").exit_code == OK


def test_a_full_disk_loses_no_row(folder: Path) -> None:
    arguments = ("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1")
    code, _ = victims.finished(victims.command, str(folder), arguments, 5000)
    assert code == FAILED, victims.said(folder)
    assert "the disk is full" in victims.said(folder)
    assert "Traceback" not in victims.said(folder)
    kept = Table(folder / "t.jsonl").rows()
    assert 0 < len(kept) < 6, "the limit fell inside the table"
    assert victims.finished(victims.command, str(folder), arguments)[0] == OK
    rows = Table(folder / "t.jsonl").rows()
    assert rows[: len(kept)] == kept
    assert len(rows) == 6


FIT = ("fit", "curve:shape=sine,rows=100", "--method", "gmp", "--epochs", "1", "--least", "20", "--hidden", "16")
FIT += ("--nonzeros", "10", "--save-every", "0", "--out", "run", "--resume")


@pytest.mark.parametrize(("largest", "left"), [(3_000, "checkpoint"), (100_000, "report")])
def test_a_full_disk_loses_no_fit(folder: Path, largest: int, left: str) -> None:
    code, _ = victims.finished(victims.command, str(folder), FIT, largest)
    assert code == FAILED, victims.said(folder)
    assert "the disk is full" in victims.said(folder)
    assert "Traceback" not in victims.said(folder)
    assert (folder / "run" / "model.safetensors").is_file() == (left == "report")
    assert not list((folder / "run").glob(".*.part"))
    if left == "report":
        assert invoke("show", "run").exit_code == OK, "the model is whole"
        assert invoke("report", "run").exit_code == OK
    assert victims.finished(victims.command, str(folder), FIT)[0] == OK, victims.said(folder)
    assert (folder / "run" / "report.html").is_file()


def test_a_page_of_somebody_else_stays(folder: Path) -> None:
    assert invoke("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1").exit_code == OK
    (folder / "t").mkdir()
    (folder / "t" / "board.html").write_text("my own")
    refused = invoke("report", "t.jsonl")
    assert refused.exit_code == USAGE
    assert "--force" in refused.stderr
    assert (folder / "t" / "board.html").read_text() == "my own"
    assert invoke("report", "t.jsonl", "--force").exit_code == OK
    assert invoke("report", "t.jsonl").exit_code == OK


def test_a_full_disk_leaves_the_old_report_of_a_sweep(folder: Path) -> None:
    assert invoke("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1").exit_code == OK
    assert invoke("report", "t.jsonl").exit_code == OK
    before = (folder / "t" / "board.html").read_bytes()
    code, _ = victims.finished(victims.command, str(folder), ("report", "t.jsonl"), 400_000)
    assert code == FAILED, victims.said(folder)
    assert "the disk is full" in victims.said(folder)
    assert (folder / "t" / "board.html").read_bytes() == before
    assert len(Table(folder / "t.jsonl").rows()) == 6
