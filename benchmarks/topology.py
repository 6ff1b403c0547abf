"""Does the topology of a mask tell its accuracy, beyond the densities of its layers?

    SPARELU_DATA=FOLDER python benchmarks/topology.py [topology | topology_spectra]

LeNet-300-100 on MNIST, masks chosen before training, one epoch of Adam with half a cosine. Every mask comes
with its shuffle within each layer: the same densities, no topology. "random" has the same density in every layer, PAGS
chooses among candidates of SNIP. Ranks are correlated over methods and seeds at each density.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import svdvals
from scipy.sparse.linalg import svds
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.train.analysis.mask_topology import NUMBERS, diagnose_layers, mean_over_layers
from sparelu.train.analysis.pags import select_by_topology, snip_candidates
from sparelu.train.analysis.spectra import TOLERANCE
from sparelu.train.at_init import shuffled, snip, synflow
from sparelu.train.sparsifier.layer_densities import Masks
from sparelu.train.static import Static

BATCH, RATE = 100, 0.001
METHODS = ("random", "ERK", "SNIP", "SynFlow", "PAGS")
DENSITIES = (0.02, 0.05, 0.1)
SEEDS = (0, 1, 2)
CANDIDATES = 50
DRAWS = 9


@functools.cache
def mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels and labels, test pixels and labels."""
    data = load("mnist")
    assert data.test is not None
    arrays = (np.asarray(a[:]) for a in (data.x, data.y, data.test.x, data.test.y))
    x, y, x_test, y_test = (torch.as_tensor(a) for a in arrays)
    return x.float(), y.long(), x_test.float(), y_test.long()


def lenet(seed: int) -> nn.Module:
    """784-300-100-10."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def train(model: nn.Module, masks: Masks, rows: tuple[Tensor, Tensor], steps: int, seed: int) -> None:
    """Adam with the step size falling along half a cosine, within the masks."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    sparsifier = Static(model, optimizer, masks=masks)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    g = torch.Generator().manual_seed(seed)
    x, y = rows
    for _ in range(steps):
        batch = torch.randint(len(x), (BATCH,), generator=g)
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        sparsifier.step()
        schedule.step()


def at_start(name: str, density: float, rows: tuple[Tensor, Tensor], seed: int) -> Masks:
    """Masks of the untrained network by SNIP or SynFlow."""
    model, (x, y) = lenet(seed), rows
    if name == "SynFlow":
        return synflow(model, (784,), density=density)
    batch = torch.randint(len(x), (1000,), generator=torch.Generator().manual_seed(seed))
    return snip(model, lambda m: cross_entropy(m(x[batch]), y[batch]), density=density)


def masks_of(method: str, density: float, seed: int) -> Masks:
    """Masks for the untrained network of this seed."""
    x, y, *_ = mnist()
    if method in ("random", "ERK"):
        model = lenet(seed)
        allocation = "uniform" if method == "random" else "erk"
        optimizer = torch.optim.SGD(model.parameters())
        return Static(model, optimizer, density=density, allocation=allocation, seed=seed).masks
    if method != "PAGS":
        return at_start(method, density, (x, y), seed)
    start, g = at_start("SNIP", density, (x, y), seed), torch.Generator().manual_seed(seed)
    batches = (torch.randint(len(x), (400,), generator=g) for _ in range(CANDIDATES))
    losses = (lambda m, b=b: cross_entropy(m(x[b]), y[b]) for b in batches)
    return select_by_topology(lenet(seed), start, snip_candidates(lenet(seed), losses, start), seed=seed).masks


def row(*, method: str, check: str, density: float, seed: int, epochs: float = 1) -> dict[str, Any]:
    """Topology before and accuracy after one training; ``check`` is "" or "shuffled"."""
    x, y, x_test, y_test = mnist()
    began = time.process_time()
    masks = masks_of(method, density, seed)
    if check == "shuffled":
        masks = shuffled(masks, torch.Generator().manual_seed(seed))
    numbers = mean_over_layers(diagnose_layers(lenet(seed), masks=masks, draws=DRAWS, seed=seed))
    model = lenet(seed)
    train(model, masks, (x, y), int(epochs * len(x) / BATCH), seed)
    with torch.no_grad():
        accuracy = float((model(x_test).argmax(1) == y_test).double().mean())
    return {
        "accuracy": accuracy,
        "layer_density": float(np.mean([float(m.double().mean()) for m in masks.values()])),
        **{name: round(number.value, 5) for name, number in numbers.items()},
        **{f"random_{name}": round(number.mean, 5) for name, number in numbers.items()},
        "seconds": round(time.process_time() - began, 2),
    }


def partial(a: Sequence[float], b: Sequence[float], given: Sequence[float]) -> float:
    """The rank correlation of a and b when that with ``given`` is taken off both."""
    ab, ag, bg = (float(np.corrcoef(rankdata(u), rankdata(v))[0, 1]) for u, v in ((a, b), (a, given), (b, given)))
    return (ab - ag * bg) / np.sqrt((1 - ag**2) * (1 - bg**2))


def table(rows: Rows) -> str:
    """Accuracies with those of the shuffled masks, and what they are correlated with."""
    body = []
    for method in METHODS:
        cells = [[_accuracies(rows, method, check, d) for check in ("", "shuffled")] for d in DENSITIES]
        if any(all(pair) for pair in cells):
            body.append([method, *(_pair(*pair) for pair in cells)])
    parts = ["Test accuracy in percent / of the same masks shuffled within each layer, means (seeds):"]
    parts.append(markdown(["masks", *(f"density {d:g}" for d in DENSITIES)], body))
    if told := correlations(rows):
        parts.append(
            "Rank correlation with the accuracy; what is left given the layer densities; of the random control:"
        )
        parts.append(told)
    return "\n\n".join(parts)


