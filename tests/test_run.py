"""The outer loop: limits, interruption, checkpoints, budget and refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparelu import store
from sparelu.data import Budget, Data, DataError
from sparelu.method import Refusal
from sparelu.outcome import Iterate, Status
from sparelu.run import Checkpoint, Limits, fit, generator
from tests.contract.checks import same_bits
from tests.contract.table import PROBLEMS
from tests.contract.test_checks_can_fail import Random, TooMany

DATA, BUDGET = PROBLEMS["planted"]()


def test_a_finished_fit_says_what_happened() -> None:
    solution = fit(Random(), DATA, BUDGET, seed=5)
    assert solution.status is Status.converged
    assert len(solution.history) == 4
    assert solution.seconds > 0
    assert solution.history[-1]["seconds"] <= solution.seconds
    assert (solution.method, solution.seed, solution.within_budget) == ("random-features", 5, True)
    assert {"torch", "numpy", "python", "sparelu"} <= set(solution.versions)
    assert not fit(TooMany(), DATA, Budget((4,), nonzeros=6)).within_budget


def test_limits_stop_a_fit() -> None:
    assert len(fit(Random(), DATA, BUDGET, limits=Limits(rounds=2)).history) == 2
    stopped = fit(Random(), DATA, BUDGET, limits=Limits(seconds=0.0))
    assert (stopped.status, len(stopped.history)) == (Status.max_steps, 1)


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_an_interrupted_fit_resumes_in_the_same_bits(tmp_path: Path, rounds: int) -> None:
    place = Checkpoint(tmp_path / "state", every=0.0)
    seen: list[Iterate] = []
    cut = fit(Random(), DATA, BUDGET, checkpoint=place, watch=seen.append, stop=lambda: len(seen) == rounds)
    assert cut.status is Status.interrupted
    whole = fit(Random(), DATA, BUDGET)
    rest = fit(Random(), DATA, BUDGET, checkpoint=place, resume=True)
    assert same_bits(rest.network, whole.network)
    assert [row["loss"] for row in rest.history] == [row["loss"] for row in whole.history]
    assert rest.seconds >= cut.seconds


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "state", every=0.0)
    fit(Random(), DATA, BUDGET, checkpoint=place)
    other = replace(DATA, x=np.asarray(DATA.x) + 1e-9)
    for data, budget, seed in ((DATA, BUDGET, 1), (DATA, Budget((4,), nonzeros=5), 0), (other, BUDGET, 0)):
        with pytest.raises(
            store.StoreError, match=r"belongs to a fit with (other data: .*the values|another method, budget or seed)"
        ):
            fit(Random(), data, budget, seed=seed, checkpoint=place, resume=True)


def test_divergence_is_a_status_not_a_network() -> None:
    class Exploding(Random):
        def iterate(self, data, weights):
            good = super().iterate(data, weights)
            return Iterate(good.progress, math.inf if len(weights) > 2 else good.loss, good.network, good.state)

    solution = fit(Exploding(), DATA, BUDGET)
    assert solution.status is Status.diverged
    assert solution.network.nonzeros == 0
    assert len(solution.history) == 2


def test_unusable_data_and_budgets_never_start() -> None:
    with pytest.raises(DataError, match="constant"):
        fit(Random(), Data(np.eye(4), np.ones(4)), BUDGET)
    with pytest.raises(Refusal, match="random-features cannot fit this: .*needs a budget"):
        fit(Random(), DATA, Budget((4,)))
    with pytest.raises(Refusal, match="does not fit"):
        fit(Random(), DATA, Budget((4,), nonzeros=1000))


def test_standardised_fits_take_raw_inputs() -> None:
    moved = Data(np.asarray(DATA.x) * 50 + 3000, np.asarray(DATA.y) * 7 - 90)
    plain = fit(Random(), moved, BUDGET, standardise=True)
    scaled, _ = moved.standardised()
    inner = fit(Random(), scaled, BUDGET)
    want = inner.network(scaled.x).numpy() * np.asarray(moved.y).std() + np.asarray(moved.y).mean()
    assert np.allclose(plain.network(moved.x).numpy(), want, atol=1e-8)


def test_random_streams_depend_on_their_names() -> None:
    draws = [generator(0, "a").random(), generator(0, "b").random(), generator(1, "a").random()]
    assert len(set(draws)) == 3
    assert generator(0, "a").random() == draws[0]
