"""Forged files: every reader reads them, or says in words of its own what is wrong, in little memory."""

from pathlib import Path

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.run import in_process

COUNT = 2000


@pytest.mark.parametrize("name", list(READERS))
def test_forged_files_are_read_or_named(tmp_path: Path, name: str) -> None:
    outcomes, wrong = in_process(name, str(tmp_path), range(COUNT))
    assert not wrong, "\n".join(wrong)
    assert outcomes.total() == COUNT
    assert outcomes["refused"] > COUNT / 10 or name == "rows", "the changes are too small to be seen"
