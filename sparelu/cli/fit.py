"""The command ``fit``: one budget, or a path of budgets; a run folder comes out."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sparelu import catalogue
from sparelu.cli import flags
from sparelu.cli.declarations import declarations
from sparelu.cli.options import FOUR, FitOptions
from sparelu.cli.session import FAILED, Bar, advising, console, end_interrupted, errors, stoppable, together
from sparelu.columns.columns import describe_left_out
from sparelu.data import Split
from sparelu.experiments.evaluate import Measurement
from sparelu.experiments.formatting import size
from sparelu.experiments.options import BudgetChoice, TrialOptions
from sparelu.experiments.trials import budget_path
from sparelu.experiments.trials.one_standard_error import choose_budget
from sparelu.experiments.trials.run_folder import DATA, RunFolder, key
from sparelu.experiments.trials.trial import Evaluated, Trial, pick_device, score_name
from sparelu.experiments.write_run import write_run
from sparelu.json_form import dumps
from sparelu.method import Refusal
from sparelu.outcome import Iterate, Status
from sparelu.run import Checkpoint, Limits
from sparelu.runtime.distributed import Ranks

MAX_DENSE_WEIGHTS = 2_000_000
ONE_THREAD_WEIGHTS = 200_000
"""Below so many weights one thread is faster than several: the matrices of a minibatch are too small to share."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What is fitted and where it is written: the device, the method and ``why`` it was taken are decided.

    A path that was asked for ``compares`` with a dense network.
    """

    trial: Trial
    why: str
    split: Split
    choice: BudgetChoice
    options: FitOptions
    compares: bool
    folder: RunFolder
    request: Mapping[str, Any]


def fit_command(asked: TrialOptions, extra: Sequence[str], choice: BudgetChoice, options: FitOptions) -> None:
    """Run ``fit`` and print what came of it; the first rank writes the folder."""
    gc.freeze()  # every fit collects garbage, and need not look at the modules for it
    device = pick_device(asked.device)
    with together(device, options.rank_timeout) as ranks:
        _fit(Trial.of(vars(replace(asked, device=device))), extra, choice, options, ranks)


def _fit(trial: Trial, extra: Sequence[str], choice: BudgetChoice, options: FitOptions, ranks: Ranks) -> None:
    split = trial.split().share(ranks)
    if split.train.columns is not None and (left := describe_left_out(split.train.columns)):
        errors.print(f"not read: {escape(left)}", highlight=False)
    name, why = trial.choose_method(split.train)
    if trial.method == "auto":
        trial = replace(trial, settings=flags.method_settings(extra, flags.named_method(name)))
    compares = options.path
    if not options.path and _wants_budget(trial, name, split):
        options = replace(options, path=True)
        choice = choice if choice.budgets else replace(choice, budgets=budget_path.small_budgets(trial, split))
        errors.print(
            f"no budget was given: one of {', '.join(map(str, choice.budgets))} weights is chosen by cross-validation",
            highlight=False,
        )
    _check_ranks(options, name, ranks)
    asked = {
        "budgets": ",".join(map(str, choice.budgets)) or "default",
        "folds": choice.folds,
        "select": choice.select,
    }
    request = {**trial.request(), **(asked if options.path else {})}
    weights = trial.budget().weights(split.train.inputs, split.train.outputs, split.train.image)
    if weights < ONE_THREAD_WEIGHTS and not trial.channels:
        torch.set_num_threads(1)
    default = Path("runs") / f"{Path(trial.data).stem}-{trial.method}-{key(request)}"
    folder = RunFolder(options.out or default)
    job = _Job(replace(trial, method=name), why, split, choice, options, compares, folder, request)
    held = {**request, DATA: split.digest}  # asked of all ranks
    with folder.opened(held, options.resume) if ranks.first else nullcontext(), advising(_how_to_go_on(folder)):
        fitted, rows = (_fit_path if options.path else _fit_once)(job)
    if options.json and ranks.first:
        print(dumps({"folder": str(folder.path), "rows": rows}, indent=1))
    elif ranks.first:
        _print_run(job, fitted, rows)
    if fitted.solution.status is Status.diverged:
        raise SystemExit(FAILED)


def _wants_budget(trial: Trial, name: str, split: Split) -> bool:
    """Say whether a method that was given no budget would fit with one."""
    if any(getattr(trial, way) is not None for way in FOUR):
        return False
    budget, method = trial.budget(), catalogue.fitter(name, **trial.settings)
    given = replace(budget, nonzeros=max(3, split.train.outputs))
    return method.refuses(split.train, budget) is not None and method.refuses(split.train, given) is None


def _check_ranks(options: FitOptions, method: str, ranks: Ranks) -> None:
    """Raise :class:`Refusal` for what cannot be done over several ranks."""
    if ranks.size > 1 and options.path:
        raise Refusal("--path fits many networks: start it without torchrun, or fit each budget over ranks")
    able = [name for name, m in declarations().methods.items() if m.facts.get("sums_over_rows")]
    if ranks.size > 1 and method not in able:
        raise Refusal(
            f"{method} needs all rows in one process: start it without torchrun, or choose a method that fits over "
            f"ranks: {', '.join(able)}"
        )


def _fit_once(job: _Job) -> tuple[Evaluated, list[dict[str, Any]]]:
    """Fit the one budget that was asked, and write the run."""
    options = job.options
    with ExitStack() as stack:
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar())
        fitted = job.trial.run(
            job.split,
            checkpoint=Checkpoint(job.folder.checkpoint, options.save_every),
            resume=options.resume,
            stop=stop,
            limits=None if options.seconds is None else Limits(seconds=options.seconds),
            watch=lambda it: bar.update(it.progress, f"loss {it.loss:.4g}"),
        )
    if fitted.solution.status is Status.interrupted:
        end_interrupted(_how_to_go_on(job.folder))
    fitted = replace(fitted, why=job.why)
    rows = [{**fitted.row(), "chosen": True}]
    if job.split.train.ranks.first:
        write_run(job.folder, fitted, rows, job.split, job.request)
    return fitted, rows


def _fit_path(job: _Job) -> tuple[Evaluated, list[dict[str, Any]]]:
    """Fit every budget, on all rows and without each fold, choose one of them, and write its run."""
    choice, split = job.choice, job.split
    budgets = sorted(set(choice.budgets)) or budget_path.default_budgets(job.trial, split)
    path = budget_path.BudgetPath(replace(job.trial, density=None), split, job.folder.path / "path")
    steps: list[budget_path.PathStep] = []
    with ExitStack() as stack:
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar(total=(1 + choice.folds) * len(budgets) + job.compares))
        steps.extend(path.steps(budgets, choice.folds, _path_watch(bar), stop))
        dense = _fit_dense(job, stop) if job.compares and len(steps) == len(budgets) else None
    if len(steps) < len(budgets) or (dense is not None and dense.solution.status is Status.interrupted):
        end_interrupted(_how_to_go_on(job.folder))
    curve = choose_budget([step.validated for step in steps], choice.select)
    taken = next(p.nonzeros for p in curve if p.chosen)
    best = next(step for step in steps if step.validated.nonzeros == taken)
    rows = [{**step.evaluated.row(), "validation": step.validated.loss, "chosen": step is best} for step in steps]
    if dense is not None:
        rows.append({**dense.row(), "label": "dense", "chosen": False})
    notes = {"validation": [p.row() for p in curve], "folds": choice.folds, "select": choice.select}
    fitted = replace(best.evaluated, why=job.why)
    write_run(job.folder, fitted, rows, split, job.request, notes)
    _dense_checkpoint(job).path.unlink(missing_ok=True)
    return fitted, rows


def _path_watch(bar: Bar) -> Callable[[int, Iterate], None]:
    place = {"at": 0, "last": 0.0}

    def watch(nonzeros: int, iterate: Iterate) -> None:
        if iterate.progress < place["last"]:
            place["at"] += 1
        place["last"] = iterate.progress
        bar.update(place["at"] + iterate.progress, f"{nonzeros} nonzeros")

    return watch


def _fit_dense(job: _Job, stop: Callable[[], bool]) -> Evaluated | None:
    """Train the same network with every weight, to compare with; not very wide ones."""
    train, name = job.split.train, "static" if job.trial.channels else "magnitude"
    full = replace(job.trial, method=name, settings={}, nonzeros=None, density=1.0)
    if full.budget().weights(train.inputs, train.outputs, train.image) > MAX_DENSE_WEIGHTS:
        return None
    return full.run(job.split, checkpoint=_dense_checkpoint(job), resume=True, stop=stop)


def _dense_checkpoint(job: _Job) -> Checkpoint:
    return Checkpoint(job.folder.path / "path" / "dense.checkpoint", strict=False)


def _how_to_go_on(folder: RunFolder) -> str:
    return f"{folder.path} keeps the state: repeat the same command with --resume"


def _print_run(job: _Job, fitted: Evaluated, rows: list[dict[str, Any]]) -> None:
    """Print what was fitted, how it ended, and what can be done with it."""
    solution = fitted.solution
    console.print(_rows_table(job.split, rows))
    if solution.task == "classification":
        console.print(_beside_accuracy(fitted.test, job.split.scored), highlight=False)
    if job.why:
        console.print(f"auto chose {solution.method}: {job.why}", highlight=False)
    if solution.status not in (Status.converged, Status.max_steps) or not solution.within_budget:
        words = Text.assemble((solution.status.name, "yellow"), ": ", solution.status.value)
        console.print(words, highlight=False, soft_wrap=True)
    folder = job.folder
    console.print(
        f"\nWritten to {folder.path}. Next:\n  open {folder.report}\n  sparelu show {folder.path}\n"
        f"  sparelu predict {folder.path} DATA",
        highlight=False,
        soft_wrap=True,
    )


def _beside_accuracy(measured: Measurement, scored: str) -> str:
    """Say what an accuracy is to be held against."""
    area = "" if math.isnan(measured.auc) else f", area under the ROC curve {measured.auc:.4f}"
    return (
        f"{scored} rows of the most frequent class {measured.base_rate:.2%}; balanced accuracy "
        f"{measured.balanced_accuracy:.2%}{area}"
    )


def _rows_table(split: Split, rows: list[dict[str, Any]]) -> Table:
    name = score_name(split.train.task)
    kept = split.how if split.scored == "training" else f"{split.test.n} test rows ({split.how})"
    table = Table(title=f"{split.train.name}: {split.train.n} training rows, {kept}", title_justify="left")
    for heading in ("", "nonzeros", "biases", "stored", f"{split.scored} {name}", "time", "peak memory"):
        table.add_column(heading, justify="left" if not heading else "right")
    for r in rows:
        mark = r.get("label") or ("chosen" if r["chosen"] and len(rows) > 1 else r["method"])
        table.add_row(
            mark,
            f"{r['nonzeros']:,}",
            f"{r['biases']:,}",
            size(r["stored_bytes"]),
            _score(r["score"], name),
            f"{r['seconds']:.1f} s",
            size(r["peak_memory"]),
        )
    return table


def _score(value: float, name: str) -> str:
    return f"{100 * value:.2f}%" if name == "accuracy" else f"{value:.4f}"
