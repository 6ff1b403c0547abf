"""The command ``tune`` on a small table: what it prints and writes, resumption, and what is said when it is wrong."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sparelu import store
from sparelu.cli.__main__ import app
from sparelu.cli.declarations import declaration_of, declarations
from sparelu.cli.flags import ranges
from sparelu.cli.options import read_trial
from sparelu.cli.session import INTERRUPTED, OK, REFUSED, USAGE
from sparelu.experiments.options import TrialOptions
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.trial import Trial
from tests.experiments.toys import Shrunk, hinges, make_known

TUNE = ("tune", "hinges.csv", "--target", "y", "--method", "shrunk", "--hidden", "6", "--no-standardise")


def invoke(*arguments: str):
    """Run a command in this process; result with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table of noisy hinges, three of six inputs at work, and the toy method."""
    make_known(monkeypatch, Shrunk)
    monkeypatch.setitem(declarations().methods, Shrunk.name, declaration_of(Shrunk))
    monkeypatch.chdir(tmp_path)
    x, y = hinges()
    with Path("hinges.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"x{i}" for i in range(6)), "y"])
        rows.writerows([*a, b] for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return tmp_path


def test_budgets_alone(folder: Path) -> None:
    done = invoke(*TUNE, "--budgets", "1,2,3,6", "--folds", "4", "--shrink", "1", "--out", "run")
    assert done.exit_code == OK, done.output
    assert "4 folds of 48 training rows" in done.output
    chosen = next(line for line in done.output.splitlines() if "chosen" in line)
    assert " 3 " in chosen
    assert "Fitted on all 48 training rows: 3 nonzeros" in done.output
    names = {"model.safetensors", "request.json", "result.json", "history.csv", "report.html", "trials.jsonl"}
    assert {p.name for p in Path("run").iterdir()} == names
    assert "3 nonzeros" in invoke("show", "run").output
    assert invoke("predict", "run", "hinges.csv").exit_code == OK
    Path("run/report.html").unlink()
    assert invoke("report", "run").exit_code == OK
    assert "one-standard-error rule" in Path("run/report.html").read_text()


def test_a_search_is_json_and_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    arguments = (*TUNE, "--budgets", "3", "--folds", "3", "--trials", "8", "--search", "shrink=log:0.3:2", "--json")
    whole = json.loads(invoke(*arguments, "--out", "whole").stdout)
    assert abs(whole["validation"][0]["settings"]["shrink"] - 1) < 0.3

    real, ran = Trial.outcome, []

    def interrupted(self: Trial) -> dict[str, Any]:
        ran.append(self)
        if len(ran) == 10:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(Trial, "outcome", interrupted)
    cut = invoke(*arguments, "--out", "cut")
    assert cut.exit_code == INTERRUPTED
    assert "--resume" in cut.stderr
    assert len(Table(Path("cut/trials.jsonl")).rows()) == 9
    assert "already holds a run" in invoke(*arguments, "--out", "cut").stderr
    again = invoke(*arguments, "--out", "cut", "--resume")
    assert again.exit_code == OK, again.stderr
    assert json.loads(again.stdout)["validation"] == whole["validation"]
    left, right = (Table(Path(name, "trials.jsonl")).rows() for name in ("whole", "cut"))
    assert [row["key"] for row in left] == [row["key"] for row in right]
    assert store.load("cut/model.safetensors").predict(np.eye(6)).tolist() == pytest.approx(
        store.load("whole/model.safetensors").predict(np.eye(6)).tolist()
    )


BAD = {
    "rule": (["--select", "beast"], USAGE, "did you mean 'best'"),
    "folds": (["--folds", "49"], USAGE, "49 folds of 48 rows: ask for 2 to 48 folds"),
    "budgets": (["--budgets", "few"], USAGE, "--budgets must be whole numbers"),
    "refused": (["--budgets", "99"], REFUSED, "no budget could be cross-validated"),
    "search alone": (["--search", "shrink"], USAGE, "give --trials"),
    "search": (["--trials", "3", "--search", "shrnk=1:2"], USAGE, "did you mean 'shrink'"),
    "range": (["--trials", "3", "--search", "shrink=2:1"], USAGE, "LOW below HIGH"),
    "pruner": (["--trials", "3", "--pruner", "medain"], USAGE, "did you mean 'median'"),
    "workers": (["--workers", "0"], USAGE, "--workers must be at least 1"),
    "setting": (["--shrnk", "1"], USAGE, "no option --shrnk for method shrunk; did you mean 'shrink'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_message(folder: Path, case: str) -> None:
    extra, code, words = BAD[case]
    pytest.importorskip("optuna")
    done = invoke(*TUNE, *(() if "--budgets" in extra else ("--budgets", "1,3")), *extra, "--out", "run")
    assert done.exit_code == code, done.output
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert not Path("run/model.safetensors").exists()


def test_without_optuna_the_message_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = invoke(*TUNE, "--budgets", "1,3", "--trials", "3", "--out", "run")
    assert done.exit_code == USAGE
    assert "pip install 'sparelu[search]'" in done.stderr


def test_settings_need_a_named_method(folder: Path) -> None:
    done = invoke("tune", "hinges.csv", "--target", "y", "--epochs", "3")
    assert done.exit_code == USAGE
    assert "--epochs: name the method" in done.stderr


def test_ranges_of_flags() -> None:
    assert ranges(("rate=log:1:2", "dead-ends", "--l1=0:1")) == {"rate": "log:1:2", "dead_ends": "", "l1": "0:1"}


def test_images_are_tuned_with_convolutions() -> None:
    told = TrialOptions("digits", method="rigl", hidden=(4,), channels=(2, 3), device="cpu")
    assert read_trial(told, ()).channels == (2, 3)
    assert Trial.of(vars(told)).budget().channels == (2, 3)
