"""Time and memory of layers that hold only their nonzeros, stage by stage, beside dense layers and masks.

    OMP_NUM_THREADS=1 python benchmarks/sparse_execution.py

Each row runs in a fresh process: memory is the peak of the process above what it held before the layer was built, and
after a small layer has made the libraries load what they load once. The allocator is told to give freed memory back at
once; left alone it keeps what it likes, here up to twice as much, for every form alike.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.nn.file import load_sparse, save_sparse
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.to_sparse import to_sparse
from sparelu.runtime.resources import Meter
from sparelu.train.sparse_growth import SparseGrowth
from sparelu.train.sparsifier.update_schedules import Exploration
from sparelu.train.static import Static

STEPS = 5
PEERS = {
    (8192, 0.01): {"torch.sparse.mm, CSR": (25, 52), "sparselab": (834, 211), "sparseprop": (578, 107)},
    (40000, 0.001): {"torch.sparse.mm, CSR": (53, 168), "sparselab": (19837, 413), "F.linear, CSR": (53, 12352)},
}
"""Peak MB of building and of a step with SGD, batch 64, measured before on another day with two threads."""


class TorchCSR(nn.Module):
    """The parameter is torch's own CSR matrix, with torch's own gradient."""

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        parts = (layer.indptr.long(), layer.indices.long(), layer.values.detach())
        matrix = torch.sparse_csr_tensor(*parts, layer.shape, check_invariants=False)
        self.weight = nn.Parameter(matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for rows ``x``."""
        return torch.sparse.mm(self.weight, x.t()).t()


def built(form: str, size: int, density: float) -> nn.Module:
    """The layer of a form, a random support of exactly the share ``density``."""
    if form == "sparse":
        return SparseLinear.random(size, size, density=density)
    if form == "torch CSR":
        return TorchCSR(SparseLinear.random(size, size, density=density, bias=False))
    return nn.Linear(size, size)


