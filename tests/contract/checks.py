"""The laws of a Fitter. Each check raises AssertionError for a method that breaks its law."""

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparelu.data import Budget, Data
from sparelu.experiments.evaluate import evaluate
from sparelu.method import Fitter
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, Solution, Status
from sparelu.run import fit, generator


def same_bits(a: Network, b: Network) -> bool:
    """Whether both networks hold the same numbers, bit for bit."""
    pairs = list(itertools.zip_longest((*a.layers, a.skip), (*b.layers, b.skip)))
    names = ("rows", "indptr", "indices", "values", "bias")
    return all(
        x is y is None
        or (x is not None and y is not None and x.shape == y.shape and all(_equal(x, y, name) for name in names))
        for x, y in pairs
    )


def _equal(x: Any, y: Any, name: str) -> bool:
    p, q = getattr(x, name), getattr(y, name)
    return p is q is None or (p is not None and q is not None and torch.equal(p, q))


@dataclass(frozen=True, eq=False)
class Watched:
    """A fit with seed 0, and what was seen of it: its iterates, and what it moved that is not its own."""

    solution: Solution
    shapes: list[tuple[int, int]]
    losses: list[float]
    moved_data: bool
    moved_generators: bool


@functools.lru_cache(maxsize=2)
def watched(method: Fitter, data: Data, budget: Budget) -> Watched:
    """Fit once for all laws that look at one fit."""
    shapes, losses = [], []

    def look(iterate: Iterate) -> None:
        network = iterate.network()
        shapes.append((network.inputs, network.outputs))
        losses.append(iterate.loss)

    x, y = copy.deepcopy(np.asarray(data.x)), copy.deepcopy(np.asarray(data.y))
    before = _global_state(0)
    solution = fit(method, data, budget, watch=look)
    now = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    still = np.array_equal(before[0], now[0]) and torch.equal(before[1], now[1])
    same = np.array_equal(x, np.asarray(data.x)) and np.array_equal(y, np.asarray(data.y))
    return Watched(solution, shapes, losses, not same, not still)


def _global_state(seed: int) -> tuple[Any, Tensor]:
    """Set the random state that all share, which is to be neither read nor moved."""
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    return np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002


def keeps_budget(method: Fitter, data: Data, budget: Budget) -> None:
    """No more nonzeros than allowed, counted on the network, and no hidden zero or epsilon."""
    solution = watched(method, data, budget).solution
    allowed = budget.count(data.inputs, data.outputs, data.image)
    assert allowed is not None
    assert solution.network.nonzeros <= allowed
    assert solution.within_budget
    assert all(bool((layer.values != 0).all()) for layer in solution.network.layers)


def seed_decides(method: Fitter, data: Data, budget: Budget) -> None:
    """Same seed, same bits; global random state is neither read nor moved."""
    first = watched(method, data, budget)
    assert not first.moved_generators, "the random state that all share was moved"
    _global_state(1)
    assert same_bits(first.solution.network, fit(method, data, budget).network)


def leaves_inputs(method: Fitter, data: Data, budget: Budget) -> None:
    """The data are the same after the fit as before."""
    assert not watched(method, data, budget).moved_data, "the data were changed"


def resumes(method: Fitter, data: Data, budget: Budget) -> None:
    """From the state after any of some rounds, the rest follows in the same bits, through a file-like copy."""
    whole, states = _run(method, data, budget, generator(0, "x"), None)
    for at in sorted({len(states) // 2, len(states) - 1}):
        rng = generator(0, "other")
        state, place = states[at]
        rng.bit_generator.state = place
        rest, later = _run(method, data, budget, rng, state)
        assert same_bits(whole, rest), f"resumed after round {at + 1} of {len(states)}, the network differs"
        assert len(later) == len(states) - at, "a resumed run yields the iterate it starts from first, then the rest"


def _run(
    method: Fitter, data: Data, budget: Budget, rng: np.random.Generator, start: Any
) -> tuple[Network, list[tuple[Any, Any]]]:
    states, last = [], None
    for last in method.steps(data, budget, rng, start):
        states.append((copy.deepcopy(last.state()), copy.deepcopy(rng.bit_generator.state)))
    assert last is not None, "a fit yields at least one iterate"
    return last.network(), states


def makes_progress(method: Fitter, data: Data, budget: Budget) -> None:
    """Better than the constant predictor, and progress rises to 1."""
    solution = watched(method, data, budget).solution
    judged = evaluate(solution.network, data)
    if data.task == "regression":
        assert judged.r2 > 0.1, f"explains {judged.r2:.3f} of the variance of its training rows"
    else:
        most = np.bincount(np.asarray(data.y)).max() / data.n
        assert judged.accuracy > most, f"accuracy {judged.accuracy:.3f}, the most frequent class has {most:.3f}"
    progress = [row["progress"] for row in solution.history]
    assert all(0 <= a <= b <= 1 for a, b in itertools.pairwise([0.0, *progress]))
    assert solution.status in (Status.converged, Status.max_steps)


def iterates_are_networks(method: Fitter, data: Data, budget: Budget) -> None:
    """Every iterate has a finite loss and a network of the right shape."""
    seen = watched(method, data, budget)
    assert seen.shapes
    assert set(seen.shapes) == {(data.inputs, data.outputs)}
    assert np.isfinite(seen.losses).all()


CHECKS: tuple[Callable[[Fitter, Data, Budget], None], ...] = (
    keeps_budget,
    seed_decides,
    leaves_inputs,
    resumes,
    makes_progress,
    iterates_are_networks,
)
