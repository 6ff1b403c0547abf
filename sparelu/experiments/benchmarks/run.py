"""Running benchmarks: what is missing, in chunks, in this process or several; the command line of a file of them."""

import argparse
import functools
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sparelu.experiments.benchmarks.benchmark import Benchmark, flattened
from sparelu.experiments.sweeps.sweep import Table, in_process, sweep, trial_key
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.task import Row, Task

INTERRUPTED = 130


@functools.cache
def commit() -> str:
    """Return the commit of this code, ``+`` after it when tracked files differ from it; empty outside git."""
    asked = ["git", "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    except OSError:
        return ""
    return found.stdout.strip()


@dataclass(frozen=True)
class Deadline:
    """A question that turns true ``minutes`` after it was made."""

    minutes: float
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> bool:
        return time.monotonic() - self.began > 60 * self.minutes


def run(
    benchmark: Benchmark,
    folder: Path,
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
    rerun: bool = False,
) -> list[Row]:
    """Run those ``tasks`` that ``folder`` has no result of, a line printed for each; the rows of all of them.

    One worker is this process, with as many threads as it has; more are processes of one thread each. ``stop`` is asked
    after every row. The rows say at which commit they were measured.
    """
    engine = joblib_engine(workers) if workers > 1 else in_process

    def marked(left: Sequence[Task]) -> Iterator[Row]:
        for row in engine(left):
            yield {**row, "commit": commit()}

    def watch(row: Row, done: int, wanted: int) -> None:
        asked = row["trial"].get("settings", {}) if "study" in row["trial"] else row["trial"]
        error = f": {row['error']}" if "error" in row else ""
        took = f"{row['row_seconds']:.1f} s"
        print(f"{benchmark.name} {done}/{wanted} {json.dumps(asked)} {row['status']}{error}, {took}", flush=True)

    return sweep(tasks, benchmark.path(folder), engine=marked, watch=watch, stop=stop, rerun=rerun)


def missing(benchmark: Benchmark, folder: Path, tasks: Sequence[Task]) -> int:
    """Return how many of ``tasks`` have no result in ``folder``."""
    done = {row["key"] for row in Table(benchmark.path(folder)).rows() if row["status"] != "failed"}
    return len({trial_key(task) for task in tasks} - done)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command for benchmarks has."""
    parser.add_argument("--quick", action="store_true", help="the small grid, into a folder of its own")
    parser.add_argument("--rerun", action="store_true", help="measure again what is there")
    parser.add_argument("--limit-minutes", type=float, default=float("inf"), help="start no new row after that")
    parser.add_argument("--workers", type=int, default=1, help="processes (times are best taken with one)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, with one worker")
    parser.add_argument("--out", type=Path, help="folder of the rows (default: results/; quick: runs/benchmarks-quick)")


def folder_of(options: argparse.Namespace, benchmarks: Path) -> Path:
    """Return where the rows are kept; what is quick never comes among the full results."""
    if options.out is not None:
        return Path(options.out)
    return benchmarks.parent / "runs" / "benchmarks-quick" if options.quick else benchmarks / "results"


def run_all(
    benchmarks: Sequence[Benchmark],
    folder: Path,
    options: argparse.Namespace,
    chosen: Callable[[Task], bool] = lambda task: True,
) -> None:
    """Run what is missing of each, until the limit; at Ctrl-C the finished rows stay and the exit code is 130."""
    torch.set_num_threads(options.threads)
    stop = Deadline(options.limit_minutes)
    try:
        for benchmark in benchmarks:
            tasks = [task for task in (benchmark.quick if options.quick else benchmark.full) if chosen(task)]
            if not stop():
                run(benchmark, folder, tasks, workers=options.workers, stop=stop, rerun=options.rerun)
            if left := missing(benchmark, folder, tasks):
                print(f"{benchmark.name}: {left} of {len(tasks)} rows missing; the same command goes on", flush=True)
    except KeyboardInterrupt:
        print("interrupted; the finished rows are kept: repeat the same command to go on")
        raise SystemExit(INTERRUPTED) from None


def run_benchmarks(benchmarks: Sequence[Benchmark], about: str | None, file: str) -> None:
    """Serve the command line of the file of benchmarks ``file``: run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [b.name for b in benchmarks]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--where", nargs="+", default=[], metavar="SETTING=VALUE", help="only rows with these settings")
    parser.add_argument("--print", action="store_true", dest="only_print", help="run nothing")
    add_options(parser)
    options = parser.parse_args()
    for name in options.names:
        if name not in names:
            parser.error(f"there is no benchmark {name!r} here; there are {', '.join(names)}")
    folder = folder_of(options, Path(file).parent)
    asked = [b for b in benchmarks if not options.names or b.name in options.names]
    if not options.only_print:
        run_all(asked, folder, options, functools.partial(_agrees, options.where))
    print_tables(asked, folder)


def _agrees(where: Sequence[str], task: Task) -> bool:
    settings = flattened({"trial": task.request()})
    return all(str(settings.get(name)) == value for name, _, value in (given.partition("=") for given in where))


def print_tables(benchmarks: Sequence[Benchmark], folder: Path) -> None:
    """Print the tables of the rows in ``folder``."""
    for benchmark in benchmarks:
        rows = benchmark.results(Table(benchmark.path(folder)).rows())
        print(f"\n{benchmark.question}\n\n{benchmark.table(rows) if rows else 'nothing measured yet'}")
