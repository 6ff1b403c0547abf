"""The state of a module on disk, each tensor in the smallest of four forms: dense, bitmap, uint16 or int32 rows.

What a file says of a weight does not depend on how the module that wrote it held it: masks over dense layers, or
:class:`SparseLinear`. Either reads the other's. Every bit is kept but one: where zeros are left out, a negative zero
comes back as a positive one (masks that multiply leave half of the dropped weights as negative zeros).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparelu import store
from sparelu.json_form import listed, record, text, whole
from sparelu.nn import support
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.support import INT32_MAX, WHOLE
from sparelu.store import StoreError

KIND = "sparse module"
ARRAYS: dict[str, dict[str, torch.dtype]] = {
    "dense": {},
    "bitmap": {"bitmap": torch.uint8},
    "rows16": {"indptr": torch.int32, "indices": torch.uint16},
    "rows32": {"indptr": torch.int32, "indices": torch.int32},
}
"""What each form stores beside the values."""
INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
DTYPES = {
    str(t): t
    for t in vars(torch).values()
    if isinstance(t, torch.dtype) and t.itemsize in WHOLE and (t.is_floating_point or t.is_complex or t in INTEGERS)
}
ENTRY = record({"form": text, "shape": listed(whole(0, INT32_MAX)), "dtype": text}, open=True)


def form_bytes(shape: tuple[int, ...], nonzeros: int, itemsize: int) -> dict[str, int]:
    """Count the bytes of each form for a tensor of ``shape``, taken as a matrix of its first dimension and the rest.

    Dense: all values. Bitmap: one bit for each place. Rows: four bytes for each row and one more, and two or four
    for each nonzero. All but the first add the nonzero values. uint16 is left out above 65536 columns.
    """
    rows, columns = matrix_of(shape)
    values, starts = nonzeros * itemsize, 4 * (rows + 1)
    sizes = {
        "dense": rows * columns * itemsize,
        "bitmap": -(-rows * columns // 8) + values,
        "rows16": starts + 2 * nonzeros + values,
        "rows32": starts + 4 * nonzeros + values,
    }
    if columns > 2**16:
        del sizes["rows16"]
    return sizes


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of a tensor taken as a matrix."""
    rows = shape[0] if shape else 1
    return rows, int(np.prod(shape[1:], dtype=np.int64))


def save_sparse(module: nn.Module, path: str | Path) -> int:
    """Write parameters and buffers of ``module`` to ``path``; the bytes written.

    Safetensors with a JSON header and a checksum; nothing is pickled. Raises ``ValueError`` for a state that holds
    anything but tensors, ``OSError`` when the disk refuses, and then leaves the old file.
    """
    layers = {n: m for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, SparseLinear)}
    tensors: dict[str, Any] = {}
    for name, value in module.state_dict().items():
        prefix, _, last = name.rpartition(".")
        if prefix in layers and last in ("indptr", "indices"):
            continue
        if prefix in layers and last == "values":
            tensors[f"{prefix}.weight".lstrip(".")] = _encoded_layer(layers[prefix])
        elif isinstance(value, Tensor):
            tensors[name] = _encoded(value)
        else:
            raise ValueError(f"{name} is a {type(value).__name__}: only modules whose state is tensors can be saved")
    return store.save_state({"kind": KIND, "tensors": tensors}, path)


def load_sparse(module: nn.Module, path: str | Path) -> None:
    """Read what :func:`save_sparse` wrote into a module of the same names and shapes.

    Weights of :class:`SparseLinear` take the support of the file. Raises
    :class:`~sparelu.store.StoreError` for a file that is truncated, changed or of another kind, and for one of another
    model, naming what differs; the module is then as before.
    """
    encoded = _read(path)
    layers = {n: m for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, SparseLinear)}
    _check(path, _described(module, layers), encoded)
    loaded: dict[str, Tensor] = {}
    for name, given in encoded.items():
        prefix, _, last = name.rpartition(".")
        try:
            if prefix in layers and last == "weight":
                places, values = _nonzeros(given)
                indptr, indices = support.compressed(places, layers[prefix].shape)
                named = {"values": values, "indptr": indptr, "indices": indices}
                loaded |= {f"{prefix}.{k}".lstrip("."): t for k, t in named.items()}
            else:
                loaded[name] = _decoded(given)
        except ValueError as error:
            raise StoreError(f"{path}: {name}: {error}; it was changed or damaged") from None
    module.load_state_dict(loaded)


def forms(path: str | Path) -> dict[str, str]:
    """Read the form of each tensor in a file; raises :class:`~sparelu.store.StoreError` as :func:`load_sparse`."""
    return {name: given.form for name, given in _read(path).items()}


@dataclass(frozen=True)
class Encoded:
    """A tensor as a file has it. The arrays fit the form; whether the places lie in the shape is not looked at yet."""

    form: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    arrays: Mapping[str, Tensor]

    @property
    def values(self) -> Tensor:
        """Return the values that are stored, in their type."""
        return self.arrays["values"].view(self.dtype)


def _read(path: str | Path) -> dict[str, Encoded]:
    state = store.load_state(path)
    if state.get("kind") != KIND or not isinstance(state.get("tensors"), dict):
        raise StoreError(f"{path}: holds no module; it was not written by save_sparse")
    try:
        return {name: _encoded_of(given, name) for name, given in state["tensors"].items()}
    except ValueError as error:
        raise StoreError(f"{path}: {error}; it was changed or damaged") from None


