"""Many trials -> one table of rows, resumable, on one machine (joblib) or a Dask cluster.

A row is addressed by the content of its trial: canonical JSON of the fields that are not at their default,
hashed. Done and refused rows are not run again; failed rows are kept with their error and tried again the next
time. One process writes the table, a line for each row, so that killing the sweep loses at most the rows in flight.
"""

import functools
import json
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparelu import datasets
from sparelu.catalogue import METHODS
from sparelu.data import Split
from sparelu.experiments.folder import canonical_json, key
from sparelu.experiments.trial import Trial
from sparelu.method import Refusal, configured
from sparelu.outcome import Status
from sparelu.run import versions

Row = dict[str, Any]


def trial_key(trial: Trial) -> str:
    """The address of a trial: what is at its default does not count, so that a new option moves no result."""
    request = trial.request()
    request.pop("device", None)
    if trial.method in METHODS and trial.settings:
        request["settings"] = configured(METHODS[trial.method], dict(trial.settings)).changed()
    if trial.data in datasets.DATASETS and trial.parameters:
        default = {p.name: p.default for p in datasets.DATASETS[trial.data].parameters}
        request["parameters"] = {
            k: v for k, v in trial.parameters.items() if canonical_json(v) != canonical_json(default.get(k, object()))
        }
    return key({k: v for k, v in request.items() if v != {}}, 16)


@dataclass(frozen=True)
class Table:
    """Rows in the file ``path``, one JSON object a line; the last line for a key counts, a torn line is passed over."""

    path: Path

    def rows(self) -> list[Row]:
        """All rows, the newest of each key, in the order of first appearance."""
        found: dict[str, Row] = {}
        if self.path.is_file():
            for line in self.path.read_bytes().split(b"\n"):
                try:
                    row = json.loads(line)
                    found[row["key"]] = row
                except (ValueError, KeyError, TypeError):
                    continue
        return list(found.values())

    def append(self, row: Row) -> None:
        """Add a row and flush it to disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if file.tell() and not self._ends_in_newline():
                file.write(b"\n")
            file.write((json.dumps(row, default=str) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_in_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def sweep(
    trials: Sequence[Trial],
    path: str | Path,
    *,
    engine: Callable[[Sequence[Trial]], Iterable[Row]] | None = None,
    watch: Callable[[Row, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Run the trials that ``path`` has no result of; all rows of the trials, in their order.

    ``engine`` maps trials to rows in any order (default: this process, one after another); see
    :func:`joblib_engine` and :func:`dask_engine`. ``watch`` sees each new row, the number done and the number wanted.
    """
    table = Table(Path(path))
    wanted = {trial_key(t): t for t in trials}
    done = {row["key"]: row for row in table.rows() if row["status"] != "failed"}
    left = [t for k, t in wanted.items() if k not in done]
    count = len(wanted) - len(left)
    for row in (engine or _here)(left):
        table.append(row)
        count += 1
        if watch is not None:
            watch(row, count, len(wanted))
        if stop():
            break
    now = {row["key"]: row for row in table.rows()}
    return [now[k] for k in wanted if k in now]


def run_row(trial: Trial, threads: int | None = None) -> Row:
    """Run one trial; the row of its result, its refusal or its failure, with the circumstances."""
    if threads is not None:
        torch.set_num_threads(threads)
    row: Row = {"key": trial_key(trial), "trial": trial.request(), **circumstances(trial)}
    start = time.perf_counter()
    try:
        judged = trial.run(_split(_data_key(trial)))
        row |= judged.result() | {"psnr": judged.test.psnr}
    except Refusal as refusal:
        row |= {"status": Status.refused.name, "error": str(refusal)}
    except Exception as error:  # whatever went wrong in one trial is that row's result, not the sweep's end
        row |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return row | {"row_seconds": time.perf_counter() - start}


def circumstances(trial: Trial) -> Row:
    """What a result may depend on beside its trial."""
    return {
        "versions": versions(),
        "seeds": {"data": trial.parameters.get("seed", trial.seed), "split": trial.seed, "fit": trial.seed},
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "host": socket.gethostname(),
        "device": trial.device,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


@functools.cache
def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _data_key(trial: Trial) -> str:
    fields = ("data", "parameters", "target", "task", "seed", "test_fraction", "device")
    return canonical_json({name: getattr(trial, name) for name in fields})


@functools.lru_cache(maxsize=2)
def _split(data_key: str) -> Split:
    """The split of a trial's data, kept for the next trials on the same data."""
    given: Mapping[str, Any] = json.loads(data_key)
    return Trial.of(given).split()


def _here(trials: Sequence[Trial]) -> Iterator[Row]:
    yield from map(run_row, trials)


def joblib_engine(workers: int, threads: int = 1) -> Callable[[Sequence[Trial]], Iterator[Row]]:
    """Rows from ``workers`` processes of ``threads`` threads each on this machine."""

    def run(trials: Sequence[Trial]) -> Iterator[Row]:
        import joblib

        work = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
        yield from work(joblib.delayed(run_row)(t, threads) for t in trials)

    return run


def dask_engine(scheduler: str, threads: int = 1, timeout: float = 10.0) -> Callable[[Sequence[Trial]], Iterator[Row]]:
    """Rows from the workers of a Dask cluster; a row whose worker dies is run again on another.

    Raises ``ValueError`` when the extra is not installed or the scheduler does not answer.
    """

    def run(trials: Sequence[Trial]) -> Iterator[Row]:
        try:
            from distributed import Client, as_completed
        except ImportError:
            raise ValueError("the dask engine is an extra: pip install 'sparelu[cluster]'") from None
        try:
            client = Client(scheduler, timeout=timeout, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ValueError(
                f"no Dask scheduler answers at {scheduler}: {error}. Start one with: dask scheduler"
            ) from None
        with client:
            tasks = [
                client.submit(run_row, t, threads, key=f"{trial_key(t)}-{time.time_ns()}", retries=2) for t in trials
            ]
            for task in as_completed(tasks, loop=client.loop):
                yield task.result()

    return run
