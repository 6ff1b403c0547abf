"""Every benchmark declares itself, its kept rows can be read, and the page is written from them without running any."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sparelu.experiments.benchmarks.benchmark import TOPICS, Benchmark
from sparelu.experiments.sweeps.sweep import Table, trial_key
from sparelu.experiments.trials import task, trial
from tests.benchmark_files import FOLDER, load_benchmark

RESULTS = FOLDER / "results"
BOARD = load_benchmark("board")
DECLARED: dict[str, Sequence[Benchmark]] = BOARD.declared()
EVERY = [b for own in DECLARED.values() for b in own]
NAMES = [b.name for b in EVERY]


def test_every_file_declares() -> None:
    assert {p.name for p in FOLDER.glob("*.py")} - {"board.py"} == set(DECLARED)
    assert len(set(NAMES)) == len(NAMES)
    assert {b.topic for b in EVERY} <= set(TOPICS)
    assert {p.name for p in RESULTS.iterdir()} <= {f"{name}.jsonl" for name in NAMES}, "rows that nothing shows"


@pytest.mark.parametrize("benchmark", EVERY, ids=NAMES)
def test_grids_are_of_different_tasks_with_a_question(benchmark: Benchmark) -> None:
    assert benchmark.question.endswith("?")
    assert benchmark.targets
    for tasks in (benchmark.full, benchmark.quick):
        keys = [trial_key(t) for t in tasks]
        assert keys
        assert len(set(keys)) == len(keys)
        assert all(json.loads(json.dumps(t.request())) == t.request() for t in tasks)
    assert len(benchmark.quick) <= len(benchmark.full)


@pytest.mark.parametrize("benchmark", EVERY, ids=NAMES)
def test_kept_rows_are_those_of_the_grid(benchmark: Benchmark) -> None:
    """A moved address would leave hours of rows unseen; each line is a whole row."""
    path = benchmark.path(RESULTS)
    if not path.exists() or not path.stat().st_size:
        pytest.skip("nothing measured yet")
    kept = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert {"key", "trial", "status", "versions", "finished", "commit"} <= set.intersection(*(set(r) for r in kept))
    wanted = {trial_key(t): t.request() for t in benchmark.full}
    found = [row for row in kept if row["key"] in wanted]
    assert found, "no kept row has an address of the grid"
    assert all(_settings(row["trial"]).items() <= _settings(wanted[row["key"]]).items() for row in found)


def _settings(request: dict[str, Any]) -> dict[str, str]:
    """As text, so that lists compare; an argument that came later is not in an old row."""
    return {k: json.dumps(v) for k, v in request.get("settings", request).items()}


@pytest.mark.parametrize("benchmark", EVERY, ids=NAMES)
def test_tables_and_targets_stand_with_few_rows(benchmark: Benchmark) -> None:
    """A chunk of a run, or a quick one, is shown too."""
    rows = benchmark.results(Table(benchmark.path(RESULTS)).rows())
    for part in (rows[:1], rows[-1:], rows[: len(rows) // 2]):
        if part:
            assert benchmark.table(part).count("|") > 4
            assert all(isinstance(say(part), str) for say in benchmark.targets.values())


def test_the_page_is_written_from_kept_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the page runs nothing")

    monkeypatch.setattr(task.Call, "outcome", never)
    monkeypatch.setattr(trial.Trial, "outcome", never)
    BOARD.write_page(RESULTS, tmp_path / "RESULTS.md", quick=False)
    page = (tmp_path / "RESULTS.md").read_text()
    assert all(f"### {b.question}" in page for b in EVERY)
    assert all(asked in page for b in EVERY for asked in b.targets)
    pictures = re.findall(r"\((figures/\w+\.png)\)", page)
    assert len(pictures) == len({p.name for p in (tmp_path / "figures").iterdir()}) > 0
    for picture in pictures:
        assert (tmp_path / picture).stat().st_size < 100_000
        with Image.open(tmp_path / picture) as image:
            assert image.size[0] > 400
    headings = {BOARD.anchor(line.lstrip("# ")) for line in page.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= headings
