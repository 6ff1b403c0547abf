"""Effective linear regions of trained univariate networks (Safran, Vardi and Lee 2022), and the speed of exact counts.

    python benchmarks/certify_regions.py

Experiment: n = 100 points uniform in (-1, 1), labels alternating on r + 1 equal intervals, students of width k with
weights N(0, 1/k), gradient descent on log mean exp(-y f). Its flow is that of the exponential loss in another time.
The network is homogeneous, so a constant step is ever larger beside the curvature: from |theta|^2 of about 1e4 on the
iteration leaves the flow (norms grow like exp, margins fall, few regions are seen that are no limit of the flow). The
step is 0.05, and 15 / |theta|^2 from |theta|^2 = 300 on. Shown: all regions of the network in (-1, 1); the fewest
affine pieces within 0.1 % and 1 % of its range (in finite time the knots of many neurons have nearly met, and a count
by the sizes of single changes of slope still grows with the width); the normalised margin min y f / |theta|^2, and the
distance of theta from the cone of y_i grad f(x_i) as a share of |theta|: zero at the points where the flow can end.
"""

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numba import njit
from scipy.optimize import nnls

from sparelu.certify.lines import find_pieces
from sparelu.certify.plane import enumerate_cells
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.networks.network import Network

STEP, TAMED = 0.05, 300.0
SHOWN = (2_000, 20_000, 100_000)
SMALL = (1e-3, 1e-2)


