"""The command line on a small table: fit, predict, show, resume, and what is said when something is wrong."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sparelu import store
from sparelu.cli.__main__ import app
from sparelu.cli.session import FAILED, INTERRUPTED, OK, REFUSED, USAGE
from sparelu.experiments.trials.one_standard_error import Validated, choose_budget
from tests.contract.checks import same_bits

QUICK = ["--method", "gmp", "--epochs", "3"]


def invoke(*arguments: str):
    """Run a command in this process; result with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture
def table(tmp_path: Path, monkeypatch) -> Path:
    """Flowers by size: 150 rows, 4 numbers, a text target; the working folder is an empty one."""
    from sklearn.datasets import load_iris

    iris = load_iris()
    path = tmp_path / "flowers.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sepal length", "sepal width", "petal length", "petal width", "kind"])
        rows.writerows([*x, iris.target_names[y]] for x, y in zip(iris.data.tolist(), iris.target, strict=True))
    monkeypatch.chdir(tmp_path)
    return path


def test_fit_predict_show_report(table: Path, tmp_path: Path) -> None:
    done = invoke("fit", "flowers.csv", "--target", "kind", "--nonzeros", "20", "--hidden", "10", "--out", "run")
    assert done.exit_code == OK, done.output
    assert "sparelu predict run DATA" in done.output
    assert {p.name for p in Path("run").iterdir()} == {
        "model.safetensors", "request.json", "result.json", "history.csv", "report.html"}  # fmt: skip
    solution = store.load("run/model.safetensors")
    assert solution.network.nonzeros <= 20
    result = json.loads(Path("run/result.json").read_text())
    assert result["test"]["accuracy"] > 0.8
    assert len(result["test_rows"]) == 30

    shuffled = tmp_path / "new.csv"
    with table.open() as file, shuffled.open("w", newline="") as out:
        rows = csv.DictWriter(out, ["extra", "petal width", "petal length", "sepal width", "sepal length"])
        rows.writeheader()
        for row in csv.DictReader(file):
            rows.writerow({"extra": 1, **{k: v for k, v in row.items() if k != "kind"}})
    fresh = subprocess.run(
        [sys.executable, "-m", "sparelu", "predict", "run", "new.csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert fresh.returncode == OK, fresh.stderr
    predicted = list(csv.DictReader(fresh.stdout.splitlines()))
    assert len(predicted) == 150
    with table.open() as file:
        truth = [row["kind"] for row in csv.DictReader(file)]
    right = np.mean([p["kind"] == t for p, t in zip(predicted, truth, strict=True)])
    assert right > 0.8
    assert right == pytest.approx((0.2 * result["test"]["accuracy"]) + 0.8 * result["train"]["accuracy"])

    shown = invoke("show", "run")
    assert shown.exit_code == OK
    assert "petal" in shown.output
    assert f"{solution.network.nonzeros:,} nonzeros" in shown.output
    Path("run/report.html").unlink()
    assert invoke("report", "run").exit_code == OK
    assert Path("run/report.html").stat().st_size > 1000


def test_json_is_one_object(table: Path) -> None:
    done = invoke("fit", "flowers.csv", "--target", "kind", "--nonzeros", "9", "--out", "run", "--json", *QUICK)
    assert done.exit_code == OK, done.output
    said = json.loads(done.stdout)
    assert said["rows"][0]["nonzeros"] <= 9
    assert json.loads(invoke("show", "run", "--json").stdout)["nonzeros"] <= 9
    assert json.loads(invoke("methods", "--json").stdout)
    assert json.loads(invoke("datasets", "--json").stdout)


def test_a_path_chooses_on_validation_rows(table: Path) -> None:
    done = invoke("fit", "flowers.csv", "--target", "kind", "--path", "--budgets", "4,20,40", "--hidden", "10",
                  "--folds", "3", "--out", "run", "--json", *QUICK, "--least", "60")  # fmt: skip
    assert done.exit_code == OK, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [r.get("label") for r in rows] == [None, None, None, "dense"]
    assert sum(r["chosen"] for r in rows) == 1
    chosen = next(r for r in rows if r["chosen"])
    assert store.load("run/model.safetensors").network.nonzeros == chosen["nonzeros"]
    curve = [Validated.of(row) for row in json.loads(Path("run/result.json").read_text())["validation"]]
    assert [len(p.losses) for p in curve] == [3, 3, 3]
    assert [p.nonzeros for p in curve if p.chosen] == [p.nonzeros for p in choose_budget(curve, "one-se") if p.chosen]
    assert "How the budget was chosen" in Path("run/report.html").read_text()


BAD = {
    "missing file": (["nothing.csv", "--target", "kind", "--nonzeros", "9"], USAGE, "no file 'nothing.csv'"),
    "unknown name": (["digit", "--nonzeros", "9"], USAGE, "did you mean 'digits'"),
    "wrong column": (["flowers.csv", "--target", "kinds", "--nonzeros", "9"], USAGE, "did you mean 'kind'"),
    "zero budget": (["flowers.csv", "--target", "kind", "--nonzeros", "0"], USAGE, "at least 1"),
    "large budget": (["flowers.csv", "--target", "kind", "--nonzeros", "99999"], REFUSED, "does not fit 700 weights"),
    "two budgets": (["flowers.csv", "--target", "kind", "--nonzeros", "9", "--density", "0.1"], USAGE, "and density"),
    "unknown option": (["flowers.csv", "--target", "kind", "--nonzeros", "9", "--epoch", "3"], USAGE, "mean 'epochs'"),
    "misspelt option": (["flowers.csv", "--target", "kind", "--nonzero", "9"], USAGE, "mean 'nonzeros'"),
    "bad value": (["flowers.csv", "--target", "kind", "--nonzeros", "9", "--epochs", "x"], USAGE, "whole number"),
    "unknown method": (["flowers.csv", "--target", "kind", "--nonzeros", "9", "--method", "gpm"], USAGE, "mean 'gmp'"),
    "bad widths": (["flowers.csv", "--target", "kind", "--nonzeros", "9", "--hidden", "a"], USAGE, "whole numbers"),
    "bad parameter": (["curve:shap=sine", "--nonzeros", "9"], USAGE, "did you mean 'shape'"),
    "bad task": (["flowers.csv", "--target", "kind", "--task", "ranking", "--nonzeros", "9"], USAGE, "classification"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_left(table: Path, case: str) -> None:
    arguments, code, words = BAD[case]
    done = invoke("fit", *arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert not list(Path().glob("runs/*/model.safetensors"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n", "no rows"),
        ("", "empty"),
        ("a,y\n1,2\ninf,3\n4,5\n", "column 'a' holds an infinite number in row 1"),
        ("a,y\nu,2\nx,3\nz,5\n", "'a' has no text that stands in 5 rows"),
        ("a,y\n" + "1,5.5\n" * 30, "'a' has one value only"),
        ("a,y\n" + "1,5.5\n2,5.5\n" * 15, "constant"),
        ("a,y\n" + "1,up\n2,up\n" * 15, "one class"),
        ("a,y\n1,2.5\n2,3.5\n", "give more rows"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, monkeypatch, text: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(text)
    done = invoke("fit", "t.csv", "--target", "b" if text == "a,b\n" else "y", "--nonzeros", "1", "--hidden", "3")
    assert done.exit_code == USAGE, done.output
    assert words in done.stderr


def test_a_folder_in_use_is_named(table: Path) -> None:
    arguments = ["flowers.csv", "--target", "kind", "--nonzeros", "9", "--out", "run", *QUICK]
    assert invoke("fit", *arguments).exit_code == OK
    before = Path("run/model.safetensors").read_bytes()
    again = invoke("fit", *arguments)
    assert again.exit_code == USAGE
    assert "already holds a run: add --resume" in again.stderr
    other = invoke("fit", *arguments, "--seed", "1", "--resume")
    assert "another seed" in other.stderr
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    mine = invoke("fit", "flowers.csv", "--target", "kind", "--nonzeros", "9", "--out", "mine")
    assert "is not a run" in mine.stderr
    assert Path("run/model.safetensors").read_bytes() == before


def test_a_full_disk_is_named_and_the_old_model_stays(table: Path, monkeypatch) -> None:
    def full(*_args) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = invoke("fit", "flowers.csv", "--target", "kind", "--nonzeros", "9", "--out", "run", *QUICK)
    assert done.exit_code == FAILED
    assert "the disk is full" in done.stderr


def test_damaged_models_and_wrong_columns_are_named(table: Path) -> None:
    invoke("fit", "flowers.csv", "--target", "kind", "--nonzeros", "9", "--out", "run", *QUICK)
    Path("few.csv").write_text("sepal length,petal width\n1,2\n")
    missing = invoke("predict", "run", "few.csv")
    assert missing.exit_code == USAGE
    assert "sepal width" in missing.stderr
    model = Path("run/model.safetensors")
    model.write_bytes(model.read_bytes()[:100])
    for command in (["predict", "run", "flowers.csv"], ["show", "run"], ["report", "run"]):
        done = invoke(*command)
        assert done.exit_code == USAGE
        assert "truncated" in done.stderr
    assert "no such run folder" in invoke("show", "nowhere").stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_fit_resumes_in_the_same_bits(table: Path, how: signal.Signals) -> None:
    arguments = ["fit", "flowers.csv", "--target", "kind", "--nonzeros", "20", "--method", "gmp", "--epochs", "3000"]
    command = [sys.executable, "-m", "sparelu", *arguments, "--out", "cut", "--save-every", "0.05"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not Path("cut/checkpoint.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if how is signal.SIGKILL else INTERRUPTED)
    assert not Path("cut/model.safetensors").exists()
    assert invoke(*arguments, "--out", "cut", "--resume").exit_code == OK
    assert invoke(*arguments, "--out", "whole").exit_code == OK
    assert same_bits(store.load("cut/model.safetensors").network, store.load("whole/model.safetensors").network)
    assert not Path("cut/checkpoint.safetensors").exists()


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; import sparelu.cli.__main__; print([m for m in ('torch', 'sklearn', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_images_through_convolutions(tmp_path: Path, monkeypatch) -> None:
    """fit, show and export of a convolutional network; 8 x 8 -> 4 x 4 -> 2 x 2 pixels."""
    monkeypatch.chdir(tmp_path)
    shape = ["--channels", "4,5", "--hidden", "6", "--density", "0.4"]
    done = invoke("fit", "digits", *shape, "--method", "chase", "--epochs", "1", "--least", "30", "--out", "run")
    assert done.exit_code == OK, done.output
    solution = store.load("run/model.safetensors")
    assert solution.budget.channels == (4, 5)
    assert 150 < solution.network.nonzeros <= round(0.4 * (9 * 4 + 9 * 4 * 5 + 20 * 6 + 6 * 10))
    shown = invoke("show", "run")
    assert "1 (convolution 3 x 3)" in shown.stdout
    assert invoke("export", "run", "--format", "c").exit_code == OK
    refused = invoke("fit", "digits", *shape, "--method", "imp", "--out", "other")
    assert refused.exit_code == REFUSED
    assert "it fits no convolutions" in refused.stderr
