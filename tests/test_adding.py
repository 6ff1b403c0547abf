"""A method, a certifier, a data set or a section of the report costs one file: those of ``examples/adding`` are added.

Each is copied to the place that its first line names, in a copy of the package; nothing else is touched.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparelu import store

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples" / "adding").glob("*.py"))
PAGE = ROOT / "docs" / "add_a_method.md"


def place(example: Path) -> str:
    """Return the file that an example becomes, as its first line says."""
    found = re.search(r"``(sparelu/[\w/]+\.py)``", example.read_text().splitlines()[0])
    assert found is not None, f"{example.name} does not say where it belongs"
    return found.group(1)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package and the five new files in it."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "sparelu", folder / "sparelu", ignore=shutil.ignore_patterns("__pycache__"))
    for example in EXAMPLES:
        assert not (folder / place(example)).exists()
        shutil.copy(example, folder / place(example))
    return folder


def python(clone: Path, code: str) -> str:
    """Run code in a fresh process that imports the package from ``clone``; what it printed."""
    lines = f"import sys\nsys.path[:0] = [{str(clone)!r}, {str(ROOT)!r}]\n{code}"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False, cwd=clone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


COMMANDS = """
import json
from typer.testing import CliRunner
from sparelu.cli.__main__ import app

def run(*words):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output)
    return done.stdout

fit = ("fit", "friedman:rows=300", "--hidden", "8", "--json")
print(json.dumps({
    "methods": json.loads(run("methods", "--json")),
    "datasets": json.loads(run("datasets", "--json")),
    "one": json.loads(run(*fit, "--nonzeros", "8", "--method", "random-hinges", "--tries", "9", "--out", "one")),
    "two": json.loads(run(*fit, "--nonzeros", "20", "--method", "set-signed", "--least", "200", "--out", "two")),
    "claims": json.loads(run("certify", "one", "--method", "lipschitz", "--json")),
}))
"""


def test_five_files_are_all_that_it_takes(clone: Path) -> None:
    """The command line lists them, fits with them, and shows what they add."""
    said = json.loads(python(clone, COMMANDS))
    assert {"random-hinges", "set-signed", "lipschitz"} <= {m["name"] for m in said["methods"]}
    assert "noise=1.0" in next(d for d in said["datasets"] if d["name"] == "friedman")["parameters"]
    for name, least in (("one", 0.2), ("two", 0.2)):
        row = said[name]["rows"][0]
        assert 0 < row["nonzeros"] <= (8 if name == "one" else 20)
        assert row["score"] > least
        page = (clone / name / "report.html").read_text()
        assert "The largest weights of the first layer" in page
        assert page.index('id="layers"') < page.index('id="largest-weights"') < page.index('id="certificates"')

    claim = next(c for c in said["claims"]["claims"] if "times as far" in c["claim"])
    network = store.load(clone / "one" / "model.safetensors").network
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 2, (400, 10))
    step = rng.standard_normal((400, 10)) * 10.0 ** rng.uniform(-6, 1, (400, 1))
    moved = np.abs(network(x + step).numpy() - network(x).numpy())[:, 0] / np.linalg.norm(step, axis=1)
    assert 0 < moved.max() <= claim["value"]


CONTRACT = """
from sparelu.catalogue import fitter
from tests.contract.checks import CHECKS
from tests.contract.table import PROBLEMS

for name, problem, settings in (
    ("random-hinges", "planted", {}), ("random-hinges", "one input", {}),
    ("set-signed", "two classes", {"least": 60, "rate": 0.03, "every": 15}),
):
    for check in CHECKS:
        check(fitter(name, **settings), *PROBLEMS[problem]())
        print(name, problem, check.__name__)
assert "regression" in fitter("random-hinges").refuses(*PROBLEMS["classes"]())
"""


def test_the_new_fitters_keep_every_law(clone: Path) -> None:
    kept = python(clone, CONTRACT).splitlines()
    assert len(kept) == 18
    assert "random-hinges planted resumes" in kept


def test_the_page_shows_the_files_that_are_tested() -> None:
    """Every example is on the page as it is, with the place where it belongs."""
    page = PAGE.read_text()
    shown = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        assert example.read_text() in shown, f"{PAGE.name} does not show {example.name} as it is"
        assert f"`{place(example)}`" in page
    package = (ROOT / "examples" / "adding" / "package" / "pyproject.toml").read_text()
    assert package in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
