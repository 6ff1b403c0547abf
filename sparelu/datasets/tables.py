"""Data from files: CSV, Parquet, NPY and NPZ; for fitting with a target, and for prediction by column names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.data import Data, DataError, Rows
from sparelu.datasets.arrays import Parsed, npy_inputs, npz_inputs, read_npy, read_npz
from sparelu.datasets.arrow import ColumnFile, check_inputs, labels_of, open_csv, open_parquet, pick
from sparelu.datasets.rows import check_numbers
from sparelu.method import nearest

WHOLE_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for labels."""


@dataclass(frozen=True)
class Format:
    """How files of one ending are read: with a target, and for prediction (rows, and what was ignored)."""

    read: Callable[[Path, str | int | None], Parsed]
    inputs: Callable[[Path, Sequence[str]], tuple[Rows, str | None]]


def read_table(path: str | Path, target: str | int | None = None, task: str | None = None) -> Data:
    """Data of a file, checked: every row once.

    ``target`` is a column by name or number (CSV, Parquet; needed), a column number (NPY; the last when not
    given) or the name of an array (NPZ). Without ``task``, a target of texts or booleans, or of whole numbers
    with at most 20 distinct values, makes it classification, any other regression. Columns are float64; NPY and
    NPZ keep float32. NPY is mapped from the file and Parquet read by row groups, so both may be larger than
    memory (the target column may not); CSV is read into memory: convert a larger one to Parquet.

    Raises :class:`~sparelu.data.DataError` for anything that cannot be used; rows are counted from 0.
    """
    file = _existing(path)
    parsed = _format(file).read(file, target)
    if len(parsed.y) != parsed.x.shape[0]:
        raise DataError(f"{file} has {parsed.x.shape[0]} rows of inputs and {len(parsed.y)} of targets")
    found = task or _task(parsed.y)
    if found not in ("regression", "classification"):
        raise DataError(f"task must be 'regression' or 'classification', got {task!r}")
    names = parsed.names or tuple(f"x{i}" for i in range(parsed.x.shape[1]))
    parts = [(parsed.x, parsed.y)] + ([parsed.test] if parsed.test else [])
    for x, y in parts:
        check_numbers(x, names, str(file))
        if y.dtype.kind == "f":
            check_numbers(y.reshape(len(y), -1), [parsed.target] * max(1, y[:1].size), str(file))
    make = partial(Data, task=found, names=names, name=file.name, target=parsed.target, image=parsed.image)
    encode = _labels(parsed.y, file, parsed.target) if found == "classification" else _numbers(file, parsed.target)
    classes = encode.classes
    test = make(parts[1][0], encode(parts[1][1]), classes=classes) if len(parts) == 2 else None
    y = encode(parsed.y)
    if found == "regression" and not np.ptp(y, axis=0).any():
        raise DataError(f"{file}: the target {parsed.target!r} is constant ({y.flat[0]:g}): there is nothing to fit")
    return make(parsed.x, y, classes=classes, test=test)


def columns_for(path: str | Path, names: Sequence[str]) -> tuple[Rows, str | None]:
    """Inputs (n, d) of a file for a model that was fitted on columns ``names``, and a note on what was ignored.

    In CSV and Parquet the columns are found by name, in any order; in NPY and NPZ they are as many as names.
    Raises :class:`~sparelu.data.DataError` naming missing columns, and for values as in :func:`read_table`.
    """
    file = _existing(path)
    x, note = _format(file).inputs(file, names)
    check_numbers(x, names, str(file))
    return x, note


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if not file.exists():
        raise DataError(f"there is no file {str(file)!r}")
    if not file.is_file():
        raise DataError(f"{str(file)!r} is not a file")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes)")
    return file


def _format(file: Path) -> Format:
    found = FORMATS.get(file.suffix.lower())
    if found is None:
        raise DataError(
            f"{file}: files that end in {file.suffix or 'nothing'!r} are not read; known: {', '.join(FORMATS)}"
        )
    return found


def _read_columns(opened: Callable[[Path], ColumnFile], path: Path, target: str | int | None) -> Parsed:
    file = opened(path)
    names = file.names
    at = pick(target, names, path)
    inputs = names[:at] + names[at + 1 :]
    if not inputs:
        raise DataError(f"{path} has the target column {names[at]!r} only: inputs are wanted too")
    check_inputs(file, inputs)
    return Parsed(file.numbers(inputs), labels_of(file, names[at]), tuple(inputs), names[at])


def _column_inputs(opened: Callable[[Path], ColumnFile], path: Path, names: Sequence[str]) -> tuple[Rows, str | None]:
    file = opened(path)
    if missing := [name for name in names if name not in file.names]:
        listed = ", ".join(map(repr, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise DataError(
            f"{path} lacks {len(missing)} of the {len(names)} columns that the model reads: {listed}; for the first, "
            f"{nearest(missing[0], file.names)}"
        )
    check_inputs(file, names)
    wanted = set(names)
    extra = [name for name in file.names if name not in wanted]
    listed = ", ".join(map(repr, extra[:10])) + (", ..." if len(extra) > 10 else "")
    return file.numbers(names), f"{len(extra)} column(s) are not inputs and are ignored: {listed}" if extra else None


FORMATS = {
    ".csv": Format(partial(_read_columns, open_csv), partial(_column_inputs, open_csv)),
    ".parquet": Format(partial(_read_columns, open_parquet), partial(_column_inputs, open_parquet)),
    ".npy": Format(read_npy, npy_inputs),
    ".npz": Format(read_npz, npz_inputs),
}


def _task(y: np.ndarray) -> str:
    """The rule of :func:`read_table`."""
    if y.dtype.kind not in "iuf":
        return "classification"
    if y.ndim > 1 or not (y.dtype.kind in "iu" or np.array_equal(y, np.floor(y))):
        return "regression"
    return "classification" if len(np.unique(y)) <= WHOLE_CLASSES else "regression"


@dataclass(frozen=True)
class _Encoding:
    """Turns a target as it stands in the file into what :class:`~sparelu.data.Data` wants."""

    encode: Callable[[np.ndarray], np.ndarray]
    classes: tuple[Any, ...] = ()

    def __call__(self, y: np.ndarray) -> np.ndarray:
        return self.encode(y)


def _labels(y: np.ndarray, file: Path, target: str) -> _Encoding:
    if y.ndim > 1:
        raise DataError(f"{file}: labels must have one value a row, {target!r} has shape {y.shape}")
    classes = np.unique(y)
    if len(classes) < 2:
        raise DataError(f"{file}: the target {target!r} has one class only ({classes[0]!r}): at least two are needed")

    def encode(labels: np.ndarray) -> np.ndarray:
        if len(unknown := np.setdiff1d(labels, classes)):
            raise DataError(f"{file}: the test rows have a class {unknown[0]!r} that the training rows lack")
        return np.searchsorted(classes, labels)

    return _Encoding(encode, tuple(classes.tolist()))


def _numbers(file: Path, target: str) -> _Encoding:
    def encode(y: np.ndarray) -> np.ndarray:
        if y.dtype.kind not in "biuf":
            raise DataError(
                f"{file}: the target {target!r} holds text ({y.flat[0]!r}) where regression wants numbers: "
                "ask for classification"
            )
        return y.astype(np.float64)

    return _Encoding(encode)
