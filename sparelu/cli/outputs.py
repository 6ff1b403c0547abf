"""Files that a command writes where it is told to: over what it reads never, over what others wrote only when forced.

What was made of a run and written elsewhere is known by its content: the run folder keeps a SHA-256 of each such file,
noted before the file is in its place, so that a command that was killed at any moment simply runs again.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from sparelu.settings import SettingError
from sparelu.writing import is_same_file, write_atomically, writing

WRITTEN = "written.txt"
"""File of a run folder with the digests of what was written elsewhere, one a line."""


def check_output(path: Path, run: Path, reads: Iterable[str | Path], force: bool) -> None:
    """Raise :class:`SettingError` where ``path`` is one of what is read, or holds what no command wrote for ``run``."""
    for read in (*reads, *(file for file in run.iterdir() if file.is_file())):
        if is_same_file(path, read):
            raise SettingError(f"{path} is read by this command ({read}): give another name with --out")
    if not force and path.is_file() and path.stat().st_size and _digest(path) not in _written(run):
        raise SettingError(
            f"{path} is there and was not written for this run: add --force to write over it, or give another name "
            "with --out"
        )


PAGE = b'<meta name="generator" content="sparelu">'
"""What every page of ours says of itself."""


def check_page(path: Path, force: bool) -> None:
    """Raise :class:`SettingError` where ``path`` is a page that no command wrote."""
    if not force and path.is_file() and PAGE not in path.read_bytes()[:1000]:
        raise SettingError(f"{path} is there and is no report of ours: add --force to write over it, or move it away")


def write_pieces(path: Path, pieces: Iterable[bytes], run: Path) -> None:
    """Write a file of ``run`` piece by piece, whole or not at all."""
    digest = hashlib.sha256()
    with writing(path) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        _note(digest.hexdigest(), run)


def write_files(files: dict[Path, bytes], run: Path) -> None:
    """Write several files of ``run``, each whole or not at all."""
    for path, content in files.items():
        _note(hashlib.sha256(content).hexdigest(), run)
        write_atomically(path, content)


def remove_written(paths: Iterable[Path], run: Path) -> None:
    """Remove the files that were written for ``run`` and are as they were; others stay."""
    for path in paths:
        if path.is_file() and not path.is_symlink() and _digest(path) in _written(run):
            path.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _written(run: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set((run / WRITTEN).read_text(errors="replace").split())
    return set()


def _note(digest: str, run: Path) -> None:
    """Keep a digest; where the run folder cannot be written, the file is another's the next time."""
    with contextlib.suppress(OSError):
        if digest not in _written(run):
            with (run / WRITTEN).open("a") as file:
                file.write(f"{digest}\n")
