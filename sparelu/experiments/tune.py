"""The budget and the settings of a method by k-fold cross-validation, then a fit on all training rows.

Every fit is a trial of a sweep (budget, settings, fold) and a row of its table, so a search that was killed goes on:
the search is replayed from its seed, and rows that are in the table are not run again.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sparelu import catalogue
from sparelu.data import Split
from sparelu.experiments.options import Plan, check_select
from sparelu.experiments.sweeps.optuna_search import Study, checked_pruner
from sparelu.experiments.sweeps.search_space import search_space
from sparelu.experiments.sweeps.sweep import Row, Table, run_row, sweep
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.folds import fold_numbers
from sparelu.experiments.trials.one_standard_error import Validated, best, choose_budget, read_loss
from sparelu.experiments.trials.run_folder import DATA, RunFolder
from sparelu.experiments.trials.task import Task
from sparelu.experiments.trials.trial import Evaluated, Trial
from sparelu.experiments.write_run import write_run
from sparelu.method import Refusal, SettingError, configured
from sparelu.outcome import Iterate, Status
from sparelu.run import Checkpoint

TABLE = "trials.jsonl"


@dataclass(frozen=True, eq=False)
class Tuned:
    """The fit on all training rows, and the cross-validation that chose its budget and settings."""

    evaluated: Evaluated
    curve: tuple[Validated, ...]
    folder: Path


class Stopped(Exception):
    """``stop`` was asked for; the table holds what was done."""


def tune(
    trial: Trial,
    plan: Plan,
    out: str | Path,
    *,
    resume: bool = False,
    workers: int = 1,
    split: Split | None = None,
    watch: Callable[[Row], None] | None = None,
    see: Callable[[Iterate], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Tuned:
    """Cross-validate ``trial`` as ``plan`` says, fit all training rows at the choice, and write the run folder ``out``.

    Folds are cut from the training rows and fixed by the seed; test rows play no part in the choice. The number of
    ``workers`` changes the time and not the result. ``split`` are the rows of ``trial`` where they are loaded already.
    ``watch`` sees every row of the table that is new, ``see`` every iterate of the last fit.

    Raises :class:`Stopped`, :class:`~sparelu.method.Refusal` when the method refuses every budget, ``ValueError`` when
    no fit came to a result, and :class:`~sparelu.experiments.trials.run_folder.FolderError` as a run folder does.
    """
    folder, rows = RunFolder(Path(out)), split or trial.split()
    name, why = trial.choose_method(rows.train)
    named = replace(trial, method=name, nonzeros=None)
    _check(plan, named, rows)
    request = {**trial.request(), "tune": plan.request()}
    with folder.opened({**request, DATA: rows.digest}, resume):
        losses = _FoldLosses(folder.path / TABLE, workers, watch, stop)
        try:
            curve = choose_budget(_curve(named, plan, losses), plan.select)
        except Refusal:
            _forget_failures(losses.table)
            raise
        taken = next(p for p in curve if p.chosen)
        final = replace(named, nonzeros=taken.nonzeros, settings=taken.settings)
        fitted = final.run(rows, checkpoint=Checkpoint(folder.checkpoint), resume=resume, watch=see, stop=stop)
        fitted = replace(fitted, why=why)
        if fitted.solution.status is Status.interrupted:
            raise Stopped
        notes = {"validation": [p.row() for p in curve], "folds": plan.folds, "select": plan.select}
        write_run(folder, fitted, [{**fitted.row(), "chosen": True}], rows, request, notes)
    return Tuned(fitted, curve, folder.path)


def _forget_failures(table: Path) -> None:
    """Remove a table without one result: other budgets are then asked of the same folder as if nothing had been."""
    if all("error" in row for row in Table(table).rows()):
        table.unlink(missing_ok=True)


def _check(plan: Plan, trial: Trial, split: Split) -> None:
    """Refuse a wrong plan before anything is spent."""
    check_select(plan.select)
    fold_numbers(split.train, plan.folds, trial.seed)
    if not plan.budgets:
        raise SettingError("name at least one budget of nonzeros to choose from")
    if plan.trials < 1:
        raise SettingError(f"trials must be at least 1, got {plan.trials}")
    if plan.search and plan.trials == 1:
        raise SettingError("a search wants more than one trial for each budget: give --trials, such as --trials 20")
    if plan.trials > 1:
        search_space(catalogue.METHODS[trial.method], plan.search)
        checked_pruner(plan.pruner)


@dataclass(frozen=True)
class _FoldLosses:
    """Losses of trials on folds, from the table or from new fits."""

    table: Path
    workers: int
    watch: Callable[[Row], None] | None
    stop: Callable[[], bool]

    def rows(self, trials: Sequence[Trial]) -> list[Row]:
        """Return a row for each trial, in order. Raises :class:`Stopped`."""
        engine = joblib_engine(self.workers) if self.workers > 1 else _one_thread
        watch = None if self.watch is None else lambda row, *_: self.watch(row)  # type: ignore[misc]
        found = sweep(trials, self.table, engine=engine, watch=watch, stop=self.stop)
        if len(found) < len(trials) or self.stop():
            raise Stopped
        return found

    def of_folds(self, trial: Trial, folds: int) -> Iterator[float | str]:
        """Yield the loss on fold after fold; a refusal or a failure is its reason.

        Folds are fitted ``workers`` at a time: one that turns out not to be wanted cost time, and changes nothing.
        """
        for start in range(0, folds, self.workers):
            some = range(start, min(start + self.workers, folds))
            yield from map(_loss, self.rows([replace(trial, folds=folds, fold=i) for i in some]))


def _one_thread(trials: Sequence[Task]) -> Iterable[Row]:
    before = torch.get_num_threads()
    try:
        yield from map(functools.partial(run_row, threads=1), trials)
    finally:
        torch.set_num_threads(before)


def _loss(row: Row) -> float | str:
    if "error" in row:
        return str(row["error"])
    loss = read_loss(row["test"], "classification" if row["score_name"] == "accuracy" else "regression")
    return loss if math.isfinite(loss) else f"the loss on a held-out fold is {loss}"


def _curve(trial: Trial, plan: Plan, losses: _FoldLosses) -> list[Validated]:
    """Return one point for each budget, at the best of its settings. Raises when no budget has a loss."""
    budgets = sorted(set(plan.budgets))
    search = _compared if plan.trials == 1 else _searched
    curve = search(trial, budgets, plan, losses)
    if not any(p.losses for p in curve):
        raise Refusal(f"no budget could be cross-validated: {curve[0].reason}; name other budgets or another method")
    return curve


def _searched(trial: Trial, budgets: Sequence[int], plan: Plan, losses: _FoldLosses) -> list[Validated]:
    """Return the best settings of each budget; the trial's own come first, then the best of the budget before."""
    kind = catalogue.METHODS[trial.method]
    space = search_space(kind, plan.search)
    own = configured(kind, dict(trial.settings)).settings()
    curve: list[Validated] = []
    for nonzeros in budgets:
        here = replace(trial, nonzeros=nonzeros)
        first = [own, *({**own, **p.settings} for p in curve[-1:])]
        study = Study(space, plan.trials, plan.pruner, trial.seed, nonzeros, plan.folds)
        tried = [
            Validated(nonzeros, losses, _changed(trial, chosen), reason)
            for chosen, losses, reason in study.run(first, functools.partial(_on_folds, here, plan.folds, losses))
        ]
        whole = [p for p in tried if len(p.losses) == plan.folds]
        curve.append(best(whole) if whole else tried[0])
    return curve


def _on_folds(trial: Trial, folds: int, losses: _FoldLosses, chosen: dict[str, Any]) -> Iterator[float | str]:
    return losses.of_folds(replace(trial, settings=_changed(trial, chosen)), folds)


def _changed(trial: Trial, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trial's settings with the chosen ones, without those at their default."""
    changed: dict[str, Any] = configured(catalogue.METHODS[trial.method], {**trial.settings, **chosen}).changed()
    return changed


def _compared(trial: Trial, budgets: Sequence[int], plan: Plan, fold_losses: _FoldLosses) -> list[Validated]:
    """Return every budget at the trial's own settings, all folds of all budgets at once."""
    folds = plan.folds
    wanted = [replace(trial, nonzeros=b, folds=folds, fold=i) for b in budgets for i in range(folds)]
    found = list(map(_loss, fold_losses.rows(wanted)))
    parts = [found[at : at + folds] for at in range(0, len(found), folds)]
    curve = []
    for nonzeros, part in zip(budgets, parts, strict=True):
        reasons = [v for v in part if isinstance(v, str)]
        losses = () if reasons else tuple(v for v in part if isinstance(v, float))
        curve.append(Validated(nonzeros, losses, trial.settings, "".join(reasons[:1])))
    return curve
