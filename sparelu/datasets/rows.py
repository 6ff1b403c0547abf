"""Rows read when asked: columns of an array (also one mapped from a file), and Parquet by row groups."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparelu.columns import Columns, Number
from sparelu.columns.values import COUNTED, kind_of, numbers_of
from sparelu.data import DataError, Rows

if TYPE_CHECKING:
    import pyarrow

COLUMNS = 64
"""Columns that are laid side by side at a time."""
CACHE_BYTES = 2**28
"""Decoded row groups are kept up to this size; the latest always."""
IN_MEMORY_BYTES = 2**28
"""Inputs of a file up to this size are read into memory."""
GROWTH, GROWTH_FREE = 500, 2**23
"""Times that a compressed file may grow when it is decoded, and bytes that it always may."""
SHOWN = 5
"""Rows and columns named in a message."""


@dataclass(frozen=True, eq=False)
class KeptColumns:
    """The columns ``keep`` of a matrix (n, columns), as ``dtype``; rows are copied when asked."""

    source: np.ndarray
    keep: np.ndarray
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape[0], len(self.keep)

    def __getitem__(self, rows: Any) -> np.ndarray:
        part = np.asarray(self.source[rows])
        return part[..., self.keep].astype(self.dtype, copy=False)


class ParquetRows:
    """What an ``encoding`` makes of columns of a Parquet file, float64; memory follows the largest row group.

    Without one they are numbers, missing values as NaN.

    A file written in row groups of at most 65536 rows is read fastest: batches then ask for whole groups.
    """

    def __init__(self, path: Path, columns: Sequence[str], encoding: Columns | None = None) -> None:
        import pyarrow.parquet as pq

        self.path, self.columns, self.encoding = path, tuple(columns), encoding
        self.width = len(self.columns if encoding is None else encoding.inputs)
        self._file = read_parquet(path, lambda: pq.ParquetFile(path))
        meta = self._file.metadata
        check_growth(path, 8 * meta.num_rows * self.width, path.stat().st_size)
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self._decoded: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetRows, (self.path, self.columns, self.encoding)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._starts[-1]), self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return the rows of a slice, a list of row numbers in any order, a mask, or one number."""
        index = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        if index.size and not -self.shape[0] <= index.min() <= index.max() < self.shape[0]:
            raise IndexError(f"row {int(index.min())} or {int(index.max())} is not in 0..{self.shape[0] - 1}")
        flat = np.where(index < 0, index + self.shape[0], index).reshape(-1).astype(np.int64)
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], self._starts)
        out = np.empty((flat.size, self.shape[1]))
        for group in np.flatnonzero(np.diff(bounds)):
            here = order[bounds[group] : bounds[group + 1]]
            out[here] = self._group(int(group))[flat[here] - self._starts[group]]
        return out.reshape(*index.shape, self.shape[1])

    def _decode(self, group: int) -> np.ndarray:
        table = read_parquet(self.path, lambda: self._file.read_row_group(group, columns=list(self.columns)))
        return columns_of(table, self.columns) if self.encoding is None else encoded(table, self.encoding, self.path)

    def _group(self, group: int) -> np.ndarray:
        """Return the decoded row group; it becomes the latest, and the oldest go until the rest fit ``CACHE_BYTES``."""
        values = self._decoded.pop(group, None)
        if values is None:
            values = self._decode(group)
        while self._decoded and sum(v.nbytes for v in self._decoded.values()) + values.nbytes > CACHE_BYTES:
            self._decoded.pop(next(iter(self._decoded)))
        self._decoded[group] = values
        return values


def read_parquet(path: Path, read: Callable[[], Any]) -> Any:
    """Return what ``read`` gives; what Arrow raises for a damaged file as :class:`~sparelu.data.DataError`."""
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} is not a readable Parquet file, or is damaged: {error}") from None


