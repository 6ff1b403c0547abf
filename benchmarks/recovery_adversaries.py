"""Data that try to make `exact` say `converged` of what is not so: a thousand sets of ten kinds, drawn by seed.

    python benchmarks/recovery_adversaries.py
    python benchmarks/recovery_adversaries.py --where kind=jumps

Ten sets in a row of results, a hundred of every kind. The judge knows the planted network and uses nothing of the
certificate: fresh rows of the same law, and the canonical forms.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparelu import Budget, Data, fit
from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.identifiability import visible
from sparelu.networks.network import Layer, Network
from sparelu.recover.exact.fitter import Exact

EACH = 10
FRESH = 2000
NEAR = 1e-2
"""Error of the function, in sd, and a tenth of the relative error of a weight, that coarse labels may leave."""
SMALL = 1e-5
"""Share of the median weight below which a claim says nothing of a weight."""
Inputs = Callable[[np.random.Generator, int], np.ndarray]


@dataclass
class Case:
    """A law of inputs, what is given as labels of rows, and the network behind them, where there is one."""

    inputs: Inputs
    labels: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    truth: Network | None
    rows: int
    again: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda x, rng: x
    """What becomes of drawn rows before they are labelled."""


def network(rng: np.random.Generator, d: int, m: int = 0, reads: int = 3, whole: bool = False) -> Network:
    """m neurons (2 to 6) of up to ``reads`` weights, signs and biases drawn; with ``whole`` small whole numbers."""
    m = m or int(rng.integers(2, 7))
    w = np.zeros((m, d))
    for row in w:
        at = rng.choice(d, min(d, int(rng.integers(1, reads + 1))), replace=False)
        row[at] = rng.choice([-2.0, -1, 1, 2], len(at)) if whole else rng.standard_normal(len(at))
    bias = np.zeros(m) if whole or rng.random() < 0.3 else 0.7 * rng.standard_normal(m)
    return Network.two_layer(w, rng.choice([-1.0, 1.0], m), bias)


def gaussian(d: int) -> Inputs:
    """Standard normal inputs."""
    return lambda rng, n: rng.standard_normal((n, d))


def exactly(net: Network) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Labels of a network in float64."""
    return lambda x, rng: net(x).numpy()[:, 0]


def size(rng: np.random.Generator) -> tuple[int, int]:
    """Inputs and rows."""
    return int(rng.integers(3, 16)), int(rng.choice([700, 1500, 3000]))


def roundings(rng: np.random.Generator) -> Case:
    """Labels of a type, or of decimals, with noise of none to thirty roundings before they are rounded."""
    d, n = size(rng)
    net, offset = network(rng, d), float(rng.choice([0, 0, 10.0, 1e3, 1e5]))
    times, way = float(rng.choice([0, 0, 1, 3, 10, 30])), rng.choice(["float16", "float32", "2", "5"])

    def labels(x: np.ndarray, own: np.random.Generator) -> np.ndarray:
        y = net(x).numpy()[:, 0] + offset
        kind = np.dtype(way) if way.startswith("f") else None
        step = 10.0 ** -int(way) if kind is None else np.spacing(np.abs(y).astype(kind)).astype(float)
        y = y + times * step / math.sqrt(12) * own.standard_normal(len(y))
        return np.round(y, int(way)) if kind is None else y.astype(kind).astype(float)

    raised = Network((net.layers[0], net.layers[1].from_dense(net.layers[1].dense(), np.array([offset]))))
    return Case(gaussian(d), labels, raised if offset else net, n)


def hidden(rng: np.random.Generator) -> Case:
    """A neuron about as small as the rounding of the labels lets see, or smaller."""
    d, n = size(rng)
    net, kind = network(rng, d, reads=2), rng.choice(["float16", "float32"])
    offset = float(rng.choice([0, 1e5])) if kind == "float32" else 0.0
    w, b = net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy()
    step = float(np.spacing(np.asarray(offset + 1, dtype=kind))) / math.sqrt(12 * n)
    scale = np.where(np.arange(len(w)) == 0, step * 10 ** rng.uniform(-1, 4), 1.0)
    small = Network.two_layer(w * scale[:, None], net.layers[1].dense().numpy()[0], b * scale)
    raised = Network((small.layers[0], small.layers[1].from_dense(small.layers[1].dense(), np.array([offset]))))
    return Case(gaussian(d), lambda x, own: raised(x).numpy()[:, 0].astype(kind).astype(float), raised, n)


