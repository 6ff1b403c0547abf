"""The exact interpolant of one input: seconds per size, knots against splineops, and the noisy fitter against
splineops and pwlf.

    python benchmarks/interpolation_univariate.py speed | knots | noisy
"""

import json
import sys
import time

import numpy as np

from sparelu.data import Budget, Data
from sparelu.interpolate.interpolant import interpolate
from sparelu.interpolate.piecewise import Piecewise
from sparelu.run import fit


def speed() -> None:
    """Processor seconds for unsorted noise and for one convex run, p = 0 and p = 0.4."""
    rng = np.random.default_rng(0)
    for n in (10**3, 10**4, 10**5, 10**6, 10**7):
        x = rng.uniform(size=n)
        for kind, y in (("noise", rng.normal(size=n)), ("convex", np.exp(x))):
            for p in (0.0, 0.4):
                times = []
                for _ in range(3):
                    start = time.process_time()
                    found = interpolate(x, y, p)
                    times.append(time.process_time() - start)
                row = {"n": n, "kind": kind, "p": p, "seconds": min(times), "ns_per_point": 1e9 * min(times) / n}
                print(json.dumps(row | {"knots": found.knots.size, "least": found.least_knots}), flush=True)


def knots() -> None:
    """How often splineops needs more knots: generic data, whole numbers, and the family + + 0 + +."""
    from splineops.adaptive_regression_splines.sparsification import sparsest_interpolant

    rng = np.random.default_rng(1)
    for kind in ("generic", "whole numbers", "++0++"):
        more = fewer = 0
        for _ in range(3000):
            n = int(rng.integers(5, 15))
            x, y = np.sort(rng.uniform(0, 1, n)), rng.normal(size=n)
            if kind != "generic":
                x, y = np.arange(float(n)), rng.integers(-2, 3, n).astype(float)
            if kind == "++0++":
                x, slopes = np.arange(7.0), np.cumsum(np.concatenate([[0.0], rng.integers(1, 5, 5) * [1, 1, 0, 1, 1]]))
                y = np.concatenate([[0.0], np.cumsum(slopes)])
            ours, theirs = interpolate(x, y).knots.size, len(sparsest_interpolant(x, y)[0])
            more, fewer = more + (theirs > ours), fewer + (theirs < ours)
        print(json.dumps({"kind": kind, "sets": 3000, "splineops_more": more, "splineops_fewer": fewer}), flush=True)


def noisy() -> None:
    """Error against the truth and seconds, at three knots, on noisy series of the same function."""
    import pwlf

    def truth(x: np.ndarray) -> np.ndarray:
        return np.maximum(x - 2, 0) - 2 * np.maximum(x - 5, 0) + 1.5 * np.maximum(x - 8, 0)

    at = np.linspace(0, 10, 2001)
    for n in (100, 400, 1600):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            x = np.sort(rng.uniform(0, 10, n))
            data = Data(x[:, None], truth(x) + 0.3 * rng.normal(size=n))
            for label, budget in (("three knots", Budget((50,), nonzeros=3)), ("cross-validated", Budget((50,)))):
                start = time.perf_counter()
                network = fit(Piecewise(), data, budget).network
                took = time.perf_counter() - start
                _say(
                    "piecewise, " + label,
                    n,
                    seed,
                    network.nonzeros,
                    network(at[:, None]).numpy()[:, 0] - truth(at),
                    took,
                )
            start = time.perf_counter()
            model = pwlf.PiecewiseLinFit(x, data.y, seed=seed)
            model.fit(4)
            _say("pwlf", n, seed, 3, model.predict(at) - truth(at), time.perf_counter() - start)


def _say(name: str, n: int, seed: int, knots: int, error: np.ndarray, seconds: float) -> None:
    rmse = float(np.sqrt(np.mean(error**2)))
    print(
        json.dumps({"name": name, "n": n, "seed": seed, "knots": knots, "rmse": rmse, "seconds": seconds}), flush=True
    )


if __name__ == "__main__":
    {"speed": speed, "knots": knots, "noisy": noisy}[sys.argv[1]]()
