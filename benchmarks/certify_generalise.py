"""Generalisation bounds side by side: sparse multilayer perceptrons and a convolutional network on digits and MNIST.

    python benchmarks/certify_generalise.py

For every network: complexity of the outputs' class at its scale for each bound (the graph bound with the log of its
partitions not counted), nonzeros, training error, and seconds for the graph bound of single units. The convolutional
network is three 2 x 2 filters of one channel and a top layer, at initialisation, on the rows as they are.
"""

import time

import numpy as np
import torch

from sparelu.catalogue import fitter
from sparelu.certify.complexity import Chain, energies, golowich, graph_complexity, neyshabur, partitions, path_norm
from sparelu.certify.unrolled import unroll
from sparelu.data import Budget, Data
from sparelu.datasets import load
from sparelu.network import Network
from sparelu.run import fit


def row(label: str, network: Network, data: Data) -> str:
    chain = Chain.of(network)
    energy = energies([np.asarray(x) for x, _ in data.chunks()], chain.constant)
    begun = time.perf_counter()
    ways = partitions(chain)
    single = graph_complexity(chain, energy, data.n, ways[0])
    seconds = time.perf_counter() - begun
    best = min(graph_complexity(chain, energy, data.n, w).value for w in ways)
    others = [f(chain, energy, data.n).value for f in (path_norm, golowich, neyshabur)]
    numbers = " | ".join(f"{v:.3g}" for v in (single.value, best, *others))
    return f"| {label} | {network.nonzeros:,} | {data.n:,} | {numbers} | {seconds:.2g} |"


def main() -> None:
    print("| network | nonzeros | n | graph, single units | graph, best | path | Golowich | Neyshabur | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    digits = load("digits")
    for hidden, kept in (((50,), 500), ((50,), 2000), ((60, 30), 1000)):
        network = fit(fitter("gmp"), digits, Budget(hidden, nonzeros=kept)).network
        print(row(f"digits, {hidden}", network, digits), flush=True)
    mnist = load("mnist").take(np.arange(10000))
    torch.manual_seed(0)
    parts = [p for _ in range(3) for p in (torch.nn.Conv2d(1, 1, 2, bias=False), torch.nn.ReLU())]
    module = torch.nn.Sequential(*parts, torch.nn.Flatten(), torch.nn.Linear(625, 10, bias=False))
    print(row("MNIST, CONV-3-1", unroll(module, (1, 28, 28)), mnist), flush=True)


if __name__ == "__main__":
    main()
