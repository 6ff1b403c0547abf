"""Tables with named columns: CSV (read into memory) and Parquet (read by row groups)."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparelu.data import DataError, Rows
from sparelu.datasets.rows import COUNTED, ParquetRows, check_growth, columns_of, read_parquet
from sparelu.method import nearest

if TYPE_CHECKING:
    import pyarrow

BLOCK = 2**24
"""Bytes that the CSV reader takes at a time; a row must fit."""
STREAMED = 2**22
"""Bytes taken at a time where blocks are used one by one; wide tables, whose rows are longer, take :data:`BLOCK`."""
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class ColumnFile:
    """An opened table: Arrow types by column, one whole column, and number columns as rows."""

    path: Path
    schema: "pyarrow.Schema"
    rows: int
    column: Callable[[str], "pyarrow.ChunkedArray"]
    numbers: Callable[[Sequence[str]], Rows]

    @property
    def names(self) -> list[str]:
        """Return the column names, in order."""
        return list(self.schema.names)


def open_parquet(path: Path) -> ColumnFile:
    """Raise :class:`~sparelu.data.DataError` when the file is not Parquet."""
    import pyarrow.parquet as pq

    def column(name: str) -> "pyarrow.ChunkedArray":
        check_growth(path, 8 * file.metadata.num_rows, path.stat().st_size)
        return read_parquet(path, lambda: file.read(columns=[name]).column(name))

    file = read_parquet(path, lambda: pq.ParquetFile(path))
    return _checked(
        ColumnFile(path, file.schema_arrow, file.metadata.num_rows, column, lambda names: ParquetRows(path, names))
    )


def open_csv(path: Path) -> ColumnFile:
    """Read a CSV file into memory; a larger one is to be converted to Parquet.

    The separator is the comma, or where the first line has none, the semicolon or the tab. The first line holds
    the names, unless it holds numbers only that are not 0, 1, 2, ...: the columns are then x0, x1, ...
    Raises :class:`~sparelu.data.DataError` for text that is not UTF-8, rows of unequal length and columns without
    a name.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    first, delimiter = _first_line(path)
    names, _ = _header(first)
    parse = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = pc.read_csv(path, pc.ReadOptions(column_names=names, block_size=BLOCK), parse)
        table.column_names  # noqa: B018  decodes them
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {_ragged(path, names, delimiter) or error}") from None
    table = table.rename_columns([name.strip() for name in table.column_names])
    if "" in table.column_names:
        raise DataError(
            f"{path}: column {table.column_names.index('')} has no name (a row index that was saved with the table?): "
            "name it, or leave it out"
        )
    return _checked(ColumnFile(path, table.schema, table.num_rows, table.column, partial(columns_of, table)))


