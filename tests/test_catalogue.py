"""Names, and what ``auto`` means."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sparelu.catalogue import METHODS, choose, compressor, fitter
from sparelu.data import Budget, Data
from sparelu.method import SettingError


def test_every_method_is_found_by_its_name_and_folder() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.__module__.split(".")[1] == method.question


def test_no_extra_is_needed_to_find_the_methods() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    needed = {_import_name(one) for one in project["dependencies"]}
    extras = {_import_name(one) for group in project["optional-dependencies"].values() for one in group} - needed
    assert {"lightning", "transformers", "numba", "onnx", "pandas"} <= extras
    program = (
        f"import json, sys\nsys.modules.update(dict.fromkeys({sorted(extras)}))\n"
        "from sparelu.catalogue import METHODS\nprint(json.dumps(list(METHODS)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == list(METHODS)


def _import_name(requirement: str) -> str:
    name = re.match(r"[\w-]+", requirement)
    assert name is not None
    return name[0].replace("-", "_")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [("gpm", fitter, "no fitter 'gpm'; did you mean 'gmp'"), ("gmp", compressor, "no compressor 'gmp'; known: merge")],
)
def test_unknown_names_are_named(name: str, make, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make(name)


def test_auto_says_what_and_why() -> None:
    rng = np.random.default_rng(0)
    line = Data(rng.standard_normal((30, 1)), rng.standard_normal(30))
    table = Data(rng.standard_normal((30, 4)), rng.standard_normal(30))
    labels = Data(rng.standard_normal((30, 1)), np.arange(30) % 2, "classification")
    chosen = [choose(data, Budget((5,), nonzeros=5)) for data in (line, table, labels)]
    assert [name for name, _ in chosen] == ["piecewise", "gmp", "gmp"]
    assert all(len(why) > 20 for _, why in chosen)
