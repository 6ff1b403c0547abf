"""A run on disk: the request, the model, the measurements, the checkpoint, and the report, in one folder."""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sparelu import store
from sparelu.digest import changed
from sparelu.experiments.trials.request_form import MEASURED, check_request, check_result
from sparelu.json_form import dumps, loads, with_nan
from sparelu.outcome import Solution
from sparelu.writing import PART, remove_unfinished, write_atomically

MODEL, REQUEST, RESULT, HISTORY, CHECKPOINT, REPORT = (
    "model.safetensors",
    "request.json",
    "result.json",
    "history.csv",
    "checkpoint.safetensors",
    "report.html",
)


LOCK = ".lock"
DATA = "data_digest"
"""Entry of a request or a row: the digest of its data, which stands beside the address and is no part of it."""


class FolderError(ValueError):
    """The run folder is in use, holds another run, or is not a run."""


def key(request: Mapping[str, Any], digits: int = 8) -> str:
    """Return hexadecimal digits that name a request by its content: canonical JSON, hashed."""
    return hashlib.sha256(canonical_json(request).encode()).hexdigest()[:digits]


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run in the folder ``path``."""

    path: Path

    @property
    def model(self) -> Path:
        """Return the network with its header."""
        return self.path / MODEL

    @property
    def checkpoint(self) -> Path:
        """Return state of the fit while it runs."""
        return self.path / CHECKPOINT

    @property
    def report(self) -> Path:
        """Return the report for people."""
        return self.path / REPORT

    @contextlib.contextmanager
    def opened(self, request: Mapping[str, Any], resume: bool) -> Iterator[None]:
        """Hold the folder for a run of ``request``: new, or the same request again with ``resume``.

        A run that fails before it kept anything leaves no folder. Raises :class:`FolderError` as :meth:`check` and
        :meth:`held` do.
        """
        self.check(request, resume)
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with self.held():
                self._write_json(REQUEST, request)
                try:
                    yield
                except Exception:
                    self._forget_if_empty()
                    raise
        finally:
            with contextlib.suppress(OSError):  # there is something in it
                if made:
                    self.path.rmdir()

    def _forget_if_empty(self) -> None:
        """Remove the request, and folders without files, where nothing else was kept."""
        if not self._kept():
            (self.path / REQUEST).unlink(missing_ok=True)
            for inner in sorted((p for p in self.path.rglob("*") if p.is_dir()), reverse=True):
                inner.rmdir()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing the run, and remove what killed ones left unfinished in it.

        Raises :class:`FolderError` when another process holds it.
        """
        with self._locked() as lock:
            try:
                remove_unfinished(self.path, f"**/.*{PART}")
                yield
            finally:
                Path(lock.name).unlink(missing_ok=True)

    def _locked(self) -> IO[str]:
        """Return the lock, held; again where the process that held it removed it meanwhile."""
        while True:
            lock = (self.path / LOCK).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise FolderError(f"{self.path}: another process is writing this run; wait until it ends") from None
            if os.fstat(lock.fileno()).st_nlink:
                return lock
            lock.close()

    def check(self, request: Mapping[str, Any], resume: bool) -> None:
        """Raise :class:`FolderError` where :meth:`opened` would: the folder is no run, or one that is not to go on.

        That is another run, one on other data (the request's entry :data:`DATA`, where both have one), or one that has
        kept something, without ``resume``.
        """
        if not self.path.exists() or all(_is_trace(file) for file in self.path.iterdir()):
            return
        if not (self.path / REQUEST).is_file():
            raise FolderError(f"{self.path} is not empty and is not a run: give another folder with --out")
        if resume:
            self._check_same(self._read_json(REQUEST, check_request), json.loads(canonical_json(request)))
        elif self._kept():
            raise FolderError(
                f"{self.path} already holds a run: add --resume to go on with it, or give another folder with --out"
            )

    def _kept(self) -> bool:
        """Say whether the run has left anything but its request."""
        return any(file.is_file() and file.name != REQUEST and not _is_trace(file) for file in self.path.rglob("*"))

    def _check_same(self, held: dict[str, Any], request: dict[str, Any]) -> None:
        kept, found = (given.pop(DATA, None) for given in (held, request))
        if different := sorted(k for k in {*held, *request} if held.get(k) != request.get(k)):
            raise FolderError(
                f"{self.path} holds a run with another {', '.join(different)}: repeat the same command to resume it, "
                "or give another folder with --out"
            )
        if kept is not None and found is not None and kept != found:
            raise FolderError(
                f"{self.path} holds a run on other data: {changed(str(request.get('data')), str(kept), found)}; give "
                "another folder with --out to fit the new data, or put the old data back to resume"
            )

    def write(self, solution: Solution, result: Mapping[str, Any]) -> int:
        """Store the solution, its history and the measurements; the bytes of the model."""
        size = store.save(solution, self.model)
        rows = [dict(row) for row in solution.history]
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomically(self.path / HISTORY, text.getvalue().encode())
        self._write_json(RESULT, {**result, "stored_bytes": size})
        return size

    def read(self) -> tuple[Solution, dict[str, Any], dict[str, Any]]:
        """Read the solution, the request and the result. Raises :class:`FolderError` when there is no finished run."""
        if not self.path.is_dir():
            raise FolderError(f"{self.path}: no such run folder (sparelu fit writes one below runs/)")
        if not self.model.is_file():
            rest = " It has a checkpoint: repeat the fit with --resume." if self.checkpoint.is_file() else ""
            raise FolderError(f"{self.path} holds no finished run.{rest}")
        return store.load(self.model), self._read_json(REQUEST, check_request), self._read_json(RESULT, check_result)

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, (dumps(value, indent=1, default=str) + "\n").encode())

    def _read_json(self, name: str, check: Callable[[Any], None]) -> dict[str, Any]:
        try:
            found = with_nan(loads((self.path / name).read_bytes()), MEASURED)
            check(found)
        except (OSError, ValueError) as error:
            raise FolderError(f"{self.path / name} cannot be read: {error}") from None
        kept: dict[str, Any] = found
        return kept


def _is_trace(file: Path) -> bool:
    """Say whether a file is what a run leaves that was killed before it wrote its request."""
    return file.name == LOCK or (file.name.startswith(".") and file.name.endswith(PART))
