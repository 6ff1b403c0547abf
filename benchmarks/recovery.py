"""Exact recovery of planted networks on the published grid: held-out PSNR, support, seconds.

    python benchmarks/recovery.py --m 1 2 5 10 20 --s 1 2 5 10 20 50 100 200 500 1000 --seeds 3
    python benchmarks/recovery.py --law sign --m 20 100 --s 100 500
    python benchmarks/recovery.py --print

d = 100, n = 50000, 10000 rows held out, labels in float32 as published: about 167 dB is their rounding. No number of
nonzeros is given to the method. Fits that are done are kept in results/recovery.jsonl and not run again. A cell
counts as exact when the held-out PSNR is at least 150 dB and the canonical support is that of the planted network.
Seconds are those of the process, which other work on the machine does not change much; wall time stands beside them.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparelu.canonical import oriented
from sparelu.data import Budget, DataError
from sparelu.datasets.planted import planted, planted_network
from sparelu.network import Network
from sparelu.recover.exact import Exact
from sparelu.run import fit

RESULTS = Path(__file__).parent / "results" / "recovery.jsonl"
KEYS = ("m", "s", "seed", "law", "biases", "noise", "inputs_law")


def same_support(found: Network, truth: Network) -> bool:
    """Whether both have the same kinks on the same inputs."""
    a, b = oriented(found, 1e-5).layers[0], oriented(truth).layers[0]
    return a.shape == b.shape and torch.equal(a.indices, b.indices) and torch.equal(a.indptr, b.indptr)


def run(key: dict[str, Any]) -> dict[str, Any]:
    """One fit and its judgement on rows that it has not seen."""
    shape = {"hidden": (key["m"],), "nonzeros": key["s"], "output_weights": key["law"], "biases": key["biases"]}
    truth = planted_network(seed=key["seed"], **shape)
    data = planted(seed=key["seed"], noise=key["noise"], law=key["inputs_law"], **shape)
    assert data.test is not None
    began, clock = time.process_time(), time.perf_counter()
    solution = fit(Exact(), data, Budget((key["m"],)), seed=key["seed"])
    seconds, wall = time.process_time() - began, time.perf_counter() - clock
    x = np.asarray(data.test.x, dtype=np.float64)
    y = truth(x).numpy()
    error = float(((solution.network.to(torch.float64)(x).numpy() - y) ** 2).mean())
    canonical = truth.canonical()
    return {
        **key,
        "psnr": 20 * float(np.log10(np.abs(y).max())) - 10 * float(np.log10(max(error, 1e-300))),
        "support": same_support(solution.network, truth),
        "nonzeros": solution.network.nonzeros,
        "true_nonzeros": canonical.nonzeros,
        "skip": solution.network.skip_nonzeros,
        "true_skip": canonical.skip_nonzeros,
        "status": solution.status.name,
        "seconds": round(seconds, 2),
        "wall": round(wall, 2),
        "peak_memory": solution.peak_memory,
        "threads": torch.get_num_threads(),
    }


def done() -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows that are there, by their key."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {tuple(row[k] for k in KEYS): row for row in rows}


def show() -> None:
    """One line for each cell: seeds exact of seeds run, least PSNR, nonzeros, seconds."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in done().values():
        cells.setdefault((row["law"], row["biases"], row["noise"], row["inputs_law"], row["m"], row["s"]), []).append(
            row
        )
    print("| output weights | biases | noise | inputs | m | s | exact | least PSNR dB | found / true | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for key, rows in sorted(cells.items()):
        exact = sum(row["support"] and row["psnr"] >= 150 for row in rows)
        counts = ", ".join(f"{row['nonzeros']}/{row['true_nonzeros']}" for row in rows)
        print(
            f"| {' | '.join(map(str, key))} | {exact} of {len(rows)} | {min(row['psnr'] for row in rows):.1f} "
            f"| {counts} | {max(row['seconds'] for row in rows):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=[20])
    parser.add_argument("--s", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--law", default="published")
    parser.add_argument("--biases", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--inputs-law", default="gaussian")
    parser.add_argument("--print", action="store_true", dest="only_print")
    ask = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    kept = done()
    cells = [] if ask.only_print else [(m, s, seed) for m in ask.m for s in ask.s for seed in range(ask.seeds)]
    for m, s, seed in cells:
        key = dict(zip(KEYS, (m, s, seed, ask.law, ask.biases, ask.noise, ask.inputs_law), strict=True))
        if tuple(key.values()) in kept:
            continue
        try:
            row = run(key)
        except DataError as error:
            print(f"m {m} s {s} seed {seed}: {error}", flush=True)
            continue
        with RESULTS.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    show()


if __name__ == "__main__":
    main()
