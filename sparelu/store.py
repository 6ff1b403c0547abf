"""A solution or a state on disk: safetensors with a JSON header; nothing is pickled, every write is atomic."""

import contextlib
import functools
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from sparelu.json_form import dumps, loads
from sparelu.networks.layer import INT32_MAX, Layer
from sparelu.networks.network import Network
from sparelu.outcome import Solution, State
from sparelu.solution_form import header_of, solution_of
from sparelu.writing import write_atomically

FORMAT = 3
"""Version of the file format; a reader takes its own and every older one. 2 has convolutions, 3 claims with data."""

SMALL = {"u1", "u2", "u4", "i4", "i8"}
"""Types of indices that are read."""
TORCH = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"}
"""Types of arrays that a state may hold."""


class StoreError(ValueError):
    """A file is missing, truncated, changed, of another kind, or from a newer version."""


def save(solution: Solution, path: str | Path) -> int:
    """Write ``solution`` to ``path``; the bytes written. Raises ``OSError`` and leaves the old file when that fails."""
    arrays: dict[str, np.ndarray] = {}
    for i, part in enumerate(solution.network.parts):
        arrays |= _layer_arrays(f"layer{i}", part.kernel)
    if solution.network.skip is not None:
        arrays |= _layer_arrays("skip", solution.network.skip)
    return _write(Path(path), "solution", arrays, header_of(solution))


def weight_bytes(network: Network) -> int:
    """Count the bytes of the weights, indices and biases of ``network`` in a file, its header left out."""
    layers = [*(part.kernel for part in network.parts), *([network.skip] if network.skip is not None else [])]
    return sum(array.nbytes for layer in layers for array in _layer_arrays("", layer).values())


def load(path: str | Path) -> Solution:
    """Read a solution, in memory of some times the file's size. Raises :class:`StoreError` saying what is wrong."""
    arrays, header = _read(Path(path), "solution")
    with _wrong_in(path):
        return solution_of(header, functools.partial(_read_layer, arrays))


@contextlib.contextmanager
def _wrong_in(path: str | Path) -> Iterator[None]:
    """Turn what is wrong with the content of a file into a :class:`StoreError` that names the file."""
    try:
        yield
    except StoreError:
        raise
    except ValueError as error:
        raise StoreError(f"{path}: {error}; it was changed or damaged, restore it from a copy") from None


