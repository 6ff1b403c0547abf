"""Interpolants of several inputs with as few weights as there are points."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.interpolant import SOURCE
from sparelu.interpolate.points.backward import (
    Elimination,
    Shallow,
    eliminate_weights,
    polish,
    start_linear,
    start_random,
)
from sparelu.interpolate.points.direct import solve_one_weight, solve_two_neurons
from sparelu.interpolate.points.on_a_line import start_on_a_line
from sparelu.interpolate.points.witnesses import find_cheaper
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate, Iterate, State, Status

CLOSE = 1e-12
"""Largest residual, relative to the targets, of an interpolant that is handed out."""


@dataclass(frozen=True)
class FewWeights(Fitter):
    """Find a ReLU network through N points in d inputs with N nonzeros v w, biases included: the least for almost
    every y.

    Up to N = 2d + 1 one linear solve does it (``one-weight``), and up to about d + 1 two neurons can
    (``two-neuron``). Beyond, weights are eliminated from a dense interpolant (``eliminate``), and what is
    found is reported beside N. Targets that fewer nonzeros meet are looked for first, where the form is ``auto``
    (:mod:`~sparelu.interpolate.points.witnesses`). Points that span fewer dimensions than they have inputs are
    interpolated by as many inputs as they span.

    Source: the minimisation (9) of Nakhleh & Nowak (2025), whose Proposition 4.1 bounds the minimum by O(N);
    that N is a lower bound for almost every y, and how it is attained, is derived here
    (:mod:`~sparelu.interpolate.points.backward`, :mod:`~sparelu.interpolate.points.direct`). The count includes biases,
    as in the paper; ``Network.nonzeros`` leaves them out.

    Use it for a few points in several inputs that are to be met exactly with the fewest weights.

    Not for noisy labels, or for more rows than a least squares problem of that size is solved for in seconds.
    """

    name = "few-weights"
    question = "interpolate"
    paper = SOURCE

    form: str = setting(
        "auto",
        "which construction: auto takes two neurons, else one weight each, else elimination",
        choices=("auto", "two-neuron", "one-weight", "eliminate"),
    )
    surplus: float = setting(
        1.6, "weights of the dense interpolant that elimination starts from, for each point", above=1.0
    )
    dead_ends: int = setting(20, "dead ends after which elimination stops short of N weights", low=0)

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Name the reason: not one target, contradicting points, or a budget below the points."""
        if data.task != "regression" or data.outputs != 1:
            return f"it serves regression with one target, got {data.task} with {data.outputs} output(s)"
        reason = budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is not None:
            return reason
        x, y = _points(data)
        return _contradiction(x, y) or self._too_few(x, y, budget.hidden[0], budget.count(data.inputs, 1))

    def _too_few(self, x: np.ndarray, y: np.ndarray, width: int, allowed: int | None) -> str | None:
        """Say why ``width`` neurons or the ``allowed`` nonzeros cannot meet the points, unless fewer than usual do."""
        scale = _Scale.of(x, y, centred=False)
        weights = width * (scale.columns.size + 1)
        if weights >= len(y) and (allowed is None or allowed >= len(y)):
            return None
        special = self._special(scale.inputs(x), y / scale.y, np.random.default_rng(0))
        if special is not None and special.nonzeros <= min(allowed or len(y), weights) and len(special.sign) <= width:
            return None
        if weights < len(y):
            return (
                f"{width} neurons have {weights} weights and biases, fewer than the {len(y)} points: "
                f"widen `hidden` to at least {-(-len(y) // (scale.columns.size + 1))}"
            )
        return (
            f"{len(y)} distinct points need {len(y)} nonzeros for almost every target (proved, biases included), "
            f"and the budget allows {allowed}: raise `nonzeros`, or take a method that fits with error"
        )

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield one round for the direct constructions; one for each elimination or dead end otherwise."""
        x, y = _points(data)
        plain, width = _Scale.of(x, y, centred=False), budget.hidden[0]
        special = self._special(plain.inputs(x), y / plain.y, rng.spawn(1)[0]) if start is None else None
        done = special if special is None or len(special.sign) <= width else None
        if done is None and start is None:
            done = self._direct(plain.inputs(x), y / plain.y, width, rng)
        if done is not None:
            yield self._iterate(Elimination(done, done), plain, data)
            return Status.converged
        # Far from zero the columns are nearly parallel to the constant. Centred, every neuron has a bias.
        centred = bool((np.abs(x.mean(axis=0)) > x.max(axis=0) - x.min(axis=0)).any())
        scale = _Scale.of(x, y, centred)
        xbar, target = scale.inputs(x), y / scale.y
        search = _restored(start) if start is not None else self._begin(xbar, target, width, rng)
        yield self._iterate(search, scale, data)
        for later in self._searches(xbar, target, search, width, rng, centred):
            search = later
            yield self._iterate(search, scale, data)
        return Status.converged if search.best.nonzeros <= len(y) else Status.max_steps

    def _special(self, xbar: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Shallow | None:
        """Look for an interpolant with fewer nonzeros than points, where the form is free."""
        found = find_cheaper(xbar, y, rng) if self.form == "auto" else None
        return None if found is None else polish(xbar, y, found)

    def _direct(self, xbar: np.ndarray, y: np.ndarray, width: int, rng: np.random.Generator) -> Shallow | None:
        x, n = xbar[:, :-1], len(y)
        wanted = {
            "two-neuron": self.form == "two-neuron" or (self.form == "auto" and n <= xbar.shape[1]),
            "one-weight": self.form == "one-weight" or (self.form == "auto" and n <= 2 * xbar.shape[1] - 1),
        }
        for name, construct in (("two-neuron", solve_two_neurons), ("one-weight", solve_one_weight)):
            found = construct(x, y, rng) if wanted[name] else None
            if found is not None and len(found.sign) <= width:
                net = polish(xbar, y, Shallow(found.nu, found.sign, found.nu != 0))
                if np.abs(net.outputs(xbar) - y).max() < CLOSE:
                    return net
        return None

    def _searches(
        self, xbar: np.ndarray, y: np.ndarray, search: Elimination, width: int, rng: np.random.Generator, hold: bool
    ) -> Iterator[Elimination]:
        """Eliminate from where ``search`` stands; one input: then again, from the sparsest interpolant of a line."""
        for later in eliminate_weights(xbar, y, search, rng, self.dead_ends, hold):
            search = later
            yield search
        if xbar.shape[1] > 2 or search.best.nonzeros <= len(y):
            return
        line = start_on_a_line(xbar[:, 0], y)
        if len(line.sign) > width:
            return
        if search.dead_ends <= self.dead_ends:
            search = Elimination(line, min(line, search.best, key=lambda net: net.nonzeros), self.dead_ends + 1)
            yield search
        yield from eliminate_weights(xbar, y, search, rng, 2 * self.dead_ends + 1, hold)

    def _begin(self, xbar: np.ndarray, y: np.ndarray, width: int, rng: np.random.Generator) -> Elimination:
        neurons = min(int(np.ceil(self.surplus * len(y) / xbar.shape[1])) + 2, width)
        net = start_random(xbar, y, neurons, rng) or start_linear(xbar, y, rng)
        return Elimination(net, net)

    def _iterate(self, search: Elimination, scale: "_Scale", data: Data) -> Iterate:
        x, y = _points(data)
        xbar, target, best = scale.inputs(x), y / scale.y, search.best
        finished, allowed = best.nonzeros <= len(y), max(self.dead_ends * (2 if scale.columns.size == 1 else 1), 1)
        progress = 1.0 if finished else min(search.dead_ends / allowed, 0.99)
        loss = float(np.mean((best.outputs(xbar) - target) ** 2)) * scale.y**2

        def network() -> Network:
            return scale.network(polish(xbar, target, best), data.inputs)

        return Iterate(
            progress,
            loss,
            network,
            lambda: _state(search),
            {"nonzeros_with_biases": float(best.nonzeros), "lower_bound": float(len(y))},
            lambda: lower_bounds(network(), data),
        )


def lower_bounds(network: Network, data: Data) -> tuple[Certificate, ...]:
    """State what interpolants of ``data`` (one target) without an affine part need, beside what ``network`` has.

    Nonzeros: with s nonzero products the outputs lie in the span of s columns D_k X_i, one of finitely many
    choices, so that s < N reaches a null set of targets only. Whether these targets are in it is not decided: that is
    the sparsest network itself. So the claim is of almost every target, and the network says when these are special.
    Neurons: targets of both signs need an output weight of each sign.
    """
    x, y = _points(data)
    residual = np.abs(network(x).to(torch.float64).numpy()[:, 0] - y).max() / np.abs(y).max()
    used = network.nonzeros + network.biases + network.skip_nonzeros
    meets = Assumption(
        "the network meets the points",
        "checked" if residual < 1e-6 else "violated",
        f"largest residual {residual:.1e}, condition number of the columns {_condition(network, x):.1e}",
    )
    free = Assumption(
        "the network has no output bias and no affine part",
        "checked" if network.skip is None and network.layers[-1].biases == 0 else "violated",
    )
    neurons = float((y > 0).any()) + float((y < 0).any())
    special = "these are among the exceptions" if used < len(y) else "whether these are exceptions is not decided"
    return (
        Certificate(
            f"almost every target at these inputs needs that many nonzeros, biases included; {special}; "
            f"this network has {used}",
            float(len(y)),
            "nonzeros",
            (meets,),
            source=SOURCE,
        ),
        Certificate(
            f"no interpolant has fewer neurons; this one has {network.hidden[0]}",
            neurons,
            "neurons",
            (meets, free),
            source=SOURCE,
        ),
    )


def _points(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows (N, d) in their order, and targets (N,), in float64."""
    x, y = np.asarray(data.x, dtype=np.float64), np.asarray(data.y, dtype=np.float64).reshape(-1)
    first = np.sort(np.unique(np.column_stack([x, y]), axis=0, return_index=True)[1])
    return x[first], y[first]


