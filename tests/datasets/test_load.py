"""The one door: names, parameters, files, and what it says when they are wrong."""

from pathlib import Path

import numpy as np
import pytest

from sparelu.data import Data, DataError
from sparelu.datasets import DATASETS, load
from sparelu.datasets.dataset import Dataset
from sparelu.method import SettingError


def test_names_are_the_keys_and_every_set_says_what_it_is() -> None:
    assert set(DATASETS) == {"digits", "mnist", "cifar10", "planted", "curve", "uniform", "picture"}
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.summary
        assert bool(dataset.downloads) == (dataset.size > 0)
    assert [p.name for p in DATASETS["planted"].parameters][:4] == ["inputs", "rows", "test_rows", "hidden"]
    assert all(p.rule.help for dataset in DATASETS.values() for p in dataset.parameters)


def test_texts_of_a_command_line_are_read_by_the_declaration() -> None:
    from_text = load("planted", inputs="6", rows="30", test_rows="0", hidden="4,3", nonzeros="20", noise="0.1", seed=5)
    given = {"inputs": 6, "rows": 30, "test_rows": 0, "hidden": (4, 3), "nonzeros": 20, "noise": 0.1}
    direct = load("planted", seed=5, **given)
    np.testing.assert_array_equal(from_text.y[:], direct.y[:])
    assert not np.array_equal(direct.y[:], load("planted", seed=6, **given).y[:])


def test_seed_is_given_only_to_sets_that_draw() -> None:
    assert load("digits", seed=3).n == 1797
    assert not np.array_equal(load("uniform", seed=1).x[:], load("uniform").x[:])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"name_or_path": "digit"}, DataError, "no file 'digit' exists, .* did you mean 'digits'"),
        ({"name_or_path": "missing.csv"}, DataError, "no file 'missing.csv' exists"),
        ({"name_or_path": "planted", "nonzero": 3}, SettingError, "no parameter 'nonzero'; did you mean 'nonzeros'"),
        ({"name_or_path": "digits", "rows": 3}, SettingError, "no parameter 'rows'; it takes none"),
        (
            {"name_or_path": "planted", "rows": "many"},
            SettingError,
            "rows must be a whole number at least 1, got 'many'",
        ),
        ({"name_or_path": "digits", "target": "y"}, DataError, "'digits' has its own target, task and inputs"),
        ({"name_or_path": "digits", "task": "regression"}, DataError, "'digits' has its own target, task and inputs"),
    ],
)
def test_wrong_names_and_parameters(call: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(**call)


def test_files_take_no_parameters_and_go_through_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,0.5\n2,0.7\n")
    assert load(path, "b").names == ("a",)
    with pytest.raises(SettingError, match="files take no parameter 'rows'"):
        load(path, "b", rows=3)


def test_a_function_without_declared_parameters_makes_a_data_set() -> None:
    made = Dataset("one", "two rows", lambda: Data(np.eye(2), np.arange(2.0)))
    assert made.parameters == ()
    assert made.load(0, {}).n == 2
