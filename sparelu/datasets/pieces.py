"""Rows for prediction, piece by piece: a file of any number of rows in memory of some pieces."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sparelu.columns import Columns
from sparelu.data import DataError, Rows
from sparelu.datasets.arrow import open_stream
from sparelu.datasets.rows import check_blocks, encoded, read_parquet
from sparelu.datasets.tables import existing_file, format_of, numbers_as_they_stand

NUMBERS = 2**19
"""Numbers of a piece: 4 MB of inputs, or one row where that has more."""

Pieces = Iterator[np.ndarray]


def pieces_for(path: str | Path, names: Sequence[str], columns: Columns | None = None) -> tuple[Pieces, str | None]:
    """Yield the rows of :func:`~sparelu.datasets.tables.columns_for` piece by piece; return them and its note.

    A Parquet file is read batch by batch, and a CSV file block by block unless its first block holds anything but
    numbers. Raises :class:`~sparelu.data.DataError` as that does, for wrong values when their piece comes.
    """
    file, ending = existing_file(path), Path(path).suffix.lower()
    wanted = columns or numbers_as_they_stand(names)
    streamed = open_stream(file, wanted) if ending == ".csv" else None
    if streamed is not None:
        pieces, note = streamed
    else:
        rows, note = format_of(file).inputs(file, names, columns)
        pieces = _batches(file, wanted) if ending == ".parquet" else cut(rows)
    return _checked(pieces, names, str(file)), note


def cut(rows: Rows) -> Pieces:
    """Yield consecutive rows, of at most ``NUMBERS`` numbers, or one row at a time."""
    step = max(1, NUMBERS // rows.shape[1])
    return (np.asarray(rows[at : at + step]) for at in range(0, rows.shape[0], step))


def _batches(path: Path, columns: Columns) -> Pieces:
    """Yield the inputs that are made of a Parquet file without decoding whole row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = read_parquet(path, lambda: pq.ParquetFile(path))
    batches = file.iter_batches(batch_size=max(1, NUMBERS // len(columns.inputs)), columns=list(columns.names))
    start = 0
    while (batch := read_parquet(path, lambda: next(batches, None))) is not None:
        yield encoded(pa.Table.from_batches([batch]), columns, path, start)
        start += batch.num_rows


def _checked(pieces: Pieces, names: Sequence[str], where: str) -> Pieces:
    start = 0
    for piece in pieces:
        if not np.isfinite(piece).all():
            check_blocks(itertools.chain([piece], pieces), names, where, start)  # counts those of later pieces too
        start += len(piece)
        yield piece
    if not start:
        raise DataError(f"{where} has no rows")
