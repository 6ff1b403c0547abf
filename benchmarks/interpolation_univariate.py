"""The exact interpolant of one input: seconds per size, knots against splineops, and the noisy fitter against pwlf.

    python benchmarks/interpolation_univariate.py [NAME]

NAME is interpolation_speed, interpolation_knots, interpolation_noisy or interpolation_denoise. It needs
pip install splineops pwlf.

Processor seconds are the least of three runs. splineops is the published exact algorithm of Debarre et al. (2022).
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparelu.data import Budget, Data
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.interpolate.curves.hat_basis import Series
from sparelu.interpolate.curves.interpolant import interpolate
from sparelu.interpolate.curves.trend_filter import denoise, largest_strength
from sparelu.interpolate.piecewise import Piecewise
from sparelu.run import fit

BASELINE_ROWS = 10**6
"""splineops takes minutes beyond."""


def speed(n: int, kind: str, p: float) -> dict[str, Any]:
    """Processor seconds for unsorted noise or one convex run, and those of splineops on the same points."""
    from splineops.adaptive_regression_splines.sparsification import sparsest_interpolant

    rng = np.random.default_rng(n)
    x = rng.uniform(size=n)
    y = rng.normal(size=n) if kind == "noise" else np.exp(x)
    found = interpolate(x, y, p)
    seconds = _least_of_three(lambda: interpolate(x, y, p))
    order = np.argsort(x)
    xs, ys = x[order], y[order]
    theirs = _least_of_three(lambda: sparsest_interpolant(xs, ys)) if n <= BASELINE_ROWS else None
    return {
        "seconds": seconds,
        "ns_per_point": 1e9 * seconds / n,
        "knots": found.knots.size,
        "least": found.least_knots,
        "splineops_seconds": theirs,
    }


def _least_of_three(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def knots(kind: str, sets: int = 3000) -> dict[str, int]:
    """How often splineops has more knots, and fewer: generic data, whole numbers, or the family + + 0 + +."""
    from splineops.adaptive_regression_splines.sparsification import sparsest_interpolant

    rng = np.random.default_rng([1, *kind.encode()])
    more = fewer = 0
    for _ in range(sets):
        n = int(rng.integers(5, 15))
        x, y = np.sort(rng.uniform(0, 1, n)), rng.normal(size=n)
        if kind != "generic":
            x, y = np.arange(float(n)), rng.integers(-2, 3, n).astype(float)
        if kind == "++0++":
            x, slopes = np.arange(7.0), np.cumsum(np.concatenate([[0.0], rng.integers(1, 5, 5) * [1, 1, 0, 1, 1]]))
            y = np.concatenate([[0.0], np.cumsum(slopes)])
        ours, theirs = interpolate(x, y).knots.size, len(sparsest_interpolant(x, y)[0])
        more, fewer = more + (theirs > ours), fewer + (theirs < ours)
    return {"splineops_more": more, "splineops_fewer": fewer}


def truth(x: np.ndarray) -> np.ndarray:
    """Three knots."""
    return np.maximum(x - 2, 0) - 2 * np.maximum(x - 5, 0) + 1.5 * np.maximum(x - 8, 0)


def noisy(n: int, seed: int) -> dict[str, Any]:
    """Error against the truth and seconds: three knots given, knots cross-validated, and pwlf with three."""
    import pwlf

    at = np.linspace(0, 10, 2001)
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 10, n))
    data = Data(x[:, None], truth(x) + 0.3 * rng.normal(size=n))
    found: dict[str, Any] = {}
    for name, budget in (("given", Budget((50,), nonzeros=3)), ("chosen", Budget((50,)))):
        start = time.perf_counter()
        network = fit(Piecewise(), data, budget).network
        found[f"{name}_seconds"] = time.perf_counter() - start
        found[f"{name}_knots"] = network.nonzeros
        found[f"{name}_rmse"] = _rmse(network(at[:, None]).numpy()[:, 0] - truth(at))
    start = time.perf_counter()
    model = pwlf.PiecewiseLinFit(x, data.y, seed=seed)
    model.fit(4)
    found["pwlf_seconds"] = time.perf_counter() - start
    return found | {"pwlf_rmse": _rmse(model.predict(at) - truth(at))}


def denoised(n: int, share: float, seed: int) -> dict[str, Any]:
    """Half the squares + strength TV(f') by the active set and by splineops' ADMM: objective, seconds, knots.

    ``share`` of the least strength at which a line is optimal.
    """
    from splineops.adaptive_regression_splines.denoising import denoise_y
    from splineops.adaptive_regression_splines.sparsification import sparsest_interpolant

    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 10, n))
    series = Series.of(x, truth(x) + 0.3 * rng.normal(size=n))
    strength = share * largest_strength(series)
    start = time.process_time()
    ours = denoise(series, strength)
    middle = time.process_time()
    theirs, told = denoise_y(x, series.y, strength, return_diagnostics=True)
    end = time.process_time()
    least = _objective(series, ours.theta, strength)
    return {
        "seconds": middle - start,
        "gap": ours.gap,
        "knots": sparsest_interpolant(series, ours).knots.size,
        "splineops_seconds": end - middle,
        "splineops_excess": _objective(series, theirs, strength) / least - 1,
        "splineops_converged": bool(told.converged),
        "splineops_knots": len(sparsest_interpolant(x, theirs)[0]),
    }


def _objective(series: Series, theta: np.ndarray, strength: float) -> float:
    bends = np.diff(np.diff(theta) / np.diff(series.x))
    return float(((theta - series.y) ** 2).sum() / 2 + strength * np.abs(bends).sum())


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def speed_table(rows: Rows) -> str:
    """By size: ours, splineops, and how much less."""
    return markdown(
        ["points", "data", "p", "knots", "least", "seconds", "ns per point", "splineops, seconds", "ratio"],
        [
            (
                *(r[k] for k in ("n", "kind", "p", "knots", "least", "seconds")),
                round(r["ns_per_point"]),
                r["splineops_seconds"],
                r["splineops_seconds"] and f"{r['splineops_seconds'] / r['seconds']:.0f}",
            )
            for r in rows
        ],
    )


def speed_figure(rows: Rows) -> Figure:
    """Seconds against points."""
    ours = {
        f"{kind}, p = 0": [(r["n"], r["seconds"]) for r in rows if (r["kind"], r["p"]) == (kind, 0)]
        for kind in ("noise", "convex")
    }
    theirs = [(r["n"], r["splineops_seconds"]) for r in rows if r["p"] == 0 and r["kind"] == "noise"]
    series = ours | {"splineops, noise": [(n, s) for n, s in theirs if s is not None]}
    return lines(series, ("points", "processor seconds"), log=(True, True))


def knots_table(rows: Rows) -> str:
    """Counts of sets."""
    return markdown(
        ["data", "sets", "splineops needs more knots", "fewer"],
        [(f"`{r['kind']}`", r["sets"], r["splineops_more"], r["splineops_fewer"]) for r in rows],
    )


NOISY = ("given_rmse", "given_seconds", "chosen_rmse", "chosen_knots", "chosen_seconds", "pwlf_rmse", "pwlf_seconds")


def noisy_table(rows: Rows) -> str:
    """Each series."""
    headings = ["points", "seed", "3 knots: error", "s", "chosen: error", "knots", "s", "pwlf, 3 knots: error", "s"]
    return markdown(headings, [(r["n"], r["seed"], *(r[k] for k in NOISY)) for r in rows])


DENOISED = ("seconds", "gap", "knots", *(f"splineops_{k}" for k in ("seconds", "excess", "converged", "knots")))


def denoised_table(rows: Rows) -> str:
    """Ours beside the published code."""
    headings = ["points", "strength / largest", "seed", "seconds", "duality gap", "knots"]
    theirs = ["splineops: seconds", "objective above ours", "converged", "knots"]
    lines = [(r["n"], r["share"], r["seed"], *(r[k] for k in DENOISED)) for r in rows]
    return markdown([*headings, *theirs], lines)


def _above(rows: Rows) -> str:
    excess = [r["splineops_excess"] for r in rows]
    ratio = np.median([r["splineops_seconds"] / r["seconds"] for r in rows])
    return (
        f"splineops is {min(excess):.1e} to {max(excess):.1e} above our objective and takes {ratio:.0f} times as long"
    )


def _most(rows: Rows, name: str) -> str:
    largest = max(rows, key=lambda r: r["n"])
    return (
        f"{largest['seconds']:.2g} s for {largest['n']:,} points; at most {max(r[name] for r in rows):.0f} ns a point"
    )


def _never_more(rows: Rows) -> str:
    fewer, sets = sum(r["splineops_fewer"] for r in rows), sum(r["sets"] for r in rows)
    return f"more knots than splineops in {fewer} of {sets:,} sets, fewer in {sum(r['splineops_more'] for r in rows):,}"


def _errors(rows: Rows) -> str:
    ratio = np.array([r["given_rmse"] / r["pwlf_rmse"] for r in rows])
    return f"error over that of pwlf: {ratio.min():.2f} to {ratio.max():.2f}, median {np.median(ratio):.3f}"


BENCHMARKS = (
    Benchmark(
        name="interpolation_speed",
        topic="interpolate",
        question="How long does the exact interpolant of one input take?",
        text=f"""Unsorted points: noise (many short runs of curvature) and exp(x) (one convex run), for p = 0 and p =
        0.4; processor seconds, least of three. Beside it splineops, the published algorithm, on the points already
        sorted, up to {BASELINE_ROWS:,} points.""",
        full=calls(
            "interpolation_speed",
            speed,
            {"n": [10**k for k in range(3, 8)], "kind": ["noise", "convex"], "p": [0.0, 0.4]},
        ),
        quick=calls("interpolation_speed", speed, {"n": [10**3, 10**5], "kind": ["noise", "convex"], "p": [0.0]}),
        table=speed_table,
        figure=speed_figure,
        targets={"1,000,000 points under 2 s, cost per point flat": lambda rows: _most(rows, "ns_per_point")},
    ),
    Benchmark(
        name="interpolation_knots",
        topic="interpolate",
        question="Who needs fewer knots through given points?",
        text="""Random sets of 5 to 14 points: the published algorithm (splineops) beside `interpolate`. Collinear
        points split a run of equal curvature; the family ++0++ shows it.""",
        full=calls("interpolation_knots", knots, {"kind": ["generic", "whole numbers", "++0++"], "sets": [3000]}),
        quick=calls("interpolation_knots", knots, {"kind": ["generic", "whole numbers", "++0++"], "sets": [300]}),
        table=knots_table,
        targets={"never more knots than splineops, fewer on ++0++": _never_more},
    ),
    Benchmark(
        name="interpolation_noisy",
        topic="interpolate",
        question="How good are few knots on noisy series?",
        text="""A function of three knots with noise of 0.3 on n points; root mean squared error against the
        function, on a fine grid. `piecewise` with three knots given and with knots chosen by cross-validation; the
        fair baseline is pwlf (global search over three knots).""",
        full=calls("interpolation_noisy", noisy, {"n": [100, 400, 1600], "seed": [0, 1, 2]}),
        quick=calls("interpolation_noisy", noisy, {"n": [100], "seed": [0]}),
        table=noisy_table,
        targets={"as good as a global search at equal knots": _errors},
    ),
    Benchmark(
        name="interpolation_denoise",
        topic="interpolate",
        question="How exactly are noisy values denoised?",
        text="""Half the squared error + strength TV(f') on the series of the table above, at three strengths: the
        active set, whose relative duality gap proves how near the least value it is, beside the published algorithm
        (ADMM, in splineops at its default settings), with the knots of the sparsest interpolant of either's values.
        Processor seconds.""",
        full=calls("interpolation_denoise", denoised, {"n": [100, 1000], "share": [0.1, 0.01, 0.001], "seed": [0, 1]}),
        quick=calls("interpolation_denoise", denoised, {"n": [100], "share": [0.01], "seed": [0]}),
        table=denoised_table,
        targets={"never above the published algorithm": _above},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
