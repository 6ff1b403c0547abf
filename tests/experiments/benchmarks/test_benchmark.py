"""Benchmarks as declarations: resumable runs, their command line, flat rows, tables and lines."""

from pathlib import Path

import pytest

from sparelu.experiments.benchmarks import run as benchmark_run
from sparelu.experiments.benchmarks.benchmark import Benchmark, calls, markdown
from sparelu.experiments.benchmarks.figures import lines
from sparelu.experiments.benchmarks.run import missing, run, run_benchmarks
from sparelu.experiments.sweeps.sweep import Table, run_row
from sparelu.experiments.trials.task import Call


def halves(n: int, seed: int = 0) -> dict[str, float]:
    if n == 13:
        raise KeyboardInterrupt
    if n < 0:
        raise ValueError("too small")
    return {"half": n / 2}


def toy(full: list[Call]) -> Benchmark:
    return Benchmark("toy", "run", "Halves?", "none", full, full[:1], lambda rows: markdown(["n"], [(len(rows),)]))


@pytest.fixture(autouse=True)
def _commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_run, "commit", lambda: "abc1234")


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, benchmark: Benchmark, *words: str) -> list[float]:
    """Run the command line of a file in ``folder``/benchmarks; the halves that its kept rows have."""
    monkeypatch.setattr("sys.argv", ["toy.py", *words])
    run_benchmarks((benchmark,), "about", str(folder / "benchmarks" / "toy.py"))
    return [r["half"] for r in benchmark.results(Table(benchmark.path(folder / "benchmarks" / "results")).rows())]


def test_grids_are_products_and_blocks_are_joined() -> None:
    found = calls("toy", halves, {"n": [1, 2], "seed": [3, 4]}, {"n": [5]})
    assert [dict(c.settings) for c in found] == [*({"n": n, "seed": s} for n in (1, 2) for s in (3, 4)), {"n": 5}]


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    benchmark = toy(calls("toy", halves, {"n": [4, -1], "seed": [0]}, {"n": [6]}))
    first = run(benchmark, tmp_path, benchmark.full, stop=lambda: True)
    assert [r["measured"] for r in first] == [{"half": 2.0}]
    assert missing(benchmark, tmp_path, benchmark.full) == 2
    rows = run(benchmark, tmp_path, benchmark.full)
    assert [r["status"] for r in rows] == ["measured", "failed", "measured"]
    assert {r["commit"] for r in rows} == {"abc1234"}
    assert missing(benchmark, tmp_path, benchmark.full) == 1, "a failure is not a result"
    assert [r["half"] for r in benchmark.results(rows)] == [2.0, 3.0]


def test_flat_rows_have_results_and_todays_defaults() -> None:
    benchmark = toy(calls("toy", halves, {"n": [5]}))
    row = run_row(benchmark.full[0])
    row["trial"]["settings"].pop("seed")  # measured before there was a seed
    (found,) = benchmark.results([row])
    assert (found["n"], found["seed"], found["half"], found["status"]) == (5, 0, 2.5, "measured")


def test_the_command_runs_what_is_missing_and_quick_rows_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = toy(calls("toy", halves, {"n": [2, 4, 6]}))
    assert command(monkeypatch, tmp_path, benchmark, "--quick") == []
    assert (tmp_path / "runs" / "benchmarks-quick" / "toy.jsonl").read_text().count("\n") == 1
    assert command(monkeypatch, tmp_path, benchmark, "--limit-minutes", "0") == []
    assert command(monkeypatch, tmp_path, benchmark, "--where", "n=4") == [2.0]
    assert command(monkeypatch, tmp_path, benchmark, "--print") == [2.0]
    assert command(monkeypatch, tmp_path, benchmark) == [2.0, 1.0, 3.0]
    assert "toy: 3 of 3 rows missing; the same command goes on" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command(monkeypatch, tmp_path, benchmark, "nothing")
    assert "there is no benchmark 'nothing' here; there are toy" in capsys.readouterr().err


def test_interrupted_runs_keep_the_finished_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = toy(calls("toy", halves, {"n": [2, 13, 4]}))
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, tmp_path, benchmark)
    assert ended.value.code == 130
    assert command(monkeypatch, tmp_path, benchmark, "--print") == [1.0]


def test_markdown_by_hand() -> None:
    assert (
        markdown(["a", "b"], [(1234, 0.12345), (None, True)])
        == "| a | b |\n| --- | --- |\n| 1,234 | 0.123 |\n| - | yes |"
    )


def test_lines_draw_the_points_and_the_theory() -> None:
    figure = lines({"b": [(3, 1.0), (1, 2.0)], "none": []}, ("x", "y"), log=(True, False), theory={"t": [(1, 5.0)]})
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert drawn["b"].get_xydata().tolist() == [[1, 2], [3, 1]]
    assert (drawn["b"].get_linestyle(), drawn["t"].get_linestyle()) == ("None", "--")
    assert list(drawn) == ["b", "t"]
    with pytest.raises(ValueError, match="nothing to draw"):
        lines({"none": []}, ("x", "y"))
