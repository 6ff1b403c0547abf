"""A solution or a state on disk: safetensors with a JSON header; nothing is pickled, every write is atomic."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from sparelu.data import Budget
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Assumption, Certificate, Solution, State, Status

FORMAT = 3
"""Version of the file format; a reader takes its own and every older one. 2 has convolutions, 3 claims with data."""

GEOMETRY = ("image", "side", "stride", "padding")
"""What is stored of a convolution beside its kernel."""


class StoreError(ValueError):
    """A file is missing, truncated, changed, of another kind, or from a newer version."""


def save(solution: Solution, path: str | Path) -> int:
    """Write ``solution`` to ``path``; the bytes written. Raises ``OSError`` and leaves the old file when that fails."""
    arrays: dict[str, np.ndarray] = {}
    for i, part in enumerate(solution.network.parts):
        arrays |= _layer_arrays(f"layer{i}", part.kernel)
    if solution.network.skip is not None:
        arrays |= _layer_arrays("skip", solution.network.skip)
    return _write(Path(path), "solution", arrays, _header(solution))


def weight_bytes(network: Network) -> int:
    """Bytes that the weights, indices and biases of ``network`` take in a file, its header left out."""
    layers = [*(part.kernel for part in network.parts), *([network.skip] if network.skip is not None else [])]
    return sum(array.nbytes for layer in layers for array in _layer_arrays("", layer).values())


def load(path: str | Path) -> Solution:
    """Read a solution. Raises :class:`StoreError` saying what is wrong with the file."""
    arrays, header = _read(Path(path), "solution")
    count = len(header["shapes"]) - header["skip"]
    layers = [_read_layer(f"layer{i}", header["shapes"][i], arrays) for i in range(count)]
    geometry = {int(i): dict(g, image=tuple(g["image"])) for i, g in header.get("convolutions", {}).items()}
    parts = tuple(Convolution(layer, **geometry[i]) if i in geometry else layer for i, layer in enumerate(layers))
    skip = _read_layer("skip", header["shapes"][-1], arrays) if header["skip"] else None
    budget = dict(header["budget"])
    budget |= {name: tuple(budget.get(name, ())) for name in ("hidden", "channels")}
    return Solution(
        network=Network(parts, skip),
        status=Status[header["status"]],
        budget=Budget(**budget),
        certificates=tuple(_certificate(c) for c in header["certificates"]),
        classes=tuple(header["classes"]),
        names=tuple(header["names"]),
        history=tuple(header["history"]),
        **header["plain"],
    )


def save_state(state: State, path: str | Path) -> int:
    """Write a method's state (nested mappings of tensors, arrays and JSON values); the bytes written."""
    arrays: dict[str, np.ndarray] = {}
    return _write(Path(path), "state", arrays, _flatten(state, "", arrays))


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; every array comes back as a tensor."""
    arrays, header = _read(Path(path), "state")
    return _unflatten(header, "", arrays)


PLAIN = ("method", "settings", "seed", "within_budget", "seconds", "peak_memory", "task", "versions", "about")


def _header(solution: Solution) -> dict[str, Any]:
    net = solution.network
    layers = [*(part.kernel for part in net.parts), *([net.skip] if net.skip is not None else [])]
    convolutions = {str(i): part for i, part in enumerate(net.parts) if isinstance(part, Convolution)}
    return {
        "convolutions": {i: {name: getattr(part, name) for name in GEOMETRY} for i, part in convolutions.items()},
        "shapes": [list(layer.shape) for layer in layers],
        "skip": int(net.skip is not None),
        "status": solution.status.name,
        "plain": {k: getattr(solution, k) for k in PLAIN},
        "budget": {f.name: getattr(solution.budget, f.name) for f in fields(Budget) if f.init},
        "classes": list(solution.classes),
        "names": list(solution.names),
        "history": [dict(h) for h in solution.history],
        "certificates": [asdict(c) for c in solution.certificates],
    }


def _certificate(given: dict[str, Any]) -> Certificate:
    return Certificate(**{**given, "assumptions": tuple(Assumption(**a) for a in given["assumptions"])})


def _layer_arrays(name: str, layer: Layer) -> dict[str, np.ndarray]:
    cpu = layer.to(device="cpu")
    arrays = {"indptr": _small(cpu.indptr), "indices": _small(cpu.indices), "values": cpu.values.numpy()}
    if cpu.rows.numel() < layer.shape[0]:
        arrays["rows"] = _small(cpu.rows)
    if cpu.bias is not None:
        arrays["bias"] = cpu.bias.numpy()
    return {f"{name}.{key}": np.ascontiguousarray(a) for key, a in arrays.items()}


def _small(index: Tensor) -> np.ndarray:
    """Indices in the smallest unsigned type that holds them."""
    top = int(index.max()) if index.numel() else 0
    return index.numpy().astype(np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.uint32)


def _read_layer(name: str, shape: list[int], arrays: Mapping[str, np.ndarray]) -> Layer:
    given = {k.removeprefix(name + "."): a for k, a in arrays.items() if k.startswith(name + ".")}
    rows = given.get("rows", np.arange(shape[0]))
    live, indptr, indices = (torch.from_numpy(a.astype(np.int32)) for a in (rows, given["indptr"], given["indices"]))
    bias = torch.from_numpy(given["bias"].copy()) if "bias" in given else None
    return Layer((shape[0], shape[1]), live, indptr, indices, torch.from_numpy(given["values"].copy()), bias)


def _flatten(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[path] = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return {"__array__": path}
    if isinstance(value, Mapping):
        return {k: _flatten(v, f"{path}/{k}", arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _unflatten(value: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            return torch.from_numpy(arrays[value["__array__"]].copy())
        return {k: _unflatten(v, f"{path}/{k}", arrays) for k, v in value.items()}
    return [_unflatten(v, f"{path}/{i}", arrays) for i, v in enumerate(value)] if isinstance(value, list) else value


def _digest(arrays: Mapping[str, np.ndarray], header: str) -> str:
    total = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        total.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _write(path: Path, kind: str, arrays: dict[str, np.ndarray], header: Any) -> int:
    text = json.dumps(header, sort_keys=True)
    meta = {"sparelu": kind, "format": str(FORMAT), "header": text, "sha256": _digest(arrays, text)}
    return write_atomically(path, save_arrays(arrays, metadata=meta))


def write_atomically(path: Path, content: bytes) -> int:
    """Write beside ``path``, flush to disk, then rename over it: at any moment the old file or the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return len(content)


def _read(path: Path, kind: str) -> tuple[dict[str, np.ndarray], Any]:
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    content = path.read_bytes()
    try:
        size = int.from_bytes(content[:8], "little")
        meta = json.loads(content[8 : 8 + size])["__metadata__"]
        arrays = load_arrays(content)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise StoreError(f"{path}: truncated, or not a file of sparelu; restore it from a copy") from None
    if meta.get("sparelu") != kind:
        raise StoreError(f"{path}: holds {meta.get('sparelu', 'something else')!r}, wanted {kind!r}")
    if int(meta["format"]) > FORMAT:
        raise StoreError(
            f"{path}: written by a newer sparelu (format {meta['format']}, this one reads up to {FORMAT}): "
            "upgrade with pip install -U sparelu"
        )
    if _digest(arrays, meta["header"]) != meta["sha256"]:
        raise StoreError(f"{path}: the content does not match its checksum: it was changed or damaged")
    return arrays, json.loads(meta["header"])
