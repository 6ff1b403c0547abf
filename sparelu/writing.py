"""Files written whole or not at all, and without touching what a copy would not touch."""

import contextlib
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PART = ".part"


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file that becomes ``path`` when all is written and on disk: at any moment the old one or the new is whole.

    As a copy does, it writes through a symbolic link, into a device or a pipe, and keeps the mode of a file that is
    there. What an earlier writer left unfinished beside it is removed. Raises ``OSError``, and leaves the old file.
    """
    target = Path(os.path.realpath(path))
    there = target.stat() if target.exists() else None
    if there is not None and not stat.S_ISREG(there.st_mode):
        with target.open("wb", buffering=0) as file:  # a directory raises IsADirectoryError
            yield file
        return
    if there is not None and not os.access(target, os.W_OK):
        raise PermissionError(13, "not to be written (its mode says so)", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target.parent, f".{glob.escape(target.name)}.*{PART}")
    beside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}{PART}")
    try:
        with _begun(beside) as file:
            if there is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _begun(path: Path) -> IO[bytes]:
    """A new file, locked; again where another process took it for unfinished before it was."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "wb")
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def write_atomically(path: Path, content: bytes) -> int:
    """Write ``content`` as :func:`writing` does; its length."""
    with writing(path) as file:
        file.write(content)
    return len(content)


def remove_unfinished(folder: Path, pattern: str = f".*{PART}") -> None:
    """Remove what killed writers left in ``folder``: those that still write hold a lock on their file."""
    for part in folder.glob(pattern):
        with contextlib.suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def is_same_file(a: str | Path, b: str | Path) -> bool:
    """Tell whether two names lead to one file."""
    with contextlib.suppress(OSError):
        return os.path.samefile(a, b)
    return False
