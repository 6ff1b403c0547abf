"""What masks add to a training step: processor time of a step, dense and masked models in turn, on one thread.

Run: OMP_NUM_THREADS=1 python benchmarks/masks_overhead.py
"""

import copy
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sparelu.train.dynamic import RigL
from sparelu.train.static import Static

OPTIMIZERS = {
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
}
EVERY = 100


def problems() -> Iterator[tuple[str, nn.Module, Tensor, int]]:
    """Name, model, one batch, and how many steps to time."""
    relu = nn.ReLU
    lenet = nn.Sequential(nn.Linear(784, 300), relu(), nn.Linear(300, 100), relu(), nn.Linear(100, 10))
    yield "LeNet-300-100, batch 128", lenet, torch.randn(128, 784), 100
    wide = nn.Sequential(nn.Linear(1024, 1024), relu(), nn.Linear(1024, 1024), relu(), nn.Linear(1024, 10))
    yield "1024-1024-1024-10, batch 128", wide, torch.randn(128, 1024), 30
    conv = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        relu(),
        nn.Conv2d(32, 64, 3, 2, 1),
        relu(),
        nn.Conv2d(64, 64, 3, padding=1),
        relu(),
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    yield "3 convolutions on 16 x 16, batch 64", nn.Sequential(conv, head), torch.randn(64, 3, 16, 16), 50


def seconds(step: object, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Processor time of one training step."""
    start = time.process_time()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    step()
    return time.process_time() - start


def main() -> None:
    """Medians; the update of the support is timed apart and spread over the steps between two."""
    torch.manual_seed(0)
    print(f"{'model':36} {'optimizer':14} {'dense ms':>8} {'masks':>7} {'RigL, an update every 100 steps':>32}")
    for name, model, x, steps in problems():
        y = torch.randint(0, 10, (len(x),))
        for title, make in OPTIMIZERS.items():
            dense, still, moving = (copy.deepcopy(model) for _ in range(3))
            o, p, q = (make(m.parameters()) for m in (dense, still, moving))
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
            base, masked, between = (statistics.median(t) for t in times)
            spread = ((EVERY - 1) * between + update) / EVERY
            print(f"{name:36} {title:14} {1e3 * base:8.2f} {masked / base - 1:+7.1%} {spread / base - 1:+32.1%}")


if __name__ == "__main__":
    main()