def open_stream(path: Path, names: Sequence[str]) -> tuple[Iterator[np.ndarray], str | None] | None:
    """Yield columns of a CSV file, in any order there, as float64 matrices, block by block; and what is ignored.

    None where the file has to be read whole to be understood: when the first block holds anything but numbers. Raises
    :class:`~sparelu.data.DataError` for missing columns, and for what is no number when its block comes.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    first, delimiter = _first_line(path)
    header, given = _header(first)
    if len(set(given)) < len(given) or "" in given:
        return None
    note = ignored(path, names, given)
    raw = dict(zip(given, header or first, strict=True))
    wanted = [raw[name] for name in names]
    convert = pc.ConvertOptions(column_types=dict.fromkeys(wanted, pa.float64()), include_columns=wanted)
    parse = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    block = BLOCK if sum(map(len, first)) > STREAMED // 2**6 else STREAMED
    options = pc.ReadOptions(column_names=header, block_size=block, use_threads=False)
    try:
        reader = pc.open_csv(path, options, parse, convert)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None

    def blocks() -> Iterator[np.ndarray]:
        try:
            for batch in reader:
                yield columns_of(pa.Table.from_batches([batch]), wanted)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: {_ragged(path, header, delimiter) or error}") from None

    return blocks(), note


def ignored(path: Path, names: Sequence[str], given: Sequence[str]) -> str | None:
    """Say which columns of a file are not ``names``. Raises :class:`~sparelu.data.DataError` for missing ones."""
    held, wanted = set(given), set(names)
    if missing := [name for name in names if name not in held]:
        raise DataError(
            f"{path} lacks {len(missing)} of the {len(names)} columns that the model reads: {_listed(missing)}; for "
            f"the first, {nearest(missing[0], given)}"
        )
    extra = [name for name in given if name not in wanted]
    return f"{len(extra)} column(s) are not inputs and are ignored: {_listed(extra)}" if extra else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")


def _header(first: list[str]) -> tuple[list[str] | None, list[str]]:
    """Return the names given to columns without (None where the first line has them), and the names of all."""
    counted = [str(i) for i in range(len(first))]
    made = [f"x{i}" for i in counted] if first != counted and all(map(_is_number, first)) else None
    return made, made or [name.strip() for name in first]


def _first_line(path: Path) -> tuple[list[str], str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = next((text for text in file if text.strip()), "")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from None
    if not line:
        raise DataError(f"{path} has no rows, only blank lines")
    delimiter = next((d for d in DELIMITERS if d in line), ",")
    try:
        return next(csv.reader([line], delimiter=delimiter), []), delimiter
    except csv.Error as error:
        raise DataError(f"{path}: the first line cannot be read: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ragged(path: Path, names: list[str] | None, delimiter: str) -> str | None:
    """Return which rows have another number of cells than the first line; None when all have the same."""
    rows: list[tuple[int, int]] = []
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        lines = (cells for cells in csv.reader(file, delimiter=delimiter) if cells)
        try:
            width = len(next(lines, [])) if names is None else len(names)
            rows = [(i, len(cells)) for i, cells in enumerate(lines) if len(cells) != width]
        except csv.Error as error:
            return str(error)
    if not rows:
        return None
    first = ", ".join(f"row {i} has {k}" for i, k in rows[:3]) + (", ..." if len(rows) > 3 else "")
    return f"{len(rows)} row(s) do not have {width} cells as the first line has: {first} ({COUNTED})"


def _checked(file: ColumnFile) -> ColumnFile:
    if double := [name for name, count in Counter(file.names).items() if count > 1]:
        raise DataError(f"{file.path} has more than one column {double[0]!r}: give each column a name of its own")
    if file.rows == 0:
        raise DataError(f"{file.path} has no rows, only the names {', '.join(map(repr, file.names[:10]))}")
    return file


def pick(target: str | int | None, names: Sequence[str], path: Path) -> int:
    """Return the position of the target column, by name, or by number from 0 (from -1 at the end backwards).

    Raises :class:`~sparelu.data.DataError` naming the nearest column.
    """
    listed = _listed(names)
    if target is None:
        raise DataError(f"which column of {path} is the target? Give its name or number; the columns are {listed}")
    if target in names:
        return names.index(str(target))
    try:
        number = int(target)
    except ValueError:
        raise DataError(f"{path} has no column {target!r}; {nearest(str(target), names)}") from None
    if not -len(names) <= number < len(names):
        raise DataError(f"{path} has no column number {number}: it has {len(names)}, counted from 0: {listed}")
    return number % len(names)


def check_inputs(file: ColumnFile, names: Sequence[str]) -> None:
    """Raise :class:`~sparelu.data.DataError` naming the first of the columns that does not hold numbers."""
    types = dict(zip(file.names, file.schema.types, strict=True))
    for name in names:
        kind = kind_of(types[name])
        if kind == "text":
            raise DataError(f"{file.path}: {_first_text(name, file.column(name))}")
        if kind != "number":
            raise DataError(
                f"{file.path}: column {name!r} holds {kind} ({types[name]}) where numbers belong: "
                "turn it into numbers, or leave it out"
            )


def kind_of(arrow: Any) -> str:
    """Return what an Arrow type holds: number, text, dates or times, or values that are neither."""
    import pyarrow.types as t

    if t.is_dictionary(arrow):
        return kind_of(arrow.value_type)
    if any(f(arrow) for f in (t.is_integer, t.is_floating, t.is_boolean, t.is_decimal, t.is_null)):
        return "number"
    if t.is_string(arrow) or t.is_large_string(arrow):
        return "text"
    if t.is_temporal(arrow):
        return "dates or times"
    return "bytes that are not UTF-8 text" if t.is_binary(arrow) else "values of a kind that is not read"


def _first_text(name: str, column: "pyarrow.ChunkedArray") -> str:
    for row, value in enumerate(value for chunk in column.chunks for value in chunk.to_pylist()):
        if value is not None and not _is_number(value):
            return (
                f"column {name!r} holds text where numbers belong: {value!r} in row {row} ({COUNTED}); "
                "encode it as numbers, or leave the column out"
            )
    return f"column {name!r} holds numbers as text: convert it to numbers"


def labels_of(file: ColumnFile, name: str) -> np.ndarray:
    """Return the target column whole: float64, int64, bool, or an object array of texts.

    Raises :class:`~sparelu.data.DataError` when a label is missing, or the column holds neither numbers nor text.
    """
    import pyarrow as pa
    import pyarrow.types as t

    column, kind = file.column(name), kind_of(file.schema.field(name).type)
    if kind not in ("number", "text"):
        raise DataError(f"{file.path}: the target {name!r} holds {kind}: numbers, texts or booleans are wanted")
    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.to_numpy()
    missing = np.array([v is None or v == "" for v in values]) if values.dtype == object else np.zeros(0, bool)
    if column.null_count or missing.any():
        rows = np.flatnonzero(column.is_null().to_numpy() | (missing if missing.size else False))
        first = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise DataError(
            f"{file.path}: the target {name!r} is missing in {len(rows)} row(s): row {first} ({COUNTED}); fill them, "
            "or remove the rows"
        )
    if t.is_decimal(column.type):
        values = column.cast(pa.float64()).to_numpy()
    return np.asarray(values)
