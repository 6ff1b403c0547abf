"""Files by name: from the folder that SPARELU_DATA names, else downloaded with a SHA-256 check and cached."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparelu.data import DataError

FOLDER_SETTING = "SPARELU_DATA"
RETRIES = 2
TIMEOUTS = (5.0, 30.0)
"""Seconds to connect, and between two pieces of an answer, after which a try counts as failed."""
LARGEST = 2**28
"""Bytes of one file at most: the largest that a data set here names has 170 MB."""
LONGEST = 3600.0
"""Seconds that one file may take at most, however slowly its pieces come."""
PIECE = 2**16


@dataclass(frozen=True)
class Remote:
    """A file that can be downloaded: its name, its hash as pooch writes it, and the folders (URLs) that hold it."""

    name: str
    hash: str
    mirrors: tuple[str, ...]


def local_folder() -> Path | None:
    """Return the folder that the setting SPARELU_DATA names, None when it is not set.

    Raises :class:`~sparelu.data.DataError` when there is no such folder.
    """
    given = os.environ.get(FOLDER_SETTING)
    if not given:
        return None
    if not Path(given).is_dir():
        raise DataError(f"{FOLDER_SETTING} names {given!r}, and there is no such folder: correct it, or unset it")
    return Path(given)


def local_file(*names: str) -> Path | None:
    """Return the first of ``names`` in the folder SPARELU_DATA; None when it is not set.

    Raises :class:`~sparelu.data.DataError` when the folder holds none of them.
    """
    folder = local_folder()
    if folder is None:
        return None
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"the folder {str(folder)!r} ({FOLDER_SETTING}) holds no {' and no '.join(names)}: "
        f"put it there, or unset {FOLDER_SETTING} to download it"
    )


def fetch(files: Sequence[Remote], folder: Path | None = None, retries: int = RETRIES) -> list[Path]:
    """Return paths of the files, each downloaded once into ``folder`` (default: the user's cache, under XDG_CACHE_HOME
    where that is set) and checked every time.

    Every mirror is tried in turn, each ``retries`` times again after a failure.
    Raises :class:`~sparelu.data.DataError` with every mirror's answer when none serves the right file.
    """
    import pooch

    where = folder or Path(pooch.os_cache("sparelu"))
    return [_fetch(file, where, retries) for file in files]


def _download(url: str, path: str, _: Any) -> None:
    """Write what ``url`` answers to ``path``. Raises ``OSError`` beyond the limits of size and time."""
    import requests

    begin, size = time.monotonic(), 0
    with requests.get(url, stream=True, timeout=TIMEOUTS) as answer, open(path, "wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_content(PIECE):
            size += len(piece)
            if size > LARGEST:
                raise OSError(f"the answer has more than {LARGEST:,} bytes")
            if time.monotonic() - begin > LONGEST:
                raise OSError(f"the answer takes longer than {LONGEST:g} s")
            file.write(piece)


def _fetch(file: Remote, folder: Path, retries: int) -> Path:
    import pooch

    answers = []
    for mirror in file.mirrors:
        source = pooch.create(folder, mirror, registry={file.name: file.hash}, retry_if_failed=retries)
        try:
            return Path(source.fetch(file.name, downloader=_download))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
            answers.append(f"  {mirror}: {error}")
    raise DataError(
        f"could not get {file.name}:\n" + "\n".join(answers) + f"\nCheck the network, or put the file into a "
        f"folder and name that in {FOLDER_SETTING}"
    )
