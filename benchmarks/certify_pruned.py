"""Certified change of a pruned network: propagation of the pair beside the product of norms, and a gradient attack.

    python benchmarks/certify_pruned.py [digits diabetes mnist]

Trained MLPs, the smallest 50, 80 and 95 % of the weights of every layer taken away without training on. Domains: the
ranges of the data within the ball of the longest row ("box"), and l-infinity balls about 20 rows (the largest of the
20 bounds). "attack" is the largest |F - f|_2 that projected gradient ascent finds in the same domain.
"""

import sys
import time

import numpy as np
import torch

from sparelu.certify.pairs import Inputs, gap, product_of_norms
from sparelu.certify.pruned import without_smallest
from sparelu.data import Data
from sparelu.datasets import load
from sparelu.network import Network

HIDDEN = {"digits": (64, 32), "diabetes": (64, 32), "mnist": (128, 64)}


def problem(name: str) -> Data:
    """All rows, standardised for diabetes."""
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True, scaled=False)
        return Data((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std(), name="diabetes")
    data = load(name)
    return data.take(np.arange(min(data.n, 10000)))


def train(data: Data, hidden: tuple[int, ...], epochs: int = 8) -> Network:
    """Adam at 1e-3, batches of 64, weight decay 1e-3."""
    torch.manual_seed(0)
    widths = (data.inputs, *hidden, data.outputs)
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


def main() -> None:
    names = sys.argv[1:] or ["digits", "diabetes", "mnist"]
    print("| data | pruned | domain | attack | pair | product of norms | product / pair | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        data = problem(name)
        dense = train(data, HIDDEN[name])
        low, high = data.ranges
        x = np.asarray(data.x[:20], dtype=np.float64)
        longest = float(np.linalg.norm(np.asarray(data.x[:], dtype=np.float64), axis=1).max())
        for fraction in (0.5, 0.8, 0.95):
            small = without_smallest(dense, fraction)
            domains = {"box": [Inputs(low, high, longest)]}
            for r in (0.0, 0.01, 0.05):
                domains[f"rows +- {r:g}"] = [Inputs(row - r, row + r) for row in x]
            for where, places in domains.items():
                begun = time.perf_counter()
                pair = max(gap(dense, small, p).norm for p in places)
                seconds = (time.perf_counter() - begun) / len(places)
                norms = max(product_of_norms(dense, small, p) for p in places)
                starts = x if len(places) == 1 else x[:1]
                found = max(attack(dense, small, p, np.clip(starts, p.low, p.high)) for p in places[:5])
                assert found <= pair
                print(
                    f"| {name} | {fraction:.0%} | {where} | {found:.3g} | {pair:.3g} | {norms:.3g} "
                    f"| {norms / pair:.1f} | {seconds:.2g} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
