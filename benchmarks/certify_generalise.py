"""Generalisation bounds side by side: sparse multilayer perceptrons and a convolutional network on digits and MNIST.

    python benchmarks/certify_generalise.py

For every network: complexity of the outputs' class at its scale for each bound (the graph bound with the log of its
partitions not counted), nonzeros, training error, and seconds for the graph bound of single units. The convolutional
network is three 2 x 2 filters of one channel and a top layer, at initialisation, on the rows as they are.
"""

import time
from typing import Any

import numpy as np
import torch

from sparelu.catalogue import fitter
from sparelu.certify.complexity import Chain, energies, golowich, graph_complexity, neyshabur, partitions, path_norm
from sparelu.certify.unrolled import unroll
from sparelu.data import Budget, Data
from sparelu.datasets import load
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.networks.network import Network
from sparelu.run import fit

BOUNDS = ("single", "best", "path", "golowich", "neyshabur")


def network_of(name: str) -> tuple[Network, Data]:
    """``digits 50 500``: hidden widths and nonzeros; ``CONV-3-1``."""
    if name == "CONV-3-1":
        torch.manual_seed(0)
        parts = [p for _ in range(3) for p in (torch.nn.Conv2d(1, 1, 2, bias=False), torch.nn.ReLU())]
        module = torch.nn.Sequential(*parts, torch.nn.Flatten(), torch.nn.Linear(625, 10, bias=False))
        return unroll(module, (1, 28, 28)), load("mnist").take(np.arange(10000))
    data, *hidden, kept = name.split()
    rows = load(data)
    return fit(fitter("gmp"), rows, Budget(tuple(map(int, hidden)), nonzeros=int(kept))).network, rows


def row(network: str) -> dict[str, Any]:
    """Every bound on one network."""
    net, data = network_of(network)
    chain = Chain.of(net)
    energy = energies([np.asarray(x) for x, _ in data.chunks()], chain.constant)
    begun = time.perf_counter()
    ways = partitions(chain)
    single = graph_complexity(chain, energy, data.n, ways[0])
    seconds = time.perf_counter() - begun
    best = min(graph_complexity(chain, energy, data.n, w).value for w in ways)
    others = [f(chain, energy, data.n).value for f in (path_norm, golowich, neyshabur)]
    found = dict(zip(BOUNDS, (single.value, best, *others), strict=True))
    return {**found, "nonzeros": net.nonzeros, "rows": data.n, "seconds": seconds}


def table(rows: Rows) -> str:
    """Bounds side by side."""
    headings = [
        "network",
        "nonzeros",
        "rows",
        "graph, single units",
        "graph, best",
        "path",
        "Golowich",
        "Neyshabur",
        "s",
    ]
    return markdown(headings, [[r[k] for k in ("network", "nonzeros", "rows", *BOUNDS, "seconds")] for r in rows])


def _order(rows: Rows) -> str:
    classical = [min(r["golowich"], r["neyshabur"]) / r["best"] for r in rows]
    path = [r["path"] / r["best"] for r in rows]
    return (
        f"the better of Golowich and Neyshabur is {min(classical):.2g} to {max(classical):.2g} times the graph bound, "
        f"the path norm {min(path):.2g} to {max(path):.2g} times"
    )


BENCHMARKS = (
    Benchmark(
        name="certify_generalise",
        topic="certify",
        question="Which generalisation bound is the least on sparse networks?",
        text="""Complexity of the class of the outputs at their scale (below 1 it would say something about 0/1
        error): the published graph bound with single units and with its best partition (the log of the number of
        partitions not counted), beside the path norm and two classical bounds. MLPs are sparse fits of digits;
        CONV-3-1 is three 2 x 2 filters of one channel and a top layer, untrained, on MNIST.""",
        full=calls(
            "certify_generalise", row, {"network": ["digits 50 500", "digits 50 2000", "digits 60 30 1000", "CONV-3-1"]}
        ),
        quick=calls("certify_generalise", row, {"network": ["digits 50 500"]}),
        table=table,
        targets={"never above Golowich on the same network; under a second for a million weights": _order},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
