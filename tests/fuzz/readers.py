"""Every reader of files: a good file, how to forge it, how to read it, and the errors that it may raise."""

import csv
import functools
import gzip
import io
import json
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import nn

from sparelu import catalogue, store
from sparelu.data import Budget, Data, DataError
from sparelu.datasets import columns_for, read_table
from sparelu.datasets.images import read_idx
from sparelu.experiments.sweeps.grid import GridError, read_grid
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.run_folder import FolderError, RunFolder
from sparelu.nn.file import load_sparse, save_sparse
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.run import Checkpoint, Limits, fit
from sparelu.store import StoreError
from tests.contract.test_checks_can_fail import Random
from tests.fuzz import mutations as m

Forge = Callable[[np.random.Generator, bytes], bytes]


@dataclass(frozen=True)
class Reader:
    """``make`` writes the good file, ``forge`` changes its bytes, ``read`` reads it and uses what it read."""

    name: str
    suffix: str
    make: Callable[[Path], None]
    forge: Forge
    read: Callable[[Path], Any]
    raises: type[Exception]


def resigned(rng: np.random.Generator, content: bytes) -> bytes:
    """A file of the store with other arrays or another header, and a checksum that is right."""
    if rng.random() < 0.2:
        return m.changed_bytes(rng, content)
    size = int.from_bytes(content[:8], "little")
    meta = json.loads(content[8 : 8 + size])["__metadata__"]
    arrays, header = load_arrays(content), json.loads(meta["header"])
    if rng.random() < 0.6:
        header = m.changed_json(rng, header)
    else:
        arrays = m.changed_arrays(rng, arrays)
    text = m.nested(5000) if rng.random() < 0.005 else m.json_text(header)
    meta |= {"header": text, "sha256": store._digest(arrays, text)}
    if rng.random() < 0.05:
        meta[m.pick(rng, sorted(meta))] = m.pick(rng, ("", "x", "-1", "9" * 5000, "1e3"))
    return save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=meta)


def make_solution(path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    data = Data(x, (x[:, 0] > 0).astype(int), "classification", names=("a", "b", "c"))
    store.save(fit(Random(), data, Budget((6,), nonzeros=6), standardise=True), path)


def use_solution(path: Path) -> None:
    """What loads must also predict, be printed and be written again."""
    solution = store.load(path)
    from sparelu.cli.predict_show_report import layer_table, neuron_table, solution_summary

    if solution.network.inputs <= 1000 and not solution.network.convolutions:
        assert len(solution.predict(np.zeros((2, solution.network.inputs)))) == 2
    solution_summary(solution)
    compact = solution.network.compact()
    layer_table(compact)
    neuron_table(solution, compact, 20)
    store.save(solution, path.with_suffix(".again"))
    store.load(path.with_suffix(".again"))


STATE = {"a": torch.arange(5), "b": {"c": [1, 2.5, None, {"d": torch.ones(2, 3)}], "text": "x"}, "n": 3}


def make_state(path: Path) -> None:
    store.save_state(STATE, path)


@functools.cache
def problem() -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3))
    return Data(x, x[:, 0] + rng.standard_normal(20))


def trained() -> Any:
    return catalogue.fitter("magnitude", epochs=5)


def make_checkpoint(path: Path) -> None:
    fit(trained(), problem(), Budget((4,), nonzeros=4), checkpoint=Checkpoint(path, 0.0), limits=Limits(rounds=3))


def resume(path: Path) -> None:
    place = Checkpoint(path, 1e9)
    fit(trained(), problem(), Budget((4,), nonzeros=4), checkpoint=place, resume=True, limits=Limits(rounds=5))


def module() -> nn.Module:
    torch.manual_seed(0)
    linear = nn.Linear(9, 7)
    with torch.no_grad():
        linear.weight.mul_(torch.rand(7, 9) < 0.3)
    return nn.Sequential(linear, nn.BatchNorm1d(7), SparseLinear.random(7, 5, density=0.3, seed=0), nn.Linear(5, 2))


