"""Data from files: CSV, Parquet, NPY and NPZ; for fitting with a target, and for prediction by column names."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sparelu.columns import Columns, Number
from sparelu.data import Data, DataError, Rows
from sparelu.datasets.arrays import Parsed, npy_inputs, npz_inputs, read_npy, read_npz
from sparelu.datasets.arrow import ignored, labels_of, open_csv, open_parquet, pick
from sparelu.datasets.rows import check_numbers, settled
from sparelu.datasets.table_rows import ColumnFile, learn_rows
from sparelu.method import nearest
from sparelu.runtime.resources import give_back_memory

TASKS = ("regression", "classification")
WHOLE_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for labels."""


@dataclass(frozen=True)
class Chosen:
    """Columns that are not to be read (``drop``), or the ones that alone are (``only``); all where both are empty."""

    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def of(self, names: Sequence[str], path: Path) -> list[str]:
        """Return those of the names that may be read. Raises :class:`~sparelu.data.DataError` for unknown ones."""
        for name in (*self.drop, *self.only):
            if name not in names:
                raise DataError(f"{path} has no column {name!r}; {nearest(name, names)}")
        return [name for name in names if name not in self.drop and (not self.only or name in self.only)]


@dataclass(frozen=True)
class Format:
    """How files of one ending are read: with a target, and for prediction (rows, and what was ignored)."""

    read: Callable[[Path, str | int | None, Chosen], Parsed]
    inputs: Callable[[Path, Sequence[str], Columns | None], tuple[Rows, str | None]]


def read_table(
    path: str | Path,
    target: str | int | None = None,
    task: str | None = None,
    drop: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Data:
    """Return data of a file, checked: every row once.

    ``target`` is a column by name or number (CSV, Parquet; needed), a column number (NPY; the last when not
    given) or the name of an array (NPZ; y when not given). Without ``task``, a target of texts or booleans, or of
    whole numbers with at most 20 distinct values, makes it classification, any other regression; texts that differ in
    most rows are refused then. Columns are
    float64; NPY and NPZ keep float32. Above 256 MB of inputs NPY is mapped from the file and Parquet read by row
    groups, so both may be larger than memory (the target column may not); CSV and NPZ are read into memory: convert
    a larger CSV to Parquet.

    Raises :class:`~sparelu.data.DataError` for anything that cannot be used; rows are counted from 0.
    """
    file = existing_file(path)
    data = _checked(file, format_of(file).read(file, target, Chosen(tuple(drop), tuple(only))), task)
    give_back_memory()  # the reader of a large file leaves twice its size
    return data


def _checked(file: Path, parsed: Parsed, task: str | None) -> Data:
    """Return the data of a file that was read."""
    kind = task or _task(parsed, file)
    if kind not in TASKS:
        raise DataError(f"task must be 'regression' or 'classification', got {task!r}")
    classes = _classes(parsed, file) if kind == "classification" else None
    test = None if parsed.test is None else _part(file, parsed, *parsed.test, classes)
    data = _part(file, parsed, parsed.x, parsed.y, classes, test)
    if kind == "regression" and not np.ptp(np.asarray(data.y), axis=0).any():
        raise DataError(f"{file}: the target {parsed.target!r} is constant ({parsed.y.flat[0]:g}): nothing to fit")
    return data


def columns_for(path: str | Path, names: Sequence[str], columns: Columns | None = None) -> tuple[Rows, str | None]:
    """Return inputs (n, d) of a file for a model that was fitted on inputs ``names``, and a note on what was ignored.

    In CSV and Parquet the columns are found by name, in any order, and read as they were learnt (``columns``; numbers
    without it); in NPY and NPZ they are as many as names. Raises :class:`~sparelu.data.DataError` naming missing
    columns, and for values as in :func:`read_table`.
    """
    file = existing_file(path)
    x, note = format_of(file).inputs(file, names, columns)
    x = settled(x)
    check_numbers(x, names, str(file))
    return x, note


def existing_file(path: str | Path) -> Path:
    """Return the path of a file that is there and not empty. Raises :class:`~sparelu.data.DataError`."""
    file = Path(path)
    if not file.exists():
        raise DataError(f"there is no file {str(file)!r}")
    if not file.is_file():
        raise DataError(f"{str(file)!r} is not a file")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes)")
    return file


def format_of(file: Path) -> Format:
    """Return how a file is read, by its ending. Raises :class:`~sparelu.data.DataError` for another ending."""
    found = FORMATS.get(file.suffix.lower())
    if found is None:
        ending = f"the ending {file.suffix!r}" if file.suffix else "no ending"
        raise DataError(f"{file} has {ending}, and only files that end in {', '.join(FORMATS)} are read")
    return found


def _read_columns(opened: Callable[[Path], ColumnFile], path: Path, target: str | int | None, chosen: Chosen) -> Parsed:
    file = opened(path)
    names = file.names
    at = pick(target, names, path)
    may = [name for name in chosen.of(names, path) if name != names[at]]
    if not may:
        raise DataError(f"{path} has the target column {names[at]!r} only: inputs are wanted too")
    labels, rows = labels_of(file, names[at])
    source = learn_rows(file, may, rows)
    return Parsed(source.inputs, labels, source.columns.inputs, names[at], source=source)


