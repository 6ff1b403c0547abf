"""What commands write where they are told to: never over what is read, over what others wrote only when forced."""

import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from sparelu.cli import certify_export, predict_show_report
from sparelu.cli.outputs import WRITTEN
from sparelu.cli.session import INTERRUPTED, OK, USAGE
from tests.cli.runs import invoke, sign_run

SAID = ["kind", "yes", "no", "yes"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run and three rows."""
    monkeypatch.chdir(tmp_path)
    sign_run(tmp_path / "run", ("a", "b"))
    Path("d.csv").write_text("b,a\n0,1.5\n0,-1\n0,2\n")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predict(*more: str):
    return invoke("predict", "run", "d.csv", "--out", *more)


def test_what_is_read_is_never_replaced(folder: Path) -> None:
    os.symlink("d.csv", "link.csv")
    os.link("d.csv", "hard.csv")
    before = contents(folder)
    for out in ("d.csv", "link.csv", "hard.csv", "run/model.safetensors", "run/../run/result.json"):
        for more in ((), ("--force",)):
            done = predict(out, *more)
            assert done.exit_code == USAGE, out
            assert f"{out} is read by this command" in done.stderr
    assert contents(folder) == before


def test_files_of_others_are_written_over_only_when_forced(folder: Path) -> None:
    Path("mine.csv").write_text("kind\nmine\n")
    Path("mine.csv").chmod(0o600)
    refused = predict("mine.csv")
    assert refused.exit_code == USAGE
    assert "mine.csv is there and was not written for this run: add --force" in refused.stderr
    assert Path("mine.csv").read_text() == "kind\nmine\n"
    assert predict("mine.csv", "--force").exit_code == OK
    assert stat.S_IMODE(Path("mine.csv").stat().st_mode) == 0o600
    for _ in range(2):
        assert predict("mine.csv").exit_code == OK, "what was written for the run may be written again"
    assert Path("mine.csv").read_text().splitlines() == SAID
    with Path("mine.csv").open("a") as file:
        file.write("one more\n")
    assert predict("mine.csv").exit_code == USAGE, "what was added since would be lost"
    Path("empty.csv").touch()
    assert predict("empty.csv").exit_code == OK


def test_devices_pipes_and_links_stay_what_they_are(folder: Path) -> None:
    assert predict("/dev/null").exit_code == OK
    os.mkfifo("pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_text()))
    reader.start()
    assert predict("pipe").exit_code == OK
    reader.join()
    assert got[0].splitlines() == SAID
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    os.symlink("real.csv", "link.csv")
    assert predict("link.csv").exit_code == OK
    assert Path("link.csv").is_symlink()
    assert Path("real.csv").read_text().splitlines() == SAID


def test_a_run_that_cannot_be_written_is_used_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "run" / WRITTEN).mkdir()
    assert predict("p.csv").exit_code == OK
    assert predict("p.csv").exit_code == USAGE, "nothing says that the file is its own"
    assert predict("p.csv", "--force").exit_code == OK


@pytest.mark.parametrize("bad", ["x", "", "nan", "1e999"])
def test_a_bad_row_is_named_and_nothing_is_written(folder: Path, bad: str) -> None:
    with Path("d.csv").open("a") as file:
        file.write(f"0,{bad}\n")
    done = predict("p.csv")
    assert done.exit_code == USAGE
    assert "d.csv" in done.stderr
    assert "row 3" in done.stderr
    assert "'a'" in done.stderr
    assert not Path("p.csv").exists()


@pytest.mark.parametrize(("kind", "names"), [("c", ("n.h", "n.c")), ("numpy", ("layer0.npz", "layer1.npz"))])
def test_an_export_asks_before_it_replaces_a_file(folder: Path, kind: str, names: tuple[str, str]) -> None:
    Path("out").mkdir()
    for name in (names[1], "layer7.npz", "skip.npz"):
        Path("out", name).write_text("mine")
    export = ("export", "run", "--format", kind, "--name", "n", "--out", "out")
    before = contents(folder)
    refused = invoke(*export)
    assert refused.exit_code == USAGE
    assert f"out/{names[1]} is there and was not written for this run" in refused.stderr
    assert contents(folder) == before, "not one of the files is written"
    for more in (("--force",), ()):
        assert invoke(*export, *more).exit_code == OK
    assert Path("out", names[0]).stat().st_size > 0
    assert Path("out/layer7.npz").read_text() == Path("out/skip.npz").read_text() == "mine"


def test_layers_of_an_earlier_export_go(folder: Path) -> None:
    export = ("export", "run", "--format", "numpy")
    assert invoke(*export).exit_code == OK
    Path("run/export/layer1.npz").rename("run/export/layer5.npz")
    assert invoke(*export).exit_code == OK
    assert sorted(path.name for path in Path("run/export").iterdir()) == ["layer0.npz", "layer1.npz"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../net", "/net"])
def test_a_name_of_an_export_has_no_folder(folder: Path, name: str) -> None:
    before = contents(folder)
    done = invoke("export", "run", "--format", "numpy", "--name", name, "--out", "out")
    assert done.exit_code == USAGE
    assert "--name must be the name of a file" in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("held", ["a,b\n1,2\n", "[[trials]]\n", '{"a": 1}\n', "{"])
def test_no_rows_are_added_to_the_file_of_another(folder: Path, held: str) -> None:
    Path("grid.toml").write_text('[[trials]]\ndata = "nothing.csv"\nnonzeros = 3\n')
    Path("t.jsonl").write_text(held)
    done = invoke("sweep", "grid.toml", "--out", "t.jsonl", "--workers", "1")
    if held == "{":  # what is left of a row that was torn
        assert done.exit_code == OK, done.output
        return
    assert done.exit_code == USAGE
    assert "t.jsonl holds no rows of a sweep" in done.stderr
    assert Path("t.jsonl").read_text() == held
    assert "is no plain file" in invoke("sweep", "grid.toml", "--out", "/dev/null", "--workers", "1").stderr


@pytest.mark.parametrize("at", ["before", "within", "after"])
def test_an_interrupted_prediction_simply_runs_again(folder: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "before":
            patch.setattr(predict_show_report, "_pieces", stop)
        elif at == "within":
            patch.setattr(predict_show_report, "_predictions", stop)
        else:
            patch.setattr(os, "replace", stop)
        done = predict("p.csv")
    assert done.exit_code == INTERRUPTED
    assert done.stderr == "interrupted; repeat the same command\n"
    assert sorted(path.name for path in folder.iterdir()) == ["d.csv", "run"]
    assert predict("p.csv").exit_code == OK
    assert Path("p.csv").read_text().splitlines() == SAID


def test_an_interrupted_export_simply_runs_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, count = os.replace, 0

    def stop_at_the_second(*given: str) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        place(*given)

    export = ("export", "run", "--format", "c", "--out", "out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_second)
        assert invoke(*export).exit_code == INTERRUPTED
    assert [path.name for path in Path("out").iterdir()] == ["network.h"]
    assert invoke(*export).exit_code == OK
    assert sorted(path.name for path in Path("out").iterdir()) == ["network.c", "network.h"]


def test_a_command_that_is_interrupted_lets_the_run_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    Path("d.csv").write_text("a,b,y\n" + "".join(f"{i},{-i},{i % 3}\n" for i in range(20)))
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(certify_export, "data_of", stop)
        assert invoke("certify", "run").exit_code == INTERRUPTED
    assert contents(folder) == before
    assert np.array_equal(invoke("show", "run").exit_code, OK)
