"""Tables as people have them, from the file to the prediction: text, dates, missing values, row numbers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from sparelu import store
from sparelu.cli.certify_export import data_of
from sparelu.cli.session import OK, USAGE
from sparelu.columns import Columns
from tests.cli.runs import invoke


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Houses: an unnamed row number, a text of few kinds, a date, a number with gaps, an address; and the price."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [["", "area", "city", "sold", "address", "price"]]
    for i in range(300):
        area, city = rng.uniform(30, 150), rng.choice(["Paris", "Rome", "Oslo"])
        day = np.datetime64("2020-01-01") + rng.integers(0, 500)
        price = 50 + 2 * max(0.0, area - 60) + 40 * (city == "Paris") + rng.normal()
        rows.append([str(i + 1), "" if i % 20 == 7 else f"{area:.1f}", city, str(day), f"{i} High St", f"{price:.2f}"])
    write("houses.csv", rows)
    return rows


def write(name: str, rows: list[list[str]]) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_a_raw_table_is_fitted_and_predicted(table: list[list[str]]) -> None:
    done = invoke("fit", "houses.csv", "--target", "price", "--nonzeros", "12", "--hidden", "8", "--out", "run")
    assert done.exit_code == OK, done.output
    assert "not read: '' counts the rows; 'address' has no text" in done.output.replace("\n", " ")
    solution = store.load("run/model.safetensors")
    assert isinstance(solution.columns, Columns)
    assert solution.columns.names == ("area", "city", "sold")
    assert {"city = Paris", "area is missing", "days of sold"} <= set(solution.names)
    assert json.loads(Path("run/result.json").read_text())["test"]["r2"] > 0.9

    new = [[row[i] for i in (3, 2, 1)] for row in table]
    new[1][1], new[2][2] = "Cairo", ""  # a city that was never seen, an area that is not known
    write("new.csv", new)
    told = invoke("predict", "run", "new.csv")
    assert told.exit_code == OK, told.output
    predicted = np.array([float(line) for line in told.stdout.splitlines()[1:]])
    assert len(predicted) == 300
    price = np.array([float(row[5]) for row in table[1:]])
    assert np.corrcoef(predicted[2:], price[2:])[0, 1] > 0.95
    for command in (
        ("show", "run"),
        ("report", "run"),
        ("certify", "run", "--method", "generalise"),
        ("compress", "run", "--neurons", "4"),
    ):
        again = invoke(*command)
        assert again.exit_code == OK, again.output
    assert "price = " in invoke("show", "run").output
    assert json.loads(invoke("show", "run", "--json").output)["formula"].keys() == {"price"}
    assert "<code>price = " in Path("run/report.html").read_text()
    report = Path("run/report.html").read_text()
    assert "What each column does" in report
    assert "tree of depth 4" in report
    refused = invoke("export", "run", "--format", "sql")
    assert refused.exit_code == USAGE
    assert "column 'sold' holds dates" in refused.stderr
    _, split = data_of(json.loads(Path("run/request.json").read_text()))  # as certify and compress read them again
    assert split.train.names == solution.names


def test_what_cannot_be_read_is_named_all_at_once(table: list[list[str]]) -> None:
    wrong = [row[:] for row in table]
    wrong[9][1] = "inf"
    write("houses.csv", wrong)
    fit = ("fit", "houses.csv", "--target", "price", "--nonzeros", "12", "--hidden", "8")
    done = invoke(*fit, "--out", "bad")
    assert done.exit_code == USAGE
    assert "column 'area' holds an infinite number in row 8" in done.output
    assert invoke(*fit, "--drop", "area", "--out", "run").exit_code == OK
    assert "area" not in store.load("run/model.safetensors").names
    undated = ("fit", "houses.csv", "--target", "price", "--nonzeros", "9", "--hidden", "8", "--drop", "sold,area")
    assert invoke(*undated, "--out", "undated").exit_code == OK
    for kind, ending in (("python", "py"), ("sql", "sql"), ("spreadsheet", "csv")):
        assert invoke("export", "undated", "--format", kind).exit_code == OK
        assert "city" in Path(f"undated/export/network.{ending}").read_text()
    near = invoke(*fit, "--drop", "are")
    assert near.exit_code == USAGE
    assert "did you mean 'area'" in near.output
    write("new.csv", [["city", "sold"], ["Rome", "tomorrow"]])
    told = invoke("predict", "run", "new.csv")
    assert told.exit_code == USAGE
    assert "column 'sold' holds 'tomorrow'" in told.output


def test_columns_are_chosen_and_the_address_says_so(table: list[list[str]]) -> None:
    fit = ("fit", "houses.csv", "--target", "price", "--nonzeros", "4", "--hidden", "4")
    assert invoke(*fit, "--only", "area,city", "--out", "some").exit_code == OK
    assert json.loads(Path("some/request.json").read_text())["only"] == ["area", "city"]
    assert store.load("some/model.safetensors").columns.names == ("area", "city")
    again = invoke(*fit, "--out", "some", "--resume")
    assert again.exit_code == USAGE
    assert "another only" in again.output


def test_classes_are_predicted_with_their_probabilities(table: list[list[str]]) -> None:
    labelled = [
        row[:5] + (["dear"] if i == 0 else ["yes" if float(row[5]) > 150 else "no"]) for i, row in enumerate(table)
    ]
    write("houses.csv", labelled)
    fit = ("fit", "houses.csv", "--target", "dear", "--nonzeros", "8", "--hidden", "8", "--out", "run")
    done = invoke(*fit)
    assert done.exit_code == OK, done.output
    test = json.loads(Path("run/result.json").read_text())["test"]
    assert f"most frequent class {100 * test['base_rate']:.2f}%" in " ".join(done.output.split())
    told = invoke("predict", "run", "houses.csv", "--proba").stdout.splitlines()
    assert told[0] == "dear = no,dear = yes"
    shares = np.array([[float(cell) for cell in line.split(",")] for line in told[1:]])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    predicted = invoke("predict", "run", "houses.csv").stdout.splitlines()[1:]
    assert [("no", "yes")[i] for i in shares.argmax(axis=1)] == predicted
    assert test["auc"] > 0.9
    assert 0.5 < test["balanced_accuracy"] <= 1
    write("houses.csv", table)
    assert invoke(*fit[:3], "price", *fit[4:8], "--out", "other").exit_code == OK
    refused = invoke("predict", "other", "houses.csv", "--proba")
    assert refused.exit_code == USAGE
    assert "which has no classes" in refused.output


def test_a_budget_need_not_be_given(table: list[list[str]]) -> None:
    fit = ("fit", "houses.csv", "--target", "price", "--method", "magnitude", "--least", "200", "--hidden", "8")
    done = invoke(*fit, "--folds", "2", "--out", "run")
    assert done.exit_code == OK, done.output
    told = " ".join(done.output.split())
    result = json.loads(Path("run/result.json").read_text())
    budgets = [row["nonzeros"] for row in result["validation"]]
    assert (budgets[0], len(budgets)) == (3, 6)
    assert f"no budget was given: one of {', '.join(map(str, budgets))} weights is chosen by cross-validation" in told
    assert sum(row["chosen"] for row in result["validation"]) == 1
    assert result["test"]["r2"] > 0.5
    again = invoke(*fit, "--folds", "2", "--out", "run", "--resume")
    assert again.exit_code == OK, again.output
