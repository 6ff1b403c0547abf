"""MNIST's 0 against 1, the published Figure 3a: test accuracy against nonzeros, official split.

    SPARELU_DATA=FOLDER python benchmarks/recovery_mnist.py [--where method=pursuit]

12665 training rows, 2115 test rows. "labels": numbers 0 and 1 fitted by squared error, a row is a one from 0.5 up, as
published; "classes": two classes, logistic loss. The ten classes of Figure 3b are in ``mnist_curve.py``. All settings
are defaults or the published ones; none was chosen on test rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sparelu.data import Budget, Data
from sparelu.datasets.images import mnist
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.heatmap import panels
from sparelu.method import Fitter
from sparelu.networks.network import Network
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.pursuit.fitter import Pursuit
from sparelu.run import fit, generator
from sparelu.train.fit.imp import IterativePruning
from sparelu.train.fit.magnitude import GradualPruning
from sparelu.train.fit.masked_mlp import MLP

BUDGETS = [1, 2, 5, 10, 20, 50, 100, 200]
PUBLISHED_BATCH = 1000
FORMS = ("labels", "classes")
METHODS = {
    ("pursuit", "labels"): "pursuit, labels",
    ("pursuit", "classes"): "pursuit, classes",
    ("gmp", "labels"): "gmp, labels",
    ("gmp", "classes"): "gmp, classes",
    ("imp", "labels"): "IMP (fair), labels",
    ("imp", "classes"): "IMP (fair), classes",
    ("imp published", "labels"): "IMP (published), labels",
    ("aiht", "labels"): "AIHT (published), labels",
}
FITTERS: dict[str, Fitter] = {
    "pursuit": Pursuit(),
    "gmp": GradualPruning(),
    "imp": IterativePruning(),
    "imp published": IterativePruning(gradients="published", batch=PUBLISHED_BATCH),
    "aiht": AIHT(batch=PUBLISHED_BATCH),
}


def rows_of(form: str, published: bool) -> tuple[Data, Data]:
    """Training and test rows; pixels from 0 to 255 for the published methods, else from 0 to 1."""
    data = mnist(keep=(0, 1))
    assert data.test is not None
    scale = np.float32(255 if published else 1)
    if form == "classes":
        return data, data.test
    train, test = (Data(scale * d.x[:], np.asarray(d.y[:], dtype=np.float32)) for d in (data, data.test))
    return train, test


def accuracy(network: Network, data: Data) -> float:
    """Share of rows on the right side: of 0.5 for labels, of 0 for classes."""
    threshold = 0.0 if data.task == "classification" else 0.5
    output = network.to(torch.float64)(np.asarray(data.x[:], dtype=np.float64)).numpy()[:, 0]
    return float(((output > threshold) == (np.asarray(data.y[:]) == 1)).mean())


def row(method: str, form: str, width: int, nonzeros: int, seed: int) -> dict[str, Any]:
    """One fit."""
    train, test = rows_of(form, method == "aiht")
    network = fit(FITTERS[method], train, Budget((width,), nonzeros=nonzeros), seed=seed).network
    return {"found": [judged(network, train, test, nonzeros)]}


def path(method: str, form: str, width: int, seed: int) -> dict[str, Any]:
    """One run of published IMP through all budgets, as published: of each the first network within it."""
    train, test = rows_of(form, True)
    found: dict[int, Network] = {}
    for count, network in pruned(FITTERS[method], train, Budget((width,), nonzeros=min(BUDGETS)), seed):
        for s in BUDGETS:
            if count <= s:
                found.setdefault(s, network)
    return {"found": [judged(network, train, test, s) for s, network in sorted(found.items())]}


def pruned(method: Fitter, data: Data, budget: Budget, seed: int) -> Iterator[tuple[int, Network]]:
    """Weights of both layers, which published IMP counts, and the network after every cut."""
    stats = data.statistics
    for iterate in method.steps(data, budget, generator(seed, "fit")):
        net = MLP.restored(iterate.state()["net"], "cpu")
        yield net.nonzeros, net.network(stats.y_mean, stats.y_sd)


def judged(network: Network, train: Data, test: Data, budget: int) -> dict[str, Any]:
    """Counts and accuracies."""
    counts = {"nonzeros": network.nonzeros, "biases": network.biases, "neurons": network.compact().hidden[0]}
    return {"budget": budget, "test": accuracy(network, test), "train": accuracy(network, train), **counts}


def flat(rows: Rows) -> list[dict[str, Any]]:
    """One entry for each fit."""
    return [{**row, **found} for row in rows for found in row["found"]]


def table(rows: Rows) -> str:
    """Test accuracy of each method at the best of its widths, median of the seeds."""
    fits = flat(rows)
    body = []
    for key, name in METHODS.items():
        own = [f for f in fits if (f["method"], f["form"]) == key]
        if own:
            cells = [_best([f for f in own if f["budget"] == s]) for s in BUDGETS]
            widths = " ".join(map(str, sorted({f["width"] for f in own})))
            body.append(
                [name, widths, len({f["seed"] for f in own}), *(None if c is None else f"{c:.2f}" for c in cells)]
            )
    return markdown(["test %", "widths", "seeds", *(f"s = {s}" for s in BUDGETS)], body)


def _best(fits: Rows) -> float | None:
    medians = [np.median([f["test"] for f in fits if f["width"] == m]) for m in {f["width"] for f in fits}]
    return 100 * float(max(medians)) if medians else None


def figure(rows: Rows) -> Figure:
    """Test accuracy over width and nonzeros, a panel for each method, the published colour scale."""
    drawn = [{**f, "name": METHODS[f["method"], f["form"]], "test": max(0.5, f["test"])} for f in flat(rows)]
    titles = ("neurons m", "nonzeros s")
    return panels(
        drawn, "width", "budget", "test", "test accuracy, 0.5 and below in one colour", by="name", titles=titles
    )


def _leads(rivals: tuple[str, ...]) -> Any:
    """The lead of ours over the best of the rivals at every budget, in points, both with labels or classes."""

    def words(rows: Rows) -> str:
        fits, leads = flat(rows), []
        for s in BUDGETS:
            here = [f for f in fits if f["budget"] == s]
            ours = [f for f in here if f["method"] == "pursuit"]
            others = [
                _best([f for f in here if (f["method"], f["form"]) == (r, form)]) for r in rivals for form in FORMS
            ]
            if ours and any(others):
                best = max(_best([f for f in ours if f["form"] == form]) or 0.0 for form in FORMS)
                leads.append(f"{s}: {best - max(o or 0.0 for o in others):+.2f}")
        return "points by budget: " + ", ".join(leads) if leads else "not measured"

    return words


EIGHT = {"nonzeros": BUDGETS}
BENCHMARKS = (
    Benchmark(
        name="recovery_mnist",
        topic="recover",
        question="How accurate is a network of s weights on MNIST's 0 against 1 (Figure 3a)?",
        text="""One hidden layer, products of both layers counted, biases not (AIHT has none; published IMP here has
        some, and counts the weights of both layers). AIHT and published IMP: 15 epochs in minibatches of 1000, pixels
        from 0 to 255; IMP is not trained after its last cut. `gmp`, fair IMP and `pursuit` with their defaults, on
        pixels from 0 to 1. `pursuit` draws nothing at random here: its seeds agree. Best width of those measured. A
        test row is 0.05 points. Published figures are heat maps without numbers.""",
        full=[
            *calls(
                "recovery_mnist",
                row,
                {"method": ["pursuit"], "form": ["labels", "classes"], "width": [20], **EIGHT, "seed": [0]},
            ),
            *calls(
                "recovery_mnist", row, {"method": ["aiht"], "form": ["labels"], "width": [10, 50], **EIGHT, "seed": [0]}
            ),
            *calls(
                "recovery_mnist", path, {"method": ["imp published"], "form": ["labels"], "width": [10], "seed": [0]}
            ),
            *calls(
                "recovery_mnist",
                row,
                {"method": ["gmp"], "form": ["classes", "labels"], "width": [10], **EIGHT, "seed": [0]},
            ),
            *calls(
                "recovery_mnist",
                row,
                {"method": ["imp"], "form": ["classes", "labels"], "width": [10], **EIGHT, "seed": [0]},
            ),
            *calls(
                "recovery_mnist",
                row,
                {"method": ["pursuit"], "form": ["labels"], "width": [1, 5], **EIGHT, "seed": [0]},
            ),
            *calls(
                "recovery_mnist",
                row,
                {"method": ["gmp", "imp"], "form": ["classes"], "width": [10], **EIGHT, "seed": [1, 2]},
            ),
            *calls(
                "recovery_mnist", row, {"method": ["aiht"], "form": ["labels"], "width": [10], **EIGHT, "seed": [1, 2]}
            ),
        ],
        quick=calls(
            "recovery_mnist",
            row,
            {"method": ["pursuit"], "form": ["labels"], "width": [20], "nonzeros": [2], "seed": [0]},
        ),
        table=table,
        figure=figure,
        targets={
            "above AIHT and both kinds of IMP at every budget": _leads(("aiht", "imp", "imp published")),
            "at least level with gradual pruning": _leads(("gmp",)),
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
