"""Many tasks -> one table of rows, resumable, on one machine (joblib) or a Dask cluster.

A task is a trial of a grid, or the call of a measured function (benchmarks). A row is addressed by the content of its
task: canonical JSON of what is not at its default, hashed. Done and refused rows are not run again; failed rows are
kept with their error and tried again the next time. One process writes the table, a line for each row, so that killing
the sweep loses at most the rows in flight.
"""

import contextlib
import fcntl
import functools
import gc
import logging
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import torch

from sparelu.experiments.trials.request_form import MEASURED, ROW
from sparelu.experiments.trials.run_folder import DATA, key
from sparelu.experiments.trials.task import Row, Task
from sparelu.json_form import dumps, loads, with_nan
from sparelu.method import Refusal
from sparelu.outcome import Status
from sparelu.run import versions

BEGINNING = b'{"key": "'
"""What a row begins with, which is all that is left of one that was torn at once."""


def trial_key(trial: Task) -> str:
    """Return the address of a task, 16 hexadecimal digits."""
    return key(trial.address(), 16)


@dataclass(frozen=True)
class Table:
    """Rows in the file ``path``, one JSON object a line; the last line for a key counts.

    A line that is torn, or is no row, is passed over.
    """

    path: Path

    def rows(self) -> list[Row]:
        """Return all rows, the newest of each key, in the order of first appearance."""
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        return list({row["key"]: row for line in lines for row in _read(line)}.values())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing the table. Raises ``ValueError`` when one does, or it is none of ours."""
        self._check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.path}: another process is writing this table; wait, or give another one with --out"
                ) from None
            yield

    def _check(self) -> None:
        """Raise ``ValueError`` for a file that holds something else than rows: nothing is added to it."""
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path} is no plain file: give a table of rows with --out")
        if self.path.is_file() and (size := self.path.stat().st_size):
            with self.path.open("rb") as file:
                begins = file.read(len(BEGINNING)) == BEGINNING[:size]
            if not begins and not self.rows():
                raise ValueError(f"{self.path} holds no rows of a sweep: give another table with --out")

    def append(self, row: Row) -> list[Row]:
        """Add a row, flush it to disk, and return it as :meth:`rows` will; nothing where that passes it over."""
        line = dumps(row, default=str).encode()
        with self.path.open("ab") as file:
            if file.tell() and not self._ends_in_newline():
                file.write(b"\n")
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return _read(line)

    def _ends_in_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _read(line: bytes) -> list[Row]:
    """Return the row of a line of a table, or none."""
    try:
        row: Row = with_nan(loads(line), MEASURED)
        ROW(row, "row")
    except ValueError:
        return []
    return [row]


def sweep(
    trials: Sequence[Task],
    path: str | Path,
    *,
    engine: Callable[[Sequence[Task]], Iterable[Row]] | None = None,
    watch: Callable[[Row, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    rerun: bool = False,
    tell: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Run the trials that ``path`` has no result of (with ``rerun``: all of them); all their rows, in their order.

    ``engine`` maps trials to rows in any order: :func:`in_process` (default),
    :func:`~sparelu.experiments.sweeps.workers.joblib_engine` or
    :func:`dask_engine`. ``watch`` sees each new row, the number done and the number wanted. A row of a file that has
    changed since is run again, and ``tell`` hears of it. Raises ``ValueError`` when
    another process is writing ``path``.
    """
    table = Table(Path(path))
    wanted = {trial_key(t): t for t in trials}
    with table.held():
        now = {row["key"]: row for row in table.rows()}
        left = list(wanted.values()) if rerun else _left(wanted, now.values(), tell)
        count = len(wanted) - len(left)
        for row in (engine or in_process)(left):
            now |= {kept["key"]: kept for kept in table.append(row)}
            count += 1
            if watch is not None:
                watch(row, count, len(wanted))
            if stop():
                break
    return [now[k] for k in wanted if k in now]


def _left(wanted: Mapping[str, Task], rows: Iterable[Row], tell: Callable[[str], None]) -> list[Task]:
    """Return the tasks without a result, or with one of data that have changed since, which ``tell`` hears of."""
    done = {row["key"]: row for row in rows if row["status"] != "failed" and row["key"] in wanted}
    stale: dict[str, list[str]] = {}
    for name, row in done.items():
        with contextlib.suppress(OSError, ValueError):  # data that cannot be read are not known to be others
            if words := wanted[name].data_changed(row.get(DATA)):
                stale.setdefault(words, []).append(name)
    for words, names in stale.items():
        tell(f"{words}; {len(names)} row(s) are computed anew")
    again = {name for names in stale.values() for name in names}
    return [task for name, task in wanted.items() if name not in done or name in again]


def run_row(trial: Task, threads: int | None = None) -> Row:
    """Run one trial; the row of its result, its refusal or its failure, with the circumstances."""
    if threads is not None:
        torch.set_num_threads(threads)
    _settle()
    row: Row = {"key": trial_key(trial), "trial": trial.request(), **circumstances(trial)}
    start, clock = time.perf_counter(), time.process_time()
    try:
        row |= trial.outcome()
    except Refusal as refusal:
        row |= {"status": Status.refused.name, "error": str(refusal)}
    except Exception as error:  # whatever went wrong in one trial is that row's result, not the sweep's end
        row |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return row | {"row_seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - clock}


def circumstances(trial: Task) -> Row:
    """Return what a result may depend on beside its trial."""
    return {
        "versions": versions(),
        "seeds": trial.seeds(),
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "host": socket.gethostname(),
        "device": trial.device,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


@functools.cache
def _settle() -> None:
    """Let the garbage collections before each fit pass over all that is loaded by now: they would take 0.1 s each."""
    gc.collect()
    gc.freeze()


@functools.cache
def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def in_process(trials: Sequence[Task]) -> Iterator[Row]:
    """Yield rows from this process, one after another."""
    yield from map(run_row, trials)


def dask_engine(scheduler: str, threads: int = 1, timeout: float = 10.0) -> Callable[[Sequence[Task]], Iterator[Row]]:
    """Return rows from the workers of a Dask cluster; a row whose worker dies is run again on another.

    Raises ``ValueError`` when the extra is not installed, the scheduler does not answer, or it is lost.
    """

    def run(trials: Sequence[Task]) -> Iterator[Row]:
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
        with client, _quiet("distributed.client"):
            tasks = [
                client.submit(run_row, t, threads, key=f"{trial_key(t)}-{time.time_ns()}", retries=2) for t in trials
            ]
            try:
                for task in as_completed(tasks, loop=client.loop):
                    yield task.result()
            except CancelledError:
                raise ValueError(
                    f"the Dask scheduler at {scheduler} was lost; finished rows are kept: start it again and repeat "
                    "the same command"
                ) from None

    return run


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's log from printing what we say in words of our own."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
