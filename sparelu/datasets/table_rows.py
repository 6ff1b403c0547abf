"""Rows of a table whose inputs are made of its columns, as learnt from some of the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparelu.columns import Columns, learn_columns
from sparelu.data import DataError, Rows
from sparelu.datasets.rows import settled

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class ColumnFile:
    """An opened table: Arrow types by column, one whole column, numbers as they stand (NaN: none), inputs of rows."""

    path: Path
    schema: "pyarrow.Schema"
    rows: int
    column: Callable[[str], "pyarrow.ChunkedArray"]
    numbers: Callable[[Sequence[str]], Rows]
    encoded: Callable[[Columns, np.ndarray | None], Rows]

    @property
    def names(self) -> list[str]:
        """Return the column names, in order."""
        return list(self.schema.names)


@dataclass(frozen=True, eq=False)
class TableRows:
    """The ``rows`` of a table (all where None), and what was learnt of its columns ``names``."""

    file: ColumnFile
    names: tuple[str, ...]
    columns: Columns
    rows: np.ndarray | None = None

    @property
    def inputs(self) -> Rows:
        """Return the inputs (n, d), in memory where they are few."""
        return settled(self.file.encoded(self.columns, self.rows))

    def take(self, rows: np.ndarray) -> "TableRows":
        """Return the named ones of these rows, as they were learnt."""
        return replace(self, rows=np.asarray(rows) if self.rows is None else self.rows[rows])

    def of(self, columns: Columns) -> "TableRows":
        """Return the same rows, with what was learnt elsewhere."""
        return replace(self, columns=columns)

    def learnt(self) -> "TableRows":
        """Return the same rows, of which alone the columns are learnt."""
        return learn_rows(self.file, self.names, self.rows)


def learn_rows(file: ColumnFile, names: Sequence[str], rows: np.ndarray | None = None) -> TableRows:
    """Learn the columns ``names`` from the ``rows`` of a table.

    Raises :class:`~sparelu.data.DataError` for columns that cannot be read, all of them named, and where none is left.
    """
    try:
        columns = learn_columns(file, names, rows)
    except ValueError as error:
        raise DataError(f"{file.path}: {error}") from None
    if not columns.read:
        why = "; ".join(f"{one.name!r} {one.why}" for one in columns.left_out[:10])
        raise DataError(f"{file.path} has no column that can be read beside the target: {why}")
    return TableRows(file, tuple(names), columns, rows)
