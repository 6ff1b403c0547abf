"""The arrays open with SciPy and NumPy alone and compute the network."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from sparelu.export import to_arrays, to_numpy

from .networks import NETWORKS, expected, random_network, rows

ALONE = """
import sys
import numpy as np
from pathlib import Path
from scipy import sparse

folder = Path(sys.argv[1])
x = np.load(folder / "x.npy")
h, last = x, len(list(folder.glob("layer*.npz"))) - 1
for i in range(last + 1):
    file = folder / f"layer{i}.npz"
    h = h @ sparse.load_npz(file).T + np.load(file)["bias"]
    h = np.maximum(h, 0) if i < last else h
if (folder / "skip.npz").exists():
    h = h + x @ sparse.load_npz(folder / "skip.npz").T
np.save(folder / "out.npy", h)
assert "sparelu" not in sys.modules and "torch" not in sys.modules
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_recipe_of_the_docstring_computes_the_network(name) -> None:
    network = NETWORKS[name]
    x = rows(network)
    arrays = to_arrays(network)
    h, last = x, sum(key.endswith(".bias") for key in arrays) - 1
    for i in range(last + 1):
        h = h @ arrays[f"layer{i}.weight"].T + arrays[f"layer{i}.bias"]
        h = np.maximum(h, 0) if i < last else h
    if "skip.weight" in arrays:
        h = h + x @ arrays["skip.weight"].T
    np.testing.assert_allclose(h, expected(network, x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["deep, with a skip part", "wide"])
def test_files_open_without_sparelu(tmp_path, name) -> None:
    network = NETWORKS[name]
    written = to_numpy(network, tmp_path)
    assert written == sum(f.stat().st_size for f in tmp_path.iterdir())
    assert written < 10_000
    np.save(tmp_path / "x.npy", rows(network))
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], check=True, cwd=tmp_path)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), expected(network, rows(network))[0], rtol=1e-12, atol=1e-12
    )


def test_files_hold_what_the_dict_holds(tmp_path) -> None:
    network = NETWORKS["deep, with a skip part"]
    to_numpy(network, tmp_path)
    for key, array in to_arrays(network).items():
        file, kind = key.split(".")
        if kind == "weight":
            loaded = sparse.load_npz(tmp_path / f"{file}.npz")
            assert loaded.format == "csr"
            assert (loaded != array).nnz == 0
        else:
            np.testing.assert_array_equal(np.load(tmp_path / f"{file}.npz")["bias"], array)


def test_a_smaller_network_leaves_no_layers_of_a_larger_one(tmp_path) -> None:
    to_numpy(NETWORKS["deep, with a skip part"], tmp_path)
    (tmp_path / "mine.npz").write_bytes(b"kept")
    to_numpy(NETWORKS["affine"], tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"layer0.npz", "mine.npz"}


def test_the_type_of_the_network_is_kept() -> None:
    import torch

    network = random_network([4, 3, 1], [6, 3]).to(torch.float32)
    assert {a.dtype for a in to_arrays(network).values()} == {np.dtype(np.float32)}
