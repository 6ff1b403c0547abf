"""Nonzeros (biases included) of interpolants of N points, N > 2d + 1: few-weights, the lower bound, two baselines.

    python benchmarks/interpolation_many.py

The baselines are two weights per neuron along one input, and IMP, which gets budgets from N / 2 up; the least is
reported at which its network explains a share of 0.99 or 0.999 of the variance of the training rows. It never
interpolates; few-weights does.
"""

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes, load_wine

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.evaluate import evaluate
from sparelu.interpolate.curves.interpolant import interpolate
from sparelu.run import Limits, fit

FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
LEVELS = (0.99, 0.999)


def points(name: str, n: int, seed: int) -> Data:
    """N rows of a data set, inputs and target standardised."""
    rng = np.random.default_rng(seed)
    if name == "uniform":
        return Data(rng.uniform(-1, 1, (n, 5)), rng.uniform(-1, 1, n))
    x, y = {"diabetes": load_diabetes, "wine": load_wine}[name](return_X_y=True)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if name == "wine":  # the class is three numbers only: its alcohol is the target
        x, y = x[:, 1:], x[:, 0]
    pick = rng.permutation(len(x))[:n]
    x, y = x[pick], y[pick]
    return Data((x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std())


def two_weights(data: Data, rng: np.random.Generator) -> int:
    """Weights of the interpolant along one input: weight and bias of a neuron for each knot, and the affine part.

    The input whose interpolant has the fewest knots is taken; where values repeat, a small multiple of the others is
    added, which is not counted.
    """
    least = []
    for j in range(data.inputs):
        along = data.x[:, j] + 1e-6 * data.x @ rng.standard_normal(data.inputs)
        least.append(2 * interpolate(along, data.y).least_knots + 2)
    return min(least)


def imp(data: Data, seed: int) -> dict[str, int | None]:
    """Least count of nonzeros and biases at which IMP explains each share of the variance."""
    found: dict[str, int | None] = {f"imp_{level}": None for level in LEVELS}
    for factor in FACTORS:
        method, budget = fitter("imp"), Budget((100,), nonzeros=int(factor * data.n))
        network = fit(method, data, budget, seed=seed).network
        r2 = evaluate(network, data).r2
        for level in LEVELS:
            if r2 >= level and found[f"imp_{level}"] is None:
                found[f"imp_{level}"] = network.nonzeros + network.biases
        if r2 >= LEVELS[-1]:
            break
    return found


def row(data: str, n: int, seed: int, limit: int = 60) -> dict[str, Any]:
    """Every construction on the same points, few-weights for ``limit`` seconds at most."""
    rows, start = points(data, n, seed), time.perf_counter()
    solution = fit(fitter("few-weights"), rows, Budget((200,)), limits=Limits(seconds=limit))
    network, seconds = solution.network, time.perf_counter() - start
    return {
        "d": rows.inputs,
        "bound": n,
        "few_weights": network.nonzeros + network.biases,
        "seconds": seconds,
        "mse": evaluate(network, rows).mse,
        "neurons": network.hidden[0],
        "two_weights": two_weights(rows, np.random.default_rng(seed)),
        **imp(rows, seed),
    }


def table(rows: Rows) -> str:
    """Counts side by side."""
    headings = ["data", "d", "N", "lower bound", "few-weights", "its mse", "neurons", "s", "two weights per neuron"]
    names = (
        "data",
        "d",
        "n",
        "bound",
        "few_weights",
        "mse",
        "neurons",
        "seconds",
        "two_weights",
        "imp_0.99",
        "imp_0.999",
    )
    return markdown([*headings, "IMP, R2 0.99", "IMP, R2 0.999"], [[r[k] for k in names] for r in rows])


def figure(rows: Rows) -> Figure:
    """Counts over the bound."""
    ways = {"few-weights": "few_weights", "two weights per neuron": "two_weights", "IMP at R² 0.99": "imp_0.99"}
    series = {
        label: [(n, float(np.mean([r[way] / r["bound"] for r in rows if r["n"] == n]))) for n in _sizes(rows)]
        for label, way in ways.items()
    }
    return lines(series, ("points N", "weights and biases / N, mean of the data"), log=(True, True))


def _sizes(rows: Rows) -> list[int]:
    return sorted({r["n"] for r in rows})


def _near(rows: Rows) -> str:
    ratios = [r["few_weights"] / r["bound"] for r in rows]
    ahead = sum(r["few_weights"] < min(r["two_weights"], r["imp_0.99"] or np.inf) for r in rows)
    exact = sum(ratio == 1 for ratio in ratios)
    return f"ahead in {ahead} of {len(rows)} cells; N itself in {exact}, at most {max(ratios):.2f} N"


BENCHMARKS = (
    Benchmark(
        name="interpolation_many",
        topic="interpolate",
        question="How many weights interpolate N > 2d + 1 points?",
        text="""Nonzeros and biases of exact interpolants. No network with fewer than N interpolates almost any
        labels (lower bound). Fair baselines: two weights per neuron along the best input, and IMP at the least of
        the budgets N/2, N, 2N, 4N, 8N at which it explains the share of the variance; a dash: at none.""",
        full=calls(
            "interpolation_many",
            row,
            {"n": [30, 60, 120], "data": ["uniform", "diabetes", "wine"], "seed": [0]},
            {"n": [178], "data": ["wine"], "seed": [0], "limit": [600]},
            {"n": [442], "data": ["diabetes"], "seed": [0], "limit": [900]},
        ),
        quick=calls("interpolation_many", row, {"n": [30], "data": ["wine"], "seed": [0]}),
        table=table,
        figure=figure,
        targets={"ahead of IMP and of two weights per neuron at every N": _near},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
