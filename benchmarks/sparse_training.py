"""Test accuracy of LeNet-300-100 on MNIST for every way to train it sparse, with the same minibatches for all.

Run: OMP_NUM_THREADS=1 python benchmarks/sparse_training.py --epochs 10 --seeds 3 --densities 0.05 0.02 0.01
Rows are written as they are done. Pruning at initialisation comes with its checks. Iterative pruning shares the
minibatches equally among its trainings.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparelu.data import Data
from sparelu.datasets import load
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


def at_start(density: float, rows: tuple[Tensor, Tensor], seed: int) -> dict[str, Masks]:
    """Masks of the untrained network."""
    model, (x, y) = lenet(seed), rows
    batch = torch.randint(len(x), (1000,), generator=torch.Generator().manual_seed(seed))
    return {
        "SNIP": snip(model, lambda m: cross_entropy(m(x[batch]), y[batch]), density=density),
        "GraSP": grasp(model, lambda m: cross_entropy(m(x[batch]) / 200, y[batch]), density=density),
        "SynFlow": synflow(model, (784,), density=density),
    }


def ticket(density: float, rows: tuple[Tensor, Tensor], steps: int, seed: int) -> tuple[nn.Module, Masks, int]:
    """The last ticket of iterative pruning, and the steps that are left to train it."""
    model = lenet(seed)
    size = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    each = steps // (len(removals(0.2, size, round(density * size))) + 1)

    def part(m: nn.Module, masks: Masks, start: int, stop: int | None) -> None:
        train(m, lambda m, o, n: Static(m, o, masks=masks), rows, each, seed)

    *_, (last, masks) = winning_tickets(model, part, density=density)
    return last, masks, each


def main() -> None:
    """Print one line for each method, density and seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.02, 0.01])
    choices = parser.parse_args()
    torch.set_num_threads(1)
    data = load("mnist")
    rows, test = (_tensors(part) for part in (data, data.test))
    steps = int(choices.epochs * len(rows[0]) / BATCH)

    def report(name: str, model: nn.Module, make: Make, n: int = steps) -> None:
        start = time.process_time()
        sparsifier = train(model, make, rows, n, seed)
        with torch.no_grad():
            accuracy = float((model(test[0]).argmax(1) == test[1]).double().mean())
        spent = time.process_time() - start
        print(f"{density:6.3f} {seed:2d} {name:24} {sparsifier.nonzeros:6d} {accuracy:.4f} {spent:6.1f} s", flush=True)

    for density in choices.densities:
        for seed in range(choices.seeds):
            for name, make in moving(density, max(1, steps // 60), seed).items():
                report(name, lenet(seed), make)
            for name, masks in at_start(density, rows, seed).items():
                g = torch.Generator().manual_seed(seed)
                mixed = shuffled(masks, g)
                report(name, lenet(seed), lambda m, o, n, k=masks: Static(m, o, masks=k))
                report(f"{name}, shuffled", lenet(seed), lambda m, o, n, k=mixed: Static(m, o, masks=k))
                other = reinitialised(lenet(seed), g)
                report(f"{name}, reinitialised", other, lambda m, o, n, k=masks: Static(m, o, masks=k))
            model, masks, left = ticket(density, rows, steps, seed)
            report("IMP", model, lambda m, o, n, k=masks: Static(m, o, masks=k), left)


def _tensors(data: Data) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(np.asarray(data.x[:]), dtype=torch.float32)
    return x, torch.as_tensor(np.asarray(data.y[:])).long()


if __name__ == "__main__":
    main()
