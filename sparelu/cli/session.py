"""What surrounds a command: errors in plain words with their exit code, signals, and progress on a terminal."""

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.control import Control
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from sparelu.settings import Refusal

if TYPE_CHECKING:
    from sparelu.runtime.distributed import Ranks

OK, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; an error of ours; bad input or usage; the method refused; stopped by Ctrl-C or kill (resumable)."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space on the disk, in the quota, or below the largest size of a file."""


@dataclass(frozen=True)
class _Harmless:
    """What is printed, with a mark in the place of each character that a terminal would obey."""

    printed: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for part in console.render(self.printed, options):
            yield part if part.control else Segment(harmless(part.text), part.style)


class _Screen(RenderHook):
    """Prints nothing that a terminal would obey but what Rich says itself."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [part if isinstance(part, Control) else _Harmless(part) for part in renderables]


def harmless(text: str) -> str:
    """Return a text whose control characters, but for the ends of lines, are shown as a mark."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of writing, and halves of characters."""

console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)
"""Nothing that is printed is markup: names of columns, classes and files are other people's texts."""
for _ in (console, errors):
    _.push_render_hook(_Screen())


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that people can mend into one message and an exit code."""
    try:
        with advising("repeat the same command"):
            yield
    except ImportError as error:
        fail(_missing_words(error), USAGE)
    except RuntimeError as error:
        from sparelu.runtime.distributed import RankLost  # imports torch: an error of usage must not wait for it

        if not isinstance(error, RankLost):
            raise
        fail(f"{error}. The state saved last is kept: repeat the same command with --resume", FAILED)
    except Refusal as error:
        fail(str(error), REFUSED)
    except ValueError as error:
        fail(str(error), USAGE)
    except BrokenPipeError:
        _end_unread()
    except OSError as error:
        fail(_system_words(error), FAILED if error.errno in FULL else USAGE)


def _missing_words(error: ImportError) -> str:
    """Return what to install; an import that fails for another reason is a defect, and stays one."""
    if "pip install" in str(error):
        return str(error)
    raise error


def _system_words(error: OSError) -> str:
    if error.errno in FULL:
        return (
            "the disk is full: free some space and repeat the command (fit and tune with --resume); what was written "
            "before is kept"
        )
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong and leave with an exit code."""
    errors.print(Text.assemble(("error:", "bold red"), " ", message), highlight=False, soft_wrap=True)
    raise SystemExit(code)


def _end_unread() -> None:
    """Leave when what reads the output has ended: in silence where that is standard output, as other programs do."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush at the end
        raise SystemExit(FAILED) from None
    fail("what reads the output has ended: start it again, or give a file with --out", FAILED)


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Say how to go on after Ctrl-C: ``advice`` is right for what is done within."""
    try:
        yield
    except KeyboardInterrupt:
        end_interrupted(advice)


def end_interrupted(advice: str) -> NoReturn:
    """Leave with the exit code of an interruption, saying how to go on."""
    errors.print(f"interrupted; {advice}", highlight=False, soft_wrap=True)
    raise SystemExit(INTERRUPTED) from None


@contextlib.contextmanager
def together(device: str, timeout: float) -> Iterator["Ranks"]:
    """Yield the ranks that torchrun started, of which the first speaks; what ends several of them is said once."""
    from sparelu.runtime.distributed import RankLost, joined

    with joined(device, timeout) as ranks:
        console.quiet = errors.quiet = not ranks.first
        try:
            yield ranks
        except RankLost as error:
            errors.quiet = error.reported or not ranks.leave("another rank is lost")
            raise
        except Exception as error:
            errors.quiet = not ranks.leave(str(error))
            raise


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yield a question that turns true at the first Ctrl-C or SIGTERM; a second one is a ``KeyboardInterrupt``."""
    asked: list[int] = []

    def ask(number: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        errors.print("stopping after this round; once more to stop at once", highlight=False)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Bar:
    """A progress bar with time left on a terminal; silent elsewhere."""

    def __init__(self, total: float = 1.0) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=errors,
            transient=True,
            disable=errors.quiet or not sys.stderr.isatty(),
        )
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: float, text: str) -> None:
        """Show ``done`` of the total, and what is being done."""
        self.progress.update(self.task, completed=done, description=text)
