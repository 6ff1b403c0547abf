"""The state of a module on disk, each tensor in the smallest of four forms: dense, bitmap, uint16 or int32 rows.

What a file says of a weight does not depend on how the module that wrote it held it: masks over dense layers, or
:class:`SparseLinear`. Either reads the other's. Every bit is kept but one: where zeros are left out, a negative zero
comes back as a positive one (masks that multiply leave half of the dropped weights as negative zeros).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparelu import store
from sparelu.nn import support
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.support import WHOLE
from sparelu.store import StoreError

KIND = "sparse module"


def form_bytes(shape: tuple[int, ...], nonzeros: int, itemsize: int) -> dict[str, int]:
    """Bytes of each form for a tensor of ``shape``, taken as a matrix of its first dimension and the rest.

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
    """Rows and columns of a tensor taken as a matrix."""
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
    state = store.load_state(path)
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise StoreError(f"{path}: holds no module; it was not written by save_sparse")
    tensors: dict[str, Any] = state["tensors"]
    layers = {n: m for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, SparseLinear)}
    wanted = _described(module, layers)
    _check(path, wanted, tensors)
    loaded: dict[str, Tensor] = {}
    for name, given in tensors.items():
        prefix, _, last = name.rpartition(".")
        if prefix in layers and last == "weight":
            places, values = _nonzeros(given)
            indptr, indices = support.compressed(places, layers[prefix].shape)
            named = {"values": values, "indptr": indptr, "indices": indices}
            loaded |= {f"{prefix}.{k}".lstrip("."): t for k, t in named.items()}
        else:
            loaded[name] = _decoded(given)
    module.load_state_dict(loaded)


def forms(path: str | Path) -> dict[str, str]:
    """The form of each tensor in a file, by name."""
    return {name: str(t["form"]) for name, t in store.load_state(path)["tensors"].items()}


def _described(module: nn.Module, layers: Mapping[str, SparseLinear]) -> dict[str, tuple[list[int], str]]:
    """Shape and type of every tensor that a file of ``module`` holds."""
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


def _check(path: str | Path, wanted: Mapping[str, tuple[list[int], str]], given: Mapping[str, Any]) -> None:
    odd = sorted(wanted.keys() ^ given.keys())
    if odd:
        where = "the file" if odd[0] in given else "the module"
        raise StoreError(f"{path}: is of another model: only {where} has {odd[0]} ({len(odd)} names differ)")
    for name, (shape, dtype) in wanted.items():
        found = given[name]
        if list(found["shape"]) != shape or found["dtype"] != dtype:
            raise StoreError(
                f"{path}: is of another model: {name} is {found['dtype']} of shape {tuple(found['shape'])} there and "
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


def _nonzeros(given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Places and values of an encoded tensor."""
    shape, form = tuple(given["shape"]), given["form"]
    dtype = _dtype(given)
    values = given["values"].view(dtype)
    if form == "dense":
        places = values.nonzero()[:, 0]
        return places, values.index_select(0, places)
    rows, columns = matrix_of(shape)
    if form == "bitmap":
        alive = np.unpackbits(given["bitmap"].numpy(), count=rows * columns)
        return torch.from_numpy(np.flatnonzero(alive)), values
    return support.places_of(given["indptr"], given["indices"].to(torch.int32), columns), values


def _decoded(given: Mapping[str, Any]) -> Tensor:
    shape, dtype = tuple(given["shape"]), _dtype(given)
    if given["form"] == "dense":
        return given["values"].view(dtype).reshape(shape)
    places, values = _nonzeros(given)
    rows, columns = matrix_of(shape)
    return torch.zeros(rows * columns, dtype=dtype).index_copy_(0, places, values).reshape(shape)


def _dtype(given: Mapping[str, Any]) -> torch.dtype:
    return getattr(torch, str(given["dtype"]).removeprefix("torch."))


def _bits(values: Tensor) -> Tensor:
    """The values as whole numbers of their size: their bits, in a type that every format has."""
    return values.view(WHOLE[values.itemsize])
