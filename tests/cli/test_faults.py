"""A full disk or a kill at any write of any command: nothing is lost, the command runs again, and nothing is left."""

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sparelu import store
from sparelu.cli.session import FAILED, OK
from sparelu.experiments.sweeps.sweep import Table
from tests.cli.faults import at_moment, full_disk, killed
from tests.cli.runs import invoke
from tests.experiments import victims
from tests.experiments.toys import Shrunk, hinges, make_known

FAULTS, KILLS = (int(os.environ.get(name, few)) for name, few in (("FAULTS", "6"), ("KILLS", "1")))
"""How many are tried over all commands: some here, as many as wanted by ``make faults``."""
FIT = ("fit", "d.csv", "--target", "y", "--method", "shrunk", "--hidden", "6")
GRID = '[[trials]]\ndata = "d.csv"\ntarget = "y"\nmethod = "shrunk"\nhidden = 6\nnonzeros = [1, 2, 3]\n'
COMMANDS = {
    "predict": ("predict", "run", "d.csv", "--out", "new.csv"),
    "compress": ("compress", "run", "--neurons", "6", "--method", "merge", "--out", "new"),
    "certify": ("certify", "run", "--method", "generalise"),
    "sweep": ("sweep", "grid.toml", "--out", "new.jsonl", "--workers", "1"),
    "export c": ("export", "run", "--format", "c", "--out", "new"),
    "report": ("report", "run"),
    "fit": (*FIT, "--nonzeros", "3", "--rounds", "4", "--save-every", "0", "--out", "new"),
    "path": (*FIT, "--path", "--budgets", "1,2", "--folds", "2", "--out", "new"),
    "tune": (*("tune", *FIT[1:]), "--budgets", "1,2", "--folds", "2", "--out", "new"),
    "export numpy": ("export", "run", "--format", "numpy"),
    "report of a sweep": ("report", "t.jsonl"),
    "recover": ("recover", "run", "--hidden", "6", "--out", "new"),
}
RESUMED = ("fit", "path", "tune", "recover")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a grid, a finished run and the rows of a sweep."""
    folder, before = tmp_path_factory.mktemp("ready"), Path.cwd()
    x, y = hinges()
    header = ",".join([*(f"x{i}" for i in range(6)), "y"])
    np.savetxt(folder / "d.csv", np.column_stack([x, y]), "%.17g", ",", header=header, comments="")
    (folder / "grid.toml").write_text(GRID)
    with pytest.MonkeyPatch.context() as patch:
        make_known(patch, Shrunk)
        patch.chdir(folder)
        for command in (
            (*FIT, "--nonzeros", "3", "--out", "run"),
            (*COMMANDS["sweep"][:3], "t.jsonl", "--workers", "1"),
        ):
            done = invoke(*command)
            assert done.exit_code == OK, done.output
    assert Path.cwd() == before
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def copied(ready: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ready, folder)
    monkeypatch.chdir(folder)
    return folder


def check_nothing_is_lost(ready: Path, folder: Path) -> None:
    for name in ("d.csv", "grid.toml", "t.jsonl", "run/request.json"):
        assert (folder / name).read_bytes() == (ready / name).read_bytes()
    assert store.load(folder / "run" / "model.safetensors").network.nonzeros == 3
    assert len(Table(folder / "t.jsonl").rows()) == 3


def check_runs_again(command: str, wanted: set[str], folder: Path) -> None:
    again = invoke(*COMMANDS[command], *(["--resume"] if command in RESUMED else []))
    assert again.exit_code == OK, again.output
    assert names(folder) == wanted


@pytest.mark.parametrize("command", list(COMMANDS)[: max(FAULTS, KILLS)])
def test_faults(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    make_known(monkeypatch, Shrunk)
    folder = copied(ready, tmp_path / "whole", monkeypatch)
    with at_moment(-1, full_disk) as moments:
        done = invoke(*COMMANDS[command])
    assert done.exit_code == OK, done.output
    assert len(moments) >= 2
    wanted, rng = names(folder), np.random.default_rng(len(command))
    place = list(COMMANDS).index(command)
    faults, kills = (len(range(place, count, len(COMMANDS))) for count in (FAULTS, KILLS))
    for i, happen in enumerate([full_disk] * faults + [None] * kills):
        number = int(rng.integers(len(moments)))
        folder = copied(ready, tmp_path / str(i), monkeypatch)
        if happen is None:
            code, _ = victims.finished(killed, str(folder), COMMANDS[command], number)
            assert code == -9, f"{command} was not killed at {number}"
        else:
            with at_moment(number, happen) as met:
                done = invoke(*COMMANDS[command])
            if len(met) <= number:  # a state is saved every so many seconds: this time it was one less
                assert done.exit_code == OK, done.output
                continue
            assert done.exit_code == FAILED, f"{command} at {number} of {moments}: {done.output}"
            assert "the disk is full" in done.stderr
            assert not [name for name in names(folder) if Path(name).name.startswith(".")]
            del done  # it holds what the command held: in a process of its own that ends with it
            gc.collect()
        check_nothing_is_lost(ready, folder)
        check_runs_again(command, wanted, folder)
        shutil.rmtree(folder)
