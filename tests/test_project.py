"""The project as a whole: threads of the tests, pinned versions, what is installed, what the forge runs."""

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import threadpoolctl
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.durations import function_of, long_tests

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_tests_run_on_one_thread_whatever_the_environment_says() -> None:
    pools = threadpoolctl.threadpool_info()
    assert torch.get_num_threads() == 1
    assert pools
    assert {pool["num_threads"] for pool in pools} == {1}


def _pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_locked_install_has_what_is_pinned_with_a_hash() -> None:
    lines = (ROOT / "locked.txt").read_text().splitlines()
    found = [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines if line[0] != "#"]
    assert None not in found
    locked = {canonicalize_name(line[1]): line[2] for line in found if line}
    assert locked == {name: version for name, version in _pins().items() if name != "torch"}


def _wanted(requirements: list[str], extras: tuple[str, ...] = ("",)) -> dict[str, Requirement]:
    parsed = map(Requirement, requirements)
    good = [r for r in parsed if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return {canonicalize_name(r.name): r for r in good}


def _needed() -> dict[str, str | None]:
    """What the project needs, dependencies of dependencies included, and which version is installed."""
    roots = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    found: dict[str, str | None] = {}
    queue = list(_wanted(roots).items())
    while queue:
        name, requirement = queue.pop()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = None
            continue
        found[name] = distribution.version
        queue += _wanted(distribution.requires or [], ("", *requirement.extras)).items()
    return found


def test_every_dependency_and_those_of_dependencies_are_pinned() -> None:
    needed = _needed()
    assert len(needed) > 100
    assert set(needed) <= set(_pins())


def test_the_installed_versions_are_the_pinned_ones() -> None:
    """A local build label such as ``+cpu`` is of the same version."""
    pins = _pins()
    installed = {name: version.partition("+")[0] for name, version in _needed().items() if version}
    assert installed == {name: pins[name] for name in installed}


def test_nothing_of_a_gpu_is_pinned() -> None:
    assert not [name for name in _pins() if re.search("nvidia|cuda|triton", name)]
    assert _pins()["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("item", "function"), [("a.py::test_x[1-b[c]]", "a.py::test_x"), ("a.py::test_x", "a.py::test_x")]
)
def test_parameters_do_not_belong_to_the_name_of_a_test(item: str, function: str) -> None:
    assert function_of(item) == function


def test_measured_durations_are_of_files_that_exist() -> None:
    long = long_tests()
    assert long
    assert min(long.values()) >= 1
    assert sum((ROOT / name.partition("::")[0]).exists() for name in long) > 0.8 * len(long)


def test_the_version_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert (
        f"## [{PROJECT['version']}]" in (changes := (ROOT / "CHANGELOG.md").read_text()) or "## [Unreleased]" in changes
    )


def test_the_forge_runs_the_targets_that_the_continuous_integration_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [
        step["run"].split()[1:] for step in workflow["jobs"]["check"]["steps"] if step.get("run", "").startswith("make")
    ]
    check = re.search(r"^check: (.*)$", makefile, re.MULTILINE)
    assert check
    assert [target for step in steps for target in step] == check.group(1).split()
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make check")


def test_hooks_before_a_commit_call_what_is_here() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    assert {hook["id"] for hook in hooks} >= {"lint", "format", "types"}
    for hook in hooks:
        program, *arguments = hook["entry"].split()
        assert program == "make" or program.startswith(".venv/bin/")
        assert all(f"\n{a}: " in makefile for a in arguments if program == "make")
        assert all((ROOT / a).exists() for a in arguments if a.startswith("tests/"))


USERS_PROGRAM = """
import numpy as np
import sparelu
from sparelu.train import RigL

data = sparelu.Data(np.zeros((4, 1)), np.zeros(4))
solution = sparelu.fit(sparelu.fitter("univariate"), data, sparelu.Budget((4,)))
reveal_type(solution)
reveal_type(solution.network.nonzeros)
reveal_type(RigL)
sparelu.Budget(hidden="four")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a wheel of the project into a fresh environment that sees the other packages; return its Python."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env")
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(wheel, check=True, capture_output=True)
    site = next((folder / "env").glob("lib/python*/site-packages"))
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(site)
    (site / "others.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return folder / "env/bin/python"


def test_a_users_program_is_type_checked_against_the_installed_package(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(USERS_PROGRAM)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n")
    check = [sys.executable, "-m", "mypy", "--python-executable", installed, "--config-file", "mypy.ini", program.name]
    said = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert 'Revealed type is "sparelu.outcome.Solution"' in said
    assert 'Revealed type is "int"' in said
    assert "RigL" in said
    assert 'Argument "hidden" to "Budget" has incompatible type "str"' in said
    assert "Found 1 error in 1 file" in said


def test_the_installed_package_has_its_types_and_licence(installed: Path) -> None:
    site = next(installed.parents[1].glob("lib/python*/site-packages"))
    assert (site / "sparelu" / "py.typed").exists()
    assert (site / "sparelu" / "__init__.pyi").exists()
    assert list(site.glob("sparelu-*.dist-info/licenses/LICENSE"))
