"""Does the topology of a mask tell its accuracy, beyond the densities of its layers?

    SPARELU_DATA=FOLDER python benchmarks/topology.py            runs what is missing, then prints the tables
    SPARELU_DATA=FOLDER python benchmarks/topology.py --print    prints what is there
    python benchmarks/topology.py --spectra                      times whole decompositions beside iterations

LeNet-300-100 on MNIST, masks chosen before training, trained as in sparse_training.py for one epoch. Every mask comes
with its shuffle within each layer: the same densities, no topology. "random" has the same density in every layer, PAGS
chooses among candidates of SNIP. Ranks are correlated over methods and seeds at each density.
"""

import argparse
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import svdvals
from scipy.sparse.linalg import svds
from scipy.stats import rankdata, spearmanr
from sparse_training import BATCH, at_start, lenet, train
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparelu.datasets import load
from sparelu.train.allocation import Masks
from sparelu.train.at_init import shuffled
from sparelu.train.pags import select_by_topology, snip_candidates
from sparelu.train.spectra import TOLERANCE
from sparelu.train.static import Static
from sparelu.train.topology import NUMBERS, diagnose_layers, mean_over_layers

RESULTS = Path(__file__).parent / "results" / "topology.jsonl"
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
    settings = dict(locals())
    x, y, x_test, y_test = mnist()
    began = time.process_time()
    masks = masks_of(method, density, seed)
    if check == "shuffled":
        masks = shuffled(masks, torch.Generator().manual_seed(seed))
    numbers = mean_over_layers(diagnose_layers(lenet(seed), masks=masks, draws=DRAWS, seed=seed))
    model = lenet(seed)
    train(model, lambda m, o, n: Static(m, o, masks=masks), (x, y), int(epochs * len(x) / BATCH), seed)
    with torch.no_grad():
        accuracy = float((model(x_test).argmax(1) == y_test).double().mean())
    return {
        **settings,
        "accuracy": accuracy,
        "layer_density": float(np.mean([float(m.double().mean()) for m in masks.values()])),
        **{name: round(number.value, 5) for name, number in numbers.items()},
        **{f"random_{name}": round(number.mean, 5) for name, number in numbers.items()},
        "seconds": round(time.process_time() - began, 2),
    }


def done() -> list[dict[str, Any]]:
    """Rows that are there."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run_missing() -> None:
    """Run every setting that has no row, and add each row as it ends."""
    RESULTS.parent.mkdir(exist_ok=True)
    there = {(r["method"], r["check"], r["density"], r["seed"]) for r in done()}
    for seed in SEEDS:
        for density in DENSITIES:
            for method in METHODS:
                for check in ("", "shuffled"):
                    if (method, check, density, seed) not in there:
                        found = row(method=method, check=check, density=density, seed=seed)
                        with RESULTS.open("a") as file:
                            file.write(json.dumps(found) + "\n")


def partial(a: Sequence[float], b: Sequence[float], given: Sequence[float]) -> float:
    """The rank correlation of a and b when that with ``given`` is taken off both."""
    ab, ag, bg = (float(np.corrcoef(rankdata(u), rankdata(v))[0, 1]) for u, v in ((a, b), (a, given), (b, given)))
    return (ab - ag * bg) / np.sqrt((1 - ag**2) * (1 - bg**2))


def show(rows: list[dict[str, Any]]) -> None:
    """Accuracies with those of the shuffled masks, and what they are correlated with."""
    print("test accuracy in percent, mean over seeds, and of the same masks shuffled within each layer")
    for method in METHODS:
        cells = []
        for density in DENSITIES:
            found = [
                [100 * r["accuracy"] for r in rows if (r["method"], r["check"], r["density"]) == (method, c, density)]
                for c in ("", "shuffled")
            ]
            if all(found):
                cells.append(f"{density:g}: {np.mean(found[0]):.2f} / {np.mean(found[1]):.2f} ({len(found[0])})")
        print(f"{method:>8}  " + "   ".join(cells))
    for density in DENSITIES:
        own = [r for r in rows if r["density"] == density and not r["check"]]
        if len(own) < 4:
            continue
        accuracy, layer = ([r[name] for r in own] for name in ("accuracy", "layer_density"))
        print(f"density {density:g}, {len(own)} masks, rank correlation with accuracy; given layer density")
        print(f"  layer density {spearmanr(layer, accuracy)[0]:+.2f}")
        for name in NUMBERS:
            value, chance = ([r[key] for r in own] for key in (name, f"random_{name}"))
            words = f"{spearmanr(value, accuracy)[0]:+.2f}; {partial(value, accuracy, layer):+.2f}"
            print(f"  {name.replace('_', ' ')} {words}; of its random control {spearmanr(chance, accuracy)[0]:+.2f}")


def spectra() -> None:
    """Processor seconds for the two largest singular values, all of them decomposed beside iterations for two."""
    rng = np.random.default_rng(0)
    for shape in ((100, 300), (200, 200), (300, 784), (400, 400), (512, 4608), (1000, 1000), (2000, 2000)):
        for density in (0.01, 0.05, 0.2):
            matrix = sparse.random_array(shape, density=density, rng=rng, format="csr")
            start = rng.uniform(0.5, 1.5, min(shape))
            began = time.process_time()
            whole = svdvals(matrix.toarray())[:2]
            between = time.process_time()
            few = svds(matrix, 2, tol=TOLERANCE, v0=start, return_singular_vectors=False)
            ended = time.process_time()
            error = np.abs(np.sort(few)[::-1] / whole - 1).max()
            print(f"{shape} {density}: {between - began:.4f} and {ended - between:.4f}, apart by {error:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--spectra", action="store_true")
    ask = parser.parse_args()
    if ask.spectra:
        spectra()
        return
    if not ask.only_print:
        run_missing()
    show(done())


if __name__ == "__main__":
    main()
