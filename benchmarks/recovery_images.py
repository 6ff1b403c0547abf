"""Implicit images, the published Figures 4 and 5: PSNR of one image on 1500 Fourier features against nonzeros.

    SPARELU_DATA=FOLDER python benchmarks/recovery_images.py [recovery_digit | recovery_photograph]

784 pixels of a digit of MNIST, 3072 values of an image of CIFAR-10 (data set ``picture`` says which). PSNR is
-10 log10 of the mean squared error over the pixels that were fitted, as published: nothing is held out. No network here
has biases, except those of IMP, whose biases are free, and those of ours that stand beside them at up to 100 weights.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure

from sparelu.data import Budget, Data
from sparelu.datasets.pictures import picture
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.heatmap import panels_into
from sparelu.experiments.trials.task import Call
from sparelu.method import Fitter
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.pursuit.fitter import Pursuit
from sparelu.run import fit, generator
from sparelu.train.fit.imp import IterativePruning
from sparelu.train.fit.masked_mlp import MLP

DIGIT, PHOTOGRAPH = [2, 5, 10, 20, 50, 100, 200, 500, 1000], [5, 10, 20, 50, 100, 200, 500, 1000, 2000]
SHOWN = {"mnist": (5, 10, 20, 50, 100), "cifar10": (20, 50, 100, 200, 500)}
"""Budgets whose images are drawn."""
MOST, EXACT = 50.0, 100.0
"""The end of the published colour scale, and the PSNR from which on all pixels count as met: an error of 1e-5."""
SPANNED = 1e-9
"""Of a unit column outside the span of those used: less is rounding."""
METHODS = {
    "pursuit": "pursuit (ours)",
    "pursuit biases": "pursuit (biases)",
    "aiht": "AIHT (published)",
    "imp published": "IMP (published)",
    "imp": "IMP (fair)",
    "omp": "OMP (linear)",
}


def method_of(name: str, nonzeros: int, n: int) -> Fitter:
    """The method as it is measured here."""
    match name:
        case "pursuit" | "pursuit biases":
            large = nonzeros > 200 and n > 1000  # the digit is met before it comes to that
            return Pursuit(biases=name != "pursuit", growth=0.2 if large else 0.05, swaps=6 if large else 30)
        case "aiht":
            return AIHT(epochs=100)
        case "imp":
            return IterativePruning()
    return IterativePruning(gradients="published", batch=n, epochs=100)


def row(image: str, method: str, width: int, nonzeros: int, seed: int) -> dict[str, Any]:
    """One fit."""
    data = picture(image=image, seed=seed)
    solution = fit(method_of(method, nonzeros, data.n), data, Budget((width,), nonzeros=nonzeros), seed=seed)
    network = solution.network.to(torch.float64)
    values = network(np.asarray(data.x)).numpy()[:, 0]
    more = {"neurons": network.compact().hidden[0], "biases": network.biases}
    return {"found": [judged(data, values, nonzeros, network.nonzeros, image) | more]}


def path(image: str, method: str, width: int, seed: int, budgets: Sequence[int]) -> dict[str, Any]:
    """One run through all budgets: of each the largest model within it."""
    data = picture(image=image, seed=seed)
    walk = matching_pursuit(data, max(budgets)) if method == "omp" else pruned(data, width, seed, min(budgets))
    best: dict[int, tuple[int, np.ndarray]] = {}
    for count, values in walk:
        for s in budgets:
            if count <= s and count >= best.get(s, (0, values))[0]:
                best[s] = count, values
    return {"found": [judged(data, values, s, count, image) for s, (count, values) in sorted(best.items())]}


def pruned(data: Data, width: int, seed: int, least: int) -> Iterator[tuple[int, np.ndarray]]:
    """Weights of both layers, as published, and pixels after every cut of published IMP."""
    method, stats = method_of("imp published", least, data.n), data.statistics
    for iterate in method.steps(data, Budget((width,), nonzeros=least), generator(seed, "fit")):
        net = MLP.restored(iterate.state()["net"], "cpu")
        yield net.nonzeros, net.network(stats.y_mean, stats.y_sd).to(torch.float64)(np.asarray(data.x)).numpy()[:, 0]


def matching_pursuit(data: Data, most: int) -> Iterator[tuple[int, np.ndarray]]:
    """Features used and pixels after every step of orthogonal matching pursuit, a linear model without constant."""
    x, target = np.asarray(data.x), np.asarray(data.y, dtype=np.float64)
    unit = x / np.linalg.norm(x, axis=0)
    basis, left, used = np.zeros((len(x), 0)), target.copy(), np.zeros(x.shape[1], dtype=bool)
    for count in range(1, min(most, *x.shape) + 1):
        used[j := int(np.where(used, 0.0, np.abs(left @ unit)).argmax())] = True
        column = unit[:, j]
        for _ in range(2):  # twice is enough for orthogonality to rounding
            column = column - basis @ (column @ basis)
        size = np.linalg.norm(column)
        if size < SPANNED:
            continue
        basis = np.column_stack([basis, column / size])
        left = left - basis[:, -1] * (basis[:, -1] @ left)
        yield count, target - left


def judged(data: Data, values: np.ndarray, budget: int, nonzeros: int, image: str) -> dict[str, Any]:
    """PSNR of the fitted pixels; the pixels as hexadecimal bytes where they are drawn."""
    error = max(float(((values - np.asarray(data.y)) ** 2).mean()), 1e-30)
    found = {"budget": budget, "nonzeros": nonzeros, "psnr": -10 * float(np.log10(error))}
    if budget in SHOWN[image]:
        found["pixels"] = (255 * values.clip(0, 1)).round().astype(np.uint8).tobytes().hex()
    return found


def flat(rows: Rows) -> list[dict[str, Any]]:
    """One entry for each fit."""
    return [{**row, **found} for row in rows for found in row["found"]]


def table(rows: Rows) -> str:
    """Of each method and budget the PSNR at its best width, mean of the seeds."""
    fits = flat(rows)
    body = []
    for s in sorted({f["budget"] for f in fits}):
        best = [_best([f for f in fits if (f["method"], f["budget"]) == (m, s)]) for m in METHODS]
        ours = [f for f in fits if (f["method"], f["budget"]) == ("pursuit", s)]
        used = " / ".join(f"{np.median([f[k] for f in ours]):g}" for k in ("nonzeros", "neurons") if ours)
        body.append([s, *best, used or None])
    return markdown(["nonzeros", *METHODS.values(), "weights / neurons of ours"], body)


def _best(fits: Rows) -> str | None:
    means = [(np.mean([f["psnr"] for f in fits if f["width"] == m]), m) for m in {f["width"] for f in fits}]
    if not means:
        return None
    psnr, width = max(means)
    seeds = sum(f["width"] == width for f in fits)
    return f"{psnr:.1f} (m = {width}, {seeds})" if width else f"{psnr:.1f} ({seeds})"


def _leads(rows: Rows) -> str:
    """The least lead of ours over the best of the others, budget by budget and seed by seed.

    IMP has biases: where ours was measured with biases too, that stands against it.
    """
    fits = flat(rows)
    leads = []
    for s, seed in sorted({(f["budget"], f["seed"]) for f in fits if f["method"] == "pursuit"}):
        best: dict[str, float] = {}
        for f in fits:
            if (f["budget"], f["seed"]) == (s, seed):
                best[f["method"]] = max(f["psnr"], best.get(f["method"], -np.inf))
        biased = best.get("pursuit biases", best["pursuit"])
        own = {
            other: biased if other.startswith("imp") else best["pursuit"] for other in best if "pursuit" not in other
        }
        if own:
            leads.append((min(mine - best[other] for other, mine in own.items()), s))
    if not leads:
        return "not measured"
    exact = min((f["nonzeros"] for f in fits if f["method"] == "pursuit" and f["psnr"] >= EXACT), default=None)
    met = "" if exact is None else f"; all pixels met with {exact} weights"
    ahead = ", ".join(f"{lead:+.1f} at {s}" for lead, s in leads)
    return f"lead over the best other method, dB: {ahead}{met}"


def figure(rows: Rows) -> Figure:
    """PSNR over width and nonzeros on the published colour scale, and below it what was drawn."""
    fits = flat(rows)
    drawn = [
        {**f, "name": METHODS[f["method"]], "psnr": float(np.clip(f["psnr"], 0, MOST))} for f in fits if f["width"]
    ]
    shown = [f for f in fits if f["seed"] == 0 and "pixels" in f]
    lines = len({f["method"] for f in shown})
    figure = Figure(figsize=(7.4, 3.6 + 1.25 * lines), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3.6, 1.25 * lines])
    label = f"PSNR, dB; {MOST:g} and above in one colour"
    titles = ("neurons m", "nonzeros s")
    panels_into(above, drawn, "width", "budget", "psnr", label, by="name", titles=titles)
    images(below, shown)
    return figure


def images(part: SubFigure, fits: Rows) -> None:
    """The fitted images: a line for each method at its best width, a column for each budget."""
    names = [m for m in METHODS if any(f["method"] == m for f in fits)]
    budgets = sorted({f["budget"] for f in fits})
    grid = part.subplots(len(names), len(budgets), squeeze=False)
    for (i, name), (j, s) in itertools.product(enumerate(names), enumerate(budgets)):
        axes = grid[i, j]
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        own = [f for f in fits if (f["method"], f["budget"]) == (name, s)]
        if own:
            best = max(own, key=lambda f: f["psnr"])
            axes.imshow(_pixels(best["pixels"]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xlabel(f"{best['psnr']:.1f} dB", fontsize=7, labelpad=1)
        if i == 0:
            axes.set_title(f"{s} weights", fontsize=8)
        if j == 0:
            axes.set_ylabel(METHODS[name].replace(" (", "\n("), fontsize=7)


def _pixels(text: str) -> np.ndarray:
    values = np.frombuffer(bytes.fromhex(text), np.uint8)
    return values.reshape(28, 28) if values.size == 28 * 28 else values.reshape(3, 32, 32).transpose(1, 2, 0)


def grid(study: str, image: str, budgets: list[int]) -> list[Call]:
    """What is measured of one image."""
    whole, few = {"image": [image], "nonzeros": budgets}, [s for s in budgets if s <= 100]
    walk = {"image": [image], "budgets": [budgets]}
    return [
        *calls(study, row, {"method": ["pursuit"], "width": [50], "seed": [0], **whole}),
        *calls(study, path, {"method": ["omp"], "width": [0], "seed": [0, 1, 2], **walk}),
        *calls(study, row, {"method": ["aiht"], "width": [10], "seed": [0], **whole}),
        *calls(study, row, {"method": ["imp"], "width": [10], "seed": [0], **whole}),
        *calls(study, path, {"method": ["imp published"], "width": [10], "seed": [0], **walk}),
        *calls(study, row, {"method": ["pursuit", "aiht"], "width": [2], "seed": [0], **whole}),
        *calls(study, row, {"method": ["aiht"], "width": [50], "seed": [0], **whole}),
        *calls(study, row, {"method": ["pursuit", "aiht"], "width": [50], "seed": [1, 2], **whole}),
        *calls(study, row, {"method": ["pursuit"], "width": [10], "seed": [0], **whole}),
        *calls(study, row, {"method": ["imp"], "width": [2, 50], "seed": [0], **whole}),
        *calls(
            study, row, {"method": ["pursuit biases"], "width": [50], "seed": [0], "image": [image], "nonzeros": few}
        ),
    ]


TEXT = """Networks of one hidden layer without biases; IMP has biases, which are not counted, and up to 100 weights
        ours stands against it with biases too. `pursuit` grows and swaps weights; AIHT as published, 100 epochs; IMP as
        published, 100 steps a round and none after the last cut; fair IMP as in the table of MNIST; OMP is orthogonal
        matching pursuit, linear in the same features. Best width of those measured, number of seeds in brackets.
        Published figures are heat maps without numbers."""
BENCHMARKS = tuple(
    Benchmark(
        name=name,
        topic="recover",
        question=question,
        text=TEXT,
        full=grid(name, image, budgets),
        quick=calls(name, row, {"image": [image], "method": ["pursuit"], "width": [50], "nonzeros": [10], "seed": [0]}),
        table=table,
        figure=figure,
        targets={"above AIHT, IMP and OMP at every budget": _leads},
    )
    for name, image, budgets, question in (
        ("recovery_digit", "mnist", DIGIT, "How well is a digit drawn with s weights (Figure 4)?"),
        ("recovery_photograph", "cifar10", PHOTOGRAPH, "How well is a photograph drawn with s weights (Figure 5)?"),
    )
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
