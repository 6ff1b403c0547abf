"""Tangent kernels of randomly pruned networks against their limit: error by width and density, rescaled and not.

    python benchmarks/certify_kernel.py

Two hidden layers, 5 unit rows in R^10, means of draws: largest error of an entry (the entries are 1 to 3), and the
ratio of traces to the dense limit without rescaling, which tends to density^2.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparelu.certify.kernel import limit_kernel, random_pruned, tangent_kernel
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import run_benchmarks


def row(density: float, width: int, seed: int) -> dict[str, Any]:
    """One draw: largest error of an entry, and the ratio of traces of a draw that is not rescaled."""
    x = np.random.default_rng(0).standard_normal((5, 10))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    limit = limit_kernel(x, 2)
    rng = np.random.default_rng([seed, width, round(100 * density)])
    network, scales = random_pruned(10, width, 2, density, True, rng)
    error = float(np.abs(tangent_kernel(network, x, scales) - limit).max())
    network, scales = random_pruned(10, width, 2, density, False, rng)
    return {"error": error, "ratio": float(np.trace(tangent_kernel(network, x, scales)) / np.trace(limit))}


def mean(rows: Rows, name: str, density: float, width: int) -> float | None:
    """Over the draws of a cell."""
    own = [r[name] for r in rows if (r["density"], r["width"]) == (density, width)]
    return float(np.mean(own)) if own else None


def _values(rows: Rows, name: str) -> list[Any]:
    return sorted({r[name] for r in rows})


def table(rows: Rows) -> str:
    """Densities against widths."""
    widths = _values(rows, "width")
    body = [
        [f"{d:g}", *(mean(rows, "error", d, w) for w in widths), mean(rows, "ratio", d, widths[-1]), d**2]
        for d in reversed(_values(rows, "density"))
    ]
    return markdown(["density", *(f"error, m = {w}" for w in widths), "ratio, not rescaled", "density^2"], body)


def figure(rows: Rows) -> Figure:
    """Error against width."""
    series = {
        f"density {d:g}": [(w, mean(rows, "error", d, w) or 0.0) for w in _values(rows, "width")]
        for d in reversed(_values(rows, "density"))
    }
    return lines(series, ("width m", "largest error of an entry (entries are 1 to 3)"), log=(True, True))


def _falls(rows: Rows) -> str:
    low, high = _values(rows, "width")[0], _values(rows, "width")[-1]
    ends = [(mean(rows, "error", d, low), mean(rows, "error", d, high)) for d in _values(rows, "density")]
    own = [at_low / at_high for at_low, at_high in ends if at_low and at_high]
    if low == high or not own:
        return "one width measured"
    expected = (high / low) ** 0.5
    return f"from m = {low} to {high} by a factor of {min(own):.1f} to {max(own):.1f} (square root: {expected:.1f})"


DENSITIES = [1.0, 0.5, 0.2, 0.1]
BENCHMARKS = (
    Benchmark(
        name="certify_kernel",
        topic="certify",
        question="Does the tangent kernel of a randomly pruned network tend to the dense limit?",
        text="""Two hidden layers, 5 unit rows in 10 dimensions, means of the draws: largest error of an entry with
        weights rescaled by density^(-1/2), and the ratio of traces to the dense limit without rescaling (published:
        density^2).""",
        full=calls("certify_kernel", row, {"density": DENSITIES, "width": [250, 1000, 2000], "seed": list(range(5))}),
        quick=calls("certify_kernel", row, {"density": [1.0, 0.2], "width": [250, 500], "seed": [0]}),
        table=table,
        figure=figure,
        targets={"the error falls with the width": _falls},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
