"""Exact recovery of planted networks with two hidden layers on the published grid: held-out PSNR, support, seconds.

    python benchmarks/recovery_deep.py                       the grid, ours first, then the baselines; resumable
    python benchmarks/recovery_deep.py --where m=10 --print

d = 100, n = 50000, int(s/2) weights at random places in each hidden layer, output weights one; 10000 rows held out,
labels in float32: about 167 dB is their rounding. Ours is given upper bounds of the widths alone. A cell is exact when
the held-out PSNR is at least 150 dB and the skeleton (sparelu.recover.exact.two_layers.equality) is that of the planted
network. The published method and fair IMP are given the count of the planted network, output weights included.
"""

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from recovery import EXACT, psnr

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data, DataError
from sparelu.datasets.planted import planted, planted_network
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.figures.heatmap import phase_transition
from sparelu.method import Refusal
from sparelu.networks.network import Network
from sparelu.recover.exact.two_layers.equality import same_form, skeleton
from sparelu.run import fit


def task(m: int, s: int, seed: int, law: str) -> tuple[Network, Data]:
    """The planted network and its data; a cell whose labels are all zero is refused with that reason."""
    shape = {"hidden": (m, m), "nonzeros": s, "output_weights": law, "seed": seed}
    try:
        return planted_network(**shape), planted(**shape)
    except DataError as error:
        raise Refusal(str(error)) from None


def row(m: int, s: int, seed: int, method: str = "exact", law: str = "published") -> dict[str, Any]:
    """One fit and its judgement on rows that it has not seen."""
    truth, data = task(m, s, seed, law)
    assert data.test is not None
    count = None if method == "exact" else max(4, truth.compact().nonzeros)
    settings = {"epochs": 15} if method == "aiht" else {}
    began = time.process_time()
    solution = fit(fitter(method, **settings), data, Budget((m, m), nonzeros=count), seed=seed)
    seconds = time.process_time() - began
    x = np.asarray(data.test.x, dtype=np.float64)
    y = truth(x).numpy()
    found = {
        "psnr": psnr(solution.network, x, y),
        "nonzeros": solution.network.nonzeros,
        "skip": solution.network.skip_nonzeros,
        "status": solution.status.name,
        "seconds": round(seconds, 2),
    }
    if method != "exact":
        return found
    form = skeleton(truth)
    biased = bool(solution.network.biases)
    return found | {
        "support": not biased and same_form(solution.network, truth),
        "form": 0 if biased else skeleton(solution.network).nonzeros,
        "true_form": form.nonzeros,
        "planes": len(form.planes),
        "bent": len(form.bent),
        "true_nonzeros": truth.canonical().nonzeros,
    }


def exact(r: Any) -> bool:
    """Whether a row is a recovery."""
    return bool(r["support"] and r["psnr"] >= EXACT)


def ours(rows: Rows, law: str = "published") -> list[Any]:
    """The fits of this library's method."""
    return [r for r in rows if r["method"] == "exact" and r["law"] == law]


def table(rows: Rows) -> str:
    """Of each cell: seeds exact of seeds run, least PSNR, weights of the skeletons; the baselines beside them."""
    body = []
    for law, m, s in sorted({(r["law"], r["m"], r["s"]) for r in rows}):
        own = [r for r in rows if (r["law"], r["m"], r["s"]) == (law, m, s)]
        mine = sorted(ours(own, law), key=lambda r: r["seed"])
        psnr = [
            ", ".join(f"{r['psnr']:.1f}" for r in sorted(own, key=lambda r: r["seed"]) if r["method"] == name) or "-"
            for name in ("exact", "aiht", "imp")
        ]
        forms = ", ".join(f"{r['form']}/{r['true_form']}" for r in mine)
        bent = ", ".join(str(r["bent"]) for r in mine)
        seconds = f"{max((r['seconds'] for r in mine), default=0):.0f}"
        body.append([law, m, s, f"{sum(map(exact, mine))} of {len(mine)}", *psnr, forms, bent, seconds])
    methods = ["exact, dB by seed", "AIHT", "fair IMP"]
    return markdown(["outputs", "m", "s", "exact", *methods, "weights found / true", "bent", "processor s, most"], body)


def figure(rows: Rows) -> Figure:
    """Share of seeds recovered over the grid."""
    drawn = [{**r, "score": r["psnr"], "task": "exact"} for r in ours(rows)]
    return phase_transition(drawn, "m", "s", exact, "exact recovery", by="task", titles=("neurons m", "nonzeros s"))


def share(rows: Rows) -> str:
    """How many fits are exact."""
    return f"{sum(map(exact, rows))} of {len(rows)} fits" if rows else "not measured"


def silent(rows: Rows) -> str:
    """How many fits are called exact by the method and are not, and the reverse."""
    said = [r for r in ours(rows) if r["status"] == "converged"]
    unsaid = sum(map(exact, ours(rows))) - sum(map(exact, said))
    return f"{sum(not exact(r) for r in said)} of {len(said)} fits called converged are not; {unsaid} exact not said"


def lead(rows: Rows) -> str:
    """The least lead over a baseline in one cell and seed, where not both are exact."""
    mine = {(r["m"], r["s"], r["seed"]): r["psnr"] for r in ours(rows)}
    pairs = [
        (mine[where], r["psnr"])
        for r in rows
        if r["method"] != "exact" and r["law"] == "published" and (where := (r["m"], r["s"], r["seed"])) in mine
    ]
    apart = [a - b for a, b in pairs if min(a, b) < EXACT]
    if not apart:
        return "not measured"
    exact_too = len(pairs) - len(apart)
    return f"least lead {min(apart):+.1f} dB over {len(apart)} fits of the baselines; {exact_too} are exact too"


GRID: dict[str, list[Any]] = {"m": [2, 5, 10, 20, 50, 100], "s": [10, 20, 50, 100]}
BENCHMARKS = (
    Benchmark(
        name="recovery_deep",
        topic="recover",
        question="Is the planted network with two hidden layers found exactly?",
        text="""Planted teachers with int(s/2) weights at random places in each of two hidden layers of m neurons, 100
        inputs, 50,000 rows; held-out rows. Many second-layer neurons of these teachers are linear or dead: "bent"
        counts those that are neither. `exact` is given the widths as bounds and no count; AIHT (layerwise, as
        published) and fair IMP get the count. Cells whose labels are all zero are refused.""",
        full=[
            *(c for seed in range(3) for c in calls("recovery_deep", row, {**GRID, "seed": [seed]})),
            *calls("recovery_deep", row, {**GRID, "seed": [0], "method": ["aiht"]}),
            *calls("recovery_deep", row, {**GRID, "seed": [0], "method": ["imp"]}),
            *calls("recovery_deep", row, {"m": [5, 10], "s": [20, 50], "seed": [0], "law": ["sign", "real"]}),
        ],
        quick=calls("recovery_deep", row, {"m": [2], "s": [20], "seed": [0], "method": ["exact", "aiht"]}),
        table=table,
        figure=figure,
        targets={
            "150 dB and exact support": lambda rows: share(ours(rows)),
            "output weights of both signs, real": lambda rows: share([*ours(rows, "sign"), *ours(rows, "real")]),
            "never a silent wrong support": silent,
            "never below AIHT and fair IMP": lead,
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
