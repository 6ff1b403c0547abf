"""Files are whole or not there, and nothing is touched that a copy would not touch."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from sparelu.writing import is_same_file, remove_unfinished, write_atomically, writing


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "file", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    assert write_atomically(link, b"new") == 3
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["file"]
    assert is_same_file(link, real)
    assert not is_same_file(link, tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_devices_and_pipes_are_written_into(tmp_path: Path) -> None:
    write_atomically(Path("/dev/null"), b"nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"through")
    reader.join()
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"x")


def test_what_a_killed_writer_left_goes_and_what_is_written_stays(tmp_path: Path) -> None:
    kill = (
        "import os, sys, signal\nfrom sparelu.writing import writing\nwith writing(sys.argv[1]) as f:\n"
        " f.write(b'x')\n f.flush()\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a[b].csv"
    subprocess.run([sys.executable, "-c", kill, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with writing(path) as file:
        file.write(b"mine")
        assert len(list(tmp_path.iterdir())) == 1
        remove_unfinished(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1, "a lock says that it is being written"
        with writing(path) as other:
            other.write(b"other")
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a[b].csv"]


def _fail(file: IO[bytes]) -> None:
    file.write(b"ne")
    raise KeyboardInterrupt


def test_a_failure_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), writing(path) as file:
        _fail(file)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
