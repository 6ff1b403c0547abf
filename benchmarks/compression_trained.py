"""Trained networks compressed to M neurons: held-out loss of `population` beside three ways to choose neurons.

    python benchmarks/compression_trained.py [--where data=digits width=512]

Networks of 512 and 2048 neurons, one hidden layer with biases, trained by Adam on the training rows; M in 8 ... 128.
magnitude keeps the neurons of largest |w||v|, k-means merges directions, greedy is orthogonal matching pursuit under
the Gaussian of the data's mean and covariance. Every choice is shown with its outputs solved by least squares on the
rows ("outputs") and after the same L-BFGS fit of all weights on the same rows ("all"); population and greedy also as
they leave the Gaussian surrogate ("none"); "kept" is magnitude pruning as it is. population/all is what `compress`
does: the fit starts from its optimum and from the choices of the others, and the nearest on rows kept apart is
returned. On rows that nothing has seen: the loss is mean squared error over the variance of the labels (diabetes) or
cross-entropy in nats; the gap to the original is the mean squared one (diabetes) or the Kullback-Leibler divergence of
the class probabilities in nats; z is the mean over rows of the loss of a choice less that of population/all, in
standard errors. Training on diabetes ends where the loss on inner validation rows is near its least.
"""

import functools
import time
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import logsumexp

from sparelu.compress.population import Population, gaussian_law
from sparelu.compress.projection import Form, NetworkTarget, Projection
from sparelu.compress.refit import refit_outputs, refit_students, row_gap
from sparelu.compress.shallow import two_layer
from sparelu.compress.starts import Chosen, choose_greedily, find_centres, largest_neurons
from sparelu.data import Data
from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.gaussian import TwoLayer
from sparelu.networks.network import Network
from sparelu.run import generator

WIDTHS = (512, 2048)
NEURONS = (8, 16, 32, 64, 128)
ROWS, STEPS = 5000, 150
EPOCHS = {"digits": 20, "diabetes": 10, "mnist": 3}


@functools.cache
def problem(name: str) -> tuple[Data, Data]:
    """Training and held-out rows, inputs standardised for diabetes."""
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True, scaled=False)
        data = Data(((x - x.mean(0)) / x.std(0)), (y - y.mean()) / y.std(), name="diabetes")
    else:
        data = load(name)
    split = data.split(0.25, 0)
    return split.train, split.test


@functools.lru_cache(maxsize=1)
def trained(name: str, width: int, seed: int = 0) -> Network:
    """Adam at 1e-3, batches of 64, weight decay 1e-4."""
    data, _ = problem(name)
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Linear(data.inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, data.outputs)
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-4)
    loss = torch.nn.CrossEntropyLoss() if data.task == "classification" else torch.nn.MSELoss()
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS[name]):
        for x, y in data.batches(64, rng, torch.float32):
            optimizer.zero_grad()
            loss(module(x), y).backward()
            optimizer.step()
    return Network.from_module(module)


def losses(student: TwoLayer, data: Data) -> np.ndarray:
    """Loss of every row."""
    said = student(torch.from_numpy(np.asarray(data.x, dtype=np.float64))).numpy()
    if data.task == "classification":
        true = np.take_along_axis(said, data.tensors()[1].numpy()[:, None], 1)[:, 0]
        return np.asarray(logsumexp(said, axis=1) - true)
    y = np.asarray(data.y, dtype=np.float64).reshape(data.n)
    return np.asarray((said[:, 0] - y) ** 2 / y.var())


def chosen_ways(original: TwoLayer, data: Data, m: int, seed: int) -> dict[str, TwoLayer]:
    """Students of the three choices, with outputs that are best under the Gaussian law."""
    law = gaussian_law(data)
    seen, back, rng = law.whiten(original), torch.linalg.pinv(law.root), generator(seed, "choice")
    form = Form(bias=True, offset=True, linear=False, shift=back @ law.mean)
    target = NetworkTarget.of(seen)
    projection = Projection(target, form)

    def student(chosen: Chosen) -> TwoLayer:
        found = projection.solve(*chosen)
        weight = found.weight @ back
        return TwoLayer(found.out, weight, found.bias - weight @ law.mean, found.linear @ back, found.offset)

    means = find_centres(original, m, rng)
    kept = largest_neurons(original, m)
    return {
        "magnitude": TwoLayer.of(kept[0], torch.zeros(len(original.out), m, dtype=torch.float64), kept[1]),
        "k-means": TwoLayer.of(means[0], torch.zeros(len(original.out), m, dtype=torch.float64), means[1]),
        "greedy": student(choose_greedily(target, form, m, rng)),
    }


def kept_as_it_is(original: TwoLayer, m: int) -> TwoLayer:
    weight, bias = largest_neurons(original, m)
    where = [int(torch.nonzero((original.weight == w).all(1))[0, 0]) for w in weight]
    return TwoLayer(original.out[:, where], weight, bias, original.linear, original.offset)


