"""Test accuracy on CIFAR-10 of a small residual network: dense, SET, RigL, and Chase with channels removed; latencies.

    OMP_NUM_THREADS=1 SPARELU_DATA=... python benchmarks/chase.py [chase | chase_latency]

All methods see the same minibatches. Accuracies of Chase are those of the smaller dense model; its latency is taken in
turn with that of the dense and of the masked model in the same process, on one thread: medians with 95% intervals of
the median, processor time beside the clock's.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.train.analysis.convnets import small_resnet
from sparelu.train.channels.chase import Chase, Removal, SoftBound
from sparelu.train.dynamic import SET, RigL
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration

MOMENTUM, DECAY = 0.9, 5e-4
METHODS = (("dense", 0.0), ("SET", 0.0), ("RigL", 0.0), ("Chase", 0.0), ("Chase", 0.3), ("Chase", 0.4))
PUBLISHED = {"Chase - RigL": 1.7, "30% - 0% of channels": -0.35, "40% - 0% of channels": -0.67}
"""Points of accuracy at 90% sparsity: ResNet-50 on ImageNet, 100 epochs (the authors' table)."""

LATENCY = ["removed model", "batch", "dense, ms", "masked, ms", "removed, ms", "dense / removed", "by the clock"]

Images = tuple[Tensor, Tensor]


def row(
    *,
    method: str,
    channel_sparsity: float = 0.0,
    residual: bool = False,
    seed: int = 0,
    density: float = 0.1,
    width: int = 16,
    blocks: int = 1,
    rows: int = 50_000,
    epochs: int = 6,
    batch: int = 100,
    rate: float = 0.1,
    every: int = 50,
    floor: float = 0.5,
    repeats: int = 50,
) -> dict[str, Any]:
    """Train one network and measure it: ``method`` is "dense", "SET", "RigL" or "Chase".

    ``rows`` are the first of the training rows, flipped at random; ``every`` steps the support moves. SGD with momentum
    0.9, weight decay 5e-4 and a step size from ``rate`` along half a cosine; products in bfloat16 (autocast) while
    training, in float32 while measuring. ``residual`` is Chase's.
    """
    train, test = cifar(rows)
    torch.manual_seed(seed)
    model = network(width, blocks)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=DECAY)
    steps = epochs * (rows // batch)
    common: dict[str, Any] = {"total_steps": steps, "density": density, "seed": seed}
    thinning = {
        "channel_sparsity": channel_sparsity,
        "residual": residual,
        "removal": Removal(every=every, floor=floor),
    }
    sparsifier = made(method, model, optimizer, every, common, thinning)
    start = time.process_time()
    fit(model, optimizer if sparsifier is None else sparsifier, train, steps, batch, seed)
    found: dict[str, Any] = {"train_seconds": round(time.process_time() - start, 1), "steps": steps}
    dense = network(width, blocks)
    found |= {"accuracy": accuracy(model, test), "weights": weights(dense), "macs_of_dense": 1.0}
    if sparsifier is not None:
        found |= {"nonzeros": sparsifier.nonzeros, "visited": round(sparsifier.explored, 4)}
    if isinstance(sparsifier, Chase):
        small = sparsifier.shrink()
        found |= {"masked_accuracy": found["accuracy"], "accuracy": accuracy(small, test)}
        found |= shrunk(sparsifier, small, dense, test[0][:256], repeats)
    return found


def speed_row(
    *,
    channel_sparsity: float,
    residual: bool,
    width: int = 64,
    blocks: int = 1,
    density: float = 0.2,
    floor: float = 0.5,
    repeats: int = 50,
) -> dict[str, Any]:
    """Latencies of a wider network, removed after a few steps on noise: accuracy is not asked for.

    Which layers lose channels is then a matter of the initial weights, widest layers first, as in the trained rows.
    """
    torch.manual_seed(0)
    model, steps = network(width, blocks), 16
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=MOMENTUM)
    plan, removal = SoftBound(every=4), Removal(every=4, floor=floor)
    choices: dict[str, Any] = {"density": density, "channel_sparsity": channel_sparsity, "residual": residual}
    chase = Chase(model, optimizer, total_steps=steps, plan=plan, removal=removal, **choices)
    x, y = torch.randn(256, 3, 32, 32), torch.randint(10, (256,))
    fit(model, chase, (x, y), steps, 16, 0)
    return shrunk(chase, chase.shrink(), network(width, blocks), x, repeats)


