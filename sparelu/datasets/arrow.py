"""Tables with named columns: CSV (read into memory) and Parquet (read by row groups)."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparelu.columns import Columns
from sparelu.columns.values import are_numbers, kind_of, numbers_of, texts_of
from sparelu.data import DataError, Rows, Taken
from sparelu.datasets.rows import COUNTED, ParquetRows, check_growth, columns_of, encoded, read_parquet
from sparelu.datasets.table_rows import ColumnFile
from sparelu.method import nearest

if TYPE_CHECKING:
    import pyarrow

BLOCK, STREAMED, LARGEST = 2**24, 2**20, 2**28
"""Bytes that the CSV reader takes at a time, where blocks are used one by one, and at most; a row must fit."""
CELL_BYTES, ROWS_AT_ONCE = 8, 128
"""Of a wide table so many rows are taken at a time, of cells of some eight bytes: each column of a block has a cost."""
NO_VALUE = {"strings_can_be_null": True, "quoted_strings_can_be_null": False}
"""What stands for no value in numbers (nothing, NA, NaN, null) does so in text too, unless it is quoted."""
DELIMITERS = (",", ";", "\t")


def open_parquet(path: Path) -> ColumnFile:
    """Raise :class:`~sparelu.data.DataError` when the file is not Parquet."""
    import pyarrow.parquet as pq

    def column(name: str) -> "pyarrow.ChunkedArray":
        check_growth(path, 8 * file.metadata.num_rows, path.stat().st_size)
        return read_parquet(path, lambda: file.read(columns=[name]).column(name))

    file = read_parquet(path, lambda: pq.ParquetFile(path))
    return _checked(
        ColumnFile(
            path,
            file.schema_arrow,
            file.metadata.num_rows,
            column,
            partial(ParquetRows, path),
            lambda columns, rows: _taken(ParquetRows(path, columns.names, columns), rows),
        )
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
    options = (
        pc.ReadOptions(column_names=names, block_size=_block(len(first), BLOCK)),
        pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    )
    try:
        table = _typed(lambda convert: pc.read_csv(path, *options, convert), first if names is None else names)
        table.column_names  # noqa: B018  decodes them
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {_ragged(path, names, delimiter) or error}") from None
    table = table.rename_columns(_distinct([name.strip() for name in table.column_names]))
    return _checked(table_in_memory(table, path))


def table_in_memory(table: "pyarrow.Table", path: Path) -> ColumnFile:
    """Return an Arrow table as if it had been read from a file."""
    return ColumnFile(
        path,
        table.schema,
        table.num_rows,
        table.column,
        partial(columns_of, table),
        lambda columns, rows: encoded(table if rows is None else table.take(rows), columns, path),
    )


def _block(columns: int, least: int) -> int:
    """Return how many bytes are taken at a time."""
    return min(max(least, CELL_BYTES * columns * ROWS_AT_ONCE), LARGEST)


def _taken(source: Rows, rows: np.ndarray | None) -> Rows:
    return source if rows is None else Taken(source, rows)


def _typed(read: Callable[[Any], "pyarrow.Table"], names: Sequence[str]) -> "pyarrow.Table":
    """Read a CSV file; a column whose first block holds numbers or dates and a later one text is read as text."""
    import pyarrow as pa
    import pyarrow.csv as pc

    texts: dict[str, Any] = {}
    while True:
        convert = pc.ConvertOptions(column_types=texts, **NO_VALUE)
        try:
            return read(convert)
        except pa.ArrowInvalid as error:
            found = re.search(r"In CSV column #(\d+): CSV conversion error", str(error))
            if found is None or int(found[1]) >= len(names) or names[int(found[1])] in texts:
                raise
            texts[names[int(found[1])]] = pa.string()


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names; the second of the same gets ``.1``, the third ``.2``."""
    found: dict[str, None] = {}
    for name in names:
        new, count = name, 0
        while new in found:
            count += 1
            new = f"{name}.{count}"
        found[new] = None
    return list(found)


def open_stream(path: Path, columns: Columns) -> tuple[Iterator[np.ndarray], str | None] | None:
    """Yield the inputs that are made of a CSV file block by block, float64; and say what is ignored.

    None where the file has to be read whole to be understood: when the first block holds text where the columns are
    numbers. Raises :class:`~sparelu.data.DataError` for missing columns, and for what is no number when its block
    comes.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    first, delimiter = _first_line(path)
    header, given = _header(first)
    if len(set(given)) < len(given):
        return None
    note = ignored(path, columns, given)
    raw = dict(zip(given, header or first, strict=True))
    wanted = [raw[name] for name in columns.names]
    kind = pa.float64() if columns.are_numbers else pa.string()
    convert = pc.ConvertOptions(column_types=dict.fromkeys(wanted, kind), include_columns=wanted, **NO_VALUE)
    parse = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    options = pc.ReadOptions(column_names=header, block_size=_block(len(first), STREAMED), use_threads=False)
    try:
        reader = pc.open_csv(path, options, parse, convert)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None

    def blocks() -> Iterator[np.ndarray]:
        start = 0
        try:
            for batch in reader:
                table = pa.Table.from_batches([batch]).rename_columns(list(columns.names))
                yield encoded(table, columns, path, start)
                start += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: {_ragged(path, header, delimiter) or error}") from None

    return blocks(), note


def ignored(path: Path, columns: Columns, given: Sequence[str]) -> str | None:
    """Say which columns of a file are new to a model. Raises :class:`~sparelu.data.DataError` for missing ones."""
    held, names = set(given), columns.names
    if missing := [name for name in names if name not in held]:
        raise DataError(
            f"{path} lacks {len(missing)} of the {len(names)} columns that the model reads: {_listed(missing)}; for "
            f"the first, {nearest(missing[0], given)}"
        )
    known = {*names, *(one.name for one in columns.left_out)}
    extra = [name for name in given if name not in known]
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


def labels_of(file: ColumnFile, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the target column of the rows that have one, and these rows (None for all).

    Values are float64, int64, bool, or an object array of texts; text of which each is a number is numbers. Raises
    :class:`~sparelu.data.DataError` when the column holds neither numbers nor text, or no value at all.
    """
    import pyarrow as pa
    import pyarrow.types as t

    column, kind = file.column(name), kind_of(file.schema.field(name).type)
    if kind == "bytes":
        raise DataError(f"{file.path}: the target {name!r} holds bytes that are not UTF-8 text: save it as UTF-8")
    if kind not in ("number", "text"):
        raise DataError(
            f"{file.path}: the target {name!r} holds values of type {column.type} where numbers, texts or "
            "booleans belong"
        )
    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind == "text":
        every = _texts_or_numbers(column)
        missing = np.array([value == "" for value in every]) if every.dtype == object else np.isnan(every)
        values = every[~missing]
    else:
        missing = column.is_null(nan_is_null=True).to_numpy()
        some = column.filter(pa.array(~missing)) if missing.any() else column
        values = np.asarray((some.cast(pa.float64()) if t.is_decimal(column.type) else some).to_numpy())
    if not len(values):
        raise DataError(f"{file.path}: the target {name!r} holds no value")
    return values, np.flatnonzero(~missing) if missing.any() else None


def _texts_or_numbers(column: "pyarrow.ChunkedArray") -> np.ndarray:
    """Return the texts of a column, those that are blank or null as empty; or the numbers that all of them are."""
    if are_numbers(texts_of(column)[1]):
        return numbers_of(column)
    return np.array(["" if v is None or not v.strip() else v for v in column.to_pylist()], dtype=object)
