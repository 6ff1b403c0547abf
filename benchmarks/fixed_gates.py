"""Hard thresholding with fixed gates, true generators among ten times as many decoys: support and rate, by gate.

    python benchmarks/fixed_gates.py

30 Gaussian inputs, 3000 rows, k neurons with three weights each, all on input 0; the number of weights is given. The
rate is the geometric mean of the falls of |y - A w| from a thousandth on, beside (kappa - 1) / (kappa + 1).
"""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.recover.aiht.fixed_gates import hard_thresholding

INPUTS, ROWS, STEPS = 30, 3000, 300


def planted(neurons: int, seed: int) -> tuple[np.ndarray, ...]:
    """Rows (n, d), generators (11 k, d), the true ones first, and fused weights (11 k, d)."""
    rng = np.random.default_rng(seed)
    x, h = rng.standard_normal((ROWS, INPUTS)), rng.standard_normal((11 * neurons, INPUTS))
    w = np.zeros_like(h)
    for j in range(neurons):
        w[j, [0, *rng.choice(np.arange(1, INPUTS), 2, replace=False)]] = rng.standard_normal(3)
    return x, h, w


def condition(x: np.ndarray, h: np.ndarray, w: np.ndarray, gate: str) -> float:
    """Of the Gram matrix of the support on the rows."""
    j, i = np.nonzero(w)
    columns = (x @ h.T >= 0)[:, j] * x[:, i]
    if gate == "sign":
        columns = columns - x @ np.linalg.lstsq(x, columns, rcond=None)[0]
    return float(np.linalg.cond(columns) ** 2)


def row(neurons: int, gate: str, seed: int) -> dict[str, Any]:
    """One run: support, error of the weights, the curve of errors, its rate and what kappa allows."""
    x, h, w = planted(neurons, seed)
    y = ((x @ h.T >= 0) * (x @ w.T)).sum(axis=1)
    rows, labels, generators = (torch.from_numpy(a) for a in (x, y, h))
    found = hard_thresholding(rows, labels, generators, int(np.count_nonzero(w)), gate, STEPS)
    got = np.zeros(w.size)
    got[found.index.numpy()] = found.value.numpy()
    e = np.array(found.errors)
    tail = e[(e < 1e-3) & (e > 1e-12)]
    kappa = condition(x, h, w, gate)
    return {
        "support": bool(((got != 0) == (w.reshape(-1) != 0)).all()),
        "weight_error": float(np.abs(got - w.reshape(-1)).max()),
        "steps": len(e),
        "rate": float((tail[-1] / tail[0]) ** (1 / (len(tail) - 1))) if len(tail) > 1 else None,
        "kappa": kappa,
        "allowed": (kappa - 1) / (kappa + 1),
        "errors": [float(f"{v:.3e}") for v in e],
    }


def table(rows: Rows) -> str:
    """Neurons and gates: supports right, worst weight, steps, rate and bound (medians over the seeds)."""
    body = []
    for k, gate in sorted({(r["neurons"], r["gate"]) for r in rows}):
        own = [r for r in rows if (r["neurons"], r["gate"]) == (k, gate)]
        rates = [r["rate"] for r in own if r["rate"] is not None]
        body.append(
            [
                k,
                gate,
                f"{sum(r['support'] for r in own)} of {len(own)}",
                max(r["weight_error"] for r in own),
                float(np.median([r["steps"] for r in own])),
                float(np.median(rates)) if rates else None,
                float(np.median([r["allowed"] for r in own])),
                float(np.median([r["kappa"] for r in own])),
            ]
        )
    heads = [
        "neurons",
        "gate",
        "support exact",
        "largest weight error",
        "steps",
        "rate",
        "(kappa-1)/(kappa+1)",
        "kappa",
    ]
    return markdown(heads, body)


def figure(rows: Rows) -> Figure:
    """Error against step, seed 0."""
    own = sorted((r["neurons"], r["gate"], r["errors"]) for r in rows if r["seed"] == 0)
    series = {f"k = {k}, {gate} gates": [(i, max(e, 1e-16)) for i, e in enumerate(errors)] for k, gate, errors in own}
    return lines(series, ("step", "|y - A w| / |y|"), log=(False, True))


def _exact(rows: Rows) -> str:
    return ", ".join(
        f"{gate} gates: {sum(r['support'] for r in own)} of {len(own)} supports"
        for gate in ("step", "sign")
        if (own := [r for r in rows if r["gate"] == gate])
    )


NEURONS = [2, 5, 10, 20]
BENCHMARKS = (
    Benchmark(
        name="fixed_gates",
        topic="recover",
        question="Does hard thresholding with fixed gates converge linearly to the exact support?",
        text="""The theorem's setting: k neurons of three weights, all on one input, among 10 k decoys; 3000 rows of 30
        Gaussian inputs; 300 steps at most. Step gates are those of the paper; sign gates have the same weights, with
        the linear part projected out.""",
        full=calls("fixed_gates", row, {"neurons": NEURONS, "gate": ["step", "sign"], "seed": [0, 1, 2]}),
        quick=calls("fixed_gates", row, {"neurons": [2], "gate": ["step", "sign"], "seed": [0]}),
        table=table,
        figure=figure,
        targets={"linear convergence and exact support": _exact},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
