"""Packages of somebody else add methods: one is installed into a fresh folder and fits, broken ones are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLUGIN = ROOT / "examples" / "adding" / "package"

COMMANDS = """
import json
from typer.testing import CliRunner
from sparelu.cli.__main__ import app

fit = ("fit", "curve:shape=sine", "--method", "random-hinges", "--nonzeros", "6")
for words in (("methods", "--json"), (*fit, "--tries", "5", "--out", "run", "--json"), (*fit, "--tires", "5")):
    done = CliRunner().invoke(app, words)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""
BROKEN = {
    "absent": ("import nothing_of_this_name", "nothing_of_this_name"),
    "number": ("Mine = 3", "is no Fitter, Compressor or Certifier"),
    "abstract": ("from sparelu.method import Fitter as Mine", "abstract"),
    "half": ("raise SystemError('half installed')", "half installed"),
    "taken": ("from sparelu.train.fit.magnitude import OneShotPruning as Mine", "there is a method of the name"),
}


def python(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python where ``site`` is one of the folders of packages, with byte code of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_an_installed_package_adds_a_method(tmp_path: Path) -> None:
    """Pip installs it without a network; then it is listed, fits, and has its flags checked like any other."""
    pytest.importorskip("hatchling")
    offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    site = tmp_path / "site"
    installed = python(site, tmp_path, "-m", "pip", "install", *offline, "--target", str(site), str(PLUGIN))
    assert installed.returncode == 0, installed.stderr
    done = python(site, tmp_path, "-c", COMMANDS)
    assert done.returncode == 0, done.stderr
    listed, fitted, wrong = map(json.loads, done.stdout.splitlines())
    added = next(m for m in json.loads(listed[1]) if m["name"] == "random-hinges")
    assert "Rahimi" in added["paper"]
    assert fitted[0] == 0, fitted[2]
    assert 0 < json.loads(fitted[1])["rows"][0]["nonzeros"] <= 6
    assert wrong[0] == 2
    assert "did you mean 'tries'" in wrong[2]


def test_broken_packages_are_named_and_the_rest_works(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name, (code, _) in BROKEN.items():
        facts = site / f"broken_{name}-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: broken-{name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[sparelu.methods]\n{name} = broken_{name}:Mine\n")
        (site / f"broken_{name}.py").write_text(code + "\n")
    done = python(site, tmp_path, "-m", "sparelu", "methods")
    assert done.returncode == 0, done.stderr
    assert "gmp" in done.stdout
    assert "Traceback" not in done.stderr
    for name, (_, reason) in BROKEN.items():
        said = next(line for line in done.stderr.splitlines() if f"warning: the plugin {name!r} adds no method" in line)
        assert f"(broken-{name}: " in said
        assert reason in said
