"""Trained networks compressed to M neurons: held-out loss of `population` beside three ways to choose neurons.

    python benchmarks/compression_trained.py [digits diabetes mnist]    runs what is missing, then prints the tables
    python benchmarks/compression_trained.py --print                    prints what is there

Networks of 512 and 2048 neurons, one hidden layer with biases, trained by Adam on the training rows; M in 8 ... 128.
magnitude keeps the neurons of largest |w||v|, k-means merges directions, greedy is orthogonal matching pursuit under
the Gaussian of the data's mean and covariance. Every choice is shown with its outputs solved by least squares on the
rows ("outputs") and after the same L-BFGS fit of all weights on the same rows ("all"); population and greedy also as
they leave the Gaussian surrogate ("none"); "kept" is magnitude pruning as it is. On rows that nothing has seen: the
loss is mean squared error over the variance of the labels (diabetes) or cross-entropy in nats; the gap to the original
is the mean squared one (diabetes) or the Kullback-Leibler divergence of the class probabilities in nats.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from sparelu.compress.population import Population, gaussian_law
from sparelu.compress.projection import Form, NetworkTarget, Projection
from sparelu.compress.refit import gap, refit, refit_outputs
from sparelu.compress.shallow import from_two_layer, two_layer
from sparelu.compress.starts import Chosen, centres, greedy, largest
from sparelu.data import Data
from sparelu.datasets import load
from sparelu.experiments.measure import measure
from sparelu.gaussian import TwoLayer
from sparelu.network import Network
from sparelu.run import generator

RESULTS = Path(__file__).parent / "results" / "compression_trained.jsonl"
WIDTHS = (512, 2048)
NEURONS = (8, 16, 32, 64, 128)
ROWS, STEPS = 5000, 150
EPOCHS = {"digits": 20, "diabetes": 15, "mnist": 3}


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


def train(data: Data, width: int, epochs: int, seed: int) -> Network:
    """Adam at 1e-3, batches of 64, weight decay 1e-4."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Linear(data.inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, data.outputs)
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-4)
    loss = torch.nn.CrossEntropyLoss() if data.task == "classification" else torch.nn.MSELoss()
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for x, y in data.batches(64, rng, torch.float32):
            optimizer.zero_grad()
            loss(module(x), y).backward()
            optimizer.step()
    return Network.from_module(module)


def loss_of(network: Network, data: Data) -> float:
    found = measure(network, data)
    return found.cross_entropy if data.task == "classification" else 1 - found.r2


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

    means = centres(original, m, rng)
    kept = largest(original, m)
    return {
        "magnitude": TwoLayer.of(kept[0], torch.zeros(len(original.out), m, dtype=torch.float64), kept[1]),
        "k-means": TwoLayer.of(means[0], torch.zeros(len(original.out), m, dtype=torch.float64), means[1]),
        "greedy": student(greedy(target, form, m, rng)),
    }


def kept_as_it_is(original: TwoLayer, m: int) -> TwoLayer:
    weight, bias = largest(original, m)
    where = [int(torch.nonzero((original.weight == w).all(1))[0, 0]) for w in weight]
    return TwoLayer(original.out[:, where], weight, bias, original.linear, original.offset)


def cell(name: str, width: int, m: int, network: Network, train_rows: Data, test: Data) -> list[dict[str, object]]:
    """Every way at one M."""
    rows, original, classes = [], two_layer(network), test.task == "classification"
    base = {"data": name, "width": width, "m": m, "original": loss_of(network, test)}
    held = torch.from_numpy(np.asarray(test.x, dtype=np.float64))

    def note(way: str, kind: str, student: TwoLayer, started: float) -> None:
        seconds = round(time.process_time() - started, 1)
        loss = loss_of(from_two_layer(student, network), test)
        distance = float(gap(student(held), original(held), classes))
        rows.append({**base, "way": way, "refit": kind, "loss": loss, "gap": distance, "seconds": seconds})

    fitted = train_rows.take(np.sort(np.random.default_rng(0).permutation(train_rows.n)[:ROWS]))
    x = fitted.tensors()[0]
    note("magnitude", "kept", kept_as_it_is(original, m), time.process_time())
    started = time.process_time()
    students = chosen_ways(original, fitted, m, m)
    law = gaussian_law(fitted)
    target = NetworkTarget.of(law.whiten(original))
    students["population"] = Population().search(original, target, law, m, generator(m, "population"))
    for way, student in students.items():
        if way in ("greedy", "population"):
            note(way, "none", student, started)
        solved = refit_outputs(student, x.double(), original(x.double()))
        note(way, "outputs", solved, started)
        note(way, "all", refit(solved, original, x, classes, "all", STEPS, generator(m, "refit")), started)
    return rows


def run(names: list[str]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    done = {(r["data"], r["width"], r["m"]) for r in read()}
    for name in names:
        train_rows, test = problem(name)
        for width in WIDTHS:
            missing = [m for m in NEURONS if (name, width, m) not in done]
            network = train(train_rows, width, EPOCHS[name], 0) if missing else None
            for m in missing:
                assert network is not None
                with RESULTS.open("a") as file:
                    file.writelines(json.dumps(r) + "\n" for r in cell(name, width, m, network, train_rows, test))


def read() -> list[dict[str, object]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def show() -> None:
    rows = read()
    ways = list(dict.fromkeys((r["way"], r["refit"]) for r in rows))
    for name, width in dict.fromkeys((r["data"], r["width"]) for r in rows):
        own = [r for r in rows if (r["data"], r["width"]) == (name, width)]
        print(f"\n{name}, {width} neurons, held-out loss of the original {own[0]['original']:.4f}")
        for figure in ("loss", "gap"):
            print(f"{figure:22}" + "".join(f"{m:>10}" for m in NEURONS))
            for way in ways:
                found = {r["m"]: r[figure] for r in own if (r["way"], r["refit"]) == way}
                print(f"{' / '.join(way):22}" + "".join(f"{found.get(m, float('nan')):>10.4f}" for m in NEURONS))


if __name__ == "__main__":
    if "--print" not in sys.argv:
        run(sys.argv[1:] or list(EPOCHS))
    show()
