"""Peak memory of fits on files of growing size: memory map and Parquet, in a fresh process each.

    python benchmarks/memory_ceiling.py
    python benchmarks/memory_ceiling.py --where source=npy method=gmp

The rows are made in a temporary folder: 100 float32 columns and a target from a planted network of two neurons. The
process loads the file as the command line does, which checks every row, and fits; it is watched from outside every 10
milliseconds. Resident memory counts pages of the mapped file, which the system takes back when it needs them; private
memory does not, and is what a machine must have.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks

COLUMNS = 100
GROUP = 65536
FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "gmp": ("gmp", {"epochs": 1, "least": 1, "batch": 4096}),
    "aiht, minibatches": ("aiht", {"epochs": 1, "batch": 4096, "inner": 1}),
    "aiht, all rows": ("aiht", {"epochs": 1, "inner": 1}),
    "exact": ("exact", {}),
}
CHILD = """
import json, re, sys
from pathlib import Path
import numpy as np
import torch
from sparelu import Budget, datasets, fitter
from sparelu.run import Limits, fit

torch.set_num_threads(1)
path, name, settings, most = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])

def kilobytes(field):
    return int(re.search(field + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

method = fitter(name, **settings)
fit(method, datasets.load("planted", rows=3000, inputs=100, hidden=2, nonzeros=4), Budget((2,), 4))
before = kilobytes("RssAnon")
print("ready", flush=True)
data = datasets.load(path, target=100 if path.endswith("npy") else "y")
assert not data.in_memory
found = fit(method, data, Budget((2,), nonzeros=4), limits=Limits(seconds=most))
print(json.dumps({"before": before, "peak": kilobytes("VmHWM"), "rows": data.n, "status": found.status.name,
                  "rounds": len(found.history), "fit_seconds": found.seconds}))
"""


def made(path: Path, gigabytes: float) -> None:
    """A file of so many gigabytes of float32 inputs: the same 65536 rows again and again."""
    rows, rng = int(gigabytes * 1e9 / (4 * COLUMNS)), np.random.default_rng(0)
    write = _npy(path, rows) if path.suffix == ".npy" else _parquet(path)
    x = rng.standard_normal((GROUP, COLUMNS), dtype=np.float32)
    y = np.maximum(x[:, 3] - 0.5 * x[:, 70], 0) + np.maximum(0.8 * x[:, 20] + x[:, 41], 0)
    piece = np.column_stack([x, y])
    for start in range(0, rows, GROUP):
        write(start, piece[: rows - start])
    write(rows, np.empty((0, COLUMNS + 1), np.float32))


def _npy(path: Path, rows: int) -> Any:
    file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS + 1))

    def write(start: int, part: np.ndarray) -> None:
        file[start : start + len(part)] = part
        file.flush()

    return write


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*(f"x{i}" for i in range(COLUMNS)), "y"]
    file = pq.ParquetWriter(path, pa.schema([(name, pa.float32()) for name in names]), compression="none")

    def write(start: int, part: np.ndarray) -> None:
        if len(part):
            file.write_table(pa.table({name: part[:, i] for i, name in enumerate(names)}), row_group_size=GROUP)
        else:
            file.close()

    return write


def row(method: str, source: str, gigabytes: float, most: float = 60.0) -> dict[str, Any]:
    """Megabytes that one fit needs at most; a fit of more than ``most`` seconds ends with the round under way."""
    name, settings = FITS[method]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{source}"
        made(path, gigabytes)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), name, json.dumps(settings), str(most)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        private = _watched(child)
        found = json.loads(child.stdout.read())
    return {
        "rows": found["rows"],
        "private_mb": (private - found["before"]) / 1000,
        "resident_mb": found["peak"] / 1000,
        "imports_mb": found["before"] / 1000,
        **{key: found[key] for key in ("status", "rounds", "fit_seconds")},
    }


def _watched(child: "subprocess.Popen[str]") -> int:
    """The largest private memory of a process until it ends, in kilobytes."""
    most, status = 0, Path(f"/proc/{child.pid}/status")
    while child.poll() is None:
        lines = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
        most = max([most, *(int(line.split()[1]) for line in lines)])
        time.sleep(0.01)
    return most


def table(rows: Rows) -> str:
    """Private megabytes above the imports, and resident megabytes in brackets."""
    sizes = sorted({r["gigabytes"] for r in rows})
    shown = [f"{r['private_mb']:.0f} ({r['resident_mb']:.0f})" for r in rows]
    cells = dict(zip(((r["method"], r["source"], r["gigabytes"]) for r in rows), shown, strict=True))
    kinds = [(m, s) for m in FITS for s in ("npy", "parquet") if any((m, s) == k[:2] for k in cells)]
    lines = [[m, s, *(cells.get((m, s, size)) for size in sizes)] for m, s in kinds]
    return markdown(["method", "file", *(f"{size:g} GB" for size in sizes)], lines)


def _slope(rows: Rows) -> str:
    """How much private memory grows from the smallest to the largest file, per byte of the file."""
    slopes = []
    for method in FITS:
        for source in ("npy", "parquet"):
            own = [r for r in rows if (r["method"], r["source"]) == (method, source)]
            part = sorted((r["gigabytes"], r["private_mb"]) for r in own)
            if len(part) > 1:
                gain = (part[-1][1] - part[0][1]) / (1000 * (part[-1][0] - part[0][0]))
                slopes.append(f"{method}, {source}: {gain:.3f}")
    return "private bytes for each further byte of the file: " + "; ".join(slopes)


BENCHMARKS = (
    Benchmark(
        name="memory_ceiling",
        topic="run",
        question="How much memory does a fit on a file need?",
        text="""Peak private memory in megabytes above what the imports take (in brackets: peak resident memory, with
        the imports and the pages of the mapped file), against the size of the inputs as float32. One pass of `gmp` and
        `aiht`; `exact` to its end or, where it takes longer, for a minute and the round under way. Inputs of up to
        256 MB are read into memory.""",
        full=calls(
            "memory_ceiling",
            row,
            {"gigabytes": [0.25, 0.5, 1.0, 2.0], "method": list(FITS), "source": ["npy", "parquet"]},
        ),
        quick=calls("memory_ceiling", row, {"gigabytes": [0.3], "method": ["gmp"], "source": ["npy"]}),
        table=table,
        targets={"memory does not follow the file": _slope},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