def jumps(rng: np.random.Generator) -> Case:
    """A step, a staircase or a sign times a line, beside a network or alone."""
    d, n = size(rng)
    net, way, at = network(rng, d), int(rng.integers(4)), float(rng.normal(0, 0.5))
    height = float(10 ** rng.uniform(-3, 0.5))

    def labels(x: np.ndarray, own: np.random.Generator) -> np.ndarray:
        z = x[:, 0] - at
        jump = [z > 0, np.floor(2 * z), np.sign(z) * x[:, 1], (z > 0) & (x[:, 1] > 0)][way]
        return height * jump + (net(x).numpy()[:, 0] if rng_alone else x[:, 1])

    rng_alone = bool(rng.random() < 0.7)
    return Case(gaussian(d), labels, None, n)


def curves(rng: np.random.Generator) -> Case:
    """A smooth function of one or two inputs beside a network, on continuous inputs or on a grid."""
    d, n = size(rng)
    net, way, grid = network(rng, d), int(rng.integers(5)), rng.choice([0.0, 0.5, 0.1])
    height = float(10 ** rng.uniform(-4, 0.5))

    def inputs(own: np.random.Generator, rows: int) -> np.ndarray:
        x = own.standard_normal((rows, d))
        return x if grid == 0 else np.round(x / grid) * grid

    def labels(x: np.ndarray, own: np.random.Generator) -> np.ndarray:
        a, b = x[:, 0], x[:, 1]
        return height * [a**2, np.sin(2 * a), a * b, np.exp(a), np.tanh(5 * a)][way] + net(x).numpy()[:, 0]

    return Case(inputs, labels, None, n)


def repeats(rng: np.random.Generator) -> Case:
    """Few distinct rows, each many times, exactly or with a little noise; or enough of them."""
    d, n = size(rng)
    net, distinct = network(rng, d), int(rng.choice([20, 60, 150, 600]))
    noise = float(rng.choice([0, 1e-10, 1e-6, 1e-4]))
    again = lambda x, own: x[own.integers(0, distinct, len(x))] + noise * own.standard_normal(x.shape)  # noqa: E731
    return Case(gaussian(d), exactly(net), net, n, again)


def gaps(rng: np.random.Generator) -> Case:
    """Two clusters, or a strip without rows, and hinges of which some lie in the gap."""
    d, n = size(rng)
    net, width, every = network(rng, d), float(rng.uniform(0.5, 5)), bool(rng.random() < 0.4)
    w, b = net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy().copy()
    if rng.random() < 0.6:
        w[:2], b[:2] = np.eye(d)[0], rng.uniform(-width, width, 2)
        net = Network.two_layer(w, net.layers[1].dense().numpy()[0], b)

    def inputs(own: np.random.Generator, rows: int) -> np.ndarray:
        x = own.standard_normal((rows, d))
        side = np.where(own.random(rows) < 0.5, -1, 1)
        if every:
            return x + width * side[:, None]
        x[:, 0] = np.sign(x[:, 0]) * (np.abs(x[:, 0]) + width)
        return x

    return Case(inputs, exactly(net), net, n)


def sides(rng: np.random.Generator) -> Case:
    """More neurons than inputs, whole weights of which sums agree, antipodal pairs, a linear part beside."""
    d, way = int(rng.integers(3, 8)), int(rng.integers(4))
    if way == 0:
        net = network(rng, d, m=int(rng.integers(d, 2 * d)), reads=d)
    elif way == 1:
        net = network(rng, d, m=int(rng.integers(3, 8)), reads=2, whole=True)
    else:
        net = network(rng, d)
        w, b = net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy()
        skip = np.zeros((1, d)) if way == 2 else rng.standard_normal((1, d)) * (rng.random((1, d)) < 0.5)
        if way == 2:
            w, b = np.concatenate([w, -w[:1]]), np.append(b, -b[0])
        v = rng.choice([-1.0, 1.0], len(w))
        net = Network.two_layer(w, v, b)
        net = Network(net.layers, net.layers[1].from_dense(skip)) if skip.any() else net
    return Case(gaussian(d), exactly(net), net, 3000)


