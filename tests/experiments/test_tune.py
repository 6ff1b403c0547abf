"""Cross-validation against a computation of its own, the search, resumption, and what is refused."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparelu import store
from sparelu.experiments.options import Plan
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.folds import fold_numbers
from sparelu.experiments.trials.run_folder import FolderError, RunFolder
from sparelu.experiments.trials.trial import Trial
from sparelu.experiments.tune import TABLE, Stopped, tune
from sparelu.experiments.write_run import rewrite_report
from sparelu.method import Refusal, SettingError
from tests.contract.checks import same_bits
from tests.experiments.toys import Shrunk, hinges, make_known

BUDGETS = (1, 2, 3, 4, 6)


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """The toy method on a table of noisy hinges; three inputs matter."""
    make_known(monkeypatch, Shrunk)
    x, y = hinges()
    with (tmp_path / "hinges.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"x{i}" for i in range(6)), "y"])
        rows.writerows([*a, b] for a, b in zip(x.tolist(), y.tolist(), strict=True))
    fixed = {"shrink": 1.0}
    return Trial(
        str(tmp_path / "hinges.csv"), target="y", method="shrunk", settings=fixed, hidden=(6,), standardise=False
    )


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trials that were really run."""
    found: list[Any] = []
    real = Trial.outcome
    monkeypatch.setattr(Trial, "outcome", lambda self: found.append(self) or real(self))
    return found


def losses_by_numpy(trial: Trial, budget: int, folds: int, shrink: float) -> list[float]:
    """Mean squared errors on the folds, from least squares on the rows outside each."""
    train = trial.split().train
    x, y = np.maximum(np.asarray(train.x), 0)[:, :budget], np.asarray(train.y)
    found = []
    for i in range(folds):
        held = fold_numbers(train, folds, trial.seed) == i
        v = shrink * np.linalg.lstsq(x[~held], y[~held], rcond=None)[0]
        found.append(float(np.mean((x[held] @ v - y[held]) ** 2)))
    return found


def test_losses_are_those_of_cross_validation(trial: Trial, tmp_path: Path) -> None:
    found = tune(trial, Plan(BUDGETS, folds=4), tmp_path / "run")
    assert [p.nonzeros for p in found.curve] == list(BUDGETS)
    for p in found.curve:
        assert p.losses == pytest.approx(losses_by_numpy(trial, p.nonzeros, 4, 1.0), rel=1e-9)
    assert [p.nonzeros for p in found.curve if p.chosen] == [3]
    solution, request, result = RunFolder(tmp_path / "run").read()
    assert solution.network.nonzeros == 3
    assert request["tune"]["folds"] == 4
    assert [row["nonzeros"] for row in result["validation"]] == list(BUDGETS)
    train = trial.split().train
    features = np.maximum(np.asarray(train.x), 0)[:, :3]
    fitted = np.linalg.lstsq(features, np.asarray(train.y), rcond=None)[0]
    assert solution.predict(np.asarray(train.x)) == pytest.approx(features @ fitted), "the last fit has all rows"


