"""Nonzeros (biases included) of interpolants of N > 2d + 1 points: few-weights, the lower bound, two weights
per neuron, and IMP.

IMP gets budgets from N / 2 up; the least is reported at which its network explains a share of 0.99 or 0.999
of the variance of the training rows. It never interpolates; few-weights does. One JSON line for each data
set, N and seed.

    python benchmarks/interpolation_many.py > benchmarks/results/interpolation_many.jsonl
"""

import json
import time

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.experiments.measure import measure
from sparelu.interpolate.interpolant import interpolate
from sparelu.run import Limits, fit

FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
LEVELS = (0.99, 0.999)


def rows(name: str, n: int, seed: int) -> Data:
    """N rows of a data set, inputs and target standardised."""
    rng = np.random.default_rng(seed)
    if name == "uniform":
        return Data(rng.uniform(-1, 1, (n, 5)), rng.uniform(-1, 1, n))
    x, y = {"diabetes": load_diabetes, "wine": load_wine}[name](return_X_y=True)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if name == "wine":  # the class is three numbers only: its alcohol is the target
        x, y = x[:, 1:], x[:, 0]
    pick = rng.permutation(len(x))[:n]
    x, y = x[pick], y[pick]
    return Data((x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std())


def two_weights(data: Data, rng: np.random.Generator) -> int:
    """Weights of the interpolant along one input: weight and bias of a neuron for each knot, and the affine
    part.

    The input whose interpolant has the fewest knots is taken; where values repeat, a small multiple of the
    others is added, which is not counted.
    """
    least = []
    for j in range(data.inputs):
        along = data.x[:, j] + 1e-6 * data.x @ rng.standard_normal(data.inputs)
        least.append(2 * interpolate(along, data.y).least_knots + 2)
    return min(least)


def imp(data: Data, seed: int) -> dict[str, int | None]:
    """Least count of nonzeros and biases at which IMP explains each share of the variance."""
    found: dict[str, int | None] = {str(level): None for level in LEVELS}
    for factor in FACTORS:
        method, budget = fitter("imp"), Budget((100,), nonzeros=int(factor * data.n))
        network = fit(method, data, budget, seed=seed).network
        r2 = measure(network, data).r2
        for level in LEVELS:
            if r2 >= level and found[str(level)] is None:
                found[str(level)] = network.nonzeros + network.biases
        if r2 >= LEVELS[-1]:
            break
    return found


def main() -> None:
    """All rows."""
    for n in (30, 60, 120):
        for name in ("uniform", "diabetes", "wine"):
            data, start = rows(name, n, 0), time.perf_counter()
            solution = fit(fitter("few-weights"), data, Budget((200,)), limits=Limits(seconds=60))
            used, seconds = solution.network.nonzeros + solution.network.biases, time.perf_counter() - start
            row = {"data": name, "n": n, "d": data.inputs, "bound": n, "few_weights": used, "seconds": seconds}
            row |= {"mse": measure(solution.network, data).mse, "neurons": solution.network.hidden[0]}
            row |= {"two_weights": two_weights(data, np.random.default_rng(0))}
            print(json.dumps(row | {f"imp_{k}": v for k, v in imp(data, 0).items()}), flush=True)


if __name__ == "__main__":
    main()
