"""The laws of a Fitter. Each check raises AssertionError for a method that breaks its law."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sparelu.data import Budget, Data
from sparelu.experiments.evaluate import evaluate
from sparelu.method import Fitter
from sparelu.networks.network import Network
from sparelu.outcome import Iterate, Status
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


def keeps_budget(method: Fitter, data: Data, budget: Budget) -> None:
    """No more nonzeros than allowed, counted on the network, and no hidden zero or epsilon."""
    solution = fit(method, data, budget)
    allowed = budget.count(data.inputs, data.outputs, data.image)
    assert allowed is not None
    assert solution.network.nonzeros <= allowed
    assert solution.within_budget
    assert all(bool((layer.values != 0).all()) for layer in solution.network.layers)


def seed_decides(method: Fitter, data: Data, budget: Budget) -> None:
    """Same seed, same bits; global random state is neither read nor moved."""
    np.random.seed(0)  # noqa: NPY002 the global state is what is watched here
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = fit(method, data, budget, seed=3)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert same_bits(first.network, fit(method, data, budget, seed=3).network)


def leaves_inputs(method: Fitter, data: Data, budget: Budget) -> None:
    """The data are the same after the fit as before."""
    x, y = copy.deepcopy(np.asarray(data.x)), copy.deepcopy(np.asarray(data.y))
    fit(method, data, budget)
    assert np.array_equal(x, np.asarray(data.x))
    assert np.array_equal(y, np.asarray(data.y))


def resumes(method: Fitter, data: Data, budget: Budget) -> None:
    """From the state after any of some rounds, the rest follows in the same bits, through a file-like copy."""
    whole, states = _run(method, data, budget, generator(0, "x"), None)
    for at in sorted({0, len(states) // 2, len(states) - 1}):
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
    solution = fit(method, data, budget)
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

    def look(iterate: Iterate) -> None:
        network = iterate.network()
        assert (network.inputs, network.outputs) == (data.inputs, data.outputs)
        assert np.isfinite(iterate.loss)

    fit(method, data, budget, watch=look)


CHECKS: tuple[Callable[[Fitter, Data, Budget], None], ...] = (
    keeps_budget,
    seed_decides,
    leaves_inputs,
    resumes,
    makes_progress,
    iterates_are_networks,
)