def problem(r: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = np.sort(rng.uniform(-1, 1, n))
    interval = np.minimum(((x + 1) / 2 * (r + 1)).astype(int), r)
    return x, np.where(interval % 2 == 0, 1.0, -1.0)


def outputs(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Outputs (n,) for theta = (w, b, v)."""
    w, b, v = theta
    return np.maximum(np.outer(x, w) + b, 0) @ v


@njit
def descend(theta: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int, most: float, tamed: float) -> None:
    """In place: steps min(most, most tamed / |theta|^2) along the gradient of log mean exp(-y f)."""
    w, b, v = theta[0], theta[1], theta[2]
    margin = np.empty(x.size)
    for _ in range(steps):
        for i in range(x.size):
            margin[i] = 0.0
            for j in range(w.size):
                margin[i] += y[i] * v[j] * max(w[j] * x[i] + b[j], 0.0)
        weight = np.exp(margin.min() - margin)
        weight *= y / weight.sum()
        step = most * min(1.0, tamed / (theta * theta).sum())
        for j in range(w.size):
            at_w = at_b = at_v = 0.0
            for i in range(x.size):
                z = w[j] * x[i] + b[j]
                if z > 0:
                    at_w, at_b, at_v = at_w + weight[i] * x[i], at_b + weight[i], at_v + weight[i] * z
            at_w, at_b = at_w * v[j], at_b * v[j]
            w[j] += step * at_w
            b[j] += step * at_b
            v[j] += step * at_v


def residual(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Relative distance of theta from the cone of y_i grad f(x_i) (Lyu and Li 2020)."""
    w, b, v = theta
    z = np.outer(x, w) + b
    gate = (z > 0) * y[:, None]
    gradients = np.concatenate([gate * v * x[:, None], gate * v, gate * z], axis=1)
    return float(nnls(gradients.T, theta.reshape(-1))[1] / np.linalg.norm(theta))


def trained(r: int, k: int, seed: int, steps: int) -> dict[str, Any]:
    """Regions at the steps SHOWN, up to ``steps``."""
    rng = np.random.default_rng([seed, r])
    x, y = problem(r, 100, rng)
    theta, done = rng.standard_normal((3, k)) / np.sqrt(k), 0
    found: dict[str, Any] = {"at": [], "accuracy": [], "regions": [], "simplest": [], "margin": [], "residual": []}
    for step in (step for step in SHOWN if step <= steps):
        descend(theta, x, y, step - done, STEP, TAMED)
        done = step
        lines_of = find_pieces(Network.two_layer(theta[0][:, None], theta[2], theta[1]), -1.0, 1.0)
        margin = y * outputs(theta, x)
        least = float(margin.min() / np.square(theta).sum())
        simplest = [lines_of.simplest(share) for share in SMALL]
        now = (step, float((margin > 0).mean()), lines_of.regions, simplest, least, residual(theta, x, y))
        for name, value in zip(found, now, strict=True):
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
    found = find_pieces(network) if domain == "line" else enumerate_cells(network, np.full(2, -3.0), np.full(2, 3.0))
    return {"regions": found.regions, "seconds": time.perf_counter() - begun}


def trained_table(rows: Rows) -> str:
    """Each run where it ended."""
    body = [
        [r["r"], r["k"], r["seed"], r["at"][-1], f"{r['accuracy'][-1]:.2f}", r["regions"][-1], *r["simplest"][-1],
         r["r"] + 1, f"{r['margin'][-1]:.2g}", f"{r['residual'][0]:.2g} to {r['residual'][-1]:.2g}"]
        for r in sorted(rows, key=lambda r: (r["r"], r["k"], r["seed"]))
    ]  # fmt: skip
    headings = ["label changes r", "width k", "seed", "steps", "accuracy", "regions", "pieces within 0.1 %",
                "within 1 %", "needed (r + 1)", "margin", "distance from the cone"]  # fmt: skip
    return markdown(headings, body)


def trained_figure(rows: Rows) -> Figure:
    """Regions against steps, one seed."""
    own = [r for r in rows if r["seed"] == 0]
    series = {
        f"r = {r['r']}, k = {r['k']}": [(a, e[-1]) for a, e in zip(r["at"], r["simplest"], strict=True)] for r in own
    }
    return lines(series, ("steps of gradient descent", "affine pieces within 1 % of the range"), log=(True, True))


def exact_table(rows: Rows) -> str:
    """Each count."""
    headings = ["domain", "hidden widths", "regions", "s"]
    return markdown(headings, [[r[k] for k in ("domain", "widths", "regions", "seconds")] for r in rows])


def _of_order_r(rows: Rows) -> str:
    fitted = [r for r in rows if r["accuracy"][-1] == 1]
    parts = []
    for r, k in sorted({(row["r"], row["k"]) for row in fitted}):
        own = [row for row in fitted if (row["r"], row["k"]) == (r, k)]
        counts = [row["simplest"][-1][-1] for row in own]
        parts.append(
            f"r = {r}, k = {k}: {min(counts)} to {max(counts)} ({max(row['regions'][-1] for row in own)} in all)"
        )
    return f"pieces within 1 %, {len(fitted)} of {len(rows)} runs that fit all rows: " + "; ".join(parts)


def _million(rows: Rows) -> str:
    most = max(rows, key=lambda r: r["regions"])
    return f"{most['regions']:,} regions in {most['seconds']:.1f} s"


BENCHMARKS = (
    Benchmark(
        name="certify_regions",
        topic="certify",
        question="Does gradient descent leave few effective linear regions?",
        text="""The experiment of Safran, Vardi and Lee (2022): 100 points in (-1, 1) whose labels alternate on r +
        1 intervals, width k, weights N(0, 1/k), gradient descent on log mean exp(-y f) with steps that follow the flow.
        The theorem says O(r) regions in the limit, whatever the width. Regions in (-1, 1), and the fewest affine pieces
        within 0.1 % and 1 % of the range: the knots of neurons that go the same way meet only in the limit. The
        distance from the cone of the rows' gradients is zero where the flow can end.""",
        full=calls("certify_regions", trained, {"r": [2, 4, 8], "k": [100, 400], "seed": [0, 1], "steps": [SHOWN[-1]]}),
        quick=calls("certify_regions", trained, {"r": [2], "k": [100], "seed": [0], "steps": [2_000]}),
        table=trained_table,
        figure=trained_figure,
        targets={"O(r) regions in the limit, whatever the width": _of_order_r},
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
