"""Rows from several processes of this machine: one that is killed costs a row, and none outlives its parent."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sparelu.experiments.sweeps.sweep import circumstances, run_row, trial_key
from sparelu.experiments.trials.task import Row, Task

LOOK = 1.0
"""Seconds between two looks of a worker for the process that started it."""
IN_FLIGHT = 3
"""Tasks for each worker that joblib has handed out at most: one at work, and two that wait (its ``pre_dispatch``)."""


def joblib_engine(workers: int, threads: int = 1) -> Callable[[Sequence[Task]], Iterator[Row]]:
    """Return rows from ``workers`` processes of ``threads`` threads each on this machine.

    Where a worker is killed (by the kernel when memory is short, as a rule), the tasks that may have been its own are
    run again, each in a process by itself: those that are killed again are failed rows, and the others go on. Workers
    end when this process does. One worker is this process itself.
    """

    def run(trials: Sequence[Task]) -> Iterator[Row]:
        import joblib
        from joblib.externals.loky.process_executor import BrokenProcessPool

        left = {trial_key(trial): trial for trial in trials}
        while left:
            how = {} if workers == 1 else {"backend": "loky", **_watchful()}
            work = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1, **how)
            tasks = [joblib.delayed(run_row)(trial, threads) for trial in left.values()]
            try:
                for row in work(tasks):
                    del left[row["key"]]
                    yield row
            except BrokenProcessPool:
                for name in list(left)[: IN_FLIGHT * workers]:
                    yield _run_alone(left.pop(name), threads)

    return run


def _watchful() -> dict[str, Any]:
    """Return what lets worker processes end soon after this one, whether they have a task or wait for one."""
    here = os.getpid()
    return {"initializer": _end_with, "initargs": (here, Path(f"/proc/{here}").exists())}


def _end_with(parent: int, is_listed: bool) -> None:
    """Look every second whether the process ``parent`` is there, and end this one when it is not."""
    threading.Thread(target=_wait_for_the_end, args=(parent, is_listed, os.getppid()), daemon=True).start()


def _wait_for_the_end(parent: int, is_listed: bool, above: int) -> None:
    """Wait until another process is above this one, or ``parent`` is not listed any more where processes are."""
    while os.getppid() == above and (not is_listed or Path(f"/proc/{parent}").exists()):
        time.sleep(LOOK)
    os._exit(1)


def _run_alone(trial: Task, threads: int) -> Row:
    """Run a task in a process of its own; a failed row when that is killed."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with ProcessPoolExecutor(max_workers=1, **_watchful()) as alone:
        try:
            found: Row = alone.submit(run_row, trial, threads).result()
            return found
        except BrokenProcessPool as error:
            words = f"its process was killed, for want of memory perhaps: {str(error).splitlines()[0]}"
            row = {"key": trial_key(trial), "trial": trial.request(), **circumstances(trial)}
            return row | {"status": "failed", "error": words}
