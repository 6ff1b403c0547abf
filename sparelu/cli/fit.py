"""The command ``fit``: one budget, or a path of budgets; a run folder comes out."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from sparelu.catalogue import METHODS
from sparelu.catalogue import choose as choose_method
from sparelu.cli import flags
from sparelu.cli.session import INTERRUPTED, Bar, console, errors, size, stoppable, together
from sparelu.data import Split
from sparelu.experiments.trials import budget_path
from sparelu.experiments.trials.one_standard_error import checked_select, choose
from sparelu.experiments.trials.run_folder import RunFolder, key
from sparelu.experiments.trials.trial import Judged, Trial, pick_device, score_name
from sparelu.experiments.write_run import finish
from sparelu.method import Fitter, Refusal
from sparelu.outcome import Iterate, Status
from sparelu.run import Checkpoint, Limits
from sparelu.runtime.distributed import Ranks

MAX_DENSE_WEIGHTS = 2_000_000
ONE_THREAD_WEIGHTS = 200_000
"""Below so many weights one thread is faster than several: the matrices of a minibatch are too small to share."""


@dataclass(frozen=True)
class Wishes:
    """The flags of ``fit`` as they were given."""

    data: str
    target: str | None
    task: str | None
    method: str
    hidden: str
    nonzeros: int | None
    density: float | None
    sparsity: float | None
    compression: float | None
    seed: int
    test_fraction: float
    standardise: bool | None
    device: str
    seconds: float | None
    save_every: float
    extra: tuple[str, ...]
    out: Path | None
    resume: bool
    path: bool
    budgets: str | None
    folds: int
    select: str
    channels: str | None = None

    def trial(self) -> Trial:
        """The trial without the settings of its method, which is known once the data are."""
        source, parameters = flags.data_source(self.data)
        trial = Trial(
            source,
            parameters,
            self.target,
            self.task,
            self.method,
            {},
            flags.whole_numbers(self.hidden, "--hidden"),
            self.nonzeros,
            self.density,
            self.sparsity,
            self.compression,
            self.seed,
            self.test_fraction,
            self.standardise,
            pick_device(self.device),
            channels=flags.channels(self.channels),
        )
        trial.budget()
        if self.method != "auto":
            return replace(trial, settings=flags.method_settings(self.extra, flags.named_method(self.method)))
        return trial


def fit_command(wishes: Wishes, as_json: bool, rank_timeout: float) -> None:
    """Run ``fit`` and print what came of it; the first rank writes the folder."""
    with together(pick_device(wishes.device), rank_timeout) as ranks:
        _fit(wishes, as_json, ranks)


def _fit(wishes: Wishes, as_json: bool, ranks: Ranks) -> None:
    trial = wishes.trial()
    split = trial.split().share(ranks)
    name = choose_method(split.train, trial.budget())[0] if wishes.method == "auto" else wishes.method
    _refuse(wishes, name, ranks)
    if wishes.method == "auto":
        trial = replace(trial, settings=flags.method_settings(wishes.extra, flags.named_method(name)))
    asked = {"budgets": wishes.budgets or "default", "folds": wishes.folds, "select": checked_select(wishes.select)}
    request = {**trial.request(), **(asked if wishes.path else {})}
    weights = trial.budget().weights(split.train.inputs, split.train.outputs, split.train.image)
    if weights < ONE_THREAD_WEIGHTS and not trial.channels:
        torch.set_num_threads(1)
    default = Path("runs") / f"{Path(trial.data).stem}-{trial.method}-{key(request)}"
    folder = RunFolder(wishes.out or default)
    with folder.opened(request, wishes.resume) if ranks.first else nullcontext():
        work = _path if wishes.path else _single
        rows = work(trial, split, folder, wishes)
    if as_json and ranks.first:
        print(json.dumps({"folder": str(folder.path), "rows": rows}, indent=1))
    elif ranks.first:
        _say(trial, split, folder, rows)


def _refuse(wishes: Wishes, method: str, ranks: Ranks) -> None:
    """Raise :class:`Refusal` for what cannot be done over several ranks."""
    if ranks.size > 1 and wishes.path:
        raise Refusal("--path fits many networks: start it without torchrun, or fit each budget over ranks")
    able = [name for name, kind in METHODS.items() if issubclass(kind, Fitter) and kind.sums_over_rows]
    if ranks.size > 1 and method not in able:
        raise Refusal(
            f"{method} needs all rows in one process: start it without torchrun, or choose a method that fits over "
            f"ranks: {', '.join(able)}"
        )


def _single(trial: Trial, split: Split, folder: RunFolder, wishes: Wishes) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar())
        judged = trial.run(
            split,
            checkpoint=Checkpoint(folder.checkpoint, wishes.save_every),
            resume=wishes.resume,
            stop=stop,
            limits=None if wishes.seconds is None else Limits(seconds=wishes.seconds),
            watch=lambda it: bar.update(it.progress, f"loss {it.loss:.4g}"),
        )
    if judged.solution.status is Status.interrupted:
        _interrupted(folder)
    rows = [{**judged.row(), "chosen": True}]
    if split.train.ranks.first:
        finish(folder, judged, rows, split)
    return rows


def _path(trial: Trial, split: Split, folder: RunFolder, wishes: Wishes) -> list[dict[str, Any]]:
    asked = _budgets(trial, split, wishes)
    path = budget_path.BudgetPath(replace(trial, density=None), split, folder.path / "path")
    steps: list[budget_path.Step] = []
    with ExitStack() as stack:
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar(total=(1 + wishes.folds) * len(asked) + 1))
        watch = _path_watch(bar, asked)
        steps.extend(path.steps(asked, wishes.folds, watch, stop))
        dense = None if len(steps) < len(asked) else _dense(trial, split, folder, stop)
    if len(steps) < len(asked) or (dense is not None and dense.solution.status is Status.interrupted):
        _interrupted(folder)
    curve = choose([step.validated for step in steps], wishes.select)
    taken = next(p.nonzeros for p in curve if p.chosen)
    best = next(step for step in steps if step.validated.nonzeros == taken)
    rows = [{**step.judged.row(), "validation": step.validated.loss, "chosen": step is best} for step in steps]
    if dense is not None:
        rows.append({**dense.row(), "label": "dense", "chosen": False})
    notes = {"validation": [p.row() for p in curve], "folds": wishes.folds, "select": wishes.select}
    finish(folder, best.judged, rows, split, notes)
    return rows


def _path_watch(bar: Bar, asked: Sequence[int]) -> Callable[[int, Iterate], None]:
    place = {"at": 0, "last": 0.0}

    def watch(s: int, iterate: Iterate) -> None:
        if iterate.progress < place["last"]:
            place["at"] += 1
        place["last"] = iterate.progress
        bar.update(place["at"] + iterate.progress, f"{s} nonzeros")

    return watch


def _budgets(trial: Trial, split: Split, wishes: Wishes) -> Sequence[int]:
    if wishes.budgets is not None:
        return sorted(set(flags.whole_numbers(wishes.budgets, "--budgets")))
    return budget_path.default_budgets(trial, split)


def _dense(trial: Trial, split: Split, folder: RunFolder, stop: Callable[[], bool]) -> Judged | None:
    """The same network with every weight, trained without pruning, to compare with; not for very wide ones."""
    name = "static" if trial.channels else "magnitude"
    full = replace(trial, method=name, settings={}, nonzeros=None, density=1.0)
    if full.budget().weights(split.train.inputs, split.train.outputs, split.train.image) > MAX_DENSE_WEIGHTS:
        return None
    return full.run(split, checkpoint=Checkpoint(folder.path / "path" / "dense.checkpoint"), resume=True, stop=stop)


def _interrupted(folder: RunFolder) -> None:
    errors.print(f"interrupted; {folder.path} keeps the state: repeat the same command with --resume", highlight=False)
    raise SystemExit(INTERRUPTED)


def _say(trial: Trial, split: Split, folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    name = score_name(split.train.task)
    table = Table(
        title=f"{split.train.name}: {split.train.n} training rows, {_kept(split)}",
        title_justify="left",
    )
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
    console.print(table)
    solution, _, result = folder.read()
    if result["why"]:
        console.print(f"auto chose {solution.method}: {result['why']}", highlight=False)
    if solution.status not in (Status.converged, Status.max_steps) or not solution.within_budget:
        console.print(f"[yellow]{solution.status.name}[/]: {solution.status.value}", highlight=False)
    console.print(
        f"\nWritten to {folder.path}. Next:\n  open {folder.report}\n  sparelu show {folder.path}\n"
        f"  sparelu predict {folder.path} DATA",
        highlight=False,
        soft_wrap=True,
    )


def _kept(split: Split) -> str:
    return split.how if split.scored == "training" else f"{split.test.n} test rows ({split.how})"


def _score(value: float, name: str) -> str:
    return f"{100 * value:.2f}%" if name == "accuracy" else f"{value:.4f}"