def _encoded_of(given: Any, name: str) -> Encoded:
    """Read an entry of a file; raise ``ValueError`` for one that is none, or whose arrays are not of its form."""
    ENTRY(given, name)
    if given["form"] not in ARRAYS:
        raise ValueError(f"{name}.form is {given['form']!r:.40}")
    kinds = {"values", *ARRAYS[given["form"]]}
    arrays = {k: v for k, v in given.items() if isinstance(v, Tensor)}
    if arrays.keys() != kinds or given.keys() != {*kinds, "form", "shape", "dtype"}:
        raise ValueError(f"{name} has {', '.join(sorted(given))[:200]}, wanted {', '.join(sorted(kinds))}")
    if given["dtype"] not in DTYPES:
        raise ValueError(f"{name}.dtype is {given['dtype']!r:.40}")
    dtype = DTYPES[given["dtype"]]
    wanted = {"values": WHOLE[dtype.itemsize], **ARRAYS[given["form"]]}
    for key, array in arrays.items():
        if array.dtype != wanted[key] or array.ndim != 1:
            raise ValueError(f"{name}.{key} has type {array.dtype} and {array.ndim} dimensions")
    return Encoded(given["form"], tuple(given["shape"]), dtype, arrays)


def _described(module: nn.Module, layers: Mapping[str, SparseLinear]) -> dict[str, tuple[list[int], str]]:
    """Return shape and type of every tensor that a file of ``module`` holds."""
    found: dict[str, tuple[list[int], str]] = {}
    for name, value in module.state_dict().items():
        prefix, _, last = name.rpartition(".")
        if prefix in layers and last in ("indptr", "indices"):
            continue
        if prefix in layers and last == "values":
            found[f"{prefix}.weight".lstrip(".")] = (list(layers[prefix].shape), str(value.dtype))
        else:
            found[name] = (list(value.shape), str(value.dtype))
    return found


def _check(path: str | Path, wanted: Mapping[str, tuple[list[int], str]], given: Mapping[str, Encoded]) -> None:
    odd = sorted(wanted.keys() ^ given.keys())
    if odd:
        where = "the file" if odd[0] in given else "the module"
        raise StoreError(f"{path}: is of another model: only {where} has {odd[0]} ({len(odd)} names differ)")
    for name, (shape, dtype) in wanted.items():
        found = given[name]
        if found.shape != tuple(shape) or str(found.dtype) != dtype:
            raise StoreError(
                f"{path}: is of another model: {name} is {found.dtype} of shape {found.shape} there and "
                f"{dtype} of shape {tuple(shape)} here"
            )


def _encoded_layer(layer: SparseLinear) -> dict[str, Any]:
    values = layer.values.detach().cpu()
    return _in_form(layer.shape, values.dtype, layer.places.cpu(), values)


def _encoded(tensor: Tensor) -> dict[str, Any]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    places = flat.nonzero()[:, 0]
    if min(form_bytes(tuple(tensor.shape), len(places), flat.itemsize).values()) == flat.nbytes:
        return _header("dense", tuple(tensor.shape), flat.dtype) | {"values": _bits(flat)}
    return _in_form(tuple(tensor.shape), flat.dtype, places, flat.index_select(0, places))


def _in_form(shape: tuple[int, ...], dtype: torch.dtype, places: Tensor, values: Tensor) -> dict[str, Any]:
    sizes = form_bytes(shape, len(places), values.itemsize)
    if not bool(values.all()):
        del sizes["dense"]  # it would lose the places of stored zeros
    form = min(sizes, key=sizes.__getitem__)
    rows, columns = matrix_of(shape)
    coded = _header(form, shape, dtype)
    if form == "dense":
        return coded | {"values": _bits(torch.zeros(rows * columns, dtype=dtype).index_copy_(0, places, values))}
    coded["values"] = _bits(values)
    if form == "bitmap":
        alive = np.zeros(rows * columns, dtype=bool)
        alive[places.numpy()] = True
        return coded | {"bitmap": np.packbits(alive)}
    indptr, indices = support.compressed(places, (rows, columns))
    small = np.uint16 if form == "rows16" else np.int32
    return coded | {"indptr": indptr, "indices": indices.numpy().astype(small)}


def _header(form: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    return {"form": form, "shape": list(shape), "dtype": str(dtype)}


def _nonzeros(given: Encoded) -> tuple[Tensor, Tensor]:
    """Return places, increasing, and values. Raises ``ValueError`` for arrays that do not fit the shape."""
    rows, columns = matrix_of(given.shape)
    values, arrays = given.values, given.arrays
    if given.form == "dense":
        if len(values) != rows * columns:
            raise ValueError(f"{len(values)} values for the shape {given.shape}")
        places = values.nonzero()[:, 0]
        return places, values.index_select(0, places)
    if given.form == "bitmap":
        if len(arrays["bitmap"]) != -(-rows * columns // 8):
            raise ValueError(f"a bitmap of {len(arrays['bitmap'])} bytes for the shape {given.shape}")
        places = torch.from_numpy(np.flatnonzero(np.unpackbits(arrays["bitmap"].numpy(), count=rows * columns)))
    else:
        indices = arrays["indices"].to(torch.int32)
        support.check_compressed(arrays["indptr"], indices, (rows, columns), given.form)
        places = support.places_of(arrays["indptr"], indices, columns)
    if len(places) != len(values):
        raise ValueError(f"{len(values)} values for {len(places)} places")
    return places, values


def _decoded(given: Encoded) -> Tensor:
    rows, columns = matrix_of(given.shape)
    if given.form == "dense":
        if len(given.values) != rows * columns:
            raise ValueError(f"{len(given.values)} values for the shape {given.shape}")
        return given.values.reshape(given.shape)
    places, values = _nonzeros(given)
    return torch.zeros(rows * columns, dtype=given.dtype).index_copy_(0, places, values).reshape(given.shape)


def _bits(values: Tensor) -> Tensor:
    """Return the values as whole numbers of their size: their bits, in a type that every format has."""
    return values.view(WHOLE[values.itemsize])