def shrunk(chase: Chase, small: nn.Module, dense: nn.Module, x: Tensor, repeats: int) -> dict[str, Any]:
    """What the removal of channels gives: sizes, work, the difference of outputs on ``x``, latencies."""
    return {
        "small_weights": weights(small),
        "macs_of_dense": round(macs(small) / macs(dense), 4),
        "channels": {n: f"{int((~r).sum())} of {len(r)}" for n, r in chase.removed.items()},
        "largest_difference": difference(chase.model, small, x),
        "latency": latencies({"dense": dense, "masked": chase.model, "removed": small}, repeats),
    }


def made(
    method: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    every: int,
    common: dict[str, Any],
    thinning: dict[str, Any],
) -> Sparsifier | None:
    """The sparsifier of a method, with what is common to all and what is Chase's; none for "dense"."""
    match method:
        case "dense":
            return None
        case "SET":
            return SET(model, optimizer, plan=Exploration(every=every), **common)
        case "RigL":
            return RigL(model, optimizer, plan=Exploration(every=every), **common)
        case "Chase":
            return Chase(model, optimizer, plan=SoftBound(every=every), **thinning, **common)
    raise ValueError(f"unknown method {method!r}: choose dense, SET, RigL or Chase")


def network(width: int, blocks: int) -> nn.Module:
    """Channels lie last in memory, which is quicker on a CPU."""
    return small_resnet(width, blocks, stride=2).to(memory_format=torch.channels_last)


def fit(
    model: nn.Module, stepper: torch.optim.Optimizer | Sparsifier, train: Images, steps: int, batch: int, seed: int
) -> None:
    """An ordinary loop over shuffled rows."""
    optimizer = stepper.optimizer if isinstance(stepper, Sparsifier) else stepper
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for x, y in batches(train, steps, batch, torch.Generator().manual_seed(seed)):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(x)
        cross_entropy(outputs.float(), y).backward()
        stepper.step()
        schedule.step()


def batches(train: Images, steps: int, batch: int, g: torch.Generator) -> Iterator[Images]:
    """Epoch after epoch in random order, each image mirrored with probability 1/2."""
    x, y = train
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=g)
        chosen, order = order[:batch], order[batch:]
        mirrored = (torch.rand(batch, generator=g) < 0.5)[:, None, None, None]
        images = x[chosen]
        yield torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last), y[chosen]


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    """Share of the test rows that are right."""
    model.eval()
    right = [int((model(x).argmax(1) == y).sum()) for x, y in zip(*(t.split(500) for t in test), strict=True)]
    return sum(right) / len(test[0])


@torch.no_grad()
def difference(model: nn.Module, small: nn.Module, x: Tensor) -> float:
    """The largest difference of outputs."""
    return float((model.eval()(x) - small.eval()(x)).abs().max())


def weights(model: nn.Module) -> int:
    """Weights of convolutions and linear layers."""
    return sum(p.numel() for p in model.parameters() if p.ndim > 1)


