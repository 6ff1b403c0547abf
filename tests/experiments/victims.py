"""What is killed in the tests: commands and saves, run in processes that a server forks, so that a start is quick."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PRELOADED = (
    "sparelu.cli.sweep",
    "sparelu.cli.fit",
    "sparelu.cli.tune",
    "sparelu.cli.predict_show_report",
    "sparelu.train.fit.magnitude",
)


def command(folder: str, arguments: tuple[str, ...], largest: int | None = None) -> None:
    """``sparelu`` with ``arguments`` in ``folder``, output to its file ``said``; files of at most ``largest`` bytes."""
    os.setsid()
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, sys.stdout.fileno())
    os.dup2(said, sys.stderr.fileno())
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    from sparelu.cli.__main__ import app

    app(list(arguments))


def saves(path: str, count: int, acknowledge: Any) -> None:
    """Save solutions of seed 0, 1, 2 ... to ``path``; each number is sent when its save has returned."""
    os.setsid()
    import torch

    from sparelu import store
    from sparelu.data import Budget
    from sparelu.networks.network import Network
    from sparelu.outcome import Solution, Status

    for i in range(count):
        network = Network.from_dense([torch.full((40, 30 + i % 7), float(i + 1)), torch.ones(2, 40)])
        store.save(Solution(network, Status.converged, "none", {}, Budget((40,)), i, True), path)
        acknowledge.send_bytes(i.to_bytes(4, "big"))


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """A process of its own group, forked from a server that has everything loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill_after(process: Any, delay: float, group: bool = True) -> bool:
    """Wait ``delay`` seconds and kill the process (with its ``group``); whether it was still at work."""
    process.join(delay)
    if process.exitcode is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.join(0.2)
    if process.exitcode is None:  # killed before it had a group of its own
        process.kill()
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


def finished(target: Callable[..., None], *arguments: Any) -> tuple[int, float]:
    """Run to the end: exit code and seconds, without those in which the server starts."""
    start(os.getpid).join()
    begin = time.monotonic()
    process = start(target, *arguments)
    process.join()
    return int(process.exitcode), time.monotonic() - begin


@contextlib.contextmanager
def ending(process: Any) -> Iterator[Any]:
    """The process, which is dead afterwards whatever happens."""
    try:
        yield process
    finally:
        process.kill()
        process.join()


def said(folder: Path) -> str:
    """What the last command in ``folder`` printed."""
    return (folder / "said").read_text()
