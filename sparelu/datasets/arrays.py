"""NumPy files: NPY (one matrix, mapped from the file) and NPZ (named arrays); nothing is unpickled."""

import contextlib
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.data import DataError, Rows
from sparelu.datasets.rows import KeptColumns, check_growth
from sparelu.datasets.table_rows import TableRows

NPY_MAGIC = b"\x93NUMPY"
NO_OBJECTS = "a complete file of plain numbers is wanted (Python objects are never unpickled)"
X_NAMES = ("x", "X", "data", "x_train", "X_train")
Y_NAMES = ("y", "Y", "target", "y_train", "Y_train")


@dataclass(frozen=True)
class Parsed:
    """What a file gives: inputs, the target as it stands there, names; test rows where the file has them apart."""

    x: Rows
    y: np.ndarray
    names: tuple[str, ...] = ()
    target: str = "y"
    image: tuple[int, ...] | None = None
    test: tuple[Rows, np.ndarray] | None = None
    source: TableRows | None = None


def open_npy(path: Path) -> np.ndarray:
    """Return the matrix (n, columns), mapped from the file.

    Raises :class:`~sparelu.data.DataError` for Python objects, another number of dimensions, or no rows.
    """
    with path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise DataError(f"{path} is not an NPY file: write it with numpy.save")
        file.seek(0)
        shape, dtype = _header(path, file, path.stat().st_size)
    if 0 in shape:
        raise DataError(f"{path} has no rows or no columns: shape {shape}")
    float_type(dtype, path)
    with _damage(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2:
        raise DataError(f"{path} must hold one matrix (rows, columns), got shape {array.shape}")
    return array


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what NumPy and zipfile raise for a damaged file into :class:`~sparelu.data.DataError`."""
    try:
        yield
    except DataError:
        raise
    except (
        *DAMAGES,
        OverflowError,
        KeyError,
        RuntimeError,
        NotImplementedError,
        struct.error,
        tokenize.TokenError,
    ) as error:
        raise DataError(f"{path}: {error}; {NO_OBJECTS}") from None


DAMAGES = (ValueError, OSError, EOFError, TypeError, SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error)


def _header(path: Path, file: Any, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array that takes ``size`` bytes of a file, before anything is allocated for it.

    Raises :class:`~sparelu.data.DataError` for Python objects, and for more numbers than there are bytes.
    """
    with _damage(path):
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{path} holds Python objects; {NO_OBJECTS}")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise DataError(f"{path}: an array of shape {str(shape):.100} does not fit its {size} bytes; {NO_OBJECTS}")
    return shape, dtype


def read_npy(path: Path, target: str | int | None) -> Parsed:
    """Return the target is a column number, the last when not given; inputs keep their numbers as names x0, x1, ..."""
    array = open_npy(path)
    columns = array.shape[1]
    try:
        number = int(-1 if target is None else target)
    except ValueError:
        raise DataError(f"{path} has no column names: give the target as a number from 0 to {columns - 1}") from None
    if not -columns <= number < columns:
        raise DataError(f"{path} has no column number {number}: it has {columns}, counted from 0")
    if columns == 1:
        raise DataError(f"{path} has one column only: inputs and a target are wanted")
    keep = np.delete(np.arange(columns), number)
    x = KeptColumns(array, keep, float_type(array.dtype, path))
    names = tuple(f"x{i}" for i in keep)
    return Parsed(x, np.array(array[:, number]), names, f"x{number % columns}")


def npy_inputs(path: Path, names: Sequence[str]) -> tuple[Rows, str | None]:
    """Return inputs of a matrix with one column for each name, or with the target column still among them."""
    array = open_npy(path)
    dtype, columns = float_type(array.dtype, path), array.shape[1]
    if columns == len(names):
        return KeptColumns(array, np.arange(columns), dtype), None
    numbers = [int(m[1]) for name in names if (m := re.fullmatch(r"x(\d+)", name))]
    if columns == len(names) + 1 and len(numbers) == len(names) and max(numbers) < columns:
        extra = next(i for i in range(columns) if i not in numbers)
        return KeptColumns(array, np.array(numbers), dtype), f"column {extra} is not an input and is ignored"
    raise DataError(f"{path} has {columns} columns; the model reads {len(names)}: {', '.join(names[:10])}")


def float_type(dtype: np.dtype[Any], path: Path) -> np.dtype[Any]:
    """Return the float type that holds the numbers exactly: float32 for up to 16 bits and for float32, else float64.

    Raises :class:`~sparelu.data.DataError` for anything but real numbers and booleans.
    """
    if dtype.kind not in "biuf":
        raise DataError(f"{path} holds values of type {dtype}: real numbers are wanted")
    return np.dtype(np.float32) if dtype.itemsize <= 2 or dtype == np.float32 else np.dtype(np.float64)


@dataclass(frozen=True)
class NamedArrays:
    """The arrays of an NPZ file, each decoded when asked."""

    path: Path
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> np.ndarray:
        """Decode one. Raises :class:`~sparelu.data.DataError` when it is damaged, grows too large or holds objects."""
        where = Path(f"{self.path}[{name}]")
        with _damage(where), zipfile.ZipFile(self.path) as archive:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as file:
                shape, dtype = _header(where, file, member.file_size)
            numbers = math.prod(shape)
            check_growth(where, max(numbers * 8, member.file_size), self.path.stat().st_size)
            with archive.open(member) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def open_npz(path: Path) -> NamedArrays:
    """Open an archive of arrays. Raises :class:`~sparelu.data.DataError` when the file is no archive of arrays."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an NPZ file, or is cut short: write it with numpy.savez")
    with _damage(path), zipfile.ZipFile(path) as archive:
        return NamedArrays(path, tuple(n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")))


def read_npz(path: Path, target: str | int | None) -> Parsed:
    """Return arrays x and y (or X/Y, data/target, x_train/y_train with x_test/y_test); ``target`` names another y.

    Rows of more than one dimension are images: they are laid flat, and their shape is kept.
    """
    arrays = open_npz(path)
    x_name = _found(path, arrays, X_NAMES, "inputs")
    y_name = _found(path, arrays, Y_NAMES if target is None else (str(target),), "the target")
    x, image = _flat(path, arrays[x_name])
    y = _targets(path, y_name, arrays[y_name])
    test = None
    if x_name.endswith("_train"):
        x_test, y_test = x_name.replace("train", "test"), y_name.replace("train", "test")
        if x_test in arrays.names and y_test in arrays.names and y_test != y_name:
            test = _flat(path, arrays[x_test])[0], _targets(path, y_test, arrays[y_test])
            if test[0].shape[1] != x.shape[1]:
                raise DataError(f"{path}: {x_test} has {test[0].shape[1]} columns and {x_name} {x.shape[1]}")
    return Parsed(x, y, (), y_name, image, test)


def _targets(path: Path, name: str, y: np.ndarray) -> np.ndarray:
    """One value a row (n,), or several (n, k)."""
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"{path}: the target {name!r} has shape {y.shape}: one value (or several) a row are wanted")
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def npz_inputs(path: Path, names: Sequence[str]) -> tuple[Rows, str | None]:
    """Return the inputs array, or the test inputs where the file has only these; as many columns as names."""
    arrays = open_npz(path)
    key = _found(path, arrays, (*X_NAMES, "x_test", "X_test"), "inputs")
    x, _ = _flat(path, arrays[key])
    if x.shape[1] != len(names):
        raise DataError(f"{path} has {x.shape[1]} columns in {key!r}; the model reads {len(names)}")
    ignored = [name for name in arrays.names if name != key]
    return x, f"arrays {', '.join(ignored)} are not inputs and are ignored" if ignored else None


def _found(path: Path, arrays: NamedArrays, wanted: Sequence[str], what: str) -> str:
    for name in wanted:
        if name in arrays.names:
            return name
    raise DataError(
        f"{path} has no array for {what}: wanted {' or '.join(wanted)}, "
        f"it has {', '.join(arrays.names)[:300] or 'none'}"
    )


def _flat(path: Path, x: np.ndarray) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Return rows laid flat in a float type, and the image shape where a row had one."""
    if x.ndim == 0 or 0 in x.shape:
        raise DataError(f"{path} has no rows or no columns: the inputs have shape {x.shape}")
    flat = x.reshape(len(x), -1).astype(float_type(x.dtype, path), copy=False)
    return flat, x.shape[1:] if x.ndim > 2 else None
