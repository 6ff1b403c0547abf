"""Gradual, one-shot and iterative pruning: what each promises beyond the laws of every Fitter."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from sparelu.catalogue import fitter
from sparelu.data import Budget, Data
from sparelu.datasets.images import digits
from sparelu.experiments.evaluate import evaluate
from sparelu.outcome import Iterate, Status
from sparelu.run import Limits, fit, generator
from sparelu.train.fit.init import uniform_weights
from sparelu.train.fit.masked_mlp import MLP


def small(rows: int = 200, inputs: int = 6) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inputs))
    return Data(x, np.abs(x[:, 0]) - np.maximum(x[:, 1] + 0.5, 0))


def count_gradients(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rows: list[int] = []
    whole = MLP.backward

    def counted(net: MLP, x: torch.Tensor, y: torch.Tensor, loss) -> float:
        rows.append(len(x))
        return whole(net, x, y, loss)

    monkeypatch.setattr(MLP, "backward", counted)
    return rows


@pytest.mark.parametrize("name", ["gmp", "magnitude", "imp"])
def test_the_budget_is_used_up(name: str) -> None:
    """Not one weight fewer than allowed: none is wasted on a unit that leads nowhere."""
    split = digits().split(0.2, 0)
    solution = fit(fitter(name, least=1500), split.train, Budget((30,), nonzeros=150))
    assert solution.network.nonzeros == 150
    assert solution.network.compact().nonzeros == 150


def test_gradual_pruning_beats_one_shot_on_digits() -> None:
    split = digits().split(0.25, 0)
    budget, accuracy = Budget((30,), nonzeros=60), {}
    for name in ("gmp", "magnitude"):
        solution = fit(fitter(name, least=1500), split.train, budget)
        accuracy[name] = evaluate(solution.network, split.test).accuracy
    assert accuracy["gmp"] > 0.8
    assert accuracy["gmp"] > accuracy["magnitude"]


@pytest.mark.parametrize("name", ["gmp", "magnitude", "imp"])
def test_deep_networks_are_fitted(name: str) -> None:
    data = small(400)
    solution = fit(fitter(name, least=2000), data, Budget((8, 6), nonzeros=40))
    assert solution.network.hidden == (8, 6)
    assert solution.network.nonzeros <= 40
    assert evaluate(solution.network, data).r2 > 0.8


@pytest.mark.parametrize(("name", "early", "reached"), [("gmp", 30, 0.7), ("magnitude", 60, 0.5)])
def test_the_number_of_weights_falls_to_the_budget_and_stays(name: str, early: int, reached: float) -> None:
    """Of 60 weights gradual pruning has 12 + 48 (5/6)^5 = 31 left at a sixth of the way, one shot all at first."""
    history = fit(fitter(name, least=1000), small(), Budget((10,), nonzeros=12)).history
    left = [row["nonzeros"] for row in history]
    assert all(a >= b for a, b in pairwise(left))
    assert all(n == 12 for n, row in zip(left, history, strict=True) if row["progress"] >= reached)
    assert all(n >= early for n, row in zip(left, history, strict=True) if row["progress"] < reached / 6)
    assert {"gmp": left[15] < 60, "magnitude": left[48] == 60}[name]


def test_gradual_pruning_follows_its_schedule() -> None:
    """Zhu and Gupta's equation 1 with power 3, worked out by hand at a quarter and a half of the way."""
    method = fitter("gmp", power=3, until=0.8)
    assert [method.living(p, 1000, 200) for p in (0.0, 0.2, 0.4, 0.8, 1.0)] == [1000, 538, 300, 200, 200]
    assert method.penalty(0.5, 50) == pytest.approx(method.l1 / 50)
    assert method.penalty(0.8, 50) == 0


@pytest.mark.parametrize("name", ["gmp", "magnitude", "imp"])
def test_a_fit_that_is_stopped_early_keeps_the_budget(name: str) -> None:
    solution = fit(fitter(name, least=1000), small(), Budget((10,), nonzeros=12), limits=Limits(rounds=2))
    assert 0 < solution.network.nonzeros <= 12
    assert solution.within_budget


def test_targets_of_any_scale_are_fitted_alike() -> None:
    data = small()
    far = Data(data.x, 1e6 * np.asarray(data.y) - 3e7)
    near, moved = (fit(fitter("gmp", least=1000), d, Budget((10,), nonzeros=12)) for d in (data, far))
    x, _ = data.tensors()
    torch.testing.assert_close(moved.network(x), 1e6 * near.network(x) - 3e7, rtol=1e-6, atol=1.0)