def tables(rng: np.random.Generator) -> Case:
    """Inputs as they come: far means, scales, constants, copies, sums, groups, counts, decimals, float32."""
    d, n = size(rng)
    way, net = int(rng.integers(8)), network(rng, d + 3)
    mean, scale = 10 ** rng.uniform(-1, 4) * rng.standard_normal(d), 10 ** rng.uniform(-6, 6, d)

    def inputs(own: np.random.Generator, rows: int) -> np.ndarray:
        x, level = own.standard_normal((rows, d)), np.eye(3)[own.integers(0, 3, rows)]
        more = [
            level,
            own.poisson(3, (rows, 3)),
            own.integers(0, 2, (rows, 3)),
            np.column_stack([x[:, 0], x[:, 1] - 2 * x[:, 2], np.full(rows, 3.0)]),
            x[:, :3] + 1e-4 * own.standard_normal((rows, 3)),
        ]
        if way < 5:
            return np.column_stack([x, more[way]])
        wide = np.column_stack([x, own.standard_normal((rows, 3))])
        if way == 5:
            return np.round(wide, 2)
        if way == 6:
            return wide.astype(np.float32).astype(float)
        wide[:, :d] = (wide[:, :d] + mean) * scale
        return wide

    if way == 7:
        w, b = net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy()
        w[:, :d] /= scale
        net = Network.two_layer(w, net.layers[1].dense().numpy()[0], b - w[:, :d] @ (mean * scale))
    return Case(inputs, exactly(net), net, n)


def few_rows(rng: np.random.Generator) -> Case:
    """From fewer rows than numbers to three times as many as are needed."""
    d = int(rng.integers(5, 21))
    net = network(rng, d, m=int(rng.integers(2, 7)), reads=4)
    return Case(gaussian(d), exactly(net), net, d + 1 + int(net.nonzeros * 10 ** rng.uniform(0.3, 1.3)))


def wrong_labels(rng: np.random.Generator) -> Case:
    """A few labels far off, or heavy tails of noise."""
    d, n = size(rng)
    net, share, tails = network(rng, d), float(rng.choice([0, 1e-3, 1e-2])), bool(rng.random() < 0.3)

    def labels(x: np.ndarray, own: np.random.Generator) -> np.ndarray:
        y = net(x).numpy()[:, 0]
        noise = 1e-3 * own.standard_t(1.5, len(y)) if tails else 10 * own.standard_normal(len(y))
        return y + y.std() * noise * (tails or own.random(len(y)) < share)

    return Case(gaussian(d), labels, net, n)


KINDS: dict[str, Callable[[np.random.Generator], Case]] = {
    kind.__name__: kind
    for kind in (roundings, hidden, jumps, curves, repeats, gaps, sides, tables, few_rows, wrong_labels)
}


def drawn(kind: str, seed: int) -> tuple[Case, np.ndarray, np.ndarray]:
    """The case, and the rows and labels that are given; drawn again while the labels are constant."""
    for attempt in range(100):
        rng = np.random.default_rng([list(KINDS).index(kind), seed, attempt])
        case = KINDS[kind](rng)
        x = case.again(case.inputs(rng, case.rows), rng)
        y = case.labels(x, rng)
        if y.std() > 1e-3 * np.abs(y - y.mean()).max() > 0:
            return case, x, y
    raise ValueError(f"{kind} {seed}: a hundred draws of constant labels")


def is_found(found: Network, truth: Network, x: np.ndarray, fresh: np.ndarray) -> bool:
    """Whether ``found`` has the places of the network, as rows ``x`` can see it, its values, and its function."""
    places, truth = [], without_small(visible(truth, x))
    for net in (without_small(found), truth):
        # Weights as they act on inputs of unit variance, less what a mean of many sd makes of rounding.
        form = net.oriented(1e-6)
        skip = form.skip.dense().numpy() if form.skip is not None else np.zeros((1, net.inputs))
        sd = x.std(axis=0)
        rows = np.column_stack([form.layers[0].dense().numpy() * sd, form.layers[1].dense().numpy()[0]])
        places.append((rows[np.lexsort(np.round(rows / np.abs(rows).max(initial=1), 5).T)], skip * sd))
    (a, skip_a), (b, skip_b) = places
    if a.shape != b.shape or ((a != 0) != (b != 0)).any() or ((skip_a != 0) != (skip_b != 0)).any():
        return False
    close = all(bool((np.abs(p - q) <= 10 * NEAR * np.abs(q)).all()) for p, q in ((a, b), (skip_a, skip_b)))
    y = truth(fresh).numpy()
    return close and float(np.abs(found(fresh).numpy() - y).max()) <= NEAR * float(y.std())


