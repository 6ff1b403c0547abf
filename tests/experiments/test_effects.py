"""What a column does, on networks of which that is known."""

import numpy as np
import pytest

from sparelu.columns import Category, Columns, Number
from sparelu.data import Budget, Data
from sparelu.experiments.effects import effects_of
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status


def test_the_parts_of_a_sum_are_found() -> None:
    """y = 3 max(0, b) - max(0, 1 - d): shuffled, a column of independent values costs twice its share of variance."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, 4))
    parts = 3 * np.maximum(x[:, 1], 0), -np.maximum(1 - x[:, 3], 0)
    network = Network.two_layer([[0.0, 1, 0, 0], [0, 0, 0, -1]], [3.0, -1.0], [0.0, 1.0])
    solution = Solution(network, Status.converged, "none", {}, Budget((2,)), 0, True, names=("a", "b", "c", "d"))
    found = effects_of(solution, Data(x, sum(parts), names=("a", "b", "c", "d")).split(0.5, 0))
    assert [one["name"] for one in found] == ["b", "d"], "no other column is read"
    for one, part in zip(found, parts, strict=True):
        assert one["lost"] == pytest.approx(2 * part.var() / sum(parts).var(), rel=0.1)
    for one, function in zip(found, (lambda v: 3 * max(0, v), lambda v: -max(0, 1 - v)), strict=True):
        values, level = np.array(one["effect"]).T
        wanted = np.array([function(v) for v in values])
        assert np.ptp(level - wanted) == pytest.approx(0, abs=1e-9), "the effect is the part but for a constant"


def test_inputs_of_one_column_are_shuffled_together_and_classes_cost_log_loss() -> None:
    rng = np.random.default_rng(0)
    town, size = rng.integers(0, 3, 2000), rng.standard_normal(2000)
    x = np.column_stack([town == 1, town == 2, size]).astype(float)
    y = (np.column_stack([town == 1, town == 2]).any(axis=1)).astype(int)
    columns = Columns((Category("town", levels=("b", "c"), base="a"), Number("size")))
    network = Network.two_layer([[1.0, 1, 0], [0, 0, 1]], [8.0, 0.01], [0.0, 0.0], [-4.0])
    solution = Solution(
        network, Status.converged, "none", {}, Budget((2,)), 0, True, task="classification", classes=("no", "yes"),
        names=columns.inputs, about={"columns": columns.plain()},
    )  # fmt: skip
    data = Data(x, y, "classification", columns.inputs, ("no", "yes"))
    first, second = effects_of(solution, data.split(0.5, 0))
    assert (first["name"], first["effect"], second["name"]) == ("town", [], "size")
    share = y.mean()
    assert first["lost"] == pytest.approx(2 * share * (1 - share) * 4, rel=0.1), "wrong rows cost 4 nats more"
    assert abs(second["lost"]) < 1e-3
    assert all(0 <= level <= 1 for _, level in second["effect"])
