"""What data are: a digest of their content, so that what is resumed, kept or claimed says of which data it speaks.

A digest has three parts of 32 hexadecimal digits, ``inputs-targets-form``: all inputs in their order, all targets in
theirs, and the form, which is all else that decides a fit (numbers of rows and columns, names, classes, types). Blocks
of rows are hashed by SHA-256 one by one and their hashes hashed again, so that the ranks of a fit share the work, and
any number of them comes to the same digest.
"""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK_ROWS, BLOCK_NUMBERS = 1024, 2**20
"""Rows of a block, fewer (but 16) where it would hold more numbers than that. Other values change every digest."""

PARTS = ("inputs", "targets", "form")
WORDS = {
    "inputs": "the values or the order of its inputs",
    "targets": "its targets",
    "form": "its shape, names, classes or types",
}
HEX = 32


def block_rows(columns: int) -> int:
    """Return rows of a block of so many columns."""
    return min(BLOCK_ROWS, max(16, BLOCK_NUMBERS // columns))


class BlockHashes:
    """SHA-256 (128 bits of it) of inputs and targets of the blocks that begin among the rows that are added."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.size = rows, block_rows(columns)
        self.hashes: Tensor = torch.zeros(-(-rows // self.size), 2, 2, dtype=torch.int64)
        self._open: tuple[Any, ...] = ()

    def add(self, start: int, x: np.ndarray, y: np.ndarray) -> None:
        """Add the rows from number ``start`` on, which follow those added before: x (n, d), y (n,) or (n, k)."""
        end = start + len(x)
        at = start if self._open else -(-start // self.size) * self.size
        while at < end:
            self._open = self._open or (hashlib.sha256(), hashlib.sha256())
            stop = min(end, (at // self.size + 1) * self.size)
            for total, part in zip(self._open, (x, y), strict=True):
                total.update(_bytes(part[at - start : stop - start]))
            if stop % self.size == 0 or stop == self.rows:
                found = b"".join(total.digest()[: HEX // 2] for total in self._open)
                self.hashes[at // self.size] = torch.from_numpy(np.frombuffer(found, np.int64).reshape(2, 2).copy())
                self._open = ()
            at = stop

    def rest(self, end: int) -> slice:
        """Return the rows from ``end`` on that the last block still wants."""
        return slice(end, min(self.rows, -(-end // self.size) * self.size) if self._open else end)

    def digest(self, form: Any) -> str:
        """Return the digest, once all blocks are there; ``form`` is JSON values."""
        parts = [self.hashes[:, i].contiguous().numpy().tobytes() for i in (0, 1)]
        return "-".join(_hex(part) for part in (*parts, json.dumps(form, default=str).encode()))


def _bytes(rows: np.ndarray) -> Any:
    plain = rows.astype(str) if rows.dtype.hasobject else rows
    return np.ascontiguousarray(plain).reshape(-1).view(np.uint8)


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:HEX]


def join_digests(first: str, second: str) -> str:
    """Return the digest of two sets of rows together, training and test rows, part by part."""
    return "-".join(_hex(f"{a}{b}".encode()) for a, b in zip(first.split("-"), second.split("-"), strict=True))


def difference(kept: str, found: str) -> str:
    """Return what of the data differs between two digests, in words; empty when they are the same."""
    if kept == found:
        return ""
    pairs = list(zip(PARTS, kept.split("-"), found.split("-"), strict=False))
    return " and ".join(WORDS[part] for part, a, b in pairs if a != b) or "its form"


def changed(what: str, kept: str, found: str) -> str:
    """Return a sentence that ``what`` is not what it was, with the first digits of both digests."""
    return f"{what} has changed: {difference(kept, found)} ({_short(kept)} before, {_short(found)} now)"


def _short(digest: str) -> str:
    return ".".join(part[:4] for part in digest.split("-"))