def _column_inputs(
    opened: Callable[[Path], ColumnFile], path: Path, names: Sequence[str], columns: Columns | None
) -> tuple[Rows, str | None]:
    file, wanted = opened(path), columns or numbers_as_they_stand(names)
    note = ignored(path, wanted, file.names)
    return file.encoded(wanted, None), note


def numbers_as_they_stand(names: Sequence[str]) -> Columns:
    """Return columns of numbers of which none may be missing."""
    return Columns(tuple(Number(name, fill=math.nan) for name in names))


def _arrays(read: Callable[[Path, str | int | None], Parsed]) -> Callable[[Path, str | int | None, Chosen], Parsed]:
    """Return the reader of a format whose columns have no names to choose them by."""

    def checked(path: Path, target: str | int | None, chosen: Chosen) -> Parsed:
        if chosen != Chosen():
            raise DataError(f"{path} has no column names: drop and only are for CSV and Parquet")
        return read(path, target)

    return checked


def _plain(
    inputs: Callable[[Path, Sequence[str]], tuple[Rows, str | None]],
) -> Callable[[Path, Sequence[str], Columns | None], tuple[Rows, str | None]]:
    """Return the reader of inputs of a format that holds numbers alone."""
    return lambda path, names, _: inputs(path, names)


FORMATS = {
    ".csv": Format(partial(_read_columns, open_csv), partial(_column_inputs, open_csv)),
    ".parquet": Format(partial(_read_columns, open_parquet), partial(_column_inputs, open_parquet)),
    ".npy": Format(_arrays(read_npy), _plain(npy_inputs)),
    ".npz": Format(_arrays(read_npz), _plain(npz_inputs)),
}


def _task(parsed: Parsed, file: Path) -> str:
    """Return the rule of :func:`read_table`."""
    y = parsed.y
    if y.dtype.kind not in "iuf":
        if y.ndim == 1 and WHOLE_CLASSES < len(y) < 2 * (count := len(np.unique(y))):
            raise DataError(
                f"{file}: the target {parsed.target!r} is text with {count} different values in {len(y)} rows, more "
                "like names than like classes: give another target, or ask for classification with --task if it is"
            )
        return "classification"
    if y.ndim > 1 or not (y.dtype.kind in "iu" or np.array_equal(y, np.floor(y))):
        return "regression"
    return "classification" if len(np.unique(y)) <= WHOLE_CLASSES else "regression"


def _classes(parsed: Parsed, file: Path) -> np.ndarray:
    """Return the distinct labels in increasing order."""
    if parsed.y.ndim > 1:
        raise DataError(f"{file}: labels must have one value a row, {parsed.target!r} has shape {parsed.y.shape}")
    _check_target(parsed, parsed.y, file)
    classes = np.unique(parsed.y)
    if len(classes) < 2:
        only = classes.tolist()[0]
        raise DataError(f"{file}: the target {parsed.target!r} has one class only ({only!r}): at least two are needed")
    return classes


def _part(
    file: Path, parsed: Parsed, x: Rows, y: np.ndarray, classes: np.ndarray | None, test: Data | None = None
) -> Data:
    """Return training or test rows, checked; labels as their place among ``classes``."""
    if len(y) != x.shape[0]:
        raise DataError(f"{file} has {x.shape[0]} rows of inputs and {len(y)} of targets")
    names = parsed.names or tuple(f"x{i}" for i in range(x.shape[1]))
    x = settled(x)
    check_numbers(x, names, str(file))
    _check_target(parsed, y, file)
    encoded = _numbers(file, parsed.target, y) if classes is None else _places(file, y, classes)
    return Data(
        x,
        encoded,
        "regression" if classes is None else "classification",
        names,
        () if classes is None else tuple(classes.tolist()),
        name=file.name,
        target=parsed.target,
        image=parsed.image,
        test=test,
        columns=None if parsed.source is None else parsed.source.columns,
        source=None if parsed.source is None or parsed.source.columns.are_numbers else parsed.source,
    )


def _check_target(parsed: Parsed, y: np.ndarray, file: Path) -> None:
    if y.dtype.kind == "f":
        flat = y.reshape(len(y), -1)
        check_numbers(flat, [parsed.target] * flat.shape[1], str(file))


def _places(file: Path, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    if len(unknown := np.setdiff1d(labels, classes)):
        raise DataError(f"{file}: the test rows have a class {unknown.tolist()[0]!r} that the training rows lack")
    return np.searchsorted(classes, labels)


def _numbers(file: Path, target: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "biuf":
        raise DataError(
            f"{file}: the target {target!r} holds text ({y.flat[0]!r}) where regression wants numbers: "
            "ask for classification"
        )
    return y.astype(np.float64)
