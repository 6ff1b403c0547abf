"""Peak memory of recovery against nonzeros and width, 784 inputs: a fresh process for every row.

    python benchmarks/recovery_memory.py
    python benchmarks/recovery_memory.py --where width=1000000

Memory is what a fit adds to its process at most (resident set), after a small fit of the same kind has loaded all that
it needs.
"""

import subprocess
import sys
from typing import Any

from matplotlib.figure import Figure

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.curves import cost_against_nonzeros

INPUTS, ROWS, ALLOWED = 784, 200, 200
WHAT = ("aiht, ours", "aiht, n x s matrix", "dense step of Adam")
CHILD = """
import sys, time
import numpy as np, torch
from sparelu import Budget, Data, fit, fitter
from sparelu.runtime.resources import Meter
from sparelu.networks.network import Layer, Network

torch.set_num_threads(1)
what, width, nonzeros, inputs, rows = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)

def planted(width, nonzeros):
    place = np.unique(rng.integers(0, width * inputs, 2 * nonzeros))
    place = torch.as_tensor(np.sort(rng.permutation(place)[:nonzeros]))
    value = torch.as_tensor(rng.standard_normal(nonzeros))
    live = torch.unique(place // inputs)
    hidden = Layer.from_triplets((width, inputs), place // inputs, place % inputs, value)
    output = Layer.from_triplets((1, width), torch.zeros_like(live), live, torch.ones(len(live), dtype=torch.float64))
    x = rng.standard_normal((rows, inputs), dtype=np.float32)
    return Data(x, Network((hidden, output))(x).numpy()), place

def streamed(width, nonzeros):
    data, _ = planted(width, nonzeros)
    meter = Meter()
    with meter.running():
        fit(fitter("aiht", epochs=3, inner=3), data, Budget((width,), nonzeros))
    return meter.peak_memory

def matrix(width, nonzeros):
    data, place = planted(width, nonzeros)
    meter = Meter()
    with meter.running():
        h = {int(j): rng.standard_normal(inputs) for j in np.unique(place // inputs)}
        a = np.stack([data.x[:, p % inputs] * (data.x @ h[int(p // inputs)] > 0) for p in place.numpy()], axis=1)
        a.T @ (a @ np.ones(nonzeros) - data.y)
    return meter.peak_memory

def adam(width, nonzeros):
    x, y = torch.randn(100, inputs), torch.randn(100, 1)
    meter = Meter()
    with meter.running():
        model = torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))
        optimizer = torch.optim.Adam(model.parameters())
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return meter.peak_memory

run = {"aiht, ours": streamed, "aiht, n x s matrix": matrix, "dense step of Adam": adam}[what]
run(100, 50)
started = time.process_time()
print(run(width, nonzeros), time.process_time() - started)
"""


def row(what: str, width: int, nonzeros: int) -> dict[str, Any]:
    """Bytes and processor seconds of three steps of a fit, of one gradient on the support, or of one dense step."""
    numbers = [str(n) for n in (width, nonzeros, INPUTS, ROWS)]
    child = subprocess.run([sys.executable, "-c", CHILD, what, *numbers], capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(child.stderr[-500:])
    size, seconds = child.stdout.split()
    return {"peak_memory": int(size), "seconds": float(seconds)}


def table(rows: Rows) -> str:
    """Megabytes, widths against nonzeros."""
    columns = sorted({r["nonzeros"] for r in rows})
    body = []
    for what in WHAT:
        for width in sorted({r["width"] for r in rows if r["what"] == what}):
            own = {r["nonzeros"]: r for r in rows if (r["what"], r["width"]) == (what, width)}
            body.append(
                [what, f"{width:,}", *(f"{own[s]['peak_memory'] / 1e6:.0f}" if s in own else None for s in columns)]
            )
    return markdown(["", "width", *(f"{s:,} nonzeros" for s in columns)], body)


def figure(rows: Rows) -> Figure:
    """Memory and seconds against nonzeros; of the dense step the widest network alone."""
    widest = max((r["width"] for r in rows if r["what"] == WHAT[2]), default=0)
    drawn = [r for r in rows if r["what"] != WHAT[2] or r["width"] == widest]
    return cost_against_nonzeros([{**r, "label": f"{r['what']}, width {r['width']:,}"} for r in drawn])


def growth(rows: Rows) -> str:
    """What ours takes beside 200 bytes a nonzero, and the bytes of a further nonzero of the longest supports."""
    own = [r for r in rows if r["what"] == WHAT[0]]
    if not own:
        return "not measured"
    constant = max(r["peak_memory"] - ALLOWED * r["nonzeros"] for r in own)
    slopes = []
    for width in sorted({r["width"] for r in own}):
        points = sorted((r["nonzeros"], r["peak_memory"]) for r in own if r["width"] == width)
        if len(points) > 1:
            (s, low), (t, high) = points[-2:]
            slopes.append(f"{(high - low) / (t - s):.0f} at width {width:,}")
    return (
        f"{ALLOWED} B for each nonzero and {constant / 1e6:.0f} MB cover {len(own)} fits; bytes of a further nonzero "
        f"of the longest supports: {', '.join(slopes)}"
    )


BENCHMARKS = (
    Benchmark(
        name="recovery_memory",
        topic="recover",
        question="Does the memory of recovery follow the nonzeros, and not the width?",
        text="""Peak resident memory in megabytes beyond what the process held before: three steps of `aiht`, with a
        budget of as many nonzeros as the planted network has, 784 inputs, 200 rows (rows stream: more of them take no
        more memory). Beside it a gradient with the matrix n x s that the published code forms, for these 200 rows, and
        one step of Adam on the dense network of that width, 100 rows.""",
        full=calls(
            "recovery_memory",
            row,
            {"what": [WHAT[0]], "width": [10**3, 10**4, 10**5, 10**6], "nonzeros": [10**3, 10**4, 10**5]},
            {"what": [WHAT[1]], "width": [10**4], "nonzeros": [10**3, 10**4, 10**5]},
            {"what": [WHAT[2]], "width": [10**3, 10**4, 10**5], "nonzeros": [10**3]},
        ),
        quick=calls("recovery_memory", row, {"what": [WHAT[0]], "width": [1000], "nonzeros": [1000]}),
        table=table,
        figure=figure,
        targets={"under 200 bytes for each nonzero and a constant, at any width": growth},
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