def macs(model: nn.Module) -> int:
    """Multiplications for one image, zeros included."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() // 2


@torch.no_grad()
def latencies(models: dict[str, nn.Module], repeats: int, warmup: int = 10) -> dict[str, Any]:
    """Milliseconds of a forward pass for batches of 1, 2 and 64, the models in turn: median and its 95% interval."""
    found: dict[str, Any] = {}
    for size in (1, 2, 64):
        x = torch.randn(size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for i in range(warmup + repeats):
            for name, model in models.items():
                start = time.process_time(), time.perf_counter()
                model.eval()(x)
                if i >= warmup:
                    times[name].append((time.process_time() - start[0], time.perf_counter() - start[1]))
        found[str(size)] = {
            name: {kind: interval([1e3 * t[k] for t in taken]) for k, kind in enumerate(("processor", "clock"))}
            for name, taken in times.items()
        }
    return found


def interval(values: list[float]) -> list[float]:
    """Median, and the order statistics between which it lies with 95% (binomial, normal approximation)."""
    ordered, n = sorted(values), len(values)
    half = 0.98 * n**0.5
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(n / 2 + half))
    return [round(v, 4) for v in (statistics.median(ordered), ordered[low], ordered[high])]


LOADED: dict[int, tuple[Images, Images]] = {}


def cifar(rows: int) -> tuple[Images, Images]:
    """The first training rows and all test rows, each colour with mean 0 and deviation 1 over the training rows."""
    if rows not in LOADED:
        data = load("cifar10")
        parts = []
        for part, n in ((data, rows), (data.test, None)):
            x = torch.as_tensor(np.asarray(part.x[:n], dtype=np.float32)).reshape(-1, 32, 32, 3).permute(0, 3, 1, 2)
            parts.append((x, torch.as_tensor(np.asarray(part.y[:n])).long()))
        mean, deviation = (f(parts[0][0], (0, 2, 3)).reshape(1, 3, 1, 1) for f in (torch.mean, torch.std))
        train, test = (((x - mean) / deviation, y) for x, y in parts)
        LOADED[rows] = train, test
    return LOADED[rows]


def name_of(r: Any) -> str:
    """The method, with the channels removed."""
    scope = " and of residual sums" if r["residual"] else ""
    return (
        f"{r['method']}, {r['channel_sparsity']:.0%} of channels{scope}" if r["channel_sparsity"] else str(r["method"])
    )


def table(rows: Rows) -> str:
    """Accuracy and size of every method; latencies of the removed models."""
    sizes, times = [], []
    for name, own in _cells(rows).items():
        first = own[0]
        stored = [r.get("small_weights", r["weights"]) for r in own]
        work = np.mean([r["macs_of_dense"] for r in own])
        seconds = f"{np.median([r['train_seconds'] for r in own]):.0f}"
        sizes.append([name, _by_seed(own), first.get("nonzeros"), int(np.mean(stored)), f"{work:.2f}", seconds])
        times += [_latency_line(name, size, r) for r in own[:1] if r["channel_sparsity"] for size in (1, 2, 64)]
    headings = ["method", "test % (by seed)", "nonzeros", "weights stored", "work of dense", "processor s"]
    return markdown(headings, sizes) + "\n\n" + markdown(LATENCY, times)


def _by_seed(own: Rows) -> str:
    found = [100 * r["accuracy"] for r in own]
    return f"{np.mean(found):.2f} ({' '.join(f'{v:.2f}' for v in found)})"


def _latency_line(name: str, size: int, r: Any) -> list[Any]:
    """Processor time: medians with their intervals."""
    found = r["latency"][str(size)]
    models = [found[m]["processor"] for m in ("dense", "masked", "removed")]
    spans = [f"{m:.2f} ({low:.2f} to {high:.2f})" for m, low, high in models]
    return [name, size, *spans, _speed(found), f"{found['dense']['clock'][0] / found['removed']['clock'][0]:.2f}"]


def _cells(rows: Rows) -> dict[str, list[Any]]:
    """Rows of one method, by seed."""
    found: dict[str, list[Any]] = {}
    for r in sorted(rows, key=lambda r: (r["residual"], r["channel_sparsity"], r["seed"])):
        found.setdefault(name_of(r), []).append(r)
    return found


def _speed(latency: Any) -> str:
    """Processor time of the dense over the removed model, with the ends of their intervals."""
    dense, small = latency["dense"]["processor"], latency["removed"]["processor"]
    return f"{dense[0] / small[0]:.2f} ({dense[1] / small[2]:.2f} to {dense[2] / small[1]:.2f})"


def latency_table(rows: Rows) -> str:
    """Each removal: what is left, and its times."""
    named = {name_of({"method": "removed", **r}): r for r in rows}
    sizes = [
        [name, r["small_weights"], f"{r['macs_of_dense']:.2f}", r["largest_difference"]] for name, r in named.items()
    ]
    times = [_latency_line(name, size, r) for name, r in named.items() for size in (1, 2, 64)]
    headings = ["model", "weights stored", "work of dense", "largest difference from the masked model"]
    return markdown(headings, sizes) + "\n\n" + markdown(LATENCY, times)


def _deltas(rows: Rows) -> str:
    """Differences of accuracy at equal seeds: mean and standard error, beside the published ones."""
    accuracy = {(r["method"], r["channel_sparsity"], r["seed"]): 100 * r["accuracy"] for r in rows if not r["residual"]}
    pairs = ((("Chase", 0.0), ("RigL", 0.0)), (("Chase", 0.3), ("Chase", 0.0)), (("Chase", 0.4), ("Chase", 0.0)))
    said = []
    for (name, published), (a, b) in zip(PUBLISHED.items(), pairs, strict=True):
        seeds = sorted({seed for *cell, seed in accuracy if tuple(cell) == a and (*b, seed) in accuracy})
        found = [accuracy[*a, seed] - accuracy[*b, seed] for seed in seeds]
        if found:
            error = f" +- {np.std(found, ddof=1) / len(found) ** 0.5:.2f}" if len(found) > 1 else ""
            said.append(f"{name}: {np.mean(found):+.2f}{error} (published {published:+.2f})")
    return "; ".join(said) or "not measured yet"


def _fastest(rows: Rows) -> str:
    best = max(
        rows, key=lambda r: r["latency"]["64"]["dense"]["processor"][0] / r["latency"]["64"]["removed"]["processor"][0]
    )
    return f"{name_of({'method': 'removed', **best})}: {_speed(best['latency']['64'])} at batch 64"


BENCHMARKS = (
    Benchmark(
        name="chase",
        topic="train",
        question="Do channels removed while training cost accuracy?",
        text="""A residual network of three blocks (16, 32 and 64 channels) on all of CIFAR-10, six epochs, density
        0.1, the same minibatches for every method. Chase (published) trains dynamically and removes whole channels, at
        first only those inside a block; SET, RigL and the dense network are the fair baselines. The published
        differences are those of ResNet-50 on ImageNet at the same density, 100 epochs. Latencies are processor time of
        the first seed's models, in turn in one process, one thread: medians with their 95 % intervals.""",
        full=calls(
            "chase",
            row,
            *(
                {"seed": [seed], "method": [m], "channel_sparsity": [share]}
                for seed in range(3)
                for m, share in METHODS
            ),
            {"seed": [0, 1, 2], "method": ["Chase"], "channel_sparsity": [0.4], "residual": [True]},
        ),
        quick=calls(
            "chase",
            row,
            {"method": ["Chase"], "channel_sparsity": [0.3], "width": [8], "rows": [1000], "epochs": [1], "every": [1]},
        ),
        table=table,
        targets={"within the published deltas": _deltas},
    ),
    Benchmark(
        name="chase_latency",
        topic="train",
        question="How much faster is a network whose channels are removed?",
        text="""A wider network (64, 128 and 256 channels), channels removed after a few steps on noise; processor time
        of the dense, the merely masked and the removed model in turn, after a warm-up: medians with their 95 %
        intervals.""",
        full=calls("chase_latency", speed_row, {"channel_sparsity": [0.3, 0.4], "residual": [False, True]}),
        quick=calls(
            "chase_latency", speed_row, {"channel_sparsity": [0.4], "residual": [True], "width": [16], "repeats": [10]}
        ),
        table=latency_table,
        targets={"faster than the dense network": _fastest},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