def test_the_report_has_the_curve_and_can_be_written_anew(trial: Trial, tmp_path: Path) -> None:
    tune(trial, Plan(BUDGETS, folds=4, select="best"), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    page = folder.report.read_text()
    assert "How the budget was chosen" in page
    assert "mean of 4 folds" in page
    assert "The budget of the least mean is chosen" in page
    folder.report.unlink()
    rewrite_report(folder)
    assert "How the budget was chosen" in folder.report.read_text()


def test_a_search_finds_better_settings_and_repeats_itself(trial: Trial, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    start = replace(trial, settings={})
    plan = Plan((3,), folds=3, trials=12, search={"shrink": "0.2:1.5"}, pruner="none")
    one = tune(start, plan, tmp_path / "a").curve[0]
    assert one.loss < np.mean(losses_by_numpy(trial, 3, 3, 0.5)), "better than the default, 0.5"
    assert one.loss == pytest.approx(np.mean(losses_by_numpy(trial, 3, 3, one.settings["shrink"])))
    assert abs(one.settings["shrink"] - 1) < 0.2
    two = tune(start, plan, tmp_path / "b").curve[0]
    assert two == one
    other = tune(replace(start, seed=1), plan, tmp_path / "c").curve[0]
    assert other.settings != one.settings
    rows = Table(tmp_path / "a" / TABLE).rows()
    assert len(rows) == 12 * 3
    assert "settings" not in rows[0]["trial"], "the method's own settings come first"


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_poor_settings_are_stopped_early(trial: Trial, tmp_path: Path, pruner: str) -> None:
    pytest.importorskip("optuna")
    plan = Plan((3,), folds=5, trials=20, search={"shrink": "0.2:5"}, pruner=pruner)
    found = tune(trial, plan, tmp_path / "run").curve[0]
    rows = Table(tmp_path / "run" / TABLE).rows()
    assert len(rows) < 20 * 5
    assert len(found.losses) == 5, "what is chosen was judged on every fold"
    by_settings: dict[float, list[int]] = {}
    for row in rows:
        by_settings.setdefault(row["trial"].get("settings", {}).get("shrink", 0.5), []).append(
            row["trial"].get("fold", 0)
        )
    assert min(abs(s - 1) for s, folds in by_settings.items() if len(folds) == 5) < 0.3
    assert max(abs(s - 1) for s, folds in by_settings.items() if len(folds) < 5) > 1


def test_a_stopped_search_goes_on_and_runs_nothing_twice(trial: Trial, tmp_path: Path, ran: list[Any]) -> None:
    pytest.importorskip("optuna")
    plan = Plan((2, 3), folds=3, trials=6)
    whole = tune(trial, plan, tmp_path / "whole")
    count = len(ran)
    ran.clear()
    resume = False
    while True:
        before = len(ran)
        try:
            cut = tune(trial, plan, tmp_path / "cut", resume=resume, stop=lambda b=before: len(ran) > b + 4)
            break
        except Stopped:
            resume = True
    assert resume
    assert cut.curve == whole.curve
    assert len(ran) == count
    assert len(Table(tmp_path / "cut" / TABLE).rows()) == count
    left, right = (store.load(tmp_path / name / "model.safetensors").network for name in ("whole", "cut"))
    assert same_bits(left, right)


def test_workers_change_nothing(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    trial = Trial("digits", method="gmp", settings={"epochs": 1, "least": 5}, hidden=(8,))
    plan = Plan((30, 60), folds=3, trials=7)
    one = tune(trial, plan, tmp_path / "one", workers=1)
    two = tune(trial, plan, tmp_path / "two", workers=2)
    assert one.curve == two.curve
    assert one.evaluated.row()["score"] == two.evaluated.row()["score"]


def test_a_refused_budget_is_passed_over(trial: Trial, tmp_path: Path) -> None:
    found = tune(trial, Plan((3, 999), folds=3), tmp_path / "some")
    assert [p.chosen for p in found.curve] == [True, False]
    assert "does not fit" in found.curve[1].reason
    assert "does not fit" in (tmp_path / "some" / "report.html").read_text()
    with pytest.raises(Refusal, match="no budget could be cross-validated: .*does not fit"):
        tune(trial, Plan((999,), folds=3), tmp_path / "none")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(()), "at least one budget"),
        (Plan(BUDGETS, folds=1), "1 folds of 48 rows"),
        (Plan(BUDGETS, trials=0), "trials must be at least 1"),
        (Plan(BUDGETS, search={"shrink": ""}), "more than one trial"),
        (Plan(BUDGETS, trials=3, search={"shrnk": ""}), "did you mean 'shrink'"),
        (Plan(BUDGETS, trials=3, pruner="mean"), "did you mean 'median'"),
        (Plan(BUDGETS, select="bset"), "did you mean 'best'"),
    ],
)
def test_bad_plans_are_named_before_anything_is_spent(trial: Trial, tmp_path: Path, plan: Plan, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tune(trial, plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_optuna_budgets_are_compared_and_a_search_says_what_to_install(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune(trial, Plan(BUDGETS, folds=3), tmp_path / "plain").evaluated.solution.network.nonzeros == 3
    with pytest.raises(SettingError, match=r"pip install 'sparelu\[search\]'"):
        tune(trial, Plan(BUDGETS, folds=3, trials=4), tmp_path / "search")


def test_a_folder_of_another_plan_is_not_touched(trial: Trial, tmp_path: Path) -> None:
    tune(trial, Plan(BUDGETS, folds=3), tmp_path / "run")
    before = json.loads((tmp_path / "run" / "result.json").read_text())
    for resume in (False, True):
        with pytest.raises(FolderError, match="already holds a run|another tune"):
            tune(trial, Plan(BUDGETS, folds=4), tmp_path / "run", resume=resume)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == before
