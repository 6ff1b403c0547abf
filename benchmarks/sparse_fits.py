"""Test accuracy of LeNet-300-100 on MNIST at equal gradient evaluations, for every method of the verb fit.

OMP_NUM_THREADS=1 python benchmarks/sparse_fits.py [--where method=rigl density=0.02]
"""

import functools
import time
from typing import Any

import numpy as np

from sparelu import Budget, Data, evaluate, fit, fitter
from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks

WEIGHTS = 784 * 300 + 300 * 100 + 100 * 10
HIDDEN = (300, 100)


@functools.cache
def mnist() -> Data:
    """Read once."""
    return load("mnist")


def row(method: str, density: float, seed: int, epochs: int) -> dict[str, Any]:
    """One fit, judged on the test rows. Of "name, check" the second is the check of pruning at initialisation."""
    name, _, check = method.partition(", ")
    settings = {"epochs": epochs, "least": 1, **({"check": check} if check else {})}
    data = mnist()
    assert data.test is not None
    start = time.process_time()
    solution = fit(fitter(name, **settings), data, Budget(HIDDEN, nonzeros=round(density * WEIGHTS)), seed=seed)
    spent = time.process_time() - start
    judged = evaluate(solution.network, data.test)
    return {"accuracy": judged.accuracy, "nonzeros": solution.network.nonzeros, "processor": spent}


def table(rows: Rows) -> str:
    """Means over the seeds, methods against densities."""
    densities = sorted({r["density"] for r in rows}, reverse=True)
    body = []
    for method in METHODS:
        own = [[r for r in rows if (r["method"], r["density"]) == (method, d)] for d in densities]
        if any(own):
            spent = float(np.mean([r["processor"] for cell in own for r in cell]))
            body.append([method, *(_accuracy(cell) for cell in own), spent])
    return markdown(["method", *(f"test % at {100 * d:g} %" for d in densities), "processor s, mean"], body)


def _accuracy(rows: Rows) -> str | None:
    found = [100 * r["accuracy"] for r in rows]
    spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 2 else ""
    return f"{np.mean(found):.2f}{spread} ({len(found)})" if found else None


def _against_imp(rows: Rows) -> str:
    parts = []
    for density in sorted({r["density"] for r in rows}, reverse=True):
        found = {m: [100 * r["accuracy"] for r in rows if (r["method"], r["density"]) == (m, density)] for m in METHODS}
        means = {m: float(np.mean(a)) for m, a in found.items() if a}
        best = max(means, key=means.__getitem__)
        order = ", ".join(f"{m} {means[m]:.2f}" for m in ("imp", "gmp", "rigl", "set", "static") if m in means)
        parts.append(f"{100 * density:g} %: best {best} {means[best]:.2f}; {order}")
    return "; ".join(parts)


CHECKED = ("snip", "grasp", "synflow")
METHODS = [
    "imp", "gmp", "rigl", "set", "static", "snfs", "mest", "magnitude",
    *(f"{name}{check}" for name in CHECKED for check in ("", ", shuffled", ", reinitialised")),
]  # fmt: skip
BENCHMARKS = (
    Benchmark(
        name="sparse_fits",
        topic="train",
        question="Which fit of a sparse LeNet is the most accurate at equal gradient evaluations?",
        text="""LeNet-300-100 on MNIST, official split, minibatches of 128, the same number of minibatches for every
        method, all other settings at their defaults; imp shares them among its trainings. Published order at high
        sparsity: iterative pruning or gradual pruning, RigL, SET, static. "shuffled" and "reinitialised" are the
        published checks of pruning at initialisation: what they do not hurt has found neither places nor values.""",
        full=calls(
            "sparse_fits", row, {"seed": [0, 1, 2], "density": [0.02, 0.05, 0.01], "method": METHODS, "epochs": [10]}
        ),
        quick=calls("sparse_fits", row, {"seed": [0], "density": [0.02], "method": ["static", "rigl"], "epochs": [1]}),
        table=table,
        targets={"the best of ours at least as good as fair IMP at equal cost": _against_imp},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
