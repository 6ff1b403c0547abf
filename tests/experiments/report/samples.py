"""Random sparse networks on the digits data, dressed as solutions, for the tests of the report."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from sparelu.experiments.report.run_report import Point
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Budget, Solution, Status


def random_network(
    widths: tuple[int, ...], nonzeros: int, seed: int = 0, skip: bool = False, biases: bool = True
) -> tuple[Network, list[np.ndarray]]:
    """A network with the ``nonzeros`` largest of random weights, and its dense matrices."""
    rng = np.random.default_rng(seed)
    dense = [rng.normal(size=(b, a)) for a, b in zip(widths, widths[1:], strict=False)]
    floor = np.sort(np.abs(np.concatenate([w.ravel() for w in dense])))[-nonzeros]
    dense = [np.where(np.abs(w) >= floor, w, 0.0) for w in dense]
    bias = [rng.normal(size=len(w)) for w in dense] if biases else None
    affine = Layer.from_dense(np.eye(widths[-1], widths[0])) if skip else None
    return Network(Network.from_dense(dense, bias).layers, affine), dense


def solution_of(network: Network, **changes: Any) -> Solution:
    """A solution for digits with ``network`` in it."""
    given: dict[str, Any] = {
        "network": network,
        "status": Status.max_steps,
        "method": "gmp",
        "settings": {"rounds": 40, "rewind": None, "scope": "global"},
        "budget": Budget(tuple(max(h, 1) for h in network.hidden), nonzeros=max(network.nonzeros, 1)),
        "seed": 7,
        "within_budget": True,
        "seconds": 3.2,
        "peak_memory": 48_000_000,
        "history": tuple(
            {"progress": (i + 1) / 40, "loss": 2.3 * 0.8**i, "seconds": 0.1 * i, "density": 1 - i / 50}
            for i in range(40)
        ),
        "task": "classification",
        "classes": tuple(range(10)),
        "versions": {"sparelu": "0.1.0", "torch": "2.13.0"},
        "about": {"data": "digits", "target": "digit", "rows": 1437, "image": [8, 8], "device": "cpu", "threads": 2},
    }
    return Solution(**{**given, **changes})


def digits_report() -> tuple[Solution, list[Point], np.ndarray]:
    """A solution of 300 nonzeros, a curve with a dense point, and the mean image."""
    solution = solution_of(random_network((64, 30, 10), 300)[0])
    curve = [(50, 0.78), (100, 0.87), (1000, 0.96)]
    points = [Point(n, score, 0.01 * n, 30_000_000, 6 * n, "", False) for n, score in curve]
    points += [Point(300, 0.9125, 3.2, 48_000_000, 1830, "", True)]
    points += [Point(2220, 0.975, 1.2, 60_000_000, 9040, "dense", False)]
    return solution, points, load_digits().data.mean(axis=0)
