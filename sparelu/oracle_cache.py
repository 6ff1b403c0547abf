"""Answers of an oracle on disk: fixed records that only ever grow, so that a kill loses the record in flight alone."""

import fcntl
import hashlib
import json
import os
import weakref
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

MAGIC = b"sparelu answers 1\n"
KEY = 16
"""Bytes of a row's digest: two of 2^40 rows agree by chance with a probability below 2^-48."""


class CacheError(ValueError):
    """The file is no cache of answers, belongs to another oracle, is damaged, or is in use."""


class AnswerCache:
    """A file of (digest of a row, its answer, checksum) records, and their index in memory.

    The file starts with a line that names the format and one of JSON with the two widths. Nothing in it is executed.
    A record that a kill cut short is dropped when the file is opened again; a record whose checksum is wrong raises
    :class:`CacheError`.
    """

    def __init__(self, path: str | Path, inputs: int, outputs: int) -> None:
        self.path = Path(path)
        self.kind = np.dtype([("key", f"V{KEY}"), ("answer", "<f8", (outputs,)), ("check", "<u4")])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = MAGIC + json.dumps({"inputs": inputs, "outputs": outputs}).encode() + b"\n"
        self._file = self._opened(head)
        weakref.finalize(self, self._file.close)
        records = self._read(head)
        self._place = {bytes(key): i for i, key in enumerate(records["key"])}
        self._answers = [records["answer"].astype(np.float64)]

    def __len__(self) -> int:
        """Return number of distinct rows answered."""
        return len(self._place)

    def find(self, x: Float[np.ndarray, "n inputs"]) -> tuple[list[bytes], np.ndarray]:
        """Return the digests of the rows of ``x``, and the place (n,) of each answer, -1 where there is none."""
        keys = [hashlib.blake2b(row.tobytes(), digest_size=KEY).digest() for row in np.ascontiguousarray(x, "<f8")]
        return keys, np.array([self._place.get(key, -1) for key in keys], dtype=np.int64)

    def take(self, places: np.ndarray) -> Float[np.ndarray, "n outputs"]:
        """Return the answers at ``places``."""
        if len(self._answers) > 1:
            self._answers = [np.concatenate(self._answers)]
        found: np.ndarray = self._answers[0][places]
        return found

    def add(self, keys: list[bytes], answers: Float[np.ndarray, "n outputs"]) -> None:
        """Append new answers and hand them to the system before returning."""
        records = np.zeros(len(keys), dtype=self.kind)
        records["key"] = np.frombuffer(b"".join(keys), dtype=f"V{KEY}")
        records["answer"] = answers
        records["check"] = _checksums(records)
        self._file.write(records.tobytes())
        self._file.flush()
        start = sum(map(len, self._answers))
        self._place.update((key, start + i) for i, key in enumerate(keys))
        self._answers.append(np.asarray(answers, dtype=np.float64))

    def close(self) -> None:
        """Close the file, which frees it for other processes."""
        self._file.close()

    def _opened(self, head: bytes) -> IO[bytes]:
        file = open(self.path, "a+b")  # noqa: SIM115 it stays open for as long as questions are asked
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise CacheError(
                f"{self.path}: another process asks with this cache; wait for it or name another"
            ) from None
        if file.seek(0, os.SEEK_END) < len(head):
            self._refuse_other(file, head)
            file.truncate(0)
            file.write(head)
            file.flush()
        return file

    def _refuse_other(self, file: IO[bytes], head: bytes) -> None:
        """Raise :class:`CacheError` unless the file begins like a cache of these widths."""
        file.seek(0)
        found = file.read(len(head))
        if not head.startswith(found):
            file.close()
            raise CacheError(
                f"{self.path}: not a cache of answers to {head.splitlines()[1].decode()}, and left as it is; "
                "name another file"
            )

    def _read(self, head: bytes) -> np.ndarray:
        self._refuse_other(self._file, head)
        body = self._file.read()
        whole = len(body) // self.kind.itemsize
        records = np.frombuffer(body[: whole * self.kind.itemsize], dtype=self.kind)
        bad = np.flatnonzero(_checksums(records) != records["check"])
        if bad.size:
            self.close()
            raise CacheError(f"{self.path}: record {bad[0]} of {whole} is damaged; delete the file to ask anew")
        self._file.truncate(len(head) + whole * self.kind.itemsize)
        return records


def _checksums(records: np.ndarray) -> np.ndarray:
    """Sum the bytes of key and answer, each weighted by its place (a Fletcher sum of 32 bits)."""
    body = records.view(np.uint8).reshape(len(records), records.dtype.itemsize)[:, :-4].astype(np.uint64)
    weights = 1 + 257 * np.arange(1, body.shape[1] + 1, dtype=np.uint64)
    return ((body + 1) @ weights).astype(np.uint32)
