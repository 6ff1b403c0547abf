"""Lottery-ticket theory: rows needed against mask size, rates, noise, wrong masks, and the start from moments.

    python benchmarks/lottery.py [--where study=rate]

Teacher and student of sparelu.train.analysis.teacher_student: x ~ N(0, I_d), nonzeros uniform on [-0.5, 0.5], one
support for all neurons, start at half the teacher's norm within the mask, step K, momentum 0.8, all rows at once, at
most 1500 steps. A trial succeeds when its relative error falls below 1e-3. "there" is an independent NumPy
implementation of the same settings. The theorem asks for rows in proportion to K^6 times the effective width; about as
many rows as living weights are enough here.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.heatmap import Theory, phase_transition
from sparelu.experiments.trials.task import Call
from sparelu.train.analysis import teacher_student
from sparelu.train.analysis.tensor_init import tensor_start

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
    began = time.process_time()
    found: dict[str, list[Any]] = {"error": [], "first": [], "lost": [], "taken": [], "rate": [], "width": []}
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial, neurons, nonzeros, samples])
        truth = teacher_student.teacher(inputs, neurons, nonzeros, rng, supports=supports, orthonormal=orthonormal)
        mask = teacher_student.narrowed(truth, dropped) if dropped else truth != 0
        mask = mask if kept is None else teacher_student.widened(mask, kept, rng)
        x, y = teacher_student.rows(truth, samples, rng, noise)
        first = (
            teacher_student.nearby(truth, mask, distance, rng) if start == "nearby" else tensor_start(x, y, mask, rng)
        )
        run = teacher_student.descend(x, y, mask, first, momentum=momentum, steps=steps, target=truth, enough=enough)
        found["error"].append(run.errors[-1])
        found["first"].append(teacher_student.relative_error(first, truth))
        found["lost"].append(float(np.linalg.norm(truth[~mask]) / np.linalg.norm(truth)))
        found["taken"].append(len(run.losses))
        found["width"].append(teacher_student.effective_width(mask))
        found["rate"].append(teacher_student.rate(run.errors) if len(run.errors) > 40 else None)
    median = {
        name: float(np.median([v for v in values if v is not None] or [np.nan])) for name, values in found.items()
    }
    success = sum(1 for e in found["error"] if e <= SUCCESS)
    seconds = round(time.process_time() - began, 2)
    numbers = {name: float(f"{value:.6g}") for name, value in median.items() if np.isfinite(value)}
    errors = [float(f"{e:.3g}") for e in found["error"]]
    return {**numbers, "errors": errors, "success": success, "seconds": seconds}


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


def phase(sizes: Iterable[int], low: float, high: float) -> Iterator[dict[str, Any]]:
    """Cells of the phase diagram with ``low`` to ``high`` rows for a weight; with less than one nothing succeeds."""
    cells = ((r, neurons, n) for r in sizes for neurons in PHASE for n in PER_NEURON if low * r <= n < high * r)
    yield from ({"study": "phase", "neurons": k, "nonzeros": r, "samples": k * n} for r, k, n in cells)


def needed(rows: Rows) -> float:
    """Rows at half success; not a number where the cells do not pass it."""
    share = np.array([r["success"] / r["trials"] for r in rows])
    try:
        return teacher_student.threshold(np.array([r["samples"] for r in rows], dtype=int), share)
    except ValueError:
        return float("nan")


def phases(rows: Rows) -> dict[int, dict[int, float]]:
    """Rows at half success by neurons and mask size, where all sizes were run."""
    found = {k: {r: needed(of(rows, study="phase", neurons=k, nonzeros=r)) for r in PHASE[k]} for k in PHASE}
    return {k: cells for k, cells in found.items() if np.isfinite(list(cells.values())).all()}


def slope(cells: dict[int, Any]) -> float:
    """Of the line through the cells."""
    return float(np.polyfit(list(cells), list(cells.values()), 1)[0])


def table(rows: Rows) -> str:
    """All studies."""
    parts = ["Rows at half success, 20 trials a cell, here / there:", phase_table(rows), supports_table(rows)]
    for name, by in (("unmasked", "kept"), ("superset", "kept"), ("basin", "distance")):
        if own := of(rows, study=name):
            sizes = sorted({r["samples"] for r in own})
            found = {(r[by], r["samples"]): f"{r['success']} of {r['trials']}" for r in own}
            body = [[f"{v:g}", *(found.get((v, n)) for n in sizes)] for v in dict.fromkeys(r[by] for r in own)]
            parts.append(markdown([f"success, {name}: {by}", *(f"{n:,} rows" for n in sizes)], body))
    body = [(f"{r['noise']:g}", r["nonzeros"], r["samples"], f"{r['error']:.4f}") for r in of(rows, study="noise")]
    parts += [rates_table(rows), markdown(["noise", "r", "rows", "relative error"], body)]
    body = [(f"{r['dropped']:g}", r["lost"], r["error"], r["error"] / r["lost"]) for r in of(rows, study="wrong")]
    parts.append(markdown(["share of the support dropped", "weight lost", "relative error", "ratio"], body))
    body = [
        (r["samples"], r["kept"] or r["nonzeros"], r["first"], f"{r['success']} of {r['trials']}")
        for r in of(rows, study="tensor")
    ]
    parts.append(markdown(["start from moments: rows", "inputs kept", "error at the start", "exact"], body))
    return "\n\n".join(parts)


def phase_table(rows: Rows) -> str:
    """Neurons against mask sizes."""
    found = phases(rows)
    body = []
    for k, cells in found.items():
        square = np.corrcoef(list(cells), list(cells.values()))[0, 1] ** 2
        own = [f"{cells[r]:.0f} / {there}" for r, there in PHASE[k].items()]
        body.append([k, *own, f"{slope(cells):.2f} / {slope(PHASE[k]):.2f}", f"{square:.4f}"])
    return markdown(["neurons K", *(f"r = {r}" for r in PHASE[2]), "slope", "R2 of the line"], body)


def supports_table(rows: Rows) -> str:
    """One support for all neurons, or one for each."""
    body = []
    for r in (10, 20):
        for law in ("common", "random"):
            if cell := of(rows, study="supports", nonzeros=r, supports=law):
                body.append((law, r, f"{needed(cell):.0f}", f"{cell[0]['width']:.1f}"))
    return markdown(["supports", "r", "rows at half success", "effective width"], body)


def rates_table(rows: Rows) -> str:
    """Factor of the error in a step, here and there."""
    body = []
    for (momentum, n), there in RATES.items():
        for r in of(rows, study="rate", momentum=momentum, samples=n):
            body.append((f"{momentum:g}", n, r["nonzeros"], f"{r['rate']:.4f}" if "rate" in r else None,
                         f"{there[r['nonzeros']]:.4f}" if r["nonzeros"] in there else None))  # fmt: skip
    return markdown(["momentum", "rows", "r", "rate here", "there"], body)


def of(rows: Rows, **wanted: Any) -> list[Any]:
    """The rows with these settings."""
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def figure(rows: Rows) -> Figure:
    """Success against rows per neuron and mask size, a panel for each number of neurons."""
    flat = [
        {"label": f"K = {r['neurons']}", "r": r["nonzeros"], "rows": r["samples"] / r["neurons"], "score": error}
        for r in sorted(of(rows, study="phase"), key=lambda r: r["neurons"])
        for error in r["errors"]
    ]
    return phase_transition(
        flat,
        "r",
        "rows",
        lambda r: r["score"] <= SUCCESS,
        "success",
        theory=Theory("as many rows as weights", lambda r: r),
        titles=("weights kept of every neuron", "rows / neurons"),
    )


def _linear(rows: Rows) -> str:
    found = phases(rows)
    if not found:
        return "the phase diagram is not complete yet"
    words = [f"K = {k}: {slope(cells):.2f} (there {slope(PHASE[k]):.2f})" for k, cells in found.items()]
    return "rows at half success grow in proportion to the mask size; slopes " + ", ".join(words)


BENCHMARKS = (
    Benchmark(
        name="lottery",
        topic="train",
        question="How many rows does a winning ticket need?",
        text="""The published theory of training within a mask, on its teacher and student: x ~ N(0, I), K neurons,
        r weights each, start at half the teacher's norm, step K, momentum 0.8, all rows at once, at most 1500 steps;
        success is a relative error below 1e-3. "there" is an independent NumPy implementation. The theorem asks for
        rows in proportion to K^6 times the effective width.""",
        full=[Call("lottery", row, wanted) for wanted in settings()],
        quick=[Call("lottery", row, {"study": "unmasked", "kept": k, "samples": 300, "trials": 2}) for k in (20, 50)],
        table=table,
        figure=figure,
        targets={"the printed phase transitions within 15 %": _linear},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