def as_json(change: Callable[[np.random.Generator, Any], Any]) -> Forge:
    def forge(rng: np.random.Generator, content: bytes) -> bytes:
        if rng.random() < 0.3:
            return m.changed_bytes(rng, content)
        if rng.random() < 0.01:
            return m.nested(100_000).encode()
        return m.json_text(change(rng, json.loads(content))).encode()

    return forge


def json_lines(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.splitlines()
    at = int(rng.integers(len(lines)))
    lines[at] = as_json(m.changed_json)(rng, lines[at])
    return b"\n".join(lines)


GRID = """
format = 1
name = "toy"
[[trials]]
data = "curve"
method = ["gmp", "exact"]
hidden = [6, [4, 4]]
nonzeros = [1, 2]
seed = [0, 1]
parameters = { shape = "sine", rows = "@nonzeros" }
settings.gmp = { epochs = [1, 2] }
"""


def toml_text(value: Any) -> str:
    """TOML of what is a grid, more or less; None and what TOML does not know is written as text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    return "''" if value is None else json.dumps(value)


def forged_grid(rng: np.random.Generator, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return m.changed_bytes(rng, content)
    if rng.random() < 0.02:
        many = list(range(3000))
        return f"format = 1\n[[trials]]\ndata = 'curve'\nnonzeros = {many}\nseed = {many}\n".encode()
    if rng.random() < 0.01:
        return f"a = {m.nested(20_000)}".encode()
    value = m.changed_json(rng, tomllib.loads(content.decode()))
    if not isinstance(value, dict):
        return toml_text(value).encode()
    return "\n".join(f"{json.dumps(k)} = {toml_text(v)}" for k, v in value.items()).encode()


def make_npz(path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])


def forged_npz(rng: np.random.Generator, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return m.changed_bytes(rng, content)
    with np.load(io.BytesIO(content)) as file:
        arrays = m.changed_arrays(rng, dict(file))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array)
            text = one.getvalue()
            if rng.random() < 0.1:
                text = m.npy_with_header(rng, text)
            if rng.random() < 0.02:
                text = npy_bomb()
            archive.writestr(f"{name}.npy", text)
    return out.getvalue()


@functools.cache
def npy_bomb() -> bytes:
    """Forty million zeros, which deflate to 40 kB."""
    out = io.BytesIO()
    np.save(out, np.zeros((10_000_000, 4), np.uint8))
    return out.getvalue()


def forged_npy(rng: np.random.Generator, content: bytes) -> bytes:
    return m.npy_with_header(rng, content) if rng.random() < 0.6 else m.changed_bytes(rng, content)


def make_csv(path: Path) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "c", "y"])
        rows.writerows([*np.round(x, 3).tolist(), ("no", "yes")[int(x[0] > 0)]] for x in rng.standard_normal((30, 3)))


def forged_csv(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.decode().splitlines()
    cells = [line.split(",") for line in lines]
    for _ in range(int(rng.integers(1, 4))):
        row = cells[int(rng.integers(len(cells)) * (rng.random() < 0.7))]
        odd = (
            "",
            "nan",
            "inf",
            "1e999",
            '"',
            '"a',
            "é",
            "\x00",
            "=1+1",
            "true",
            "2020-01-01",
            "9" * 400,
            "a",
            "-",
            "0x1p3",
            "z" * 140_000,
        )
        if row:
            row[int(rng.integers(len(row)))] = m.pick(rng, odd)
    text = "\n".join(",".join(row) for row in cells).encode()
    return m.changed_bytes(rng, text) if rng.random() < 0.5 else text


def make_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet_bomb()  # while memory is not limited
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3))
    pq.write_table(
        pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": (x[:, 0] > 0).tolist()}), path, row_group_size=10
    )


def forged_parquet(rng: np.random.Generator, content: bytes) -> bytes:
    return parquet_bomb() if rng.random() < 0.002 else m.changed_bytes(rng, content)


@functools.cache
def parquet_bomb() -> bytes:
    """Twenty million equal numbers in a few kilobytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"x0": np.zeros(20_000_000), "y": np.zeros(20_000_000)}), out, compression="zstd")
    return out.getvalue()


