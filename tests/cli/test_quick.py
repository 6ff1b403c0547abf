"""What needs no method to run answers without torch: lists, help, the version, and every error of usage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sparelu
from sparelu import catalogue, datasets
from sparelu.cli import declarations
from sparelu.cli.session import OK, USAGE
from sparelu.method import Certifier, Compressor, Fitter, settings_of

HEAVY = ("torch", "scipy", "sklearn", "pyarrow", "matplotlib", "bokeh")
PROBE = f"""
import atexit, sys
atexit.register(lambda: print("loaded", [name for name in {HEAVY} if name in sys.modules], file=sys.stderr))
from sparelu.cli.__main__ import main
main()
"""

LISTS = (["--version"], ["--help"], ["fit", "--help"], ["methods"], ["methods", "rigl"], ["datasets"], [])
ERRORS = {
    "no data": (["fit"], "Missing argument"),
    "unknown command": (["fitt"], "No such command"),
    "nothing after a flag": (["fit", "digits", "--hidden"], "requires an argument"),
    "an argument more": (["show", "a", "b"], "unexpected extra argument"),
    "no number": (["fit", "digits", "--nonzeros", "x"], "valid integer"),
    "unknown method": (["methods", "gpm"], "did you mean 'gmp'"),
    "method of a fit": (["fit", "digits", "--nonzeros", "9", "--method", "gpm"], "did you mean 'gmp'"),
    "no such data": (["fit", "digit", "--nonzeros", "9"], "did you mean 'digits'"),
    "parameter": (["fit", "curve:shap=sine", "--nonzeros", "9"], "did you mean 'shape'"),
    "value of a parameter": (["fit", "curve:rows=1", "--nonzeros", "9"], "rows must be a whole number at least 2"),
    "two budgets": (["fit", "digits", "--nonzeros", "9", "--density", "0.1"], "got nonzeros and density"),
    "no budget at all": (["fit", "digits", "--nonzeros", "0"], "at least 1"),
    "flag of no method": (["fit", "digits", "--nonzero", "9"], "did you mean 'nonzeros'"),
    "flag of a method": (["fit", "digits", "--method", "gmp", "--epoch", "9"], "did you mean 'epochs'"),
    "value of a setting": (["fit", "digits", "--method", "gmp", "--epochs", "x"], "epochs must be a whole number"),
    "rule of a setting": (["fit", "digits", "--method", "gmp", "--epochs", "0"], "at least 1"),
    "widths": (["fit", "digits", "--hidden", "a"], "--hidden must be whole numbers"),
    "device": (["fit", "digits", "--nonzeros", "9", "--device", "foo"], "cuda:NUMBER"),
    "rule of a choice": (["fit", "digits", "--path", "--select", "bset"], "did you mean 'best'"),
    "times": (["fit", "digits", "--nonzeros", "9", "--seconds", "nan"], "--seconds must be above 0, got nan"),
    "time": (["fit", "digits", "--nonzeros", "9", "--save-every", "-1"], "--save-every must be at least 0"),
    "share": (["fit", "digits", "--nonzeros", "9", "--test-fraction", "nan"], "--test-fraction must be"),
    "seed": (["fit", "digits", "--nonzeros", "9", "--seed", "-1"], "--seed must be at least 0"),
    "folds": (["fit", "digits", "--path", "--folds", "1"], "--folds must be at least 2"),
    "tune": (["tune", "digits", "--workers", "0"], "--workers must be at least 1"),
    "settings of auto": (["tune", "digits", "--epochs", "3"], "name the method with --method"),
    "run": (["show", "nowhere"], "no such run folder"),
    "format": (["export", ".", "--format", "onx"], "did you mean 'onnx'"),
    "certifier": (["certify", ".", "--method", "prunned"], "did you mean 'pruned'"),
    "compressor": (["compress", ".", "--method", "gmp", "--neurons", "3"], "no compressor 'gmp'"),
    "neurons": (["compress", "."], "one of --neurons and --tolerance"),
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh process that says at its end what it had to import."""
    command = [sys.executable, "-c", PROBE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture(autouse=True, scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first command of all may be slow: here there was one before."""
    run(tmp_path_factory.mktemp("first"), "methods")


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_lists_need_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == (OK if arguments else USAGE), done.stderr
    assert done.stdout or not arguments
    assert done.stderr.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_usage_need_nothing_heavy(tmp_path: Path, case: str) -> None:
    arguments, words = ERRORS[case]
    done = run(tmp_path, *arguments)
    assert done.returncode == USAGE, done.stdout
    message, loaded = done.stderr.splitlines()
    assert message.startswith("error: ")
    assert words in message
    assert loaded == "loaded []"
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"sparelu {sparelu.__version__}\n"
    assert sparelu.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("words", "completed"),
    [("sparelu met", ["methods"]), ("sparelu methods rig", ["rigl"]), ("sparelu methods few", ["few-weights"])],
)
def test_a_shell_completes_commands_and_methods(tmp_path: Path, monkeypatch, words: str, completed: list[str]) -> None:
    monkeypatch.setenv("_SPARELU_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    done = run(tmp_path)
    assert done.stdout.split() == completed
    assert done.stderr.splitlines()[-1] == "loaded []"


def test_what_is_kept_is_what_is_declared() -> None:
    """The list that is read without importing anything says of every method what its class says."""
    found = declarations.declarations()
    assert list(found.methods) == list(catalogue.METHODS)
    for name, kind in catalogue.METHODS.items():
        kept = found.methods[name]
        assert kept.settings == settings_of(kind)
        assert kept.about
        assert kept.about in (kind.__doc__ or "")
        assert issubclass(kind, {"fitter": Fitter, "compressor": Compressor, "certifier": Certifier}[kept.kind])
        assert (kept.facts["paper"], kept.facts["question"]) == (kind.paper, kind.question)
    for name, dataset in datasets.DATASETS.items():
        assert found.datasets[name].settings == dataset.parameters
        assert found.datasets[name].about == dataset.summary


def test_a_changed_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like byte code, what is kept is for one state of the files."""
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(declarations, "KEPT", kept)
    monkeypatch.setattr(declarations, "_was_imported", lambda: False)
    declarations.declarations.cache_clear()
    first = declarations.declarations()
    content = json.loads(kept.read_text())
    content["methods"]["gmp"]["about"] = "what another state of the files said"
    kept.write_text(json.dumps(content))
    declarations.declarations.cache_clear()
    assert declarations.declarations().methods["gmp"].about == "what another state of the files said"
    monkeypatch.setattr(declarations, "_sources", lambda: ["method.py 1 2"])
    for damage in (kept.read_text(), "{", "[]"):
        kept.write_text(damage)
        declarations.declarations.cache_clear()
        assert declarations.declarations() == first
        assert json.loads(kept.read_text())["sources"] == ["method.py 1 2"]
    monkeypatch.setattr(declarations, "_was_imported", lambda: True)
    kept.unlink()
    declarations.declarations.cache_clear()
    assert declarations.declarations() == first
    assert not kept.exists(), "what was imported earlier may be of other files than those of now"
    declarations.declarations.cache_clear()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(declarations, "KEPT", tmp_path / "file" / "kept.json")
    monkeypatch.setattr(declarations, "_was_imported", lambda: False)
    declarations.declarations.cache_clear()
    assert "gmp" in declarations.declarations().methods
    assert (tmp_path / "file").read_text() == ""
    declarations.declarations.cache_clear()
