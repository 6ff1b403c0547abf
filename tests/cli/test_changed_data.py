"""A file that changes between two commands: what was made of the old one is refused or computed anew, and named."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sparelu import store
from sparelu.cli.__main__ import app
from sparelu.cli.session import OK, USAGE
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.run_folder import RunFolder
from tests.experiments.toys import Shrunk, hinges, make_known

FIT = ("fit", "d.csv", "--target", "y", "--method", "shrunk", "--hidden", "6", "--out", "run")
ONE, PATH = (*FIT, "--nonzeros", "3"), (*FIT, "--path", "--budgets", "1,2,3", "--folds", "3")
TUNE = (*("tune", *FIT[1:]), "--budgets", "1,2,3", "--folds", "3")
GRID = 'format = 1\n[[trials]]\ndata = "d.csv"\ntarget = "y"\nmethod = "shrunk"\nhidden = 6\nnonzeros = [1, 2]\n'
SWEEP = ("sweep", "grid.toml", "--out", "table.jsonl", "--workers", "1")

Rows = tuple[list[str], np.ndarray]


def shuffled_targets(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    return names, np.column_stack([rows[:, :-1], rng.permutation(rows[:, -1])])


def shuffled_inputs(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    return names, np.column_stack([rng.permutation(rows[:, :-1]), rows[:, -1]])


def shuffled_rows(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    return names, rng.permutation(rows)


def one_digit(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    rows = rows.copy()
    rows[rng.integers(len(rows)), rng.integers(6)] += 1e-9
    return names, rows


def exchanged_names(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    return [names[1], names[0], *names[2:]], rows


def a_row_less(names: list[str], rows: np.ndarray, rng: np.random.Generator) -> Rows:
    return names, rows[:-1]


CHANGES = (shuffled_targets, shuffled_inputs, shuffled_rows, one_digit, exchanged_names, a_row_less)


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def write(names: list[str], rows: np.ndarray) -> None:
    np.savetxt("d.csv", rows, "%.17g", ",", header=",".join(names), comments="")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    make_known(monkeypatch, Shrunk)
    monkeypatch.chdir(tmp_path)
    x, y = hinges()
    names, rows = [*(f"x{i}" for i in range(6)), "y"], np.column_stack([x, y])
    write(names, rows)
    Path("grid.toml").write_text(GRID)
    return names, rows


def ran(*arguments: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == OK, done.output


def unfinished(command: tuple[str, ...]) -> None:
    """What a kill before the end leaves: everything but the result."""
    ran(*command)
    for name in ("model.safetensors", "result.json", "report.html", "history.csv"):
        Path("run", name).unlink()


@pytest.mark.parametrize("command", [ONE, PATH, TUNE], ids=["fit", "path", "tune"])
def test_nothing_goes_on_with_other_data(table: Rows, command: tuple[str, ...]) -> None:
    unfinished(command)
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    for change in CHANGES:
        write(*change(*table, np.random.default_rng(0)))
        refused = invoke(*command, "--resume")
        assert refused.exit_code == USAGE, refused.output
        assert "holds a run on other data: d.csv has changed" in refused.stderr
        assert {p: p.read_bytes() for p in before} == before
    write(*table)
    ran(*command, "--resume")


@pytest.mark.parametrize("command", [PATH, TUNE], ids=["path", "tune"])
def test_a_folder_that_does_not_say_of_which_data_is_computed_anew(table: Rows, command: tuple[str, ...]) -> None:
    """Requests were written without a digest once; then the parts are asked of which data they are."""
    unfinished(command)
    write(*shuffled_targets(*table, np.random.default_rng(0)))
    request = json.loads(Path("run/request.json").read_text())
    del request["data_digest"]
    Path("run/request.json").write_text(json.dumps(request))
    ran(*command, "--resume")
    kept = json.loads(Path("run/result.json").read_text())
    Path("run").rename("old")
    ran(*command)
    afresh = json.loads(Path("run/result.json").read_text())
    assert kept["validation"] == afresh["validation"]
    assert kept["test"] == afresh["test"]


def test_rows_of_other_data_are_computed_anew(table: Rows) -> None:
    ran(*SWEEP)
    old = {row["key"]: row for row in Table(Path("table.jsonl")).rows()}
    assert "computed anew" not in invoke(*SWEEP).output
    assert {row["key"]: row for row in Table(Path("table.jsonl")).rows()} == old
    for change in CHANGES:
        write(*change(*table, np.random.default_rng(0)))
        anew = invoke(*SWEEP)
        assert anew.exit_code == OK, anew.output
        assert "d.csv has changed: " in anew.stderr
        assert "; 2 row(s) are computed anew" in anew.stderr
        new = {row["key"]: row for row in Table(Path("table.jsonl")).rows()}
        assert old.keys() == new.keys(), "the digest is no part of the address"
        assert all(new[k]["data_digest"] != old[k]["data_digest"] for k in old)


def test_a_row_stands_while_its_data_cannot_be_read(table: Rows) -> None:
    ran(*SWEEP)
    rows = Path("table.jsonl").read_bytes()
    Path("d.csv").rename("elsewhere.csv")
    ran(*SWEEP)
    assert Path("table.jsonl").read_bytes() == rows


def test_no_claim_is_made_with_other_data(table: Rows) -> None:
    ran(*ONE)
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and p.name != "d.csv"}
    for change in CHANGES:
        write(*change(*table, np.random.default_rng(0)))
        for command in (("certify", "run"), ("compress", "run", "--neurons", "2")):
            refused = invoke(*command)
            assert refused.exit_code == USAGE, refused.output
            assert "d.csv has changed" in refused.stderr
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and p.name != "d.csv"} == before


def test_claims_and_compressed_runs_say_of_which_data(table: Rows) -> None:
    ran(*ONE)
    digest = json.loads(Path("run/request.json").read_text())["data_digest"]
    ran("certify", "run", "--method", "generalise")
    ran("compress", "run", "--neurons", "2", "--restarts", "1", "--steps", "3", "--out", "small")
    solution, request, result = RunFolder(Path("run")).read()
    assert result["data_digest"] == request["data_digest"] == digest
    assert solution.certificates[0].data == solution.about["data_digest"]
    small, request, result = RunFolder(Path("small")).read()
    assert result["data_digest"] == request["data_digest"] == digest
    assert small.about["data_digest"] == solution.about["data_digest"]
    assert all(claim.data == solution.about["data_digest"] for claim in small.certificates)
    assert store.load("small/model.safetensors").about == small.about