def test_constant_inputs_are_not_read_and_change_nothing() -> None:
    data = small()
    more = Data(np.insert(np.asarray(data.x), 2, 3.0, axis=1), data.y)
    plain, wide = (fit(fitter("gmp", least=500), d, Budget((10,), nonzeros=12)) for d in (data, more))
    assert not bool((wide.network.layers[0].indices == 2).any())
    torch.testing.assert_close(wide.network(more.x), plain.network(data.x))


def test_mapped_data_are_fitted(tmp_path) -> None:
    data = small(400)
    np.save(tmp_path / "x.npy", data.x)
    mapped = Data(np.load(tmp_path / "x.npy", mmap_mode="r"), data.y)
    solution = fit(fitter("gmp", least=1500), mapped, Budget((10,), nonzeros=12))
    assert evaluate(solution.network, data).r2 > 0.9


@pytest.mark.parametrize("name", ["gmp", "magnitude", "imp"])
def test_a_step_that_is_too_large_is_reported(name: str) -> None:
    data = Data(small().x, small().y)
    assert fit(fitter(name, rate=1e200, least=50), data, Budget((10,), nonzeros=12)).status is Status.diverged


def test_wide_layers_cost_what_the_budget_can_use() -> None:
    solution = fit(fitter("gmp", least=200), small(), Budget((10**6,), nonzeros=12))
    assert solution.network.hidden == (10**6,)
    assert solution.peak_memory < 50e6


def test_too_small_a_budget_for_a_path_is_refused() -> None:
    data = small()
    assert fitter("gmp").refuses(data, Budget((4,), nonzeros=1)) is None
    assert "path" in str(fitter("gmp").refuses(data, Budget((4, 4), nonzeros=2)))
    two = Data(data.x, np.stack([data.y, data.y], axis=1))
    assert "path" in str(fitter("imp").refuses(two, Budget((4,), nonzeros=1)))


def test_fair_iterative_pruning_has_the_gradients_of_gradual_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, spent = count_gradients(monkeypatch), {}
    for name in ("gmp", "imp"):
        rows.clear()
        fit(fitter(name, least=2000, batch=40), small(), Budget((10,), nonzeros=12))
        spent[name] = sum(rows)
    assert 0.97 * spent["gmp"] <= spent["imp"] <= spent["gmp"]


def test_published_iterative_pruning_trains_every_round_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    # 60 hidden and 10 output weights are counted; a tenth of the rest goes, rounded down, the last cut is to 18.
    rows, data = count_gradients(monkeypatch), small()
    method = fitter("imp", gradients="published", epochs=3, batch=50)
    history = fit(method, data, Budget((10,), nonzeros=18)).history
    assert [row["nonzeros"] for row in history] == [63, 57, 52, 47, 43, 39, 36, 33, 30, 27, 25, 23, 21, 19, 18]
    assert rows == [50] * (15 * 3 * 4)


def iterates(data: Data, budget: Budget, **settings: float | str) -> Iterator[Iterate]:
    return fitter("imp", **settings).steps(data, budget, generator(0, "here"))


def test_published_weights_rewind_to_where_they_started() -> None:
    """With a step of nearly nothing, each cut leaves the largest starting weights: the rest is as drawn."""
    data, budget = small(), Budget((10,), nonzeros=18)
    *_, last = iterates(data, budget, gradients="published", epochs=1, rate=1e-300)
    drawn = uniform_weights((6, 10, 1), generator(0, "here"))[:70]
    largest = np.sort(np.abs(drawn))[-18:]
    state = last.state()["net"]
    kept = state["value"][:70][state["alive"]].numpy()
    np.testing.assert_array_equal(np.sort(np.abs(kept)), largest)


def test_short_fair_fits_have_trainings_of_600_minibatches() -> None:
    """3000 minibatches: five trainings, with cuts from 60 weights to 12 by the same factor, 5^(1/4)."""
    method = fitter("imp", epochs=1, least=3000, batch=50)
    history = fit(method, small(), Budget((10,), nonzeros=12)).history
    assert [row["nonzeros"] for row in history] == [40, 27, 18, 12, 12]


def test_fair_iterative_pruning_trains_the_survivors_at_last() -> None:
    """The last two iterates have the same weights alive, and only the last is trained on them from the start."""
    data, budget = small(), Budget((10,), nonzeros=12)
    *_, before, after = (iterate.network() for iterate in iterates(data, budget, least=2000))
    assert before.nonzeros == after.nonzeros == 12
    assert evaluate(after, data).mse < evaluate(before, data).mse
