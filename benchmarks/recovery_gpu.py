"""Exact recovery on a GPU beside the processor of the same machine: the same rows, seed and code.

    python benchmarks/recovery_gpu.py                        the grid, on a machine with a GPU; resumable
    python benchmarks/recovery_gpu.py --where m=100 --print

Every row fits twice, and says of both how exact they are and how long they took; without a GPU a row fails and is
asked again. The processor has all its threads. Memory is what the GPU held at its peak above what was there before.
"""

import time
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from recovery import EXACT, psnr, same_support

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.networks.network import Network
from sparelu.run import fit


@cache
def gpu() -> str:
    """The name of the GPU, after a fit that loads its libraries. Raises ``RuntimeError`` where there is none."""
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU: run this on a machine that has one")
    fitted("exact", planted(10, 2000, 100, (3,), 6), 3, None, 0, "cuda")
    return torch.cuda.get_device_name()


def fitted(method: str, data: Data, m: int, nonzeros: int | None, seed: int, device: str) -> tuple[Network, float]:
    """The network, on the processor, and the seconds that the fit took there."""
    settings = {"epochs": 15} if method == "aiht" else {}
    began = time.perf_counter()
    found = fit(fitter(method, **settings), replace(data, device=device), Budget((m,), nonzeros=nonzeros), seed=seed)
    return found.network.to(torch.float64, "cpu"), time.perf_counter() - began


def row(m: int, s: int, n: int, d: int, seed: int, method: str = "exact") -> dict[str, Any]:
    """Both fits of one planted network, judged on rows that neither has seen."""
    name = gpu()
    shape = {"inputs": d, "hidden": (m,), "nonzeros": s, "seed": seed}
    truth, data = planted_network(**shape), planted(**shape, rows=n)
    assert data.test is not None
    x = np.asarray(data.test.x, dtype=np.float64)
    y = truth(x).numpy()
    count = None if method == "exact" else truth.nonzeros
    about: dict[str, Any] = {"gpu": name, "threads": torch.get_num_threads()}
    for device in ("cuda", "cpu"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        network, seconds = fitted(method, data, m, count, seed, device)
        quality = psnr(network, x, y)
        about[device] = {
            "psnr": quality,
            "exact": quality >= EXACT and same_support(network, truth),
            "nonzeros": network.nonzeros,
            "seconds": round(seconds, 2),
            "gpu_bytes": torch.cuda.max_memory_allocated() - before,
        }
    return about


def table(rows: Rows) -> str:
    """Of each cell: PSNR, whether exact, and wall seconds on both; the ratio; memory on the GPU."""
    body = []
    for r in sorted(rows, key=lambda r: (r["method"], r["d"], r["n"], r["m"], r["s"], r["seed"])):
        own = [f"{r[k]['psnr']:.1f} dB{', exact' if r[k]['exact'] else ''}" for k in ("cuda", "cpu")]
        there, here = (r[k]["seconds"] for k in ("cuda", "cpu"))
        kind = [r["method"], r["d"], r["n"], r["m"], r["s"], r["seed"]]
        memory = f"{r['cuda']['gpu_bytes'] / 2**20:.0f}"
        body.append([*kind, *own, f"{there:.1f}", f"{here:.1f}", f"{here / there:.1f}", memory, r["threads"]])
    headings = ["method", "d", "rows", "m", "s", "seed", "GPU", "processor", "GPU, s", "processor, s", "ratio"]
    return markdown([*headings, "GPU MiB", "threads"], body)


def agreement(rows: Rows) -> str:
    """How many fits are exact on each."""
    own = [r for r in rows if r["method"] == "exact"]
    there, here = (sum(r[k]["exact"] for r in own) for k in ("cuda", "cpu"))
    return f"exact in {there} of {len(own)} fits on the GPU, in {here} on the processor"


def gain(rows: Rows) -> str:
    """Ratios of wall times."""
    own = sorted(r["cpu"]["seconds"] / r["cuda"]["seconds"] for r in rows if r["method"] == "exact")
    return f"{own[0]:.1f} to {own[-1]:.1f} times as fast, median {np.median(own):.1f}" if own else "not measured"


BENCHMARKS = (
    Benchmark(
        name="recovery_gpu",
        topic="recover",
        question="What does a GPU take off an exact recovery?",
        text="""The same fit on a GPU and on the processor of the same machine with all its threads, one after the
        other, wall time; planted networks as published, other numbers of inputs and rows among them. Rows stay on the
        GPU in float64 up to 4 GB; what is small there waits for its kernels to start, not for arithmetic.""",
        full=calls(
            "recovery_gpu",
            row,
            {"m": [20], "s": [100], "n": [50000], "d": [100], "seed": [0]},
            {"m": [100], "s": [100, 500], "n": [50000], "d": [100], "seed": [0]},
            {"m": [20, 100], "s": [100, 500], "n": [50000], "d": [100], "seed": [0], "method": ["aiht"]},
            {"m": [1000], "s": [1000], "n": [50000], "d": [100], "seed": [0]},
            {"m": [100], "s": [500], "n": [500000], "d": [100], "seed": [0]},
            {"m": [20], "s": [100, 500], "n": [50000], "d": [784], "seed": [0]},
            {"m": [100], "s": [100, 500], "n": [50000], "d": [100], "seed": [1, 2]},
        ),
        quick=calls("recovery_gpu", row, {"m": [5], "s": [20], "n": [5000], "d": [20], "seed": [0]}),
        table=table,
        targets={"the same code on a GPU, as exact": agreement, "faster there (no figure asked)": gain},
    ),
)


if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
