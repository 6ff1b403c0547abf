"""The chart of a function of one input."""

from pathlib import Path

import numpy as np
import pytest

from sparelu.data import Data, DataError
from sparelu.experiments.report.function_chart import drawn_rows, function_chart
from sparelu.experiments.trials.run_folder import RunFolder
from sparelu.experiments.trials.trial import Trial
from sparelu.experiments.write_run import rewrite_report, write_run
from sparelu.networks.network import Network

PEAK = [[-2.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]]


def peak() -> Network:
    """The sparsest interpolant of the six points: knots -1, 1/2 and 2."""
    return Network.two_layer(np.ones((3, 1)), np.array([1.0, -2.0, 1.0]), np.array([1.0, -0.5, -2.0]))


def test_the_function_is_drawn_through_its_knots_and_beside_the_joined_dots() -> None:
    plot = function_chart(peak(), PEAK, ("x", "y"))
    labels = [item.label.value for item in plot.legend[0].items]
    assert labels == ["dots joined, 4 knots (least l¹ path norm)", "this network", "3 knots", "training rows"]
    drawn = plot.renderers[1].data_source.data
    assert list(drawn["x"])[1:-1] == [-1.0, 0.5, 2.0]
    assert list(drawn["y"])[1:-1] == [0.0, 1.5, 0.0]


def test_other_networks_are_drawn_beside_it() -> None:
    line = Network.two_layer(np.ones((1, 1)), np.array([1.0]), np.array([9.0]))
    plot = function_chart(peak(), PEAK, ("x", "y"), {"line": line})
    assert "line, 0 knots" in [item.label.value for item in plot.legend[0].items]


def test_runs_of_several_inputs_are_not_drawn_beside_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trial = Trial("digits", method="magnitude", settings={"epochs": 1, "least": 1}, hidden=(5,), nonzeros=20)
        split, folder = trial.split(), RunFolder(tmp_path / name)
        with folder.opened(trial.request(), False):
            write_run(folder, found := trial.run(split), [{**found.row(), "chosen": True}], split, trial.request())
    with pytest.raises(ValueError, match="each run needs one input"):
        rewrite_report(RunFolder(tmp_path / "a"), [RunFolder(tmp_path / "b")])


def test_dots_are_joined_only_where_they_are_met() -> None:
    off = [[x, y + (x == 0.0)] for x, y in PEAK]
    labels = [item.label.value for item in function_chart(peak(), off, ("x", "y")).legend[0].items]
    assert labels == ["this network", "3 knots", "training rows"]


def test_rows_are_drawn_for_one_number_against_another_only() -> None:
    x, y = np.arange(5000.0)[:, None], np.arange(5000.0)
    rows = drawn_rows(Data(x, y))
    assert rows is not None
    assert (len(rows), rows[0], rows[-1]) == (1000, [0.0, 0.0], [4999.0, 4999.0])
    assert drawn_rows(Data(np.hstack([x, x]), y)) is None
    assert drawn_rows(Data(x, (y > 9).astype(int), task="classification")) is None


def test_a_fraction_of_zero_scores_on_the_training_rows() -> None:
    data = Data(np.arange(6.0)[:, None], np.arange(6.0) ** 2)
    split = data.split(0, seed=0)
    assert (split.scored, split.train.n, split.test.n) == ("training", 6, 6)
    assert data.split(0.5, seed=0).scored == "test"
    with pytest.raises(DataError, match="or 0 to test on the training rows"):
        data.split(0.01, seed=0)