def columns_of(table: "pyarrow.Table", names: Sequence[str]) -> np.ndarray:
    """Return the named columns of an Arrow table as a float64 matrix (n, columns)."""
    import pyarrow as pa

    part, values = table.select(list(names)), np.empty((table.num_rows, len(names)))
    if set(part.schema.types) <= {pa.int32(), pa.int64(), pa.float32(), pa.float64()}:
        start = 0
        for batch in part.to_batches():  # all columns at once: wide tables would take long one by one
            values[start : start + batch.num_rows] = batch.to_tensor(null_to_nan=True).to_numpy()
            start += batch.num_rows
        return values
    for start in range(0, len(names), COLUMNS):  # a row of memory is written COLUMNS at a time: wide tables stay linear
        some = [numbers_of(part.column(i)) for i in range(start, min(start + COLUMNS, len(names)))]
        values[:, start : start + len(some)] = np.stack(some, axis=1)
    return values


def encoded(table: "pyarrow.Table", encoding: Columns, path: Path, start: int = 0) -> np.ndarray:
    """Return the inputs (n, d) that an encoding makes of an Arrow table, whose first row is number ``start``.

    Raises :class:`~sparelu.data.DataError` that names the file and every column which holds what it does not know.
    """
    if encoding.are_numbers and all(kind_of(table.field(name).type) == "number" for name in encoding.names):
        values = columns_of(table, encoding.names)
        fill = np.array([kind.fill for kind in encoding.read if isinstance(kind, Number)])
        rows, columns = np.nonzero(np.isnan(values))
        values[rows, columns] = fill[columns]
        return values
    try:
        return encoding.encode(table.column, table.num_rows, start)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def check_growth(path: Path, numbers: int, size: int) -> None:
    """Refuse what takes ``numbers`` bytes in memory from ``size`` bytes on disk where no honest file needs so much.

    Raises :class:`~sparelu.data.DataError` above 500 times the size, and 8 MB: a few bytes can stand for any number
    of equal numbers, and would be decoded until memory is full.
    """
    if numbers > max(GROWTH * size, GROWTH_FREE):
        raise DataError(
            f"{path} would grow from {size:,} bytes to {numbers:,} in memory, more than {GROWTH} times: if it is to be "
            "trusted, write it as NPY, which is not compressed"
        )


def settled(x: Rows) -> Rows:
    """Return the rows, read into memory when they take at most ``IN_MEMORY_BYTES``."""
    size = x.shape[0] * x.shape[1] * np.dtype(x.dtype).itemsize
    return np.ascontiguousarray(x[:]) if size <= IN_MEMORY_BYTES else x


def check_numbers(x: Rows, names: Sequence[str], where: str) -> None:
    """Raise :class:`~sparelu.data.DataError` naming rows and columns when any value is missing, NaN or infinite."""
    step = max(1, 2**20 // max(1, x.shape[1]))
    check_blocks((x[start : start + step] for start in range(0, x.shape[0], step)), names, where)


def check_blocks(blocks: Iterable[np.ndarray], names: Sequence[str], where: str, start: int = 0) -> None:
    """Raise as :func:`check_numbers` does, of rows that come block after block and are counted from ``start``."""
    count, rows, columns = 0, np.empty(0, np.int64), np.zeros(len(names), bool)
    for block in blocks:
        bad = ~np.isfinite(block)
        if bad.any():
            here = start + np.flatnonzero(bad.any(axis=1))
            count, rows = count + len(here), np.append(rows, here)[:SHOWN]
            columns |= bad.any(axis=0)
        start += len(block)
    if count:
        first = ", ".join(map(str, rows)) + (", ..." if count > SHOWN else "")
        found = np.flatnonzero(columns)
        which = ", ".join(repr(names[c]) for c in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        raise DataError(
            f"{where} has missing values, NaN or infinity in {count} row(s) of column(s) {which}: row {first} "
            f"({COUNTED}); fill them, or remove the rows"
        )
