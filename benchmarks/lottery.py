"""Lottery-ticket theory: rows needed against mask size, rates, noise, wrong masks, and the start from moments.

    python benchmarks/lottery.py                 runs what is missing, then prints the tables
    python benchmarks/lottery.py --print         prints what is there
    python benchmarks/lottery.py --figure F.png  draws the phase diagram

Teacher and student of sparelu.train.lottery: x ~ N(0, I_d), nonzeros uniform on [-0.5, 0.5], one support for all
neurons, start at half the teacher's norm within the mask, step K, momentum 0.8, all rows at once, at most 1500 steps.
A trial succeeds when its relative error falls below 1e-3. "there" is an independent NumPy implementation of the same
settings. The theorem asks for rows in proportion to K^6 times the effective width; about as many rows as living weights
are enough here.
"""

import argparse
import inspect
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.train import lottery
from sparelu.train.lottery_start import tensor_start

RESULTS = Path(__file__).parent / "results" / "lottery.jsonl"
SUCCESS = 1e-3
PHASE = {
    2: {10: 33, 20: 62, 30: 98, 40: 130, 50: 152},
    5: {10: 74, 20: 137, 30: 201, 40: 267, 50: 330},
    10: {10: 225, 20: 325, 30: 456, 40: 583, 50: 718},
}
"""Rows at half success there, by neurons and mask size, d = 50."""
PER_NEURON = sorted({round(n) for n in np.geomspace(8, 110, 18).tolist()})
RATES = {
    (0.0, 500): {10: 0.9879, 20: 0.9901, 30: 0.9919, 40: 0.9939, 60: 0.9971},
    (0.0, 2000): {10: 0.9840, 20: 0.9845, 30: 0.9851, 40: 0.9857, 60: 0.9870, 80: 0.9886},
    (0.8, 500): {10: 0.8974, 20: 0.9317, 30: 0.9501, 40: 0.9661, 60: 0.9869},
}
"""Rates there, by momentum and rows, then by mask size: orthonormal rows, d = 100, K = 5."""


def row(
    *,
    study: str,
    inputs: int = 50,
    neurons: int = 5,
    nonzeros: int = 20,
    samples: int = 300,
    supports: str = "common",
    orthonormal: bool = False,
    kept: int | None = None,
    dropped: float = 0.0,
    noise: float = 0.0,
    distance: float = 0.5,
    momentum: float = 0.8,
    steps: int = 1500,
    enough: float = SUCCESS,
    start: str = "nearby",
    trials: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """``trials`` descents of one setting: medians of errors at the end, the start and of the mask; of steps, rates."""
    settings = dict(locals())
    began = time.process_time()
    found: dict[str, list[Any]] = {"error": [], "first": [], "lost": [], "taken": [], "rate": [], "width": []}
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial, neurons, nonzeros, samples])
        truth = lottery.teacher(inputs, neurons, nonzeros, rng, supports=supports, orthonormal=orthonormal)
        mask = lottery.narrowed(truth, dropped) if dropped else truth != 0
        mask = mask if kept is None else lottery.widened(mask, kept, rng)
        x, y = lottery.rows(truth, samples, rng, noise)
        first = lottery.nearby(truth, mask, distance, rng) if start == "nearby" else tensor_start(x, y, mask, rng)
        run = lottery.descend(x, y, mask, first, momentum=momentum, steps=steps, target=truth, enough=enough)
        found["error"].append(run.errors[-1])
        found["first"].append(lottery.relative_error(first, truth))
        found["lost"].append(float(np.linalg.norm(truth[~mask]) / np.linalg.norm(truth)))
        found["taken"].append(len(run.losses))
        found["width"].append(lottery.effective_width(mask))
        found["rate"].append(lottery.rate(run.errors) if len(run.errors) > 40 else None)
    median = {
        name: float(np.median([v for v in values if v is not None] or [np.nan])) for name, values in found.items()
    }
    success = sum(1 for e in found["error"] if e <= SUCCESS)
    seconds = round(time.process_time() - began, 2)
    numbers = {name: float(f"{value:.6g}") for name, value in median.items() if np.isfinite(value)}
    errors = [float(f"{e:.3g}") for e in found["error"]]
    return {**settings, **numbers, "errors": errors, "success": success, "seconds": seconds}


def settings() -> Iterator[dict[str, Any]]:
    """All that is run: the cheap studies first."""
    yield from ({"study": "unmasked", "kept": k, "samples": n, "trials": 10} for k in (20, 50) for n in (300, 400))
    for r in (10, 20):
        for law in ("common", "random"):
            yield from (
                {"study": "supports", "inputs": 100, "nonzeros": r, "supports": law, "samples": n}
                for n in range(2 * r + 30, 10 * r + 10, 6 if r == 10 else 10)
            )
    superset = {"study": "superset", "inputs": 100, "trials": 10}
    for kept in (20, 30, 40, 60, 100):
        yield from ({**superset, "kept": kept, "samples": n} for n in (100, 150, 200, 300, 400, 600, 900))
    yield from ({"study": "basin", "distance": lam} for lam in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0))
    rates = {"study": "rate", "inputs": 100, "orthonormal": True, "enough": 1e-12, "trials": 5}
    for momentum, n in RATES:
        sizes = (10, 20, 30, 40, 60, 80)
        yield from ({**rates, "momentum": momentum, "samples": n, "nonzeros": r} for r in sizes)
    noise = {"study": "noise", "enough": 0.0, "trials": 10}
    yield from ({**noise, "samples": 1000, "noise": s, "nonzeros": r} for r in (10, 20, 40) for s in (0.01, 0.1, 0.3))
    yield from ({**noise, "samples": n, "noise": 0.1} for n in (500, 2000, 4000))
    wrong = {"study": "wrong", "enough": 0.0, "trials": 10, "samples": 1000}
    yield from ({**wrong, "dropped": q} for q in (0.05, 0.1, 0.2, 0.3, 0.5))
    tensor = {"study": "tensor", "inputs": 100, "neurons": 3, "start": "tensor"}
    yield from ({**tensor, "samples": n} for n in (500, 1000, 2000, 4000, 16000))
    yield from phase((10, 30, 50, 20, 40), 0.9, 2.6)
    yield from phase((10, 30, 50, 20, 40), 2.6, np.inf)
    yield from ({**tensor, "samples": n, "kept": 100} for n in (1000, 2000, 4000, 8000, 16000))
    yield from phase((15, 25, 35, 45, 5), 0.9, np.inf)


