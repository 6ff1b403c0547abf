"""Certified change of a pruned network: propagation of the pair beside the product of norms, and a gradient attack.

    python benchmarks/certify_pruned.py [--where data=digits]

Trained MLPs, the smallest 50, 80 and 95 % of the weights of every layer taken away without training on. Domains: the
ranges of the data within the ball of the longest row ("box"), l-infinity balls about 20 rows (the largest of the 20
bounds), and the mixtures of the rows of each of 64 groups of 2000 rows (the largest of the 64). "attack" is the largest
|F - f|_2 that projected gradient ascent (on mixtures: Frank-Wolfe steps from every row) finds in the same domain. No
sound bound is below it, so product / attack is the most by which any can be tighter.
"""

import functools
import time
from typing import Any

import numpy as np
import torch

from sparelu.certify.pairs import Inputs, bound_gap, product_of_norms
from sparelu.certify.pruned import group_rows, without_smallest
from sparelu.data import Data
from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.networks.network import Network

HIDDEN = {"digits": (64, 32), "diabetes": (64, 32), "mnist": (128, 64)}


@functools.lru_cache(maxsize=1)
def problem(name: str) -> Data:
    """All rows, standardised for diabetes."""
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True, scaled=False)
        return Data((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std(), name="diabetes")
    data = load(name)
    return data.take(np.arange(min(data.n, 10000)))


@functools.lru_cache(maxsize=1)
def trained(name: str, epochs: int = 8) -> Network:
    """Adam at 1e-3, batches of 64, weight decay 1e-3."""
    data = problem(name)
    torch.manual_seed(0)
    widths = (data.inputs, *HIDDEN[name], data.outputs)
    parts: list[torch.nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    module = torch.nn.Sequential(*parts[:-1])
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=1e-3)
    loss = torch.nn.CrossEntropyLoss() if data.task == "classification" else torch.nn.MSELoss()
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for x, y in data.batches(64, rng, torch.float32):
            optimizer.zero_grad()
            loss(module(x), y).backward()
            optimizer.step()
    return Network.from_module(module).to(torch.float64)


def attack(f: Network, g: Network, place: Inputs, start: np.ndarray) -> float:
    """Projected gradient ascent of |f - g|_2 in the box (and ball), from ``start`` (n, d)."""
    one, two = f.to_module(), g.to_module()
    low, high = torch.tensor(place.low), torch.tensor(place.high)
    x = torch.tensor(start).requires_grad_()
    best = 0.0
    for step in range(40):
        d = (one(x) - two(x)).norm(dim=1)
        best = max(best, float(d.detach().max()))
        (grad,) = torch.autograd.grad(d.sum(), x)
        x = x.detach() + (high - low) * 0.2 * (1 - step / 40) * grad.sign()
        x = torch.minimum(torch.maximum(x, low), high)
        x = x * (place.radius / x.norm(dim=1, keepdim=True)).clamp(max=1)
        x.requires_grad_()
    return best


def attack_mixtures(f: Network, g: Network, rows: np.ndarray) -> float:
    """Frank-Wolfe ascent of |f - g|_2 among the mixtures of ``rows`` (n, d), from each of them."""
    one, two = f.to_module(), g.to_module()
    corners = torch.tensor(rows)
    x, best = corners.clone(), 0.0
    for step in range(10):
        x.requires_grad_()
        d = (one(x) - two(x)).norm(dim=1)
        best = max(best, float(d.detach().max()))
        (grad,) = torch.autograd.grad(d.sum(), x)
        x = x.detach() + (corners[(grad @ corners.T).argmax(dim=1)] - x.detach()) / (step + 2)
    return best


def row(data: str, pruned: float, domain: str) -> dict[str, Any]:
    """``domain`` is ``box``, the radius of the balls about rows, or ``groups``."""
    rows, dense = problem(data), trained(data)
    small = without_smallest(dense, pruned)
    x = np.asarray(rows.x[:2000], dtype=np.float64)
    if domain == "box":
        longest = float(np.linalg.norm(np.asarray(rows.x[:], dtype=np.float64), axis=1).max())
        places = [Inputs(*rows.ranges, longest)]
        found = attack(dense, small, places[0], x[:20])
    elif domain == "groups":
        parts = group_rows(x, 64, np.random.default_rng(0))
        places = [Inputs.hull(part) for part in parts]
        found = max(attack_mixtures(dense, small, part) for part in parts)
    else:
        places = [Inputs(point - float(domain), point + float(domain)) for point in x[:20]]
        found = max(attack(dense, small, p, np.clip(x[:1], p.low, p.high)) for p in places[:5])
    begun = time.process_time()
    pair = max(bound_gap(dense, small, p).norm for p in places)
    seconds = (time.process_time() - begun) / len(places)
    norms = max(product_of_norms(dense, small, p) for p in places)
    return {"attack": found, "pair": pair, "norms": norms, "seconds": seconds}


WORDS = {"box": "box", "groups": "mixtures in 64 groups"}


def table(rows: Rows) -> str:
    """Each cell."""
    return markdown(
        ["data", "pruned", "domain", "attack", "pair", "product of norms", "product / pair", "product / attack", "s"],
        [
            (r["data"], f"{r['pruned']:.0%}", WORDS.get(r["domain"], f"rows +- {r['domain']}"), r["attack"], r["pair"],
             r["norms"], f"{r['norms'] / r['pair']:.1f}", f"{r['norms'] / r['attack']:.1f}", r["seconds"])
            for r in rows
        ],
    )  # fmt: skip


def _held(rows: Rows) -> str:
    broken = sum(r["attack"] > r["pair"] for r in rows)
    return f"attacks above the bound in {broken} of {len(rows)} cells"


def _sharper(rows: Rows) -> str:
    parts = []
    for domain in dict.fromkeys(r["domain"] for r in rows):
        own = [r for r in rows if r["domain"] == domain]
        ratio = [r["norms"] / r["pair"] for r in own]
        five = sum(value >= 5 for value in ratio)
        possible = sum(r["norms"] / r["attack"] >= 5 for r in own)
        parts.append(
            f"{WORDS.get(domain, f'rows +- {domain}')}: by {min(ratio):.1f} to {max(ratio):.1f} times, by 5 in {five} "
            f"of {len(own)} cells (the attack leaves room for it in {possible})"
        )
    return "; ".join(parts)


GRID = {"pruned": [0.5, 0.8, 0.95], "domain": ["box", "groups", "0", "0.01", "0.05"]}
BENCHMARKS = (
    Benchmark(
        name="certify_pruned",
        topic="certify",
        question="How far can a pruned network be from the network before?",
        text="""MLPs trained by Adam, the smallest weights of every layer taken away without training on. `pair`
        propagates linear bounds of both networks together (ours); the product of norms is the published bound;
        `attack` is the largest difference that projected gradient ascent finds. Domains:
        the ranges of the data within the ball of the longest row; l-infinity balls about 20 rows (the largest of 20
        bounds); the mixtures of the rows within each of 64 groups of 2000 rows. Product / attack is the most that any
        bound could gain.""",
        full=calls("certify_pruned", row, *({"data": [name], **GRID} for name in HIDDEN)),
        quick=calls("certify_pruned", row, {"data": ["diabetes"], "pruned": [0.8], "domain": ["groups", "0.05"]}),
        table=table,
        targets={
            "never below the largest error that an attack finds": _held,
            "at least 5 times tighter than the product of norms": _sharper,
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
