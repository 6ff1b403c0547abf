"""Grid files: products, references, and what is wrong with a bad one."""

from pathlib import Path

import pytest

from sparelu.experiments.sweeps.grid import GridError, read_grid, trials_of


def test_lists_are_multiplied_and_fields_repeated() -> None:
    trials = trials_of(
        {
            "trials": [
                {
                    "data": "planted",
                    "method": ["aiht", "gmp"],
                    "hidden": [5, 20],
                    "nonzeros": [5, 20],
                    "seed": [0, 1],
                    "parameters": {"hidden": "@hidden", "nonzeros": "@nonzeros", "rows": 100},
                    "settings": {"gmp": {"epochs": [1, 2]}},
                }
            ]
        }
    )
    assert len(trials) == 2 * 2 * 2 + 2 * (2 * 2 * 2)
    assert {t.method for t in trials} == {"aiht", "gmp"}
    assert all(t.parameters["nonzeros"] == t.nonzeros for t in trials)
    assert all((t.parameters["hidden"],) == t.hidden for t in trials)
    assert {t.settings.get("epochs") for t in trials if t.method == "gmp"} == {1, 2}
    assert all(not t.settings for t in trials if t.method == "aiht")


def test_repeated_trials_count_once() -> None:
    block = {"data": "digits", "nonzeros": [10, 10, 20]}
    assert len(trials_of({"trials": [block, block]})) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "the grid is empty"),
        ({"trials": []}, "the grid is empty"),
        ({"trials": [{"data": "digits", "nonzeros": []}]}, "nonzeros is an empty list"),
        ({"trials": [{"nonzeros": 5}]}, "names no `data`"),
        ({"trials": [{"data": "digits", "nonzero": 5}]}, "no field 'nonzero'; did you mean 'nonzeros'"),
        ({"trial": []}, "no key 'trial'; did you mean 'trials'"),
        ({"format": 7, "trials": []}, "newer sparelu .*format 7"),
        ({"trials": [{"data": "digits", "nonzeros": 5, "density": 0.1}]}, "nonzeros and density"),
        ({"trials": [{"data": "digits", "parameters": {"rows": "@row"}}]}, "refers to a field"),
    ],
)
def test_bad_grids_are_named(content: dict, words: str) -> None:
    with pytest.raises(GridError, match=words):
        trials_of(content)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="no such file"):
        read_grid(tmp_path / "grid.toml")
    (tmp_path / "grid.toml").write_text("format = [")
    with pytest.raises(GridError, match="grid.toml: not TOML"):
        read_grid(tmp_path / "grid.toml")
