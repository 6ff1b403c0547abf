"""A full disk, or a kill, at any of the moments at which a command writes."""

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sparelu.writing import PART
from tests.cli.runs import invoke
from tests.experiments.toys import Shrunk, make_known


def full_disk() -> None:
    """Raise what a full disk raises."""
    raise OSError(errno.ENOSPC, "No space left on device")


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def at_moment(number: int, happen: Callable[[], None]) -> Iterator[list[str]]:
    """Let something ``happen`` at the moment of that number, from 0; yields the moments so far.

    A moment is when a file is begun, when it is flushed to the disk, and when it takes its place.
    """
    seen: list[str] = []
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace")}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if name != "open" or str(given[0]).endswith(PART):
                seen.append(name)
                if len(seen) == number + 1:
                    happen()
            return real[name](*given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, wrapped(name))
        yield seen


def killed(folder: str, arguments: tuple[str, ...], number: int) -> None:
    """Run a command in this process, which ends at the moment of that number: what a server of processes starts."""
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch, at_moment(number, kill):
        make_known(patch, Shrunk)
        invoke(*arguments)
