"""Every method on a GPU, against the same on the processor; skipped where torch finds no GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.outcome import Solution, Status
from sparelu.recover.aiht.fixed_gates import hard_thresholding
from sparelu.run import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

NETWORK = {"inputs": 20, "hidden": (5,), "nonzeros": 15}
SHAPE = {**NETWORK, "rows": 3000, "test_rows": 500}


def both(name: str, data: Data, budget: Budget, **settings: object) -> tuple[Solution, Solution]:
    """The fit on the processor and on the GPU, of one seed."""
    first, second = (
        fit(fitter(name, **settings), replace(data, device=device), budget, seed=0) for device in ("cpu", "cuda")
    )
    return first, second


def labels(data: Data) -> Data:
    """Two classes of the same rows."""
    y = np.asarray(data.y[:])
    return replace(data, y=(y > np.median(y)).astype(np.int64), task="classification", classes=(0, 1), test=None)


def gap(a: Solution, b: Solution, data: Data) -> float:
    """Largest difference of the outputs on the training rows, relative to their standard deviation."""
    x = np.asarray(data.x[:], dtype=np.float64)
    ours, theirs = (s.network.to(torch.float64, "cpu")(x) for s in (a, b))
    return float((ours - theirs).abs().max() / ours.std())


@pytest.mark.parametrize("more", [{}, {"output_weights": "real"}, {"outputs": 3, "nonzeros": 30}, {"biases": 0.5}])
def test_a_planted_network_is_found_exactly(more: dict[str, object]) -> None:
    data = planted(**{**SHAPE, **more})
    here, there = both("exact", data, Budget((10,)))
    assert here.status is there.status is Status.converged
    assert here.network.nonzeros == there.network.nonzeros
    assert gap(here, there, data) < 1e-6


def test_two_hidden_layers_are_found_exactly() -> None:
    data = planted(**{**SHAPE, "hidden": (3, 3), "nonzeros": 12})
    here, there = both("exact", data, Budget((3, 3)))
    assert here.status is there.status is Status.converged
    assert gap(here, there, data) < 1e-6


def test_noise_leaves_the_same_support_and_a_budget_is_kept() -> None:
    data = planted(**SHAPE, noise=0.05)
    for nonzeros in (None, 8):
        here, there = both("exact", data, Budget((10,), nonzeros=nonzeros))
        assert here.network.nonzeros == there.network.nonzeros <= (nonzeros or 100)
        assert gap(here, there, data) < 1e-3


@pytest.mark.parametrize("classes", [False, True])
def test_pursuit_explains_as_much(classes: bool) -> None:
    """Rounding breaks ties between kinks that explain the same, so the networks may differ."""
    data = labels(planted(**SHAPE)) if classes else planted(**SHAPE, noise=0.2)
    here, there = both("pursuit", data, Budget((6,), nonzeros=10))
    losses = [s.history[-1]["loss"] for s in (here, there)]
    assert max(losses) < 1.2 * min(losses)


@pytest.mark.parametrize(
    ("more", "hidden", "classes"),
    [({}, (5,), False), ({"outputs": 3}, (5,), False), ({}, (5, 5), False), ({}, (5,), True)],
)
def test_hard_thresholding_takes_the_same_steps(
    more: dict[str, object], hidden: tuple[int, ...], classes: bool
) -> None:
    data = planted(**{**SHAPE, **more})
    data = labels(data) if classes else data
    here, there = both("aiht", data, Budget(hidden, nonzeros=15), epochs=5)
    assert gap(here, there, data) < 1e-6


def test_fixed_gates_give_the_same_weights() -> None:
    data, truth = planted(**SHAPE), planted_network(**NETWORK)
    x, y = data.tensors(torch.float64)
    rng = np.random.default_rng(0)
    h = torch.cat([truth.layers[0].dense(), torch.as_tensor(rng.standard_normal((20, 20)))])
    h = h[h.any(1)]
    for gate in ("step", "sign"):
        here = hard_thresholding(x, y[:, 0], h, 15, gate, steps=30)
        there = hard_thresholding(x.cuda(), y[:, 0].cuda(), h.cuda(), 15, gate, steps=30)
        assert torch.equal(here.index, there.index.cpu())
        torch.testing.assert_close(here.value, there.value.cpu(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["gmp", "magnitude", "imp", "static", "set", "rigl", "snfs", "mest", "snip", "grasp", "synflow", "chase"]
)
def test_training_keeps_the_budget_and_learns(name: str) -> None:
    data = labels(planted(**SHAPE))
    here, there = both(name, data, Budget((16, 16), nonzeros=100))
    assert there.within_budget
    assert there.network.nonzeros == here.network.nonzeros
    x, y = np.asarray(data.x[:]), np.asarray(data.y[:])
    right = [float(((s.network.to(device="cpu")(x)[:, 0].numpy() > 0) == y).mean()) for s in (here, there)]
    assert right[1] > right[0] - 0.05
