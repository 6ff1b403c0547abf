"""The published AIHT on the planted scalar task of its Figure 1, beside an independent run of the same algorithm.

    python benchmarks/aiht_table.py            runs what is missing, then prints the table
    python benchmarks/aiht_table.py --print    prints what is there

d = 100, n = 50000, 15 full-batch epochs, seeds 0 1 2. The planted data equal the published ones bit for bit; the random
generators do not (the published ones are drawn on a GPU), so single seeds differ and cells compare within the spread
of their seeds. "there" is a NumPy implementation of the published code with generators of its own, three seeds.
About 167 dB is the rounding of the labels to float32, that is exact recovery. PSNR is 20 log10 max|y| - 10 log10 mse.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from sparelu.data import Budget
from sparelu.datasets.planted import planted
from sparelu.experiments.measure import measure
from sparelu.recover.aiht import AIHT
from sparelu.run import fit

RESULTS = Path(__file__).parent / "results" / "aiht_table.jsonl"
INPUTS = 100
THERE: dict[tuple[int, int], float | tuple[float, ...]] = {
    (1, 1): 166.9,
    (1, 5): 167.7,
    (1, 20): 167.4,
    (1, 100): 167.4,
    (1, 500): 167.4,
    (5, 1): 167.4,
    (5, 5): (25.8, 166.9, 41.0),
    (5, 20): (28.8, 35.9, 115.3),
    (5, 100): (31.5, 50.4, 114.6),
    (5, 500): (32.7, 79.6, 32.0),
    (20, 1): 167.7,
    (20, 5): (18.1, 17.0, 26.6),
    (20, 20): (32.3, 29.7, 30.4),
    (20, 100): (28.5, 29.9, 26.5),
    (20, 500): (25.9, 27.3, 27.4),
    (100, 1): 167.3,
    (100, 5): 20.2,
    (100, 20): 28.8,
    (100, 100): 28.5,
    (100, 500): 29.2,
    (500, 1): 167.1,
    (500, 5): 20.2,
    (500, 20): 25.9,
}
"""Mean over the seeds, or the three seeds."""


def cell(m: int, s: int, seed: int) -> dict[str, float]:
    """One fit, judged on training and held-out rows."""
    data = planted(hidden=(m,), nonzeros=s, inputs=INPUTS, seed=seed)
    started = time.process_time()
    solution = fit(AIHT(), data, Budget((m,), nonzeros=min(s, m * INPUTS)), seed=seed)
    assert data.test is not None
    return {
        "m": m,
        "s": s,
        "seed": seed,
        "psnr": measure(solution.network, data).psnr,
        "held_out": measure(solution.network, data.test).psnr,
        "nonzeros": solution.network.nonzeros,
        "seconds": solution.seconds,
        "processor_seconds": time.process_time() - started,
    }


def run_missing() -> None:
    """Run every cell and seed that the file does not have, and add each as it ends."""
    RESULTS.parent.mkdir(exist_ok=True)
    done = {(r["m"], r["s"], r["seed"]) for r in rows()}
    for seed in (0, 1, 2):
        for m, s in THERE:
            if (m, s, seed) not in done:
                with RESULTS.open("a") as file:
                    file.write(json.dumps(cell(m, s, seed)) + "\n")


def rows() -> list[dict[str, float]]:
    """What has been run."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def show() -> None:
    """Print ours beside theirs."""
    head = f"{'m':>5}{'s':>5}{'here':>8}{'there':>8}   {'here, by seed':<24}{'there, by seed':<24}"
    print(f"{head}{'held out':>8}{'s':>7}")
    for (m, s), there in THERE.items():
        found = sorted((r for r in rows() if (r["m"], r["s"]) == (m, s)), key=lambda r: r["seed"])
        if not found:
            continue
        psnr, held = [r["psnr"] for r in found], np.mean([r["held_out"] for r in found])
        seeds = there if isinstance(there, tuple) else ()
        seconds = np.mean([r["processor_seconds"] for r in found])
        ours, theirs = (" ".join(f"{p:.1f}" for p in given) for given in (psnr, seeds))
        line = f"{m:>5}{s:>5}{np.mean(psnr):>8.1f}{np.mean(there):>8.1f}   {ours:<24}{theirs:<24}"
        print(f"{line}{held:>8.1f}{seconds:>7.1f}")


if __name__ == "__main__":
    if "--print" not in sys.argv:
        run_missing()
    show()
