"""Does it matter what the first weights of a sparse layer are? RigL, a fixed support and gradual pruning on a table.

OMP_NUM_THREADS=1 python benchmarks/sparse_start.py
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_classification
from torch import nn

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.train import GradualMagnitude, RigL, Sparsifier, Static

ROWS, TRAIN, INPUTS, CLASSES, EPOCHS, BATCH = 12_000, 9_000, 100, 5, 10, 128
STEPS = EPOCHS * (TRAIN // BATCH)


def table_data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve thousand rows of a hundred inputs, five classes of three clusters each; inputs of unit scale."""
    x, y = make_classification(
        ROWS, INPUTS, n_informative=20, n_redundant=20, n_classes=CLASSES, n_clusters_per_class=3, random_state=seed
    )
    x = (x - x[:TRAIN].mean(0)) / x[:TRAIN].std(0)
    return torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)


def sparsified(method: str, model: nn.Module, optimizer: torch.optim.Optimizer, density: float, fan_in: str) -> Any:
    """The sparsifier of a row; None for a dense model."""
    choices: dict[str, Any] = {"density": density, "total_steps": STEPS}
    kinds: dict[str, Any] = {"rigl": RigL, "static": Static, "gradual": GradualMagnitude}
    if method != "gradual":
        choices["fan_in"] = fan_in
    return kinds[method](model, optimizer, **choices) if method in kinds else None


def row(method: str, density: float, fan_in: str, seed: int) -> dict[str, Any]:
    """Accuracy on rows kept apart, after the last step: nothing is chosen on them."""
    torch.manual_seed(seed)
    x, y = table_data(seed)
    relu = nn.ReLU
    model = nn.Sequential(nn.Linear(INPUTS, 256), relu(), nn.Linear(256, 128), relu(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier: Sparsifier | None = sparsified(method, model, optimizer, density, fan_in)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        for batch in rng.permutation(TRAIN)[: TRAIN // BATCH * BATCH].reshape(-1, BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        accuracy = float((model(x[TRAIN:]).argmax(1) == y[TRAIN:]).float().mean())
    return {"accuracy": accuracy, "nonzeros": sparsifier.nonzeros if sparsifier else -1}


def _mean(rows: Rows, **wanted: Any) -> float:
    return 100 * float(np.mean([r["accuracy"] for r in rows if all(r[k] == v for k, v in wanted.items())] or [np.nan]))


def table(rows: Rows) -> str:
    """Mean accuracy over the seeds."""
    kinds = sorted({(r["method"], r["density"]) for r in rows})
    return markdown(
        ["method", "density", "scaled for all inputs", "scaled for the active"],
        [(m, d, *(f"{_mean(rows, method=m, density=d, fan_in=f):.1f}" for f in ("all", "active"))) for m, d in kinds],
    )


def _gains(rows: Rows) -> str:
    pairs = [("rigl", 0.05), ("static", 0.01)]
    found = [(m, d, *(_mean(rows, method=m, density=d, fan_in=f) for f in ("all", "active"))) for m, d in pairs]
    return "; ".join(f"{m} at {d:.0%}: {a:.1f} to {b:.1f} %" for m, d, a, b in found)


BENCHMARKS = (
    Benchmark(
        name="sparse_start",
        topic="train",
        question="Do the first weights of a sparse layer matter?",
        text="""Rows of a table, 100 inputs, five classes, a network 256-128, SGD with momentum for ten epochs, three
        seeds, accuracy on 3,000 rows kept apart. Weights drawn as torch does, as they are, or scaled for the inputs
        that each unit has left (the default).""",
        full=calls(
            "sparse_start",
            row,
            {
                "method": ["rigl", "static", "gradual"],
                "density": [0.05, 0.01],
                "fan_in": ["all", "active"],
                "seed": [0, 1, 2],
            },
        ),
        quick=calls(
            "sparse_start", row, {"method": ["static"], "density": [0.01], "fan_in": ["all", "active"], "seed": [0]}
        ),
        table=table,
        targets={"RigL at 5 % at least 72 %, a fixed support at 1 % at least 38 %": _gains},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
