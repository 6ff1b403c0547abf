"""Run folders: what a killed start leaves is no obstacle, and what is not ours is not touched."""

from pathlib import Path

import pytest

from sparelu.experiments.trials.run_folder import FolderError, RunFolder


@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_was_killed_before_its_request_can_be_repeated(tmp_path: Path, resume: bool) -> None:
    for name in (".lock", ".request.json.4242.part"):
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path).opened({"data": "digits"}, resume):
        assert {p.name for p in tmp_path.iterdir()} == {".lock", "request.json"}
    assert {p.name for p in tmp_path.iterdir()} == {"request.json"}


def test_parts_of_killed_writes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.opened({"data": "digits"}, False):
        pass
    (tmp_path / "path").mkdir()
    kept = [tmp_path / "notes.txt", tmp_path / "path" / "50.safetensors", tmp_path / "mine.part"]
    gone = [tmp_path / ".model.safetensors.17.part", tmp_path / "path" / ".50.checkpoint.17.part"]
    for path in (*kept, *gone):
        path.write_text("")
    with folder.opened({"data": "digits"}, True):
        assert all(path.exists() for path in kept)
        assert not any(path.exists() for path in gone)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with (
        folder.opened({"data": "digits"}, False),
        pytest.raises(FolderError, match="another process is writing"),
        RunFolder(tmp_path).opened({"data": "digits"}, True),
    ):
        pass


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.part").write_text("")
    (tmp_path / ".lock").write_text("")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FolderError, match="is not a run"), RunFolder(tmp_path).opened({}, True):
        pass
    assert len(list(tmp_path.iterdir())) == 3
