"""Networks recovered by asking them: rows asked beside the counts of the published attacks, errors, seconds.

Planted networks of one hidden layer: standard normal weights over the root of the inputs that a neuron reads, biases
and output weights. ``python benchmarks/recovery_queries.py`` runs what is missing.
"""

import math
import time

import numpy as np

from sparelu.catalogue import fitter
from sparelu.data import Budget
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.networks.network import Network
from sparelu.oracle import Oracle
from sparelu.run import fit

PUBLISHED = {(784, 32, 0): 19.2, (784, 128, 0): 21.5}
"""log2 of the queries of Carlini, Jagielski & Mironov (2020); a zero weight ends their program."""

IMAGE = {"inputs": [784]}


def recover_planted(inputs: int, width: int, each: int, seed: int) -> dict[str, float | str]:
    """Recover a network of ``width`` neurons that read ``each`` inputs, or all if it is 0; compare canonical forms."""
    rng = np.random.default_rng([seed, inputs, width, each])
    w = rng.standard_normal((width, inputs)) / math.sqrt(each or inputs)
    for row in w if each else ():
        row[rng.permutation(inputs)[each:]] = 0
    b, v, c = rng.standard_normal(width), rng.standard_normal((1, width)), rng.standard_normal(1)
    oracle = Oracle(lambda x: np.maximum(x @ w.T + b, 0) @ v.T + c, inputs)
    start = time.process_time()
    solution = fit(fitter("queries"), oracle, Budget((width,)), seed=seed)
    seconds = time.process_time() - start
    found, truth = (n.oriented(1e-7) for n in (solution.network, Network.two_layer(w, v, b, c)))
    one, two = found.layers[0].dense().numpy(), truth.layers[0].dense().numpy()
    same = one.shape == two.shape
    supports = float(((one != 0) == (two != 0)).all(axis=1).sum()) if same else 0.0
    biases = [n.layers[0].dense_bias().numpy() for n in (found, truth)]
    error = max(float(np.abs(one - two).max()), float(np.abs(biases[0] - biases[1]).max())) if same else math.inf
    return {
        "status": solution.status.name,
        "asked": float(oracle.asked),
        "supports": supports,
        "error": error,
        "skip": float(solution.network.skip_nonzeros),
        "processor_seconds": seconds,
    }


def _table(rows: Rows) -> str:
    lines = []
    for kind in sorted({(r["inputs"], r["width"], r["each"]) for r in rows}):
        same = [r for r in rows if (r["inputs"], r["width"], r["each"]) == kind]
        inputs, width, each = kind
        weights = width * (each or inputs)
        asked = [r["asked"] for r in same]
        published = PUBLISHED.get(kind)
        lines.append(
            (
                f"{inputs}-{width}-1",
                each or "all",
                len(same),
                f"{math.log2(np.mean(asked)):.2f}",
                "refused: zero weights" if each else f"{published:.1f}" if published else "-",
                f"{np.mean(asked) / weights:.2f}",
                f"{min(r['supports'] for r in same):.0f} of {width}",
                f"{max(r['error'] for r in same):.1e}",
                f"{np.median([r['processor_seconds'] for r in same]):.1f}",
            )
        )
    return markdown(
        [
            "network",
            "inputs a neuron",
            "seeds",
            "log2 rows asked",
            "published",
            "rows a weight",
            "supports, worst",
            "error, worst",
            "seconds",
        ],
        lines,
    )


def _within(rows: Rows, wanted: dict[str, int], bound: float) -> str:
    same = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    good = [r for r in same if r["error"] < 1e-6 and r["asked"] <= bound]
    return f"in {len(good)} of {len(same)} seeds"


def _sparse(rows: Rows) -> str:
    same = [r for r in rows if r["each"]]
    good = [
        r for r in same if r["supports"] == r["width"] and r["asked"] <= 16 * r["width"] * r["each"] + 20 * r["width"]
    ]
    return f"in {len(good)} of {len(same)} networks"


BENCHMARKS = (
    Benchmark(
        name="recovery_queries",
        topic="recover",
        question="How many rows must a network answer before it is known?",
        text="Errors are the largest of the entries of the first layer in canonical form. The published counts are "
        "those that Carlini, Jagielski & Mironov (2020) print; their program ends at a zero weight.",
        full=[
            *calls(
                "queries-dense",
                recover_planted,
                {"inputs": [784], "width": [32, 128], "each": [0], "seed": [*range(5)]},
            ),
            *calls(
                "queries-sparse", recover_planted, {"inputs": [784], "width": [128], "each": [4, 8, 30], "seed": [0, 1]}
            ),
            *calls("queries-wide", recover_planted, {"inputs": [100], "width": [400], "each": [0], "seed": [0, 1]}),
        ],
        quick=calls("queries-quick", recover_planted, {"inputs": [50], "width": [10], "each": [0, 3], "seed": [0]}),
        table=_table,
        targets={
            "784-32-1: equal to 1e-6 within 2^17.5 rows": lambda r: _within(r, {"width": 32, "each": 0}, 2**17.5),
            "784-128-1: equal to 1e-6 within 2^17.5 rows": lambda r: _within(r, {"width": 128, "each": 0}, 2**17.5),
            "100-400-1: all 400": lambda r: _within(r, {"inputs": 100}, math.inf),
            "sparse: exact supports, 16 rows a weight + 20 a neuron": _sparse,
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
