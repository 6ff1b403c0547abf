"""One fit on several processes: time of a round and bytes exchanged, against ranks and rows.

    python benchmarks/ranks.py
    python benchmarks/ranks.py --where method=gmp

The ranks are processes of this machine that meet over loopback by gloo, one thread each, as torchrun starts them. Rows
are standard normal, 100 float32 columns, in memory. The first round, which fills caches, is not counted.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks

FITS: dict[str, tuple[str, dict[str, Any], int]] = {
    "aiht, all rows": ("aiht", {"epochs": 6}, 100),
    "aiht, minibatches of 5000": ("aiht", {"epochs": 4, "batch": 5000}, 100),
    "gmp, minibatches of 128": ("gmp", {"epochs": 4, "least": 1, "batch": 128}, 100),
    "gmp, minibatches of 4096": ("gmp", {"epochs": 4, "least": 1, "batch": 4096}, 100),
}
"""Method, settings, and nonzeros."""
CHILD = """
import json, sys, time
import numpy as np
import torch
from sparelu import Budget, Data, fitter
from sparelu.runtime.distributed import joined
from sparelu.run import fit

torch.set_num_threads(1)
name, settings, nonzeros, rows = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
x = rng.standard_normal((rows, 100), dtype=np.float32)
y = np.maximum(x[:, :50] @ rng.standard_normal((50, 20)) / 5, 0).sum(1)
with joined(timeout=900) as ranks:
    marks = []
    def watch(iterate):
        marks.append((time.perf_counter(), time.process_time(), ranks.exchanged))
    fit(fitter(name, **settings), Data(x, y).share(ranks), Budget((20,), nonzeros=nonzeros), watch=watch)
    print(json.dumps(((np.array(marks[-1]) - marks[0]) / (len(marks) - 1)).tolist()))
"""


def row(method: str, ranks: int, rows: int) -> dict[str, Any]:
    """Seconds and bytes of a round: wall time, processor time of the rank that used most, bytes given by a rank."""
    name, settings, nonzeros = FITS[method]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, name, json.dumps(settings), str(nonzeros), str(rows)],
            env={**os.environ, **place, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    found = np.array([json.loads(child.communicate()[0]) for child in children])
    wall, processor, exchanged = found.max(axis=0).tolist()
    return {"wall": wall, "processor": processor, "exchanged": int(exchanged)}


def table(rows: Rows) -> str:
    """One line for each method and number of rows."""
    cells = {(r["method"], r["rows"], r["ranks"]): r for r in rows}
    lines = []
    for method, count in sorted({key[:2] for key in cells}):
        one, two = cells.get((method, count, 1)), cells.get((method, count, 2))
        if one is not None and two is not None:
            times = [r[kind] for kind in ("processor", "wall") for r in (one, two)]
            lines.append([method, count, *times, two["exchanged"]])
    return markdown(
        ["method", "rows", "processor s, 1 rank", "2 ranks", "wall s, 1 rank", "2 ranks", "bytes of a rank"], lines
    )


def _gain(rows: Rows) -> str:
    cells = {(r["method"], r["rows"], r["ranks"]): r["processor"] for r in rows}
    pairs = sorted((m, n) for m, n, k in cells if k == 2 and (m, n, 1) in cells)
    return "; ".join(f"{m}, {n} rows: {cells[m, n, 1] / cells[m, n, 2]:.2f}" for m, n in pairs)


BENCHMARKS = (
    Benchmark(
        name="ranks",
        topic="run",
        question="What does a second process take off a round?",
        text="""Seconds of a round (an epoch) with one process and with two ranks over loopback, and the bytes that each
        rank gives to sums in a round. 20 neurons, 100 inputs, 100 nonzeros. Processor time is that of the busier rank;
        wall time is meaningless where other work shares the cores.""",
        full=calls("ranks", row, {"rows": [20_000, 80_000, 320_000], "method": list(FITS), "ranks": [1, 2]}),
        quick=calls("ranks", row, {"rows": [5000], "method": ["aiht, all rows"], "ranks": [1, 2]}),
        table=table,
        targets={"processor time of one process over that of the busier of two ranks": _gain},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