def _accuracies(rows: Rows, method: str, check: str, density: float) -> list[float]:
    return [100 * r["accuracy"] for r in rows if (r["method"], r["check"], r["density"]) == (method, check, density)]


def _pair(plain: list[float], mixed: list[float]) -> str | None:
    return f"{np.mean(plain):.2f} / {np.mean(mixed):.2f} ({len(plain)})" if plain and mixed else None


def correlations(rows: Rows) -> str:
    """A line for each number, a column for each density of four masks or more; empty where there is none."""
    columns = {}
    for density in DENSITIES:
        own = [r for r in rows if r["density"] == density and not r["check"]]
        if len(own) >= 4:
            accuracy, layer = ([r[name] for r in own] for name in ("accuracy", "layer_density"))
            columns[f"density {density:g}, {len(own)} masks"] = [f"{spearmanr(layer, accuracy)[0]:+.2f}"] + [
                _three([r[name] for r in own], [r[f"random_{name}"] for r in own], accuracy, layer) for name in NUMBERS
            ]
    if not columns:
        return ""
    names = ["layer density", *(name.replace("_", " ") for name in NUMBERS)]
    return markdown(["", *columns], zip(names, *columns.values(), strict=True))


def _three(value: list[float], chance: list[float], accuracy: list[float], layer: list[float]) -> str:
    given = partial(value, accuracy, layer)
    return f"{spearmanr(value, accuracy)[0]:+.2f}; {given:+.2f}; {spearmanr(chance, accuracy)[0]:+.2f}"


def spectra(rows: int, columns: int, density: float) -> dict[str, float]:
    """Processor seconds for the two largest singular values: all of them decomposed, and iterations for two."""
    rng = np.random.default_rng([rows, columns, round(1000 * density)])
    matrix = sparse.random_array((rows, columns), density=density, rng=rng, format="csr")
    start = rng.uniform(0.5, 1.5, min(rows, columns))
    began = time.process_time()
    whole = svdvals(matrix.toarray())[:2]
    between = time.process_time()
    few = svds(matrix, 2, tol=TOLERANCE, v0=start, return_singular_vectors=False)
    ended = time.process_time()
    error = float(np.abs(np.sort(few)[::-1] / whole - 1).max())
    return {"whole": between - began, "few": ended - between, "error": error}


def spectra_table(rows: Rows) -> str:
    """Each size."""
    headings = ["rows", "columns", "density", "all decomposed, s", "iterations for two, s", "ratio", "apart by"]
    body = [
        (r["rows"], r["columns"], f"{r['density']:g}", r["whole"], r["few"], r["whole"] / r["few"], f"{r['error']:.0e}")
        for r in rows
    ]
    return markdown(headings, body)


def _shuffled(rows: Rows) -> str:
    pairs = [(_accuracies(rows, m, "", d), _accuracies(rows, m, "shuffled", d)) for m in METHODS for d in DENSITIES]
    gaps = [float(np.mean(plain) - np.mean(mixed)) for plain, mixed in pairs if plain and mixed]
    if not gaps:
        return "no mask with its shuffle is measured yet"
    return f"shuffling within layers costs {min(gaps):+.2f} to {max(gaps):+.2f} points, median {np.median(gaps):+.2f}"


def _quicker(rows: Rows) -> str:
    ratio = [r["whole"] / r["few"] for r in rows]
    return f"iterations take 1/{min(ratio):.1f} to 1/{max(ratio):.0f} of a decomposition"


SHAPES = ((100, 300), (200, 200), (300, 784), (400, 400), (512, 4608), (1000, 1000), (2000, 2000))
GRID = {"seed": list(SEEDS), "density": list(DENSITIES), "method": list(METHODS), "check": ["", "shuffled"]}
BENCHMARKS = (
    Benchmark(
        name="topology",
        topic="train",
        question="Does the topology of a mask tell its accuracy, beyond the densities of its layers?",
        text="""LeNet-300-100 on MNIST, masks chosen before training, one epoch of training. The fair control is
        every mask shuffled within each layer: the same densities, no topology. "random" has the same density in
        every layer, PAGS chooses among candidates of SNIP by their topology (published).""",
        full=calls("topology", row, GRID),
        quick=calls(
            "topology",
            row,
            {"seed": [0], "density": [0.05], "method": ["random"], "check": ["", "shuffled"], "epochs": [0.5]},
        ),
        table=table,
        targets={"masks beside their shuffles": _shuffled},
    ),
    Benchmark(
        name="topology_spectra",
        topic="train",
        question="What do the two largest singular values of a sparse layer cost?",
        text="""Random sparse matrices: a whole decomposition of the dense matrix beside iterations on the sparse
        one.""",
        full=calls(
            "topology_spectra",
            spectra,
            *({"rows": [m], "columns": [n], "density": [0.01, 0.05, 0.2]} for m, n in SHAPES),
        ),
        quick=calls("topology_spectra", spectra, {"rows": [300], "columns": [784], "density": [0.05]}),
        table=spectra_table,
        targets={"no figure was asked for": _quicker},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