def without_small(net: Network) -> Network:
    """The network without weights below ``SMALL`` of the median one."""
    w = net.layers[0].dense().numpy()
    size = np.abs(w * net.layers[1].dense().numpy()[0, :, None])
    kept = np.where(size >= SMALL * np.median(size[size > 0]), w, 0.0) if size.any() else w
    return Network((Layer.from_dense(kept, net.layers[0].dense_bias()), net.layers[1]), net.skip)


def judged(kind: str, seed: int) -> dict[str, Any]:
    """One fit: whether it was claimed, and whether the planted network was found."""
    case, x, y = drawn(kind, seed)
    method, data = Exact(), Data(x, y)
    if method.refuses(data, Budget((12,))) is not None:
        return {"claimed": False, "found": False, "network": case.truth is not None, "seconds": 0.0}
    start = time.process_time()
    solution = fit(method, data, Budget((12 if kind != "sides" else 20,)), seed=seed)
    seconds = time.process_time() - start
    fresh = case.inputs(np.random.default_rng([seed, 1]), FRESH)
    found = case.truth is not None and is_found(solution.network, case.truth, x, fresh)
    claimed = solution.status.name == "converged"
    return {"claimed": claimed, "found": found, "network": case.truth is not None, "seconds": seconds}


def row(kind: str, first: int) -> dict[str, Any]:
    """Of the seeds ``first`` and the nine behind it: networks found, claimed, and claims of what is not so."""
    all_ = [judged(kind, seed) for seed in range(first, first + EACH)]
    return {
        "networks": sum(r["network"] for r in all_),
        "found": sum(r["found"] for r in all_),
        "claimed": sum(r["claimed"] and r["found"] for r in all_),
        "false": sum(r["claimed"] and not r["found"] for r in all_),
        "seeds_false": [first + i for i, r in enumerate(all_) if r["claimed"] and not r["found"]],
        "cpu_seconds": round(sum(r["seconds"] for r in all_), 1),
    }


def total(rows: Rows, name: str, kind: str | None = None) -> int:
    """A count summed over the rows of one kind, or of all."""
    return sum(int(r[name]) for r in rows if kind in (None, r["kind"]))


def table(rows: Rows) -> str:
    """Kind by kind."""
    head = ["kind", "sets", "of a network", "found", "found and claimed", "false claims", "processor s a fit"]
    body = []
    for kind, case in KINDS.items():
        sets = EACH * sum(r["kind"] == kind for r in rows)
        if sets:
            counts = [total(rows, name, kind) for name in ("networks", "found", "claimed", "false")]
            seconds = sum(r["cpu_seconds"] for r in rows if r["kind"] == kind) / sets
            body.append([f"{kind}: {(case.__doc__ or '').splitlines()[0]}", sets, *counts, f"{seconds:.1f}"])
    return markdown(head, body)


BENCHMARKS = (
    Benchmark(
        name="recovery_adversaries",
        topic="recover",
        question="Does `exact` ever say `converged` of what is not so?",
        text="""A thousand data sets drawn to make it: labels with noise of their own rounding, neurons smaller than it,
        jumps, curves, repeated rows, gaps, sides that are not unique, everyday tables, few rows, wrong labels. A claim
        is false where the planted network, as the rows can see it, is not returned with its places and values, or where
        there is none. Beside it stands how many of the networks found are claimed, so that silence does not win.""",
        full=calls("recovery_adversaries", row, {"kind": list(KINDS), "first": list(range(0, 100, EACH))}),
        quick=calls("recovery_adversaries", row, {"kind": list(KINDS)[2:5], "first": [1000]}),
        table=table,
        targets={
            "0 false claims": lambda rows: f"{total(rows, 'false')} in {EACH * len(rows)} sets",
            "found networks that are claimed": lambda rows: f"{total(rows, 'claimed')} of {total(rows, 'found')}",
        },
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
