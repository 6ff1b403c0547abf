"""Rows that recovery needs: the share of planted networks found, against rows and weights, fifty for every cell.

    python benchmarks/recovery_samples.py
    python benchmarks/recovery_samples.py --where s=20

Networks of ten neurons in 100 dimensions, ten of them in a row of results. Found means 150 dB on 2000 rows that were
not fitted (the rounding of the labels leaves about 167). The published method is given the number of weights.
"""

import math
import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from sparelu import Budget, fit
from sparelu.datasets.planted import planted
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.heatmap import phase_transition, sampling_line
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.exact.fitter import Exact
from sparelu.train.analysis.teacher_student import threshold

INPUTS, NEURONS, EACH, FOUND = 100, 10, 10, 150.0
ROWS = [120, 150, 200, 250, 300, 400, 500, 700, 1000, 1500, 2000, 3000]
WEIGHTS = [2, 5, 10, 20, 50, 100]


def row(s: int, n: int, first: int) -> dict[str, Any]:
    """How many of the seeds ``first`` and the nine behind it are found by ours and by the published method.

    ``false`` counts fits that call themselves exact and are not.
    """
    count: dict[str, Any] = {"exact": 0, "aiht": 0, "false": 0}
    clock = {"exact": 0.0, "aiht": 0.0}
    for seed in range(first, first + EACH):
        data = planted(INPUTS, n, 2000, (NEURONS,), s, seed=seed)
        assert data.test is not None
        y = data.test.y.astype(float)
        few = Exact().refuses(data, Budget((NEURONS,))) is not None
        for name, method, budget in (("exact", Exact(), Budget((NEURONS,))), ("aiht", AIHT(), Budget((NEURONS,), s))):
            if name == "exact" and few:
                continue
            start = time.process_time()
            solution = fit(method, data, budget, seed=seed)
            clock[name] += time.process_time() - start
            error = float(((solution.network(data.test.x.astype(float)).numpy()[:, 0] - y) ** 2).mean())
            found = 20 * math.log10(np.abs(y).max()) - 10 * math.log10(max(error, 1e-300)) >= FOUND
            count[name] += found
            count["false"] += name == "exact" and solution.status.name == "converged" and not found
    return {**count, **{f"{name}_seconds": round(t / EACH, 2) for name, t in clock.items()}}


def summed(rows: Rows) -> dict[tuple[int, int], dict[str, int]]:
    """Successes and trials of each cell (s, n)."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for r in rows:
        cell = found.setdefault((r["s"], r["n"]), {"exact": 0, "aiht": 0, "false": 0, "trials": 0})
        for name in ("exact", "aiht", "false"):
            cell[name] += r[name]
        cell["trials"] += EACH
    return found


def table(rows: Rows) -> str:
    """Shares with their intervals, rows against weights, and where half of the networks are found."""
    found = summed(rows)
    sizes = sorted({n for _, n in found})
    body = []
    for s in sorted({s for s, _ in found}):
        for name, label in (("exact", "ours"), ("aiht", "AIHT (published), s given")):
            cells = {n: c for (own, n), c in found.items() if own == s}
            shown = {n: _share(c[name], c["trials"]) for n, c in cells.items()}
            body.append([s, label, *(shown.get(n) for n in sizes), half(cells, name)])
    return markdown(["weights s", "", *(f"n = {n}" for n in sizes), "rows at half"], body)


def _share(successes: int, trials: int) -> str:
    low, high = binomtest(successes, trials).proportion_ci(method="wilson")
    return f"{100 * successes / trials:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def half(cells: dict[int, dict[str, int]], name: str) -> str | None:
    """Rows at which half of the networks are found, between two cells."""
    sizes = sorted(cells)
    try:
        return f"{threshold(np.array(sizes), np.array([cells[n][name] / cells[n]['trials'] for n in sizes])):.0f}"
    except ValueError:
        return None


def figure(rows: Rows) -> Figure:
    """Both methods, with the scale of l1 recovery."""
    drawn = [
        {"s": s, "n": n, "score": 1.0, "success": i < c[name], "label": label}
        for (s, n), c in summed(rows).items()
        for name, label in (("exact", "ours"), ("aiht", "AIHT (published)"))
        for i in range(c["trials"])
    ]
    line = sampling_line(INPUTS * NEURONS)
    return phase_transition(
        drawn, "n", "s", lambda r: bool(r["success"]), "150 dB", theory=line, titles=("rows n", "weights s")
    )


def line(rows: Rows) -> str:
    """Rows at half success of ours and of the published method."""
    found = summed(rows)
    parts = []
    for s in sorted({s for s, _ in found}):
        cells = {n: c for (own, n), c in found.items() if own == s}
        parts.append(f"s = {s}: {half(cells, 'exact') or '-'} rows (AIHT: {half(cells, 'aiht') or 'never'})")
    return "; ".join(parts)


def silent(rows: Rows) -> str:
    """Fits that called themselves exact and were not."""
    return f"{sum(r['false'] for r in rows)} of {EACH * len(rows)} fits"


BENCHMARKS = (
    Benchmark(
        name="recovery_samples",
        topic="recover",
        question="How many rows does exact recovery need?",
        text="""Planted networks of ten neurons in 100 dimensions, Gaussian inputs, up to fifty networks a cell with the
        Wilson interval of 95 %. Ours is given no number of weights; it refuses fewer rows than the 101 numbers of the
        affine part. AIHT, as published, is given s. The dashed line of the figure is the scale of l1 recovery, no
        bound.""",
        full=calls(
            "recovery_samples",
            row,
            *({"s": [s], "n": ROWS, "first": [first]} for first in range(0, 50, 10) for s in WEIGHTS),
        ),
        quick=calls("recovery_samples", row, {"s": [5], "n": [300], "first": [0]}),
        table=table,
        figure=figure,
        targets={
            "the line of half success, beside theory and the published method": line,
            "never called exact when it is not": silent,
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