def _contradiction(x: np.ndarray, y: np.ndarray) -> str | None:
    order = np.lexsort(x.T)
    same = np.flatnonzero((x[order[1:]] == x[order[:-1]]).all(axis=1))
    if same.size == 0:
        return None
    a, b = order[same[0]], order[same[0] + 1]
    return (
        f"{same.size} pair(s) of equal inputs have different targets, the first {y[a]:g} and {y[b]:g}: no network "
        "interpolates them; average them, or take a method that fits with error"
    )


def _condition(network: Network, x: np.ndarray) -> float:
    """Return the condition number of the columns D_k X_i of the live weights, each of unit norm."""
    hidden = network.layers[0]
    w, b = hidden.dense().double().numpy(), hidden.dense_bias().double().numpy()
    weights = np.column_stack([w, b])
    k, i = np.nonzero(weights)
    columns = (x @ w.T + b > 0)[:, k] * np.column_stack([x, np.ones(len(x))])[:, i]
    norm = np.linalg.norm(columns, axis=0)
    return float(np.linalg.cond(columns[:, norm > 0] / norm[norm > 0])) if norm.any() else np.inf


@dataclass(frozen=True, eq=False)
class _Scale:
    """Hold inputs as (inputs - shift) / x, targets as targets / y; of the inputs those in ``columns`` are read."""

    columns: np.ndarray
    shift: np.ndarray
    x: np.ndarray
    y: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, centred: bool) -> "_Scale":
        columns = _spanning_columns(x)
        read = x[:, columns]
        shift = read.mean(axis=0) if centred else np.zeros(columns.size)
        width = np.abs(read - shift).max(axis=0)
        return cls(columns, shift, np.where(width > 0, width, 1.0), float(np.abs(y).max()) or 1.0)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled rows with a column of ones, (n, columns + 1)."""
        return np.column_stack([(x[:, self.columns] - self.shift) / self.x, np.ones(len(x))])

    def network(self, net: Shallow, inputs: int) -> Network:
        """Build the network that takes all raw ``inputs`` and gives raw targets."""
        alive = net.live.any(axis=1)
        read = net.nu[alive, :-1] / self.x
        b = net.nu[alive, -1] - read @ self.shift
        w = np.zeros((len(read), inputs))
        w[:, self.columns] = read
        return Network.two_layer(w * self.y, net.sign[alive], b * self.y)


def _spanning_columns(x: np.ndarray) -> np.ndarray:
    """Choose inputs that tell the points (N, d) apart as well as all do.

    All of them, unless the points span an affine space of fewer dimensions than d and N - 1: then as many columns as it
    has dimensions, by QR with pivoting, of which the others are affine functions on the points.
    """
    n, d = x.shape
    moved = x - x.mean(axis=0)
    size = np.linalg.norm(moved, axis=0)
    unit = moved / np.where(size > 0, size, 1.0)
    rank = int(np.linalg.matrix_rank(unit)) if n > 1 else d
    if rank >= min(d, n - 1):
        return np.arange(d)
    return np.sort(linalg.qr(unit, mode="r", pivoting=True)[1][:rank])


def _state(search: Elimination) -> State:
    nets = {"net": search.net, "best": search.best}
    return {
        **{f"{k}_{part}": torch.tensor(getattr(n, part)) for k, n in nets.items() for part in ("nu", "sign", "live")},
        "dead_ends": search.dead_ends,
    }


def _restored(state: State) -> Elimination:
    def net(name: str) -> Shallow:
        parts: list[Tensor] = [state[f"{name}_{part}"] for part in ("nu", "sign", "live")]
        return Shallow(*(p.numpy().copy() for p in parts))

    return Elimination(net("net"), net("best"), int(state["dead_ends"]))
