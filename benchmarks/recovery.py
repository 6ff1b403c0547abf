"""Exact recovery of planted networks on the published grid: held-out PSNR, support, seconds.

    python benchmarks/recovery.py                            the whole grid, resumable
    python benchmarks/recovery.py --m 1 2 5 10 20 --s 1 2 5 10 20 50 100 200 500 1000 --seeds 3
    python benchmarks/recovery.py --law sign --m 20 100 --s 100 500
    python benchmarks/recovery.py --outputs 10 --m 5 20 100 --s 100
    python benchmarks/recovery.py --print

d = 100, n = 50000, 10000 rows held out, labels in float32 as published: about 167 dB is their rounding. No number of
nonzeros is given to the method. A cell counts as exact when the held-out PSNR is at least 150 dB and the canonical
support is that of the planted network. Seconds are those of the process, which other work on the machine does not
change much; wall time stands beside them.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from sparelu.data import Budget, Data, DataError
from sparelu.datasets.planted import planted, planted_network
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import add_options, folder_of, print_tables, run_all
from sparelu.experiments.figures.heatmap import phase_transition
from sparelu.experiments.figures.rows import group_by
from sparelu.experiments.trials.task import Call
from sparelu.identifiability import identifiability, visible
from sparelu.method import Fitter, Refusal
from sparelu.networks.network import Layer, Network
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.exact.fitter import Exact
from sparelu.run import fit
from sparelu.train.fit.imp import IterativePruning

EXACT = 150.0
KIND = ("law", "biases", "noise", "inputs_law")


def same_support(found: Network, truth: Network) -> bool:
    """Whether both have the same kinks on the same inputs, and the same output weights."""
    pairs = zip(found.oriented(1e-5).layers, truth.oriented().layers, strict=True)
    return all(
        a.shape == b.shape and torch.equal(a.indices, b.indices) and torch.equal(a.indptr, b.indptr) for a, b in pairs
    )


def psnr(found: Network, x: np.ndarray, y: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of the outputs for rows ``x`` (n, d) against ``y`` (n, outs), in float64."""
    error = float(((found.to(torch.float64)(x).numpy() - y) ** 2).mean())
    return 20 * float(np.log10(np.abs(y).max())) - 10 * float(np.log10(max(error, 1e-300)))


def row(
    m: int,
    s: int,
    seed: int,
    law: str = "published",
    biases: float = 0.0,
    noise: float = 0.0,
    inputs_law: str = "gaussian",
    outputs: int = 1,
    method: str = "exact",
    correlation: float = 0.5,
) -> dict[str, Any]:
    """One fit and its judgement on rows that it has not seen; methods other than ``exact`` are given s.

    With biases the support is that of the neurons which some fitted rows have on either side.
    """
    shape = {"hidden": (m,), "nonzeros": s, "output_weights": law, "biases": biases, "outputs": outputs}
    try:
        truth = planted_network(seed=seed, **shape)
        data = planted(seed=seed, noise=noise, law=inputs_law, correlation=correlation, **shape)
    except DataError as error:
        raise Refusal(str(error)) from None
    assert data.test is not None
    began, clock = time.process_time(), time.perf_counter()
    budget = Budget((m,)) if method == "exact" else Budget((m,), nonzeros=truth.nonzeros)
    solution = fit(METHODS[method], data, budget, seed=seed)
    seconds, wall = time.process_time() - began, time.perf_counter() - clock
    x = np.asarray(data.test.x, dtype=np.float64)
    y = truth(x).numpy()
    seen = visible(truth, np.asarray(data.x[:])) if biases > 0 else truth
    canonical, pairs = seen.canonical(), identifiability(truth)
    return {
        "psnr": psnr(solution.network, x, y),
        "support": same_support(solution.network, seen),
        "nonzeros": solution.network.nonzeros,
        "true_nonzeros": canonical.nonzeros,
        "skip": solution.network.skip_nonzeros,
        "true_skip": canonical.skip_nonzeros,
        "planted": truth.nonzeros,
        "unseen": truth.canonical().nonzeros - canonical.nonzeros,
        "collinear": pairs.collinear,
        "antipodal": pairs.antipodal,
        "status": solution.status.name,
        "seconds": round(seconds, 2),
        "wall": round(wall, 2),
        "peak_memory": solution.peak_memory,
        **(noisy(solution.network, truth, data, x, y) if noise > 0 else {}),
    }


METHODS: dict[str, Fitter] = {"exact": Exact(), "aiht": AIHT(), "imp": IterativePruning()}