def use_table(target: str | int | None, names: tuple[str, ...]) -> Callable[[Path], None]:
    """Read it to fit and to predict; one of the two may be refused, and the other must not crash for it."""

    def read(path: Path) -> None:
        errors = []
        for work in (lambda: read_table(path, target).digest, lambda: columns_for(path, names)[0][:]):
            try:
                work()
            except DataError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    return read


def make_idx(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x02" + (5).to_bytes(4, "big") * 2 + bytes(25)))


def forged_idx(rng: np.random.Generator, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return m.changed_bytes(rng, content)
    if rng.random() < 0.005:
        return gzip.compress(bytes(80_000_000), 1)
    return gzip.compress(m.changed_bytes(rng, gzip.decompress(content)))


ROW = {
    **{"key": "a" * 16, "status": "max_steps", "method": "gmp", "nonzeros": 5, "score": 0.5, "seconds": 1.0},
    **{"trial": {"data": "curve", "method": "gmp", "hidden": [6], "nonzeros": 5}, "test": {"rows": 3, "score": 0.5}},
    **{"peak_memory": 10, "stored_bytes": 100, "score_name": "R2", "train_score": 0.6, "live_hidden": [6]},
    **{"seeds": {"data": 0, "split": 0, "fit": 0}, "versions": {"torch": "2"}, "threads": 1, "device": "cpu"},
}


def make_rows(path: Path) -> None:
    rows = [{**ROW, "key": f"{i:016x}", "nonzeros": i + 1, "score": i / 4} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))


def use_rows(path: Path) -> None:
    from sparelu.cli.sweep import rows_table

    rows_table(Table(path).rows(), "title")


def use_result(path: Path) -> None:
    """The result or the request of the golden run, which is read, shown and reported."""
    golden = Path(__file__).parent.parent / "golden" / "run"
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    for name in ("model.safetensors", "request.json", "result.json"):
        (folder / name).write_bytes((golden / name).read_bytes())
    (folder / f"{path.name.split('.')[0]}.json").write_bytes(path.read_bytes())
    from sparelu.experiments.trials.trial import Trial

    _, request, _ = RunFolder(folder).read()
    Trial.of(request).budget()


def golden(name: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes((Path(__file__).parent.parent / "golden" / "run" / name).read_bytes()) and None


READERS = {
    reader.name: reader
    for reader in (
        Reader("solution", ".safetensors", make_solution, resigned, use_solution, StoreError),
        Reader("state", ".state", make_state, resigned, store.load_state, StoreError),
        Reader("checkpoint", ".checkpoint", make_checkpoint, resigned, resume, StoreError),
        Reader(
            "module", ".sparse", lambda p: save_sparse(module(), p) and None, resigned,
            lambda p: load_sparse(module(), p), StoreError,
        ),
        Reader("result", ".json", golden("result.json"), as_json(m.changed_json), use_result, FolderError),
        Reader("request", ".json", golden("request.json"), as_json(m.changed_json), use_result, FolderError),
        Reader("rows", ".jsonl", make_rows, json_lines, use_rows, ValueError),
        Reader("grid", ".toml", lambda p: p.write_text(GRID) and None, forged_grid, read_grid, GridError),
        Reader("npz", ".npz", make_npz, forged_npz, use_table(None, ("a", "b", "c", "d")), DataError),
        Reader("npy", ".npy", lambda p: np.save(p, np.random.default_rng(0).standard_normal((30, 4))), forged_npy,
               use_table(None, ("x0", "x1", "x2")), DataError),
        Reader("csv", ".csv", make_csv, forged_csv, use_table("y", ("a", "b", "c")), DataError),
        Reader("parquet", ".parquet", make_parquet, forged_parquet, use_table("y", ("x0", "x1", "x2")), DataError),
        Reader("idx", ".gz", make_idx, forged_idx, read_idx, DataError),
    )
}  # fmt: skip
