"""The command ``tune``: budget and settings by cross-validation; a run folder comes out."""

import gc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu.cli.options import TuneOptions
from sparelu.cli.session import FAILED, Bar, advising, console, end_interrupted, errors, stoppable
from sparelu.data import Split
from sparelu.experiments.formatting import score, settings, size
from sparelu.experiments.options import Plan, TrialOptions
from sparelu.experiments.trials.budget_path import default_budgets
from sparelu.experiments.trials.one_standard_error import loss_name
from sparelu.experiments.trials.run_folder import key
from sparelu.experiments.trials.trial import Trial, pick_device, score_name
from sparelu.experiments.tune import Stopped, Tuned, tune
from sparelu.json_form import dumps
from sparelu.outcome import Status


def tune_command(asked: TrialOptions, plan: Plan, options: TuneOptions) -> None:
    """Choose, fit, write the run folder, and print the curve."""
    gc.freeze()  # every fit collects garbage, and need not look at the modules for it
    trial = Trial.of(vars(replace(asked, device=pick_device(asked.device))))
    split = trial.split()
    plan = plan if plan.budgets else replace(plan, budgets=tuple(default_budgets(trial, split)))
    named = key({**trial.request(), "tune": plan.request()})
    folder = options.out or Path("runs") / f"{Path(trial.data).stem}-{trial.method}-tune-{named}"
    tuned = _tune(trial, plan, folder, options, split)
    status = tuned.evaluated.solution.status
    if options.json:
        rows = [p.row() for p in tuned.curve]
        print(dumps({"folder": str(folder), "validation": rows, "row": tuned.evaluated.row()}, indent=1))
    else:
        _print_choice(tuned, plan, split)
    if status is Status.diverged:
        if not options.json:
            errors.print(f"{status.name}: {status.value}", highlight=False, soft_wrap=True)
        raise SystemExit(FAILED)


def _tune(trial: Trial, plan: Plan, folder: Path, options: TuneOptions, split: Split) -> Tuned:
    """Search with a bar of progress; leave when it is interrupted."""
    done: list[str] = []

    def watch(row: dict[str, Any]) -> None:
        done.append(row["key"])
        bar.update(len(done), f"{row['trial'].get('nonzeros')} nonzeros")

    advice = f"{folder} keeps the finished fits: repeat the same command with --resume"
    with ExitStack() as stack:
        stack.enter_context(advising(advice))
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar(total=plan.folds * plan.trials * len(set(plan.budgets))))
        try:
            return tune(
                trial,
                plan,
                folder,
                resume=options.resume,
                workers=options.workers,
                split=split,
                watch=watch,
                stop=stop,
            )
        except Stopped:
            end_interrupted(advice)


def _print_choice(tuned: Tuned, plan: Plan, split: Split) -> None:
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
    row, score_of = tuned.evaluated.row(), score_name(split.train.task)
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
