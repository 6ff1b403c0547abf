"""Ctrl-C anywhere: each command says how to go on, and that is right; a run that is refused leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparelu.cli.session import INTERRUPTED, OK, REFUSED, USAGE
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.run_folder import FolderError, RunFolder
from tests.cli.runs import invoke
from tests.experiments.toys import Shrunk, hinges, make_known
from tests.test_json_form import strict

FIT = ("fit", "d.csv", "--target", "y", "--method", "shrunk", "--hidden", "6", "--out", "run")
ONE, PATH = (*FIT, "--nonzeros", "3"), (*FIT, "--path", "--budgets", "1,2,3", "--folds", "3")
TUNE = (*("tune", *FIT[1:]), "--budgets", "1,2,3", "--folds", "3")
SWEEP = ("sweep", "grid.toml", "--out", "table.jsonl", "--workers", "1")
COMPRESS = ("compress", "run", "--neurons", "2", "--restarts", "1", "--steps", "3", "--out", "small")
GRID = '[[trials]]\ndata = "d.csv"\ntarget = "y"\nmethod = "shrunk"\nhidden = 6\nnonzeros = [1, 2, 3]\n'
REPEAT = "interrupted; repeat the same command\n"
RESUME, FITS, ROWS = (
    "keeps the state: repeat the same command with --resume",
    "keeps the finished fits: repeat the same command with --resume",
    "keeps the finished rows: repeat the same command to go on",
)
CUT = {
    "fit": (ONE, "sparelu.cli.fit.write_run", RESUME),
    "path": (PATH, "sparelu.cli.fit.write_run", RESUME),
    "before": (ONE, "sparelu.cli.fit.Trial.split", REPEAT),
    "tune": (TUNE, "sparelu.experiments.tune.write_run", FITS),
    "sweep": (SWEEP, "sparelu.experiments.sweeps.sweep.Table.append", ROWS),
    "compress": (COMPRESS, "sparelu.cli.compress.save_figure", REPEAT),
    "certify": (("certify", "run", "--method", "generalise"), "sparelu.cli.certify_export.write_result", REPEAT),
    "report": (("report", "run"), "sparelu.experiments.write_run.rewrite_report", REPEAT),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table and a grid."""
    make_known(monkeypatch, Shrunk)
    monkeypatch.chdir(tmp_path)
    x, y = hinges()
    header = ",".join([*(f"x{i}" for i in range(6)), "y"])
    np.savetxt("d.csv", np.column_stack([x, y]), "%.17g", ",", header=header, comments="")
    Path("grid.toml").write_text(GRID)
    return tmp_path


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", CUT)
def test_the_advice_is_right(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    command, place, advice = CUT[name]
    if name in ("compress", "certify", "report"):
        assert invoke(*ONE).exit_code == OK
    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        cut = invoke(*command)
    assert cut.exit_code == INTERRUPTED, cut.output
    assert advice in cut.stderr
    assert "Abort" not in cut.output
    again = invoke(*command, *(["--resume"] if "--resume" in advice else []))
    assert again.exit_code == OK, again.output
    assert not [path for path in folder.rglob(".*") if path.is_file()], "neither locks nor parts are left"
    if name == "sweep":
        assert len(Table(Path("table.jsonl")).rows()) == 3


@pytest.mark.parametrize("how", ["--path", "tune", "fit"])
def test_a_refused_run_leaves_nothing(folder: Path, how: str) -> None:
    wrong = ("--budgets", "999", "--folds", "3")
    command = {
        "fit": (*FIT, "--nonzeros", "999"),
        "--path": (*FIT, "--path", *wrong),
        "tune": ("tune", *FIT[1:], *wrong),
    }[how]
    refused = invoke(*command)
    assert refused.exit_code in (REFUSED, USAGE), refused.output
    assert not Path("run").exists()
    Path("run").mkdir()
    assert invoke(*command).exit_code == refused.exit_code
    assert list(Path("run").iterdir()) == []
    assert invoke(*ONE).exit_code == OK


def _fail_after_a_fit(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.checkpoint").touch()
    raise ZeroDivisionError


def test_what_a_failing_run_kept_stays(folder: Path) -> None:
    run = RunFolder(Path("run"))
    with pytest.raises(ZeroDivisionError), run.opened({"data": "d.csv"}, resume=False):
        _fail_after_a_fit(run.path / "path")
    assert sorted(p.name for p in run.path.rglob("*")) == ["a.checkpoint", "path", "request.json"]
    with pytest.raises(FolderError, match="add --resume"):
        run.check({"data": "d.csv"}, resume=False)
    (run.path / "path" / "a.checkpoint").unlink()
    with run.opened({"data": "other.csv"}, resume=False):
        assert json.loads((run.path / "request.json").read_text()) == {"data": "other.csv"}


def test_a_compressed_run_is_no_other_one(folder: Path) -> None:
    assert invoke(*ONE).exit_code == OK
    assert invoke(*COMPRESS).exit_code == OK
    assert invoke(*COMPRESS).exit_code == OK, "the same again gives the same"
    for other in (("--neurons", "1"), ("--steps", "4")):
        done = invoke(*COMPRESS, *other)
        assert done.exit_code == USAGE, done.output
        assert "another compressed" in done.stderr
    assert invoke("compress", "run", "--neurons", "2", "--out", "run").exit_code == USAGE
    assert invoke("show", "run").exit_code == OK


def test_all_json_that_is_written_is_strict(folder: Path) -> None:
    for command in (ONE, ("certify", "run"), ("show", "run"), SWEEP):
        assert strict(invoke(*command, "--json").stdout)
    result = strict(Path("run/result.json").read_text())
    assert result["test"]["accuracy"] is None, "a regression has none"
    assert np.isnan(RunFolder(Path("run")).read()[2]["test"]["accuracy"])
    assert all(strict(line)["test"]["accuracy"] is None for line in Path("table.jsonl").read_text().splitlines())
    content = Path("run/model.safetensors").read_bytes()
    strict(strict(content[8 : 8 + int.from_bytes(content[:8], "little")].decode())["__metadata__"]["header"])
