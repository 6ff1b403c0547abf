"""A line through the residual sees what is missing or wrong; kinks are found where they are."""

import numpy as np
import pytest

from sparelu.oracle import Oracle
from sparelu.recover.queries.hinges import KnownHinges
from sparelu.recover.queries.kinks import KinkSearch, TooManyKinks
from sparelu.recover.queries.line import FAR_OUT, Line, Residual
from sparelu.recover.queries.one_layer import OneLayer
from sparelu.recover.queries.questions import Questions
from tests.recover.queries.planted import planted


def _search(**kind) -> OneLayer:
    truth = planted(20, 8, seed=3, **kind)
    search = OneLayer(Questions(truth.oracle()), 8, 1e-8, np.random.default_rng(0))
    for _ in search.rounds():
        pass
    return search


def _kinks(search: OneLayer, known: KnownHinges) -> int:
    residual = Residual(search.ask, search.noise, known)
    return len(residual.kinks(Line.drawn(20, np.random.default_rng(9)), 8, np.random.default_rng(1))[0])


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_missing_or_wrong_neuron_bends_the_residual(outputs: int) -> None:
    search = _search(outputs=outputs)
    known = search.known
    assert _kinks(search, known) == 0
    assert _kinks(search, known.take(np.arange(8) != 3)) == 1
    off = known.take(np.arange(8))
    off.normal[2, 5] += 1e-6
    assert _kinks(search, off) >= 1


@pytest.mark.parametrize("seed", range(20))
def test_all_kinks_of_a_curve_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(FAR_OUT * np.tan(rng.uniform(-1.5, 1.5, 30)))
    at[10:13] = at[10] + np.array([0.0, 1e-3, 2.5e-3])  # three that are close, with turns of both signs
    turn = rng.standard_normal(30)
    values = lambda t: (np.maximum(t[:, None] - at, 0) @ turn)[:, None]  # noqa: E731
    noise = lambda t: 1e-14 * (1 + np.abs(t))[:, None]  # noqa: E731
    found = KinkSearch(values, noise, FAR_OUT, 30, np.random.default_rng(1)).run()
    order = np.argsort(at)
    assert len(found) == 30
    assert np.allclose(found.place, at[order], rtol=1e-8, atol=1e-8)
    assert np.allclose(found.turn[:, 0], turn[order], rtol=1e-6)


def test_a_curve_with_more_kinks_than_allowed_is_refused() -> None:
    values = lambda t: np.abs(np.mod(t, 0.01) - 0.005)[:, None]  # noqa: E731
    with pytest.raises(TooManyKinks, match="at most 5 times"):
        KinkSearch(values, lambda t: 1e-15 + 0 * t[:, None], FAR_OUT, 5, np.random.default_rng(0)).run()


def test_noise_is_measured_as_it_is() -> None:
    truth = planted(20, 8)
    search = OneLayer(Questions(truth.oracle(lambda y: np.round(y, 6))), 8, 1e-8, np.random.default_rng(0))
    next(iter(search.rounds()))
    level = search.noise.level * search.ask.scale
    assert 1e-6 / np.sqrt(12) / 3 < level[0] < 1e-6
    assert Oracle(truth, 20).asked == 0
