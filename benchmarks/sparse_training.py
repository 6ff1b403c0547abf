"""Test accuracy of LeNet-300-100 on MNIST for every way to train it sparse, with the same minibatches for all.

    OMP_NUM_THREADS=1 python benchmarks/sparse_training.py [--where method=RigL density=0.02]

Pruning at initialisation comes with its checks: masks shuffled within their layers, and weights drawn anew. Iterative
pruning shares the minibatches equally among its trainings.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparelu.data import Data
from sparelu.datasets import load
from sparelu.experiments.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmark_run import run_benchmarks
from sparelu.experiments.figures import score_against_nonzeros
from sparelu.train.allocation import Masks
from sparelu.train.at_init import grasp, reinitialised, shuffled, snip, synflow
from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.plans import Exploration, Gradual
from sparelu.train.rewinding import winning_tickets
from sparelu.train.schedules import removals
from sparelu.train.sparsifier import Sparsifier
from sparelu.train.static import GradualMagnitude, Static

BATCH, RATE = 100, 0.001

Make = Callable[[nn.Module, torch.optim.Optimizer, int], Sparsifier]


def lenet(seed: int) -> nn.Module:
    """784-300-100-10."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def train(model: nn.Module, make: Make, rows: tuple[Tensor, Tensor], steps: int, seed: int) -> Sparsifier:
    """Adam with the step size falling along half a cosine."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    sparsifier = make(model, optimizer, steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    g = torch.Generator().manual_seed(seed)
    x, y = rows
    for _ in range(steps):
        batch = torch.randint(len(x), (BATCH,), generator=g)
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        sparsifier.step()
        schedule.step()
    return sparsifier


def moving(density: float, every: int, seed: int) -> dict[str, Make]:
    """The methods that need no preparation."""
    plan, soft = Exploration(every=every), Exploration(every=every, soft=True)
    a = {"density": density, "seed": seed}
    return {
        "static": lambda m, o, n: Static(m, o, **a),
        "SET": lambda m, o, n: SET(m, o, total_steps=n, plan=plan, **a),
        "RigL": lambda m, o, n: RigL(m, o, total_steps=n, plan=plan, **a),
        "SNFS": lambda m, o, n: SNFS(m, o, total_steps=n, plan=plan, **a),
        "MEST": lambda m, o, n: MEST(m, o, total_steps=n, plan=soft, **a),
        "gradual": lambda m, o, n: GradualMagnitude(
            m, o, total_steps=n, plan=Gradual(every=every), allocation="global", **a
        ),
    }


def at_start(name: str, density: float, rows: tuple[Tensor, Tensor], seed: int) -> Masks:
    """Masks of the untrained network."""
    model, (x, y) = lenet(seed), rows
    batch = torch.randint(len(x), (1000,), generator=torch.Generator().manual_seed(seed))
    if name == "SNIP":
        return snip(model, lambda m: cross_entropy(m(x[batch]), y[batch]), density=density)
    if name == "GraSP":
        return grasp(model, lambda m: cross_entropy(m(x[batch]) / 200, y[batch]), density=density)
    return synflow(model, (784,), density=density)


def ticket(density: float, rows: tuple[Tensor, Tensor], steps: int, seed: int) -> tuple[nn.Module, Masks, int]:
    """The last ticket of iterative pruning, and the steps that are left to train it."""
    model = lenet(seed)
    size = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    each = steps // (len(removals(0.2, size, round(density * size))) + 1)

    def part(m: nn.Module, masks: Masks, start: int, stop: int | None) -> None:
        train(m, lambda m, o, n: Static(m, o, masks=masks), rows, each, seed)

    *_, (last, masks) = winning_tickets(model, part, density=density)
    return last, masks, each


def way(method: str, density: float, rows: tuple[Tensor, Tensor], steps: int, seed: int) -> tuple[nn.Module, Make, int]:
    """The model to train, its sparsifier, and the steps."""
    name, _, check = method.partition(", ")
    if name == "IMP":
        model, masks, left = ticket(density, rows, steps, seed)
        return model, lambda m, o, n: Static(m, o, masks=masks), left
    if name not in AT_START:
        return lenet(seed), moving(density, max(1, steps // 60), seed)[name], steps
    masks, g = at_start(name, density, rows, seed), torch.Generator().manual_seed(seed)
    model = lenet(seed)
    if check == "shuffled":
        masks = shuffled(masks, g)
    if check == "reinitialised":
        model = reinitialised(model, g)
    return model, lambda m, o, n: Static(m, o, masks=masks), steps


def row(method: str, density: float, seed: int, epochs: float = 10) -> dict[str, Any]:
    """One training, judged on the test rows."""
    rows, test = _mnist()
    steps = int(epochs * len(rows[0]) / BATCH)
    start = time.process_time()
    model, make, left = way(method, density, rows, steps, seed)
    sparsifier = train(model, make, rows, left, seed)
    with torch.no_grad():
        accuracy = float((model(test[0]).argmax(1) == test[1]).double().mean())
    return {"accuracy": accuracy, "nonzeros": sparsifier.nonzeros, "processor": time.process_time() - start}


@functools.cache
def _mnist() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    data = load("mnist")
    assert data.test is not None
    return _tensors(data), _tensors(data.test)


def _tensors(data: Data) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(np.asarray(data.x[:]), dtype=torch.float32)
    return x, torch.as_tensor(np.asarray(data.y[:])).long()


def table(rows: Rows) -> str:
    """Means over the seeds, methods against densities."""
    densities = sorted({r["density"] for r in rows if r["density"] < 1}, reverse=True)
    body = []
    for method in METHODS:
        own = [[r for r in rows if (r["method"], r["density"]) == (method, d)] for d in densities]
        if any(own):
            body.append([method, *(_accuracy(cell) for cell in own), _processor([r for cell in own for r in cell])])
    return markdown(["method", *(f"test % at {100 * d:g} %" for d in densities), "processor s, mean"], body)


def _accuracy(rows: Rows) -> str:
    found = [100 * r["accuracy"] for r in rows]
    spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 2 else ""
    return f"{np.mean(found):.2f}{spread} ({len(found)})" if found else "-"


def _processor(rows: Rows) -> str:
    return f"{np.mean([r['processor'] for r in rows]):.0f}"


def figure(rows: Rows) -> Figure:
    """Accuracy against weights kept, of the plain methods."""
    drawn = [{**r, "label": r["method"]} for r in rows if "," not in r["method"]]
    return score_against_nonzeros(drawn, score="accuracy", name="test accuracy")


def _ranking(rows: Rows) -> str:
    densities = sorted({r["density"] for r in rows})
    parts = []
    for d in densities:
        own = {m: [r["accuracy"] for r in rows if (r["method"], r["density"]) == (m, d)] for m in METHODS}
        best = max((m for m in own if own[m]), key=lambda m: np.mean(own[m]))
        parts.append(f"{100 * d:g} %: {best}, {100 * np.mean(own[best]):.2f} %")
    return "the best at each density: " + "; ".join(parts)


AT_START = ("SNIP", "GraSP", "SynFlow")
METHODS = [
    "static", "SET", "RigL", "SNFS", "MEST", "gradual", "IMP",
    *(f"{name}{check}" for name in AT_START for check in ("", ", shuffled", ", reinitialised")),
]  # fmt: skip
BENCHMARKS = (
    Benchmark(
        name="sparse_training",
        topic="train",
        question="Which way to train a module sparse is the most accurate?",
        text="""LeNet-300-100 on MNIST, Adam with half a cosine, 10 epochs of the same minibatches for every method,
        official test rows; means over seeds (their number in brackets). All settings are the methods' defaults.
        "static" is the fair baseline of the moving methods; shuffled masks and weights drawn anew are the published
        checks of pruning at initialisation; IMP shares the same minibatches among its trainings.""",
        full=calls(
            "sparse_training",
            row,
            {"seed": [0, 1, 2], "density": [0.05, 0.02, 0.01], "method": METHODS, "epochs": [10]},
        ),
        quick=calls(
            "sparse_training", row, {"seed": [0], "density": [0.02], "method": ["static", "RigL"], "epochs": [0.5]}
        ),
        table=table,
        figure=figure,
        targets={"all methods side by side, same minibatches": _ranking},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
