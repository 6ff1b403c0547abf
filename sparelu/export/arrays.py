"""A network as plain NumPy and SciPy arrays."""

import contextlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from sparelu.export.plain import plain_network
from sparelu.networks.network import Layer, Network
from sparelu.writing import write_atomically

ARRAYS = {"data", "indices", "indptr", "shape", "bias", "format", "_is_array"}
"""What the file of a layer holds."""


def to_arrays(network: Network) -> dict[str, sparse.csr_array | np.ndarray]:
    """Return weights and biases by name: ``layer0.weight`` (outputs, inputs) in CSR, ``layer0.bias`` (outputs,), and so
    on.

    With ``h = x`` and ``h = maximum(h @ weight.T + bias, 0)`` for each layer but the last, which has no maximum, the
    outputs are ``h``; where there is a ``skip.weight``, plus ``x @ skip.weight.T``. Hidden units are those of
    ``network.compact()``; the numbers have the network's own type.
    """
    found: dict[str, sparse.csr_array | np.ndarray] = {}
    for name, layer in _named(plain_network(network, network.dtype)).items():
        found[f"{name}.weight"] = layer.to_scipy()
        if name != "skip":
            found[f"{name}.bias"] = layer.dense_bias().numpy()
    return found


def to_numpy(network: Network, folder: str | Path) -> int:
    """Write the files of :func:`npz_files` into ``folder``; the bytes written.

    Layer files of an earlier export that this network does not have are removed: those that hold what is written here.
    """
    at, files = Path(folder), npz_files(network)
    for old in at.glob("*.npz"):
        is_layer = old.stem == "skip" or re.fullmatch(r"layer\d+", old.stem)
        if old.name not in files and is_layer and _holds_layer(old):
            old.unlink()
    return sum(write_atomically(at / name, content) for name, content in files.items())


def _holds_layer(path: Path) -> bool:
    """Say whether a file has the arrays of a layer, and no others."""
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as file:
        return {Path(name).stem for name in file.namelist()} == ARRAYS - ({"bias"} if path.stem == "skip" else set())
    return False


def npz_files(network: Network) -> dict[str, bytes]:
    """Return ``layer0.npz``, ``layer1.npz``, ... and ``skip.npz``.

    Each opens with ``scipy.sparse.load_npz`` as the weight of :func:`to_arrays`, and with ``numpy.load`` as the
    arrays ``data``, ``indices``, ``indptr``, ``shape`` and ``bias`` (the skip part has none).
    """
    return {f"{name}.npz": _npz(layer, name) for name, layer in _named(plain_network(network, network.dtype)).items()}


def _named(network: Network) -> dict[str, Layer]:
    layers = {f"layer{i}": layer for i, layer in enumerate(network.layers)}
    return layers if network.skip is None else {**layers, "skip": network.skip}


def _npz(layer: Layer, name: str) -> bytes:
    w = layer.to_scipy()
    arrays: dict[str, Any] = {"data": w.data, "indices": w.indices, "indptr": w.indptr, "shape": np.array(w.shape)}
    if name != "skip":
        arrays["bias"] = layer.dense_bias().numpy()
    arrays |= {"format": np.array(b"csr"), "_is_array": np.array(True)}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()
