"""Effective linear regions of trained univariate networks (Safran, Vardi and Lee 2022), and the speed of exact counts.

    python benchmarks/certify_regions.py

Experiment: n = 100 points uniform in (-1, 1), labels alternating on r + 1 equal intervals, students of width k with
weights N(0, 1/k), gradient descent on log mean exp(-y f) (its constant step follows the direction of the flow). Regions
of the network in (-1, 1) with all changes of slope, and overlooking those below 1 % of the largest.
"""

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparelu.certify.lines import pieces
from sparelu.certify.plane import cells
from sparelu.experiments.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmark_figures import lines
from sparelu.experiments.benchmark_run import run_benchmarks
from sparelu.network import Network

STEP = 0.05
SHOWN = (2_000, 20_000, 100_000)


def problem(r: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = np.sort(rng.uniform(-1, 1, n))
    interval = np.minimum(((x + 1) / 2 * (r + 1)).astype(int), r)
    return x, np.where(interval % 2 == 0, 1.0, -1.0)


def outputs(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Outputs (n,) for theta = (w, b, v)."""
    w, b, v = theta
    return np.maximum(np.outer(x, w) + b, 0) @ v


def descend(theta: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int) -> None:
    """In place: constant steps along the gradient of log mean exp(-y f)."""
    for _ in range(steps):
        w, b, v = theta
        z = np.outer(x, w) + b
        h = np.maximum(z, 0)
        margin = y * (h @ v)
        weight = np.exp(margin.min() - margin)
        weight = y * weight / weight.sum()
        gate = (z > 0) * weight[:, None]
        theta += STEP * np.stack([(x @ gate) * v, gate.sum(axis=0) * v, weight @ h])


def trained(r: int, k: int, steps: int) -> dict[str, Any]:
    """Regions at the steps SHOWN, up to ``steps``."""
    rng = np.random.default_rng(r)
    x, y = problem(r, 100, rng)
    theta, done = rng.standard_normal((3, k)) / np.sqrt(k), 0
    found: dict[str, Any] = {"at": [], "accuracy": [], "regions": [], "effective": []}
    for step in (step for step in SHOWN if step <= steps):
        descend(theta, x, y, step - done)
        done = step
        lines_of = pieces(Network.two_layer(theta[0][:, None], theta[2], theta[1]), -1.0, 1.0)
        right = float((np.sign(outputs(theta, x)) == y).mean())
        for name, value in zip(found, (step, right, lines_of.regions, lines_of.effective(0.01)), strict=True):
            found[name].append(value)
    return found


def exact(domain: str, widths: str) -> dict[str, Any]:
    """Seconds of an exact count on a line or on the square [-3, 3]^2, ``widths`` of the hidden layers."""
    rng = np.random.default_rng(0)
    sizes = (1 if domain == "line" else 2, *map(int, widths.split()), 1)
    network = Network.from_dense(
        [rng.standard_normal((b, a)) for a, b in zip(sizes, sizes[1:], strict=False)],
        [rng.standard_normal(b) for b in sizes[1:]],
    )
    begun = time.perf_counter()
    found = pieces(network) if domain == "line" else cells(network, np.full(2, -3.0), np.full(2, 3.0))
    return {"regions": found.regions, "seconds": time.perf_counter() - begun}


def trained_table(rows: Rows) -> str:
    """Each step shown."""
    body = [
        [r["r"], r["k"], at, f"{accuracy:.2f}", regions, effective, r["r"] + 1]
        for r in rows
        for at, accuracy, regions, effective in zip(r["at"], r["accuracy"], r["regions"], r["effective"], strict=True)
    ]
    headings = ["label changes r", "width k", "steps", "accuracy", "regions", "effective at 1 %", "needed (r + 1)"]
    return markdown(headings, body)


def trained_figure(rows: Rows) -> Figure:
    """Regions against steps."""
    series = {f"r = {r['r']}, all": list(zip(r["at"], r["regions"], strict=True)) for r in rows}
    series |= {f"r = {r['r']}, effective at 1 %": list(zip(r["at"], r["effective"], strict=True)) for r in rows}
    return lines(series, ("steps of gradient descent", "linear regions in (-1, 1)"), log=(True, True))


def exact_table(rows: Rows) -> str:
    """Each count."""
    headings = ["domain", "hidden widths", "regions", "s"]
    return markdown(headings, [[r[k] for k in ("domain", "widths", "regions", "seconds")] for r in rows])


def _falls(rows: Rows) -> str:
    return "; ".join(
        f"r = {r['r']}: {r['effective'][0]} effective regions after {r['at'][0]:,} steps, {r['effective'][-1]} after "
        f"{r['at'][-1]:,} ({r['regions'][-1]} in all)"
        for r in rows
    )


def _million(rows: Rows) -> str:
    most = max(rows, key=lambda r: r["regions"])
    return f"{most['regions']:,} regions in {most['seconds']:.1f} s"


BENCHMARKS = (
    Benchmark(
        name="certify_regions",
        topic="certify",
        question="Does gradient descent leave few effective linear regions?",
        text="""The experiment of Safran, Vardi and Lee (2022): 100 points in (-1, 1) whose labels alternate on r +
        1 intervals, width k, weights N(0, 1/k), gradient descent on log mean exp(-y f). The theorem says O(r)
        regions in the limit. "Effective" overlooks changes of slope below 1 % of the largest.""",
        full=calls("certify_regions", trained, {"r": [2, 4], "k": [100], "steps": [SHOWN[-1]]}),
        quick=calls("certify_regions", trained, {"r": [2], "k": [100], "steps": [2_000]}),
        table=trained_table,
        figure=trained_figure,
        targets={"O(r) regions in the limit": _falls},
    ),
    Benchmark(
        name="certify_regions_speed",
        topic="certify",
        question="How long does an exact count of linear regions take?",
        text="""Random networks: on a line by events, on a square by cutting cells.""",
        full=calls(
            "certify_regions_speed",
            exact,
            {"domain": ["line"], "widths": ["10000", "1000000"]},
            {"domain": ["square"], "widths": ["100", "30 30"]},
        ),
        quick=calls("certify_regions_speed", exact, {"domain": ["line", "square"], "widths": ["30"]}),
        table=exact_table,
        targets={"a million neurons in one dimension in seconds": _million},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
