"""Random command lines on random files: a result, or one clear line; never a traceback, and nothing of others lost."""

import os
import re
import traceback
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparelu.cli.__main__ import app
from sparelu.cli.session import FAILED, OK, REFUSED, USAGE
from tests.cli.bad_inputs import Case, case
from tests.cli.runs import sign_run
from tests.experiments.toys import Shrunk, make_known

COUNT = int(os.environ.get("BAD_INPUTS", "60"))
"""Command lines that are tried: some here, as many as wanted by ``make bad-inputs``."""


def judged(case: Case, folder: Path) -> str:
    """Return what is wrong with the answer to a command line; nothing for one that is as it should be."""
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    sign_run(folder / "run", ("a", "b"))
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    before = {name: (folder / name).read_bytes() for name in ("mine.txt", *case.files)}
    os.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(app, list(case.arguments), env={"COLUMNS": "200"})
    os.chdir(folder.parent)
    if {name: (folder / name).read_bytes() for name in before} != before:
        return "a file was changed"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return "".join(traceback.format_exception(done.exception))
    return _wrong_words(done.exit_code, done.stdout, done.stderr)


def _wrong_words(code: int, said: str, errors: str) -> str:
    if code not in (OK, FAILED, USAGE, REFUSED):
        return f"exit code {code}: {errors}"
    if code != OK:
        lines = [line for line in errors.splitlines() if "error:" in line.lower()]
        if (len(lines) != 1 or not re.search(r"error: .{10,}", lines[0])) and "diverged" not in errors + said:
            return f"no clear line, exit code {code}: {errors!r}"
    if "\x1b" in said + errors:
        return f"a control character in {said + errors!r}"
    return ""


@pytest.mark.parametrize("block", range(3))
def test_no_command_line_ends_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    make_known(monkeypatch, Shrunk)
    monkeypatch.chdir(tmp_path)
    wrong = {}
    for seed in range(block * COUNT // 3, (block + 1) * COUNT // 3):
        drawn = case(seed)
        if said := judged(drawn, tmp_path / str(seed)):
            wrong[f"{seed} {drawn.arguments}"] = said
    assert not wrong, "\n".join(f"{name}\n{said}" for name, said in wrong.items())