class Stages:
    """Processor seconds and peak MB of each stage, by name."""

    def __init__(self) -> None:
        self.results: dict[str, float] = {}
        self.meter = Meter()

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` and keep the least of its times."""
        start = time.process_time()
        result = work()
        took = time.process_time() - start
        self.results[f"{name}_s"] = min(took, self.results.get(f"{name}_s", took))
        return result

    def peak(self, name: str) -> None:
        """Keep the peak so far under ``name``."""
        self.results[f"{name}_mb"] = self.meter.peak_memory / 1e6


def measured(form: str, size: int, density: float, batch: int, growth: bool) -> dict[str, float]:
    """All stages, in this process, after a small layer."""
    stages_of("sparse", 64, 0.1, 2, True)
    return stages_of(form, size, density, batch, growth)


def stages_of(form: str, size: int, density: float, batch: int, growth: bool) -> dict[str, float]:
    """Build, train, grow, save and load one layer."""
    stages = Stages()
    layer = stages.run("build", lambda: built(form, size, density))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    stepper: Any = Static(layer, optimizer, density=density) if form == "masks" else optimizer
    stages.peak("build")
    x = torch.randn(batch, size, requires_grad=True)
    for _ in range(STEPS):
        optimizer.zero_grad()
        y = stages.run("forward", lambda: layer(x))
        loss = y.square().mean()
        stages.run("backward", loss.backward)
        stages.run("step", stepper.step)
    stages.peak("train")
    if growth:
        mover = SparseGrowth(layer, optimizer, total_steps=10, plan=Exploration(every=1, begin=0))
        layer(x).square().mean().backward()
        stages.run("growth", mover.step)
        stages.peak("growth")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer"
        if form in ("sparse", "masks"):
            stages.results["written_mb"] = stages.run("save", lambda: save_sparse(layer, path)) / 1e6
            stages.run("load", lambda: load_sparse(layer, path))
            stages.peak("file")
    return stages.results


def row(form: str, size: int, density: float, batch: int, growth: bool = False) -> dict[str, Any]:
    """:func:`measured` in a process of its own."""
    given = json.dumps([form, size, density, batch, growth])
    asked = [sys.executable, "-W", "ignore", __file__, "--one", given]
    given_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return dict(json.loads(subprocess.run(asked, capture_output=True, text=True, check=True, env=given_back).stdout))


def converted(size: int, density: float, batch: int) -> dict[str, Any]:
    """What :func:`to_sparse` measures of a layer with a random mask."""
    torch.manual_seed(0)
    linear = nn.Linear(size, size)
    with torch.no_grad():
        linear.weight.mul_(torch.rand(size, size) < density)
    _, (timing,) = to_sparse(linear, batch=batch, force=True)
    return {"dense_s": timing.dense_seconds, "sparse_s": timing.sparse_seconds}


def table(rows: Rows) -> str:
    """One line for each layer and form; memory of peers below."""
    stages = ("build", "forward", "backward", "step", "growth", "save", "load")
    peaks = ("build", "train", "growth", "file")
    heads = [
        "layer",
        "density",
        "form",
        *(f"{s}, ms" for s in stages),
        *(f"peak to {p}, MB" for p in peaks),
        "file, MB",
    ]
    body = [
        [f"{r['size']} x {r['size']}, batch {r['batch']}", r["density"], r["form"],
         *(1e3 * r[f"{s}_s"] if f"{s}_s" in r else None for s in stages),
         *(r.get(f"{p}_mb") for p in peaks), r.get("written_mb")]
        for r in rows
    ]  # fmt: skip
    peers = [[f"{n} x {n}", d, name, *mb] for (n, d), found in PEERS.items() for name, mb in found.items()]
    return markdown(heads, body) + "\n\n" + markdown(["layer", "density", "peer", "build, MB", "step, MB"], peers)


def speed_table(rows: Rows) -> str:
    """Speed-ups, densities against layers."""
    densities = sorted({r["density"] for r in rows})
    body = []
    for size, batch in sorted({(r["size"], r["batch"]) for r in rows}):
        own = {r["density"]: r["dense_s"] / r["sparse_s"] for r in rows if (r["size"], r["batch"]) == (size, batch)}
        body.append([f"{size} x {size}, batch {batch}", *(own.get(d) for d in densities)])
    return markdown(["layer", *(f"{100 * d:g} %" for d in densities)], body)


def _beaten(rows: Rows) -> str:
    parts = []
    for (size, density), peers in PEERS.items():
        own = [r for r in rows if (r["form"], r["size"], r["density"]) == ("sparse", size, density)]
        if own:
            best = [min(p[i] for p in peers.values()) for i in (0, 1)]
            parts.append(
                f"{size} at {density:g}: building {own[0]['build_mb']:.0f} MB (best peer {best[0]}), "
                f"training {own[0]['train_mb']:.0f} MB (best peer {best[1]})"
            )
    return "; ".join(parts)


def _even(rows: Rows) -> str:
    slow = [r for r in rows if r["sparse_s"] > r["dense_s"]]
    cells = ", ".join(f"{r['size']} at {100 * r['density']:g} % on {r['batch']} rows" for r in slow)
    return f"compressed rows are slower in {len(slow)} of {len(rows)} cells: {cells or 'none'}"


BENCHMARKS = (
    Benchmark(
        name="sparse_execution",
        topic="train",
        question="What do layers of nonzeros cost to build, train, grow and save?",
        text="""Square layers in float32, SGD, one thread; the least processor time of five steps; peak memory of a
        fresh process above what it held before, inputs and activations included. "dense" is nn.Linear, "masks" the same
        under Static, "torch CSR" a CSR parameter with torch's own gradient (int64, no bias). Peers' memory was measured
        with other code, batch 64.""",
        full=calls(
            "sparse_execution",
            row,
            {"form": ["sparse"], "size": [8192], "density": [0.01, 0.05], "batch": [64], "growth": [True]},
            {"form": ["torch CSR", "dense", "masks"], "size": [8192], "density": [0.01], "batch": [64]},
            {"form": ["torch CSR"], "size": [8192], "density": [0.05], "batch": [64]},
            {"form": ["sparse"], "size": [40000], "density": [0.0005, 0.001, 0.002], "batch": [64], "growth": [True]},
            {"form": ["torch CSR"], "size": [40000], "density": [0.001], "batch": [64]},
        ),
        quick=calls(
            "sparse_execution", row, {"form": ["sparse", "dense"], "size": [2048], "density": [0.01], "batch": [64]}
        ),
        table=table,
        targets={"linear in the nonzeros, and better than every peer": _beaten},
    ),
    Benchmark(
        name="sparse_speed",
        topic="train",
        question="At which density do compressed rows beat a dense product?",
        text="""Dense over sparse seconds of the forward pass of one Linear layer in float32, one thread, the quickest
        of several; above 1 the sparse one is quicker. This is what to_sparse measures before it converts.""",
        full=calls(
            "sparse_speed",
            converted,
            {"size": [300, 1024, 4096], "density": [0.01, 0.05, 0.1, 0.2, 0.4], "batch": [1, 64, 256]},
        ),
        quick=calls("sparse_speed", converted, {"size": [300], "density": [0.01, 0.4], "batch": [64]}),
        table=speed_table,
        targets={"faster than dense where sparsity allows it": _even},
    ),
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        torch.set_num_threads(1)
        print(json.dumps(measured(*json.loads(sys.argv[2]))))
    else:
        run_benchmarks(BENCHMARKS, __doc__, __file__)