def phase(sizes: Iterable[int], low: float, high: float) -> Iterator[dict[str, Any]]:
    """Cells of the phase diagram with ``low`` to ``high`` rows for a weight; with less than one nothing succeeds."""
    cells = ((r, neurons, n) for r in sizes for neurons in PHASE for n in PER_NEURON if low * r <= n < high * r)
    yield from ({"study": "phase", "neurons": k, "nonzeros": r, "samples": k * n} for r, k, n in cells)


def done() -> list[dict[str, Any]]:
    """Rows that are there."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run_missing() -> None:
    """Run every setting that has no row, and add each row as it ends."""
    RESULTS.parent.mkdir(exist_ok=True)
    there = done()
    defaults = {name: p.default for name, p in inspect.signature(row).parameters.items()}
    for wanted in settings():
        if not _of(there, **{**defaults, **wanted}):
            with RESULTS.open("a") as file:
                file.write(json.dumps(row(**wanted)) + "\n")


def needed(rows: list[dict[str, Any]]) -> float:
    """Rows at half success; not a number where the cells do not pass it."""
    share = np.array([r["success"] / r["trials"] for r in rows])
    try:
        return lottery.threshold(np.array([r["samples"] for r in rows], dtype=int), share)
    except ValueError:
        return float("nan")


def show(rows: list[dict[str, Any]]) -> None:
    """The tables."""
    print("rows at half success, d = 50, 20 trials a cell: here / there, and the line through the cells of each K")
    for neurons, there in PHASE.items():
        found = {r: needed(_of(rows, study="phase", neurons=neurons, nonzeros=r)) for r in there}
        if all(map(np.isfinite, found.values())):
            slope, at_zero = np.polyfit(list(found), list(found.values()), 1)
            square = np.corrcoef(list(found), list(found.values()))[0, 1] ** 2
            slope_there = np.polyfit(list(there), list(there.values()), 1)[0]
            line = f"slope {slope:.2f} / {slope_there:.2f}, R^2 {square:.4f}, {at_zero:+.0f}"
            print(f"K {neurons:>2}: " + "  ".join(f"{found[r]:.0f}/{n}" for r, n in there.items()) + "   " + line)
    for r in (10, 20):
        for law in ("common", "random"):
            cell = _of(rows, study="supports", nonzeros=r, supports=law)
            if cell:
                print(f"supports {law}, r {r}, d 100: {needed(cell):.0f} rows; effective width {cell[0]['width']:.1f}")
    for name, by in (("unmasked", "kept"), ("superset", "kept"), ("basin", "distance")):
        for r in _of(rows, study=name):
            print(f"{name}: {by} {r[by]}, {r['samples']} rows: {r['success']} of {r['trials']}")
    for (momentum, n), there in RATES.items():
        cell = _of(rows, study="rate", momentum=momentum, samples=n)
        found = {r["nonzeros"]: r.get("rate", float("nan")) for r in cell}
        words = "  ".join(f"r {r}: {v:.4f}/{there.get(r, float('nan')):.4f}" for r, v in found.items())
        print(f"rate, momentum {momentum}, {n} rows: {words}")
    for r in _of(rows, study="noise"):
        print(f"noise {r['noise']}, r {r['nonzeros']}, {r['samples']} rows: error {r['error']:.4f}")
    for r in _of(rows, study="wrong"):
        ratio = r["error"] / r["lost"]
        print(f"dropped {r['dropped']}: lost {r['lost']:.3f}, error {r['error']:.3f}, ratio {ratio:.2f}")
    for r in _of(rows, study="tensor"):
        words = f"{r['samples']} rows, {r['kept'] or r['nonzeros']} inputs kept"
        print(f"tensor start, {words}: starts at {r['first']:.3f}, {r['success']} of {r['trials']} exact")


def _of(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def figure(path: Path) -> None:
    """Success against rows per neuron and mask size, a panel for each number of neurons."""
    from sparelu.experiments.figures_heatmap import Theory, phase_transition

    flat = [
        {"label": f"K = {r['neurons']}", "r": r["nonzeros"], "rows": r["samples"] / r["neurons"], "score": error}
        for r in _of(done(), study="phase")
        for error in r["errors"]
    ]
    drawn = phase_transition(
        flat,
        "r",
        "rows",
        lambda r: r["score"] <= SUCCESS,
        "relative error below 0.001",
        theory=Theory("as many rows as weights", lambda r: r),
        titles=("weights kept of every neuron", "rows / neurons"),
    )
    drawn.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--figure", type=Path)
    ask = parser.parse_args()
    if ask.figure:
        figure(ask.figure)
        return
    if not ask.only_print:
        run_missing()
    show(done())


if __name__ == "__main__":
    main()