def save_state(state: State, path: str | Path) -> int:
    """Write a method's state (nested mappings of tensors, arrays and JSON values); the bytes written."""
    arrays: dict[str, np.ndarray] = {}
    return _write(Path(path), "state", arrays, _flatten(state, "", arrays))


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; every array comes back as a tensor."""
    arrays, header = _read(Path(path), "state")
    if not isinstance(header, dict):
        raise StoreError(f"{path}: holds a {type(header).__name__} where a state belongs")
    with _wrong_in(path):
        found: dict[str, Any] = _unflatten(header, arrays)
    return found


def _layer_arrays(name: str, layer: Layer) -> dict[str, np.ndarray]:
    cpu = layer.to(device="cpu")
    arrays = {"indptr": _small(cpu.indptr), "indices": _small(cpu.indices), "values": cpu.values.numpy()}
    if cpu.rows.numel() < layer.shape[0]:
        arrays["rows"] = _small(cpu.rows)
    if cpu.bias is not None:
        arrays["bias"] = cpu.bias.numpy()
    return {f"{name}.{key}": np.ascontiguousarray(a) for key, a in arrays.items()}


def _small(index: Tensor) -> np.ndarray:
    """Return indices in the smallest unsigned type that holds them."""
    top = int(index.max()) if index.numel() else 0
    return index.numpy().astype(np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.uint32)


def _read_layer(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, int]) -> Layer:
    """Read the layer called ``name``. Raises ``ValueError`` for arrays that do not fit it."""
    given = {k.removeprefix(name + "."): a for k, a in arrays.items() if k.startswith(name + ".")}
    if missing := {"indptr", "indices", "values"} - given.keys():
        raise ValueError(f"{name} has no {', '.join(sorted(missing))}")
    if unknown := given.keys() - {"indptr", "indices", "values", "rows", "bias"}:
        raise ValueError(f"{name} has an unknown array {min(unknown)!r:.60}")
    if any(array.ndim != 1 for array in given.values()):
        raise ValueError(f"{name} has an array that is not one row of numbers")
    rows = len(given["indptr"]) - 1
    if "rows" not in given and rows != shape[0]:  # before so many are counted out
        raise ValueError(f"{name} has {rows} rows of weights for {shape[0]} outputs")
    live = given.get("rows", np.arange(max(rows, 0), dtype=np.int32))
    whole = [_whole(name, k, a) for k, a in (("rows", live), *((k, given[k]) for k in ("indptr", "indices")))]
    values, bias = given["values"], given.get("bias")
    kinds = {array.dtype for array in (values, *(() if bias is None else (bias,)))}
    if not kinds <= {np.dtype(np.float32), np.dtype(np.float64)} or len(kinds) > 1:
        raise ValueError(f"{name} has weights and biases of types {', '.join(sorted(map(str, kinds)))}")
    if bias is not None and len(bias) != len(live):
        raise ValueError(f"{name} has {len(bias)} biases for {len(live)} rows")
    kept = (None if a is None else torch.from_numpy(a.copy()) for a in (values, bias))
    return Layer(shape, *whole, *kept)


def _whole(name: str, key: str, array: np.ndarray) -> Tensor:
    """Return indices as int32. Raises ``ValueError`` for numbers that are not whole, or do not fit."""
    if array.dtype.str[1:] not in SMALL:
        raise ValueError(f"{name}.{key} has numbers of type {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= INT32_MAX:
        raise ValueError(f"{name}.{key} reaches from {array.min()} to {array.max()}")
    return torch.from_numpy(array.astype(np.int32))


def _flatten(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[path] = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return {"__array__": path}
    if isinstance(value, Mapping):
        return {k: _flatten(v, f"{path}/{k}", arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
    plain = value.item() if isinstance(value, np.generic) else value
    return {"__nan__": True} if isinstance(plain, float) and math.isnan(plain) else plain


def _unflatten(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            name = value["__array__"]
            if not isinstance(name, str) or name not in arrays:
                raise ValueError(f"there is no array {name!r:.60}")
            if arrays[name].dtype.str[1:] not in TORCH:
                raise ValueError(f"the array {name:.60} has numbers of type {arrays[name].dtype}")
            return torch.from_numpy(arrays[name].copy())
        if "__nan__" in value:
            return math.nan
        return {k: _unflatten(v, arrays) for k, v in value.items()}
    return [_unflatten(v, arrays) for v in value] if isinstance(value, list) else value


def _digest(arrays: Mapping[str, np.ndarray], header: str) -> str:
    total = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        total.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _write(path: Path, kind: str, arrays: dict[str, np.ndarray], header: Any) -> int:
    text = dumps(header, sort_keys=True)
    meta = {"sparelu": kind, "format": str(FORMAT), "header": text, "sha256": _digest(arrays, text)}
    return write_atomically(path, save_arrays(arrays, metadata=meta))


def _read(path: Path, kind: str) -> tuple[dict[str, np.ndarray], Any]:
    """Read arrays and header. Memory is some times that of the file: no array is larger than its bytes in it."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    content = path.read_bytes()
    try:
        size = int.from_bytes(content[:8], "little")
        meta = loads(content[8 : 8 + size])["__metadata__"]
        arrays = load_arrays(content)
        found, version = meta["sparelu"], int(meta["format"])
        header, signed = meta["header"], meta["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise StoreError(f"{path}: truncated, or not a file of sparelu; restore it from a copy") from None
    if found != kind:
        raise StoreError(f"{path}: holds {found!r:.60}, wanted {kind!r}")
    if version > FORMAT:
        raise StoreError(
            f"{path}: written by a newer sparelu (format {version}, this one reads up to {FORMAT}): "
            "upgrade with pip install -U sparelu"
        )
    if _digest(arrays, header) != signed:
        raise StoreError(f"{path}: the content does not match its checksum: it was changed or damaged")
    with _wrong_in(path):
        return arrays, loads(header)
