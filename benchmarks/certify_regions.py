"""Effective linear regions of trained univariate networks (Safran, Vardi and Lee 2022), and the speed of exact counts.

    python benchmarks/certify_regions.py

Experiment: n = 100 points uniform in (-1, 1), labels alternating on r + 1 equal intervals, students of width k with
weights N(0, 1/k), gradient descent on log mean exp(-y f) (its constant step follows the direction of the flow). Regions
of the network in (-1, 1) with all changes of slope, and overlooking those below 1 % of the largest.
"""

import time

import numpy as np

from sparelu.certify.lines import pieces
from sparelu.certify.plane import cells
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


def main() -> None:
    print("| r | k | steps | accuracy | regions | effective at 1 % | seconds |")
    print("|---|---|---|---|---|---|---|")
    for r, k in ((2, 100), (4, 100)):
        rng = np.random.default_rng(r)
        x, y = problem(r, 100, rng)
        theta, done, begun = rng.standard_normal((3, k)) / np.sqrt(k), 0, time.perf_counter()
        for steps in SHOWN:
            descend(theta, x, y, steps - done)
            done = steps
            found = pieces(Network.two_layer(theta[0][:, None], theta[2], theta[1]), -1.0, 1.0)
            right = float((np.sign(outputs(theta, x)) == y).mean())
            print(
                f"| {r} | {k} | {steps} | {right:.2f} | {found.regions} | {found.effective(0.01)} "
                f"| {time.perf_counter() - begun:.0f} |",
                flush=True,
            )
    rng = np.random.default_rng(0)
    print("\n| exact count | regions | seconds |\n|---|---|---|")
    for m in (10**4, 10**6):
        network = Network.two_layer(rng.standard_normal((m, 1)), rng.standard_normal(m), rng.standard_normal(m))
        begun = time.perf_counter()
        print(f"| line, {m:,} neurons | {pieces(network).regions:,} | {time.perf_counter() - begun:.2f} |", flush=True)
    for widths in ((100,), (30, 30)):
        sizes = (2, *widths, 1)
        network = Network.from_dense(
            [rng.standard_normal((b, a)) for a, b in zip(sizes, sizes[1:], strict=False)],
            [rng.standard_normal(b) for b in sizes[1:]],
        )
        begun = time.perf_counter()
        count = cells(network, np.full(2, -3.0), np.full(2, 3.0)).regions
        print(f"| square, widths {widths} | {count:,} | {time.perf_counter() - begun:.2f} |", flush=True)


if __name__ == "__main__":
    main()
