"""Accuracy on MNIST's test rows against nonzeros: gradual pruning beside the other methods of its folder.

    SPARELU_DATA=FOLDER python benchmarks/mnist_curve.py [--where method=gmp nonzeros=500]

All 60000 training rows, official test rows, pixels in [0, 1], one hidden layer, biases not counted, seeds 0 1 2, every
setting at its default. Those of ``gmp`` were chosen on 10000 of the training rows (batch, step size, length, penalty,
power and share of the schedule, score; one seed or two for each choice, at 200 to 2000 nonzeros), never on test rows.
Hidden units: 50 up to 1000 nonzeros, 100 above, chosen so too.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparelu.data import Budget, Data
from sparelu.datasets.images import mnist
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.evaluate import evaluate
from sparelu.experiments.figures.curves import score_against_nonzeros
from sparelu.experiments.figures.rows import group_by
from sparelu.experiments.trials.trial import Trial
from sparelu.networks.network import Network
from sparelu.recover.aiht.fitter import AIHT
from sparelu.run import fit, generator
from sparelu.train.fit.imp import IterativePruning
from sparelu.train.fit.masked_mlp import MLP

GOALS = {100: 0.78, 200: 0.905, 500: 0.96, 1000: 0.973, 2000: 0.978}
"""Test accuracy that was asked for, within 60 s on two cores."""
METHODS = ("gmp", "imp", "imp, as published", "aiht, as published", "magnitude")
"""As flat rows label them."""
PUBLISHED_BATCH, PUBLISHED_EPOCHS = 5000, 50
WIDTHS = (10, 20, 50)
"""Of the published grid, for the published methods."""


def trial(method: str, nonzeros: int, seed: int) -> Trial:
    """One fit."""
    width = 50 if nonzeros <= 1000 else 100
    return Trial("mnist", method=method, hidden=(width,), nonzeros=nonzeros, seed=seed)


def aiht(width: int, nonzeros: int, seed: int) -> dict[str, Any]:
    """The published method, on pixels from 0 to 255 as published."""
    train, test = raw_pixels()
    method = AIHT(epochs=PUBLISHED_EPOCHS, batch=PUBLISHED_BATCH)
    network = fit(method, train, Budget((width,), nonzeros=nonzeros), seed=seed).network
    return {"found": [judged("aiht, as published", network, train, test, nonzeros)]}


def pruned(width: int, seed: int) -> dict[str, Any]:
    """One run of published IMP through all budgets, as published: of each the first network within it."""
    train, test = raw_pixels()
    method = IterativePruning(gradients="published", epochs=PUBLISHED_EPOCHS, batch=PUBLISHED_BATCH)
    found: dict[int, Network] = {}
    for iterate in method.steps(train, Budget((width,), nonzeros=min(GOALS)), generator(seed, "fit")):
        net = MLP.restored(iterate.state()["net"], "cpu")
        for nonzeros in GOALS:
            if net.nonzeros <= nonzeros:
                found.setdefault(nonzeros, net.network())
    return {"found": [judged("imp, as published", net, train, test, s) for s, net in sorted(found.items())]}


def raw_pixels() -> tuple[Data, Data]:
    """Training and test rows with pixels from 0 to 255."""
    data = mnist()
    assert data.test is not None
    train, test = (replace(d, x=np.float32(255) * d.x[:], test=None) for d in (data, data.test))
    return train, test


def judged(label: str, network: Network, train: Data, test: Data, budget: int) -> dict[str, Any]:
    """Named as the flat row of a trial."""
    scores = {"score": evaluate(network, test).score, "train_score": evaluate(network, train).score}
    return {"label": label, "budget": budget, "nonzeros": network.nonzeros, "biases": network.biases, **scores}


def flat(rows: Rows) -> list[dict[str, Any]]:
    """One entry for each network."""
    return [{**row, **found} for row in rows for found in row.get("found", [row])]


def cell(rows: Rows, method: str, nonzeros: int) -> Rows:
    """The seeds of a cell; of several widths the one of the largest median score."""
    own = [r for r in flat(rows) if (r["label"], r["budget"]) == (method, nonzeros)]
    widths = group_by(own, "width").values()
    return max(widths, key=lambda same: np.median([r["score"] for r in same]), default=[])


def table(rows: Rows) -> str:
    """Medians of the seeds."""
    body = []
    for method in METHODS:
        for nonzeros, goal in GOALS.items():
            if own := cell(rows, method, nonzeros):
                middle = [float(np.median([r[k] for r in own])) for k in ("score", "train_score")]
                biases, processor = (np.median([r[k] for r in own]) for k in ("biases", "processor_seconds"))
                seeds = " ".join(f"{100 * r['score']:.2f}" for r in sorted(own, key=lambda r: r["seed"]))
                accuracy = [f"{100 * goal:.1f}", *(f"{100 * m:.2f}" for m in middle)]
                body.append([f"`{method}`", nonzeros, *accuracy, seeds, round(biases), f"{processor:.0f}"])
    headings = ["method", "nonzeros", "goal %", "test %", "train %", "test by seed", "biases", "processor s"]
    return markdown(headings, body)


def figure(rows: Rows) -> Figure:
    """Accuracy against nonzeros, of the rows of the table."""
    drawn = [r for method in METHODS for nonzeros in GOALS for r in cell(rows, method, nonzeros)]
    return score_against_nonzeros(drawn, name="test accuracy")


def _goals(rows: Rows) -> str:
    found = {n: float(np.median([r["score"] for r in cell(rows, "gmp", n)])) for n in GOALS if cell(rows, "gmp", n)}
    if not found:
        return "`gmp` is not measured yet"
    met = sum(found[n] >= GOALS[n] for n in found)
    listed = ", ".join(f"{n:,}: {100 * v:.2f} %" for n, v in found.items())
    return f"`gmp`, median of seeds: {listed}; met at {met} of {len(found)} budgets"


def _seconds(rows: Rows) -> str:
    own = [r["processor_seconds"] for r in rows if r.get("label") == "gmp"]
    return f"at most {max(own):.0f} processor seconds, one thread" if own else "`gmp` is not measured yet"


BENCHMARKS = (
    Benchmark(
        name="mnist_curve",
        topic="train",
        question="How accurate is a network of s weights on MNIST?",
        text="""Ten classes, official split, one hidden layer, weights of both layers counted and biases not. `gmp`:
        gradual pruning (ours, default); `imp`: iterative pruning with as many minibatches, trained once more after
        the last cut (the fair baseline), and as published, where every training has 50 passes in minibatches of 5000
        and the network is not trained after the last cut; `aiht` as published, 50 passes in the same minibatches, no
        biases; both on pixels from 0 to 255 and at the best of the widths measured; `magnitude`: one cut. Published
        figures for this task (Figure 3b) are heat maps without numbers.
        Searching the support further from what `gmp` finds did not help (100 nonzeros, 50,000 rows, one seed,
        cross-entropy of the training rows): 0.4571 as it is; 0.4571 refitted by L-BFGS; 0.4568 after swaps of the
        weights of least saliency for those of largest gradient; growing by 3 to 100 % and pruning back: no gain.""",
        full=[
            *(trial(m, n, seed) for seed in range(3) for m in ("gmp", "imp", "magnitude") for n in GOALS),
            *calls("mnist_curve", aiht, {"width": list(WIDTHS), "nonzeros": list(GOALS), "seed": [0, 1, 2]}),
            *calls("mnist_curve", pruned, {"width": list(WIDTHS), "seed": [0, 1, 2]}),
        ],
        quick=[trial("magnitude", 500, 0)],
        table=table,
        figure=figure,
        targets={
            "78, 90.5, 96, 97.3, 97.8 % at 100, 200, 500, 1000, 2000": _goals,
            "a fit within 60 s on two cores": _seconds,
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
