"""Compression of known targets against theory: printed minima, regimes of a pull, rates in N, time and memory.

    python benchmarks/compression.py [minima regimes rates speed]    runs the named studies (all when none is named)

Results are kept in benchmarks/results/compression_*.jsonl and printed. `minima`: random starts, outputs of either sign,
against a printed table (found by another search) and the closed form. `regimes`: the best search over a grid of (M, t)
against the smaller of the two regimes, and where the regime changes. `rates`: targets drawn at random, w ~ N(0, I/d),
a = 1/N; how far the optimum found is from the invariant theory, with the exponent in N. `speed`: N up to 10000,
d = 100, M = 32, processor seconds and peak memory.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq

from sparelu.compress.bounds import invariant_bound
from sparelu.compress.frames import InvariantTarget, antipodal, equal_norms, optimum
from sparelu.compress.population import Population
from sparelu.compress.projection import Form, LawTarget, NetworkTarget, Projection, descend
from sparelu.data import Budget
from sparelu.gaussian import TwoLayer
from sparelu.network import Network
from sparelu.run import compress

FOLDER = Path(__file__).parent / "results"
NEURONS = (1, 2, 3, 4, 6, 8, 11, 12, 20)
PRINTED = {
    5: (0.103202, 0.047249, 0.021339, 0.010787, 0.001058, 0.000717, 0.000392, 0.000316, 0.000101),
    10: (0.105901, 0.052648, 0.027988, 0.017944, 0.008685, 0.004288, 0.000792, 0.000715, 0.000374),
    20: (0.107212, 0.055270, 0.031217, 0.021421, 0.012389, 0.008101, 0.004691, 0.003944, 0.000703),
}

Row = dict[str, float]


def gaussian_total(d: int) -> float:
    """E|w| for w ~ N(0, I/d)."""
    return math.sqrt(2 / d) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def search(projection: Projection, m: int, d: int, starts: int, rng: np.random.Generator) -> tuple[float, TwoLayer]:
    """The best of ``starts`` searches from random directions."""
    zero = torch.zeros(m, dtype=torch.float64)
    found = [descend(projection, torch.from_numpy(rng.normal(size=(m, d))), zero, 2000) for _ in range(starts)]
    weight, bias, loss = min(found, key=lambda f: f[2])
    return loss, projection.solve(weight, bias)


def free(target: InvariantTarget) -> Projection:
    zero = torch.zeros(target.inputs, dtype=torch.float64)
    return Projection(LawTarget(target), Form(False, False, False, zero))


def minima() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for d, printed in PRINTED.items():
        target = InvariantTarget(gaussian_total(d), torch.zeros(d, dtype=torch.float64))
        for m, value in zip(NEURONS, printed, strict=True):
            loss, student = search(free(target), m, d, 6 if m <= d + 2 else 16, rng)
            form = invariant_bound(target, m)
            negative = float((student.out < 0).sum())
            yield {"d": d, "M": m, "found": loss, "printed": value, "bound": form, "negative": negative}


def regimes() -> Iterator[Row]:
    rng, d = np.random.default_rng(1), 10
    for m in (2, 3, 5, 8):
        for t in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0):
            pull = torch.zeros(d, dtype=torch.float64)
            pull[0] = t
            target = InvariantTarget(1.0, pull, infinite=True)
            loss, student = search(free(target), m, d, 12, rng)
            best, negative = optimum(target, m), float((student.out < 0).sum())
            pair = antipodal(target, m)
            limit = math.inf if pair is None else pair.loss
            yield {"M": m, "t": t, "found": loss, "closed": best.loss, "equal": equal_norms(target, m).loss,
                         "pair": limit, "negative": negative}  # fmt: skip


def change(m: int, d: int = 100) -> float:
    """The pull at which the antipodal arrangement becomes the better one (or, if later, attainable)."""

    def target(t: float) -> InvariantTarget:
        pull = torch.zeros(d, dtype=torch.float64)
        pull[0] = t
        return InvariantTarget(1.0, pull, infinite=True)

    def lead(t: float) -> float:
        pair = antipodal(target(t), m)
        return -1.0 if pair is None else equal_norms(target(t), m).loss - pair.loss

    return float(brentq(lead, 0.01, 10.0, xtol=1e-9))


def rates() -> Iterator[Row]:
    for d, m in ((10, 4), (20, 5)):
        for n in (100, 300, 1000, 3000, 10000):
            for seed in range(8 if n <= 1000 else 3):
                rng = np.random.default_rng([seed, n, d])
                weight = torch.from_numpy(rng.normal(size=(n, d)) / math.sqrt(d))
                target = NetworkTarget.of(TwoLayer.of(weight, torch.full((1, n), 1 / n, dtype=torch.float64)))
                projection = Projection(target, Form(False, False, False, torch.zeros(d, dtype=torch.float64)))
                loss, _ = search(projection, m, d, 2, rng)
                law = InvariantTarget(gaussian_total(d), torch.zeros(d, dtype=torch.float64))
                yield {"d": d, "M": m, "N": n, "seed": seed, "found": loss, "law": equal_norms(law, m).loss,
                             "drawn": equal_norms(InvariantTarget.of(target.net), m).loss}  # fmt: skip


def speed() -> Iterator[Row]:
    d, m = 100, 32
    for biased in (0, 1):
        for n in (1000, 3000, 10000):
            rng = np.random.default_rng(n)
            bias = 0.5 * rng.normal(size=n) if biased else None
            network = Network.two_layer(rng.normal(size=(n, d)) / 10, rng.normal(size=n) / n, bias)
            started, cpu = time.perf_counter(), time.process_time()
            solution = compress(Population(), network, Budget(hidden=(m,)))
            yield {"biased": biased, "N": n, "wall": time.perf_counter() - started,
                         "cpu": time.process_time() - cpu, "distance": solution.certificates[0].value,
                         "added_memory": solution.peak_memory,
                         "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                         "threads": torch.get_num_threads()}  # fmt: skip


STUDIES: dict[str, Callable[[], Iterator[Row]]] = {"minima": minima, "regimes": regimes, "rates": rates, "speed": speed}


def show(name: str, rows: list[Row]) -> None:
    print(f"\n{name}")
    if name == "rates":
        for d, m in dict.fromkeys((r["d"], r["M"]) for r in rows):
            for reference in ("law", "drawn"):
                own = [r for r in rows if (r["d"], r["M"]) == (d, m)]
                sizes = sorted({r["N"] for r in own})
                gaps = [np.mean([abs(r["found"] - r[reference]) for r in own if r["N"] == n]) for n in sizes]
                slope = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
                means = [np.mean([r["found"] for r in own if r["N"] == n]) for n in sizes]
                listed = " ".join(f"{n:.0f}:{v:.5f}" for n, v in zip(sizes, means, strict=True))
                print(f"d={d:.0f} M={m:.0f}: found {listed}; gap to {reference} theory ~ N^{slope:.2f}")
        return
    for row in rows:
        print("  ".join(f"{k}={v:.6g}" for k, v in row.items()))
    if name == "minima":
        worst = max(r["found"] - r["printed"] for r in rows)
        exact = max(abs(r["found"] - r["bound"]) for r in rows if r["M"] <= r["d"] + 1)
        print(f"largest found - printed {worst:.2g}; largest |found - proved bound| where M <= d + 1: {exact:.2g}")
    if name == "regimes":
        print(f"largest found - closed: {max(r['found'] - r['closed'] for r in rows):.2g}")
        print("change of regime at t = " + ", ".join(f"{change(m):.4f} (M={m})" for m in (2, 3, 5, 8, 16, 32)))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for study in sys.argv[1:] or STUDIES:
        found = []
        with (FOLDER / f"compression_{study}.jsonl").open("w") as file:
            for row in STUDIES[study]():
                found.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
        show(study, found)
