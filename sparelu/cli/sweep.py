"""The command ``sweep``: a grid file in, a table of rows out."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.table import Table as Printed

from sparelu.cli.options import MANY
from sparelu.cli.session import Bar, advising, console, end_interrupted, errors, stoppable
from sparelu.experiments.sweeps.grid import read_grid
from sparelu.experiments.sweeps.sweep import Row, dask_engine, sweep
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.json_form import dumps
from sparelu.method import SettingError, nearest

SHOWN = 40


def sweep_command(
    grid: Path, out: Path | None, engine: str, workers: int, threads: int, scheduler: str | None, as_json: bool
) -> None:
    """Run the rows of ``grid`` that ``out`` does not hold yet."""
    for name, number in (("--workers", workers), ("--threads", threads)):
        if not 1 <= number <= MANY:
            raise SettingError(f"{name} must be from 1 to {MANY}, got {number}")
    trials = read_grid(grid)
    path = out or Path("runs") / f"{grid.stem}.jsonl"
    advice = f"{path} keeps the finished rows: repeat the same command to go on"
    with ExitStack() as stack:
        stack.enter_context(advising(advice))
        stop = stack.enter_context(stoppable())
        bar = stack.enter_context(Bar(total=len(trials)))
        rows = sweep(
            trials,
            path,
            engine=_engine(engine, workers, threads, scheduler),
            watch=lambda row, done, _: bar.update(done, _words(row)),
            stop=stop,
            tell=lambda words: errors.print(words, highlight=False, soft_wrap=True),
        )
        stopped = stop()
    if as_json:
        print(dumps(rows, indent=1, default=str))
    else:
        console.print(rows_table(rows, f"{path}: {len(rows)} of {len(trials)} rows"))
    if stopped:
        end_interrupted(advice)


def _engine(name: str, workers: int, threads: int, scheduler: str | None) -> Any:
    if name == "joblib":
        return joblib_engine(workers, threads)
    if name == "dask":
        if scheduler is None:
            raise SettingError("--engine dask wants --scheduler ADDRESS, such as tcp://127.0.0.1:8786")
        return dask_engine(scheduler, threads)
    raise SettingError(f"there is no engine {name!r}; {nearest(name, ('joblib', 'dask'))}")


def _words(row: Row) -> str:
    return f"{row.get('method', row['trial'].get('method', 'auto'))} {row['status']}"


def rows_table(rows: list[Row], title: str) -> Printed:
    """Return the first rows as they are read by people: what was asked, and what came of it."""
    table = Printed(title=title, title_justify="left")
    for heading in ("data", "method", "hidden", "budget", "seed", "nonzeros", "score", "seconds", "status"):
        table.add_column(heading, justify="left" if heading in ("data", "method", "status") else "right")
    for row in rows[:SHOWN]:
        t = row["trial"]
        given = (k for k in ("nonzeros", "density", "sparsity", "compression") if k in t)
        budget = next((f"{t[k]}" if k == "nonzeros" else f"{k} {t[k]}" for k in given), "-")
        score = f"{row['score']:.4f}" if "score" in row else "-"
        table.add_row(
            str(t.get("data", t.get("study", "-"))),
            row.get("method", t.get("method", "auto")),
            ",".join(map(str, t.get("hidden", [100]))),
            budget,
            str(t.get("seed", 0)),
            str(row.get("nonzeros", "-")),
            score,
            f"{row['seconds']:.2f}" if "seconds" in row else "-",
            row["status"] if "error" not in row else f"{row['status']}: {row['error'][:60]}",
        )
    if len(rows) > SHOWN:
        table.caption = f"{len(rows) - SHOWN} more rows in the file"
    return table