def row(data: str, width: int, m: int) -> dict[str, Any]:
    """Every way at one M: "way/refit" -> loss, z, gap, processor seconds since the ways were begun."""
    train_rows, test = problem(data)
    network = trained(data, width)
    original, classes = two_layer(network), test.task == "classification"
    held = torch.from_numpy(np.asarray(test.x, dtype=np.float64))
    found: dict[str, Any] = {"original": float(losses(original, test).mean())}
    each: dict[str, np.ndarray] = {}

    def note(way: str, kind: str, student: TwoLayer, started: float) -> None:
        seconds = round(time.process_time() - started, 1)
        each[f"{way}/{kind}"] = losses(student, test)
        distance = float(row_gap(student(held), original(held), classes))
        found[f"{way}/{kind}"] = {"gap": distance, "seconds": seconds}

    fitted = train_rows.take(np.sort(np.random.default_rng(0).permutation(train_rows.n)[:ROWS]))
    x = fitted.tensors()[0]
    note("magnitude", "kept", kept_as_it_is(original, m), time.process_time())
    started = time.process_time()
    students = {way: [student] for way, student in chosen_ways(original, fitted, m, m).items()}
    law = gaussian_law(fitted)
    target = NetworkTarget.of(law.whiten(original))
    students["population"] = Population().search(original, target, law, m, generator(m, "population"))
    for way, starts in students.items():
        if way in ("greedy", "population"):
            note(way, "none", starts[0], started)
        note(way, "outputs", refit_outputs(starts[0], x.double(), original(x.double())), started)
        note(way, "all", refit_students(starts, original, x, classes, "all", STEPS, generator(m, "refit")), started)
    for way, rows in each.items():
        more = rows - each["population/all"]
        spread = float(more.std()) / len(more) ** 0.5
        found[way] |= {"loss": float(rows.mean()), "z": float(more.mean()) / spread if spread > 0 else 0.0}
    return found


WAYS = (
    "magnitude/kept", "magnitude/outputs", "magnitude/all", "k-means/outputs", "k-means/all", "greedy/none",
    "greedy/outputs", "greedy/all", "population/none", "population/outputs", "population/all",
)  # fmt: skip


def table(rows: Rows) -> str:
    """Loss and gap of every way, a table for each network."""
    parts = []
    for data, width in dict.fromkeys((r["data"], r["width"]) for r in rows):
        own = sorted((r for r in rows if (r["data"], r["width"]) == (data, width)), key=lambda r: r["m"])
        parts.append(f"{data}, {width} neurons, held-out loss of the original {own[0]['original']:.4f}; loss (gap):")
        body = [[way, *(f"{r[way]['loss']:.4f} ({r[way]['gap']:.4f})" for r in own)] for way in WAYS]
        parts.append(markdown(["choice / refit", *(f"M = {r['m']}" for r in own)], body))
    return "\n\n".join(parts)


def figure(rows: Rows) -> Figure:
    """Gap against M on the widest network of digits (or of what is measured), outputs solved and all weights fitted."""
    widest = max(rows, key=lambda r: (r["data"] == "digits", r["width"]))
    data, width = widest["data"], widest["width"]
    own = [r for r in rows if (r["data"], r["width"]) == (data, width)]
    shown = ("magnitude/outputs", "k-means/outputs", "greedy/outputs", "population/outputs", "magnitude/all",
             "population/all")  # fmt: skip
    series = {way: [(r["m"], r[way]["gap"]) for r in own] for way in shown}
    return lines(
        series, ("neurons M kept of " + f"{width} ({data})", "divergence from the original, nats"), log=(True, True)
    )


def best_of(rows: Rows, kind: str) -> str:
    """In how many cells ``population`` has the least gap among the ways with this refit."""
    others = [way for way in WAYS if way.endswith(kind) and not way.startswith("population")]
    ratio = [min(r[way]["gap"] for way in others) / r[f"population/{kind}"]["gap"] for r in rows]
    least = sum(value >= 1 for value in ratio)
    more = f"the best of the others has {np.median(ratio):.2f} times its gap (median)"
    return f"least gap in {least} of {len(rows)} cells; {more}"


def below(rows: Rows) -> str:
    """Label loss of what `compress` does beside the three choices as they are published and with outputs solved."""
    named = [w for w in WAYS if not w.startswith("population") and not w.endswith("all")]
    lower = sum(all(r[w]["loss"] > r["population/all"]["loss"] for w in named) for r in rows)
    above = sum(any(r[w]["z"] < -2 for w in named) for r in rows)
    better = sum(r["population/all"]["loss"] < r["original"] for r in rows)
    return (
        f"lower in {lower} of {len(rows)} cells, above by more than two standard errors in {above}; "
        f"below the loss of the original itself in {better}"
    )


SIZES = {"width": list(WIDTHS), "m": list(NEURONS)}
BENCHMARKS = (
    Benchmark(
        name="compression_trained",
        topic="compress",
        question="Which neurons of a trained network should stay?",
        text="""Networks of 512 and 2048 neurons trained by Adam, compressed to M. Choices: magnitude (largest
        |w||v|), k-means of directions, greedy (orthogonal matching pursuit under the Gaussian of the data, as
        published kernel methods do), population (ours). Every choice with outputs solved on the same rows, and after
        the same fit of all weights: the fair comparison. Held-out rows; loss is 1 - R2 or cross-entropy, gap is the
        squared distance from the original network's outputs or the Kullback-Leibler divergence from its classes.""",
        full=calls("compression_trained", row, *({"data": [name], **SIZES} for name in EPOCHS)),
        quick=calls("compression_trained", row, {"data": ["diabetes"], "width": [512], "m": [8]}),
        table=table,
        figure=figure,
        targets={
            "held-out loss below magnitude pruning, k-means merging and greedy selection at every M": below,
            "gap below every other choice at every M, outputs solved": lambda rows: best_of(rows, "outputs"),
            "gap below every other choice at every M, all weights fitted by all": lambda rows: best_of(rows, "all"),
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