def noisy(found: Network, truth: Network, data: Data, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Errors over those of least squares on the true support: of the function, and of the weights."""
    best = oracle(truth, data)
    mse, least = (float(((net.to(torch.float64)(x).numpy() - y) ** 2).mean()) for net in (found, best))
    ours, theirs = (weight_error(net, truth) for net in (found, best))
    return {"function_ratio": float(np.sqrt(mse / least)), "weight_ratio": ours / theirs}


def weight_error(net: Network, truth: Network) -> float:
    """Distance of all weights in canonical form, zeros included; neurons are paired to make it least, or with none.

    A neuron paired with one of opposite direction is turned, since s (w.x)_+ = s (-w.x)_+ + s w.x.
    """
    (ours, own, skip), (theirs, true, true_skip) = generators(net), generators(truth)
    gain = np.where(own[:, None] == true, -2 * np.abs(ours @ theirs.T), 0)
    i, j = linear_sum_assignment(gain)
    turned = i[(gain[i, j] < 0) & ((ours[i] * theirs[j]).sum(1) < 0)]
    skip = skip + own[turned] @ ours[turned]
    squares = (ours**2).sum() + (theirs**2).sum() + gain[i, j].sum() + ((skip - true_skip) ** 2).sum()
    return float(np.sqrt(squares))


def generators(net: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First-layer weights times the sizes of the output weights, the signs of those, and the skip; one output."""
    net = net.to(torch.float64).canonical(1e-5)
    v = net.layers[1].dense().numpy()[0]
    skip = np.zeros(net.inputs) if net.skip is None else net.skip.dense().numpy()[0]
    return np.abs(v)[:, None] * net.layers[0].dense().numpy(), np.sign(v), skip


def oracle(truth: Network, data: Data) -> Network:
    """Gauss-Newton from the planted weights on their support, output weights as planted; one output."""
    x, goal = np.asarray(data.x, dtype=np.float64), np.asarray(data.y, dtype=np.float64)
    net = truth.canonical()
    w, v = net.layers[0].dense().numpy().copy(), net.layers[1].dense().numpy()[0]
    j, i = np.nonzero(w)
    extra = net.skip is not None
    a = net.skip.dense().numpy()[0] if net.skip is not None else np.zeros(w.shape[1])
    linear = np.flatnonzero(a)
    for _ in range(8):
        z = x @ w.T
        columns = np.column_stack([((z > 0) * v)[:, j] * x[:, i], x[:, linear]])
        r = goal - np.maximum(z, 0) @ v - x @ a
        step = np.linalg.solve(columns.T @ columns, columns.T @ r)
        w[j, i] += step[: len(j)]
        a[linear] += step[len(j) :]
    return Network.two_layer(w, v, skip=Layer.from_dense(a[None]) if extra else None)


def exact(r: Any) -> bool:
    """Whether a row is a recovery."""
    return bool(r["support"] and r["psnr"] >= EXACT)


def table(rows: Rows) -> str:
    """Of each cell: seeds exact of seeds run, least PSNR, nonzeros, most seconds."""
    body = []
    for (law, biases, noise, inputs, m, s), own in sorted(group_by(rows, *KIND, "m", "s").items()):
        counts = ", ".join(f"{r['nonzeros']}/{r['true_nonzeros']}" for r in own)
        least, seconds = min(r["psnr"] for r in own), max(r["seconds"] for r in own)
        kind = (law, f"{biases:g}", f"{noise:g}", inputs)
        found = f"{sum(map(exact, own))} of {len(own)}"
        body.append([*kind, m, s, found, f"{least:.1f}", counts if len(own) < 4 else "-", f"{seconds:.1f}"])
    headings = ["output weights", "biases", "noise", "inputs", "m", "s", "exact", "least PSNR dB", "found / true"]
    return markdown([*headings, "processor s, most"], body)


def plain(rows: Rows) -> list[dict[str, Any]]:
    """The published task: all output weights one, no biases, no noise, Gaussian inputs."""
    return [dict(r) for r in rows if [r[k] for k in KIND] == ["published", 0.0, 0.0, "gaussian"]]


def figure(rows: Rows) -> Figure:
    """Share of seeds recovered over the published grid."""
    drawn = [{**r, "score": r["psnr"], "task": "exact"} for r in plain(rows)]
    return phase_transition(drawn, "m", "s", exact, "exact recovery", by="task", titles=("neurons m", "nonzeros s"))


def share(rows: Rows, chosen: Any) -> str:
    """How many of the chosen rows are exact."""
    own = [r for r in rows if chosen(r)]
    if not own:
        return "not measured"
    worst = min(r["psnr"] for r in own)
    seeds = len({r["seed"] for r in own})
    return f"{sum(map(exact, own))} of {len(own)} fits ({seeds} seeds), least {worst:.1f} dB"


def silent(rows: Rows) -> str:
    """How many fits are called exact by the method and are not, and the reverse."""
    said = [r for r in rows if r["status"] == "converged"]
    wrong, unsaid = sum(not r["support"] for r in said), sum(exact(r) for r in rows) - sum(exact(r) for r in said)
    text = f"{wrong} of {len(said)} fits called converged have a wrong support; {unsaid} exact fits are not called so"
    short = sum(bool(r["support"]) for r in said) - sum(exact(r) for r in said)
    return text + f"; {short} with the support that rows can know are below {EXACT:g} dB" * (short > 0)


def outputs_table(rows: Rows) -> str:
    """Of each cell: seeds exact, PSNR beside the other methods, weights planted, identifiable and found."""
    body = []
    for (biases, m, s), own in sorted(group_by(rows, "biases", "m", "s").items()):
        ours = [r for r in own if r["method"] == "exact"]
        if not ours:
            continue
        rest = [[f"{r['psnr']:.1f}" for r in own if r["method"] == name] for name in ("aiht", "imp")]
        counts = ", ".join(f"{r['planted']} / {r['true_nonzeros']} / {r['nonzeros']}" for r in ours)
        found, least = f"{sum(map(exact, ours))} of {len(ours)}", f"{min(r['psnr'] for r in ours):.1f}"
        seconds = f"{max(r['seconds'] for r in ours):.1f}"
        body.append([f"{biases:g}", m, s, found, least, *(" ".join(v) or "-" for v in rest), counts, seconds])
    headings = ["biases", "m", "s", "exact", "least PSNR dB", "AIHT dB", "fair IMP dB"]
    return markdown([*headings, "planted / identifiable / found", "processor s, most"], body)


def noise_table(rows: Rows) -> str:
    """Each fit: errors over those of the oracle, support, status."""
    body = []
    for r in sorted(rows, key=lambda r: (r["inputs_law"], r["noise"], r["m"], r["s"], r["seed"])):
        ratios = [None if (v := r.get(k)) is None else f"{v:.2f}" for k in ("function_ratio", "weight_ratio")]
        counts = f"{r['nonzeros']} / {r['true_nonzeros']}"
        kind = [r["inputs_law"], f"{r['noise']:g}", r["m"], r["s"], r["seed"]]
        body.append([*kind, f"{r['psnr']:.1f}", *ratios, counts, r["support"], r["status"], f"{r['seconds']:.1f}"])
    headings = ["inputs", "noise", "m", "s", "seed", "PSNR dB", "function, ratio", "weights, ratio"]
    return markdown([*headings, "found / true", "support", "status", "processor s"], body)


def within_twice(rows: Rows) -> str:
    """Of the noisy fits."""
    own = [r for r in rows if r["noise"] > 0]
    weights, function = ([r[k] for r in own] or [0.0] for k in ("weight_ratio", "function_ratio"))
    return (
        f"weights within 2x in {sum(v <= 2 for v in weights)} of {len(own)} fits (worst {max(weights):.2f}), the "
        f"planted support in {sum(r['support'] for r in own)}; error of the function at worst {max(function):.2f}x"
    )


def never_below(rows: Rows) -> str:
    """Whether ours has the larger PSNR in all fits that another method was given."""
    ours = {(r["m"], r["s"], r["seed"], r["biases"]): r["psnr"] for r in rows if r["method"] == "exact"}
    rest = [r for r in rows if r["method"] != "exact" and (r["m"], r["s"], r["seed"], r["biases"]) in ours]
    above = sum(ours[r["m"], r["s"], r["seed"], r["biases"]] > r["psnr"] for r in rest)
    return f"above in {above} of {len(rest)} fits"


S = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
FULL: tuple[dict[str, list[Any]], ...] = (
    {"m": [1, 2, 5, 10, 20], "s": S, "seed": list(range(3))},
    {"m": [50, 100, 200, 500, 1000], "s": S, "seed": list(range(3))},
    {"m": [5, 20], "s": [5, 20, 100, 500], "seed": list(range(3, 10))},
    {"m": [5, 20, 100], "s": [20, 100, 500], "seed": [0, 1, 2], "law": ["sign", "real"]},
    {"m": [5, 20, 100], "s": [20, 100, 500], "seed": [0, 1, 2], "law": ["published", "sign", "real"], "biases": [0.5]},
)
SMALL = [1, 2, 5, 10, 20, 50, 100]
OUTPUTS: tuple[dict[str, list[Any]], ...] = (
    {"m": SMALL, "s": SMALL, "seed": [0, 1, 2], "outputs": [10]},
    {"m": [5, 20, 100], "s": [20, 100], "seed": [0], "outputs": [10], "method": ["aiht", "imp"]},
    {"m": [20, 100], "s": [100], "seed": [0, 1, 2], "outputs": [10], "biases": [0.5]},
)
NOISE: tuple[dict[str, list[Any]], ...] = (
    {"m": [20], "s": [100], "seed": [0, 1, 2], "noise": [1e-3, 1e-2, 0.1, 0.3]},
    {"m": [100], "s": [100], "seed": [0], "noise": [1e-3, 1e-2, 0.1, 0.3]},
    {"m": [20], "s": [100], "seed": [0, 1, 2], "inputs_law": ["uniform", "bernoulli", "heavy"]},
    {"m": [20], "s": [100], "seed": [0, 1, 2], "inputs_law": ["correlated"], "correlation": [0.9]},
    {"m": [100], "s": [100], "seed": [0], "inputs_law": ["uniform", "heavy"]},
)
BENCHMARKS = (
    Benchmark(
        name="recovery",
        topic="recover",
        question="Is the planted network found exactly?",
        text="""Planted teachers of m neurons and s weights in 100 dimensions, 50,000 rows; held-out rows; no budget
        is given to `exact`. The published method, at its published budget and given s, is exact in single-neuron
        cells only: see the table of AIHT. 167 dB is the rounding of the labels; weights are compared in canonical
        form.""",
        full=calls("recovery", row, *FULL),
        quick=calls("recovery", row, {"m": [5, 20], "s": [20], "seed": [0]}),
        table=table,
        figure=figure,
        targets={
            "150 dB and exact support, m <= 20 and s <= 500": lambda rows: share(
                plain(rows), lambda r: r["m"] <= 20 and r["s"] <= 500
            ),
            "the same at m = 100, s <= 500": lambda rows: share(plain(rows), lambda r: r["m"] == 100 and r["s"] <= 500),
            "the same at m >= 200": lambda rows: share(plain(rows), lambda r: r["m"] >= 200),
            "never a silent wrong support": silent,
            "output weights of both signs": lambda rows: share(rows, lambda r: r["law"] != "published"),
            "biases": lambda rows: share(rows, lambda r: r["biases"] > 0),
        },
    ),
    Benchmark(
        name="recovery_outputs",
        topic="recover",
        question="Is a planted network with ten outputs found exactly?",
        text="""The published vector task: 10 outputs, s weights shared equally by both layers, so that many hidden
        neurons reach no output and many output weights read no neuron; these are no part of the function, nor of its
        canonical form, on which weights of both layers are compared. `exact` is given no budget; `aiht` (published
        settings) and `imp` (fair) are given s. Cells whose labels are all zero are refused.""",
        full=calls("recovery_outputs", row, *OUTPUTS),
        quick=calls("recovery_outputs", row, {"m": [5], "s": [20], "seed": [0], "outputs": [10]}),
        table=outputs_table,
        targets={
            "exact in every cell, m and s <= 100": lambda rows: share(rows, lambda r: r["method"] == "exact"),
            "never a silent wrong support": lambda rows: silent([r for r in rows if r["method"] == "exact"]),
            "never below AIHT or fair IMP": never_below,
        },
    ),
    Benchmark(
        name="recovery_noise",
        topic="recover",
        question="What do noise and other inputs cost an exact recovery?",
        text="""The published scalar task with label noise, relative to the standard deviation of the labels, or with
        other inputs: uniform, pixels of 0 or 1, Student t with 3 degrees of freedom, neighbours correlated by 0.9. The
        ratio is of errors to those of least squares on the true support, started at the planted weights: of the
        function on held-out rows, and of all weights, those missed or found in vain among them. Of pixels no row
        tells the planted kinks apart (see docs/identifiability.md): what counts there is that the status does not say
        exact.""",
        full=calls("recovery_noise", row, *NOISE),
        quick=calls("recovery_noise", row, {"m": [5], "s": [20], "seed": [0], "noise": [0.1]}),
        table=noise_table,
        targets={
            "weight error within 2x of least squares": within_twice,
            "other inputs: exact, or said not to be": silent,
        },
    ),
)


def asked(options: argparse.Namespace, name: str) -> list[Call]:
    """The fits that the flags name."""
    kind = {k: [getattr(options, k)] for k in (*KIND, "outputs")}
    return calls(name, row, {"m": options.m, "s": options.s, "seed": list(range(options.seeds)), **kind})


def main(benchmarks: Sequence[Benchmark]) -> None:
    """Run the fits that the flags name, or what is missing of the grid; then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", help="neurons (default: with --s and the rest, the whole grid)")
    parser.add_argument("--s", type=int, nargs="+", help="weights")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--law", default="published")
    parser.add_argument("--biases", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--inputs-law", default="gaussian")
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--print", action="store_true", dest="only_print")
    add_options(parser)
    options = parser.parse_args()
    folder = folder_of(options, Path(__file__).parent)
    if not options.only_print:
        if options.m or options.s:
            options.m, options.s = options.m or [20], options.s or [20, 100, 500]
            of = benchmarks[0 if options.outputs == 1 else 1]
            run_all([replace(of, full=asked(options, of.name))], folder, options)
        else:
            run_all(benchmarks, folder, options)
    print_tables(benchmarks, folder)


if __name__ == "__main__":
    main(BENCHMARKS)
