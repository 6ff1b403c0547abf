"""What masks add to a training step: processor time of a step, dense and masked models in turn, on one thread.

OMP_NUM_THREADS=1 python benchmarks/masks_overhead.py
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.train.dynamic import RigL
from sparelu.train.static import Static

Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
}
EVERY = 100


def lenet() -> tuple[nn.Module, Tensor, int]:
    """Model, one batch, and how many steps to time."""
    relu = nn.ReLU
    model = nn.Sequential(nn.Linear(784, 300), relu(), nn.Linear(300, 100), relu(), nn.Linear(100, 10))
    return model, torch.randn(128, 784), 600


def wide() -> tuple[nn.Module, Tensor, int]:
    """Two hidden layers of 1024."""
    relu = nn.ReLU
    model = nn.Sequential(nn.Linear(1024, 1024), relu(), nn.Linear(1024, 1024), relu(), nn.Linear(1024, 10))
    return model, torch.randn(128, 1024), 30


def convolutions() -> tuple[nn.Module, Tensor, int]:
    """Three convolutions on small images."""
    relu = nn.ReLU
    body = (nn.Conv2d(3, 32, 3, padding=1), relu(), nn.Conv2d(32, 64, 3, 2, 1), relu(), nn.Conv2d(64, 64, 3, padding=1))
    model = nn.Sequential(*body, relu(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return model, torch.randn(64, 3, 16, 16), 50


MODELS = {
    "LeNet-300-100, batch 128": lenet,
    "1024-1024-1024-10, batch 128": wide,
    "3 convolutions on 16 x 16, batch 64": convolutions,
}


def seconds(
    step: Callable[[], object], model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> float:
    """Processor time of one training step."""
    start = time.process_time()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    step()
    return time.process_time() - start


def row(model: str, optimizer: str) -> dict[str, Any]:
    """Median ratios of steps taken in turn; the update of the support is timed apart and spread over those between."""
    torch.manual_seed(0)
    base, x, steps = MODELS[model]()
    y = torch.randint(0, 10, (len(x),))
    dense, still, moving = (copy.deepcopy(base) for _ in range(3))
    o, p, q = (OPTIMIZERS[optimizer](m.parameters()) for m in (dense, still, moving))
    static = Static(still, p, density=0.1)
    rigl = RigL(moving, q, density=0.1, total_steps=10**6)
    times: list[list[float]] = [[], [], []]
    for _ in range(steps):
        times[0].append(seconds(o.step, dense, o, x, y))
        times[1].append(seconds(static.step, still, p, x, y))
        rigl.steps = 1
        times[2].append(seconds(rigl.step, moving, q, x, y))
    rigl.steps = EVERY
    update = seconds(rigl.step, moving, q, x, y)
    plain = statistics.median(times[0])
    masked, between = (
        plain * statistics.median(a / b for a, b in zip(t, times[0], strict=True)) for t in (times[1], times[2])
    )
    return {"dense": plain, "masked": masked, "between": between, "update": update}


def spread(r: Any) -> float:
    """A step of RigL with its share of the update."""
    return ((EVERY - 1) * r["between"] + r["update"]) / EVERY


def table(rows: Rows) -> str:
    """Each model and optimiser."""
    return markdown(
        ["model", "optimizer", "dense, ms", "masks", f"RigL, an update every {EVERY} steps"],
        [
            (r["model"], r["optimizer"], 1e3 * r["dense"], f"{r['masked'] / r['dense'] - 1:+.1%}",
             f"{spread(r) / r['dense'] - 1:+.1%}")
            for r in rows
        ],
    )  # fmt: skip


def _within(rows: Rows) -> str:
    masks, moving = ([100 * (f(r) / r["dense"] - 1) for r in rows] for f in (lambda r: r["masked"], spread))
    return (
        f"masks add {min(masks):+.0f} to {max(masks):+.0f} %, RigL {min(moving):+.0f} to {max(moving):+.0f} % of a step"
    )


BENCHMARKS = (
    Benchmark(
        name="masks_overhead",
        topic="train",
        question="What do masks add to a training step?",
        text="""Density 0.1, dense and masked models in turn within one row, median ratio of processor times of a step
        with its forward and backward pass, one thread. The fair baseline is the same model, dense, with the same
        optimiser.""",
        full=calls("masks_overhead", row, {"model": list(MODELS), "optimizer": list(OPTIMIZERS)}),
        quick=calls("masks_overhead", row, {"model": ["LeNet-300-100, batch 128"], "optimizer": list(OPTIMIZERS)}),
        table=table,
        targets={"masks add at most 10 %": _within},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
