"""The command ``tune``: budget and settings by cross-validation; a run folder comes out."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu.cli import flags
from sparelu.cli.session import INTERRUPTED, Bar, console, errors, size, stoppable
from sparelu.data import Split
from sparelu.experiments.formatting import score, settings
from sparelu.experiments.trials.budget_path import default_budgets
from sparelu.experiments.trials.one_standard_error import loss_name
from sparelu.experiments.trials.run_folder import key
from sparelu.experiments.trials.trial import Trial, pick_device, score_name
from sparelu.experiments.tune import Plan, Stopped, Tuned, tune
from sparelu.method import SettingError


@dataclass(frozen=True)
class Search:
    """The flags of ``tune`` that are about the search, as they were given."""

    budgets: str | None
    folds: int
    trials: int
    search: tuple[str, ...]
    select: str
    pruner: str

    def plan(self, trial: Trial, split: Split) -> Plan:
        """The plan; default budgets fit the number of weights."""
        named = None if self.budgets is None else flags.whole_numbers(self.budgets, "--budgets")
        budgets = tuple(default_budgets(trial, split)) if named is None else named
        return Plan(budgets, self.folds, self.trials, ranges(self.search), self.select, self.pruner)


@dataclass(frozen=True)
class Given:
    """The other flags of ``tune``."""

    data: str
    target: str | None
    task: str | None
    method: str
    hidden: str
    channels: str | None
    seed: int
    test_fraction: float
    standardise: bool | None
    device: str
    extra: tuple[str, ...]

    def trial(self) -> Trial:
        """The trial whose budget and settings are to be chosen, with the settings that are fixed."""
        source, parameters = flags.data_source(self.data)
        if self.method == "auto" and self.extra:
            raise SettingError(f"{self.extra[0]}: name the method with --method to give its settings")
        fixed = {} if self.method == "auto" else flags.method_settings(self.extra, flags.named_method(self.method))
        return Trial(
            source,
            parameters,
            self.target,
            self.task,
            self.method,
            fixed,
            flags.whole_numbers(self.hidden, "--hidden"),
            seed=self.seed,
            test_fraction=self.test_fraction,
            standardise=self.standardise,
            device=pick_device(self.device),
            channels=flags.channels(self.channels),
        )


def ranges(given: tuple[str, ...]) -> dict[str, str]:
    """``NAME=RANGE`` (or ``NAME`` alone, for the range that follows from its default) by name."""
    found = {}
    for text in given:
        name, _, values = text.partition("=")
        found[name.strip().removeprefix("--").replace("-", "_")] = values.strip()
    return found


def tune_command(given: Given, search: Search, out: Path | None, resume: bool, workers: int, as_json: bool) -> None:
    """Choose, fit, write the run folder, and print the curve."""
    if workers < 1:
        raise SettingError(f"--workers must be at least 1, got {workers}")
    trial = given.trial()
    split = trial.split()
    plan = search.plan(trial, split)
    named = key({**trial.request(), "tune": plan.request()})
    folder = out or Path("runs") / f"{Path(trial.data).stem}-{trial.method}-tune-{named}"
    with ExitStack() as stack:
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar(total=plan.folds * plan.trials * len(set(plan.budgets))))
        done: list[str] = []

        def watch(row: dict[str, Any]) -> None:
            done.append(row["key"])
            bar.update(len(done), f"{row['trial'].get('nonzeros')} nonzeros")

        try:
            tuned = tune(trial, plan, folder, resume=resume, workers=workers, split=split, watch=watch, stop=stop)
        except Stopped:
            words = f"interrupted; {folder} keeps the finished fits: repeat the same command with --resume"
            errors.print(words, highlight=False)
            raise SystemExit(INTERRUPTED) from None
    if as_json:
        rows = [p.row() for p in tuned.curve]
        print(json.dumps({"folder": str(folder), "validation": rows, "row": tuned.judged.row()}, indent=1))
    else:
        _say(tuned, plan, split)


def _say(tuned: Tuned, plan: Plan, split: Split) -> None:
    name = loss_name(split.train.task)
    title = f"{split.train.name}: {plan.folds} folds of {split.train.n} training rows"
    table = Table(title=title, title_justify="left")
    for heading in ("", "nonzeros", name, "standard error", "settings"):
        table.add_column(heading, justify="left" if heading in ("", "settings") else "right")
    for p in tuned.curve:
        numbers = (score(p.loss, name), score(p.error, name)) if p.losses else ("-", "-")
        words = p.reason or settings(p.settings) or "as given"
        table.add_row("chosen" if p.chosen else "", f"{p.nonzeros:,}", *numbers, words)
    console.print(table)
    row, score_of = tuned.judged.row(), score_name(split.train.task)
    console.print(
        f"Fitted on all {split.train.n:,} training rows: {row['nonzeros']:,} nonzeros, {size(row['stored_bytes'])} "
        f"stored, test {score_of} {score(row['score'], score_of)} on {split.test.n:,} rows ({split.how}).",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"\nWritten to {tuned.folder}. Next:\n  open {tuned.folder / 'report.html'}\n  sparelu show {tuned.folder}",
        highlight=False,
        soft_wrap=True,
    )
