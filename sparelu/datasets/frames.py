"""Frames of pandas and polars, and sparse matrices, as rows that can be fitted."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparelu.columns import Columns
from sparelu.columns.values import kind_of
from sparelu.data import DataError
from sparelu.datasets.arrow import table_in_memory
from sparelu.datasets.rows import encoded
from sparelu.datasets.table_rows import learn_rows

if TYPE_CHECKING:
    import pyarrow

FRAME = Path("X")
"""What a frame is called in messages."""


def frame_of(x: Any) -> "pyarrow.Table | None":
    """Return a frame of pandas or polars, or an Arrow table, as an Arrow table; None for anything else."""
    import pyarrow as pa

    if isinstance(x, pa.Table):
        return x
    library = type(x).__module__.partition(".")[0]
    if library == "polars":
        found: pa.Table = x.to_arrow()
        return found
    if library == "pandas" and hasattr(x, "columns"):
        return pa.Table.from_pandas(x.rename(columns=str), preserve_index=False)
    return None


def learn_frame(table: "pyarrow.Table") -> Columns | None:
    """Learn how inputs are made of a frame; None where they are its numbers as they stand, of which none is missing.

    Raises :class:`~sparelu.data.DataError` for a frame of which no column can be read.
    """
    if all(map(_stands, table.columns)):
        return None
    return learn_rows(table_in_memory(table, FRAME), table.column_names).columns


def _stands(column: "pyarrow.ChunkedArray") -> bool:
    import pyarrow.compute as pc
    import pyarrow.types as t

    if kind_of(column.type) != "number" or column.null_count:
        return False
    return not (t.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py())


def inputs_of(x: Any, columns: Columns) -> np.ndarray:
    """Return the inputs (n, d) that are made of a frame. Raises :class:`~sparelu.data.DataError` for another one."""
    table = frame_of(x)
    if table is None:
        raise DataError(
            f"this model reads columns by name, such as {columns.names[0]!r}: give a frame of pandas or polars, got "
            f"{type(x).__name__}"
        )
    if missing := [name for name in columns.names if name not in table.column_names]:
        raise DataError(f"the frame lacks {len(missing)} of the columns that the model reads, such as {missing[0]!r}")
    return encoded(table, columns, FRAME)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of a sparse matrix (n, d), made dense when they are asked for."""

    source: sparse.csr_matrix | sparse.csr_array

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def dtype(self) -> Any:
        return self.source.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.source[rows].toarray())
