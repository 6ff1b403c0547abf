"""SIGKILL at random moments of a sweep, a fit and a loop of saves: nothing lost, nothing twice, the same tables."""

import csv
import json
import math
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparelu import store
from sparelu.experiments.sweeps.sweep import Table
from tests.contract.checks import same_bits
from tests.experiments import victims

MEASURED = ("seconds", "row_seconds", "processor_seconds", "peak_memory", "finished", "trace")
"""What two runs of the same trial may differ in."""

GRID = """
format = 1
[[trials]]
data = "curve"
method = "gmp"
hidden = 16
nonzeros = [6, 8, 500]
seed = [0, 1, 2]
parameters = { shape = "sine", rows = 200 }
settings.gmp = { epochs = 2, least = 60 }
[[trials]]
data = "missing.csv"
nonzeros = 5
"""
SWEEP = ("sweep", "grid.toml", "--out", "table.jsonl", "--workers")
FIT = (
    *("fit", "curve:shape=sine,rows=200", "--method", "gmp", "--epochs", "4", "--least", "400", "--hidden", "16"),
    *("--nonzeros", "10", "--save-every", "0.01", "--out", "run", "--resume"),
)
TUNE = (
    *("tune", "curve:shape=sine,rows=200", "--method", "gmp", "--epochs", "2", "--least", "60", "--hidden", "16"),
    *("--budgets", "6,10", "--folds", "3", "--trials", "4", "--search", "rate", "--out", "run", "--resume"),
)


@dataclass
class Kills:
    """Random delays of at most ``longest`` seconds, and how many kills met a process at work."""

    rng: np.random.Generator
    wanted: int
    done: int = 0
    longest: float = math.inf

    def undisturbed(self, arguments: tuple[Any, ...]) -> None:
        """Run the command to its end."""
        code, seconds = victims.finished(victims.command, *arguments)
        assert code == 0, victims.said(Path(arguments[0]))
        self.longest = min(self.longest, seconds)

    def until_finished(self, arguments: tuple[Any, ...], group: bool = True) -> None:
        """Start the command again and again, killed at random moments; let it end once enough were killed."""
        while self.done < self.wanted:
            begin = time.monotonic()
            process = victims.start(victims.command, *arguments)
            with victims.ending(process):
                if not victims.kill_after(process, self.rng.uniform(0, self.longest), group):
                    assert process.exitcode == 0, victims.said(Path(arguments[0]))
                    self.longest = min(self.longest, time.monotonic() - begin)
                    return
            self.done += 1
        self.undisturbed(arguments)


def stable(value: Any) -> Any:
    """A row or result without what was measured."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in MEASURED}
    return [stable(v) for v in value] if isinstance(value, list) else value


def text(value: Any) -> str:
    """One text for equal values, NaN among them."""
    return json.dumps(value, sort_keys=True, indent=1)


def swept(folder: Path, workers: int) -> tuple[Path, tuple[Any, ...]]:
    folder.mkdir()
    (folder / "grid.toml").write_text(GRID)
    return folder / "table.jsonl", (str(folder), (*SWEEP, str(workers)))


def check_sweep(tmp_path: Path, kills: Kills, workers: int) -> None:
    whole, arguments = swept(tmp_path / "whole", workers)
    kills.undisturbed(arguments)
    wanted = {row["key"]: stable(row) for row in Table(whole).rows()}
    assert Counter(row["status"] for row in wanted.values()) == {"max_steps": 6, "refused": 3, "failed": 1}
    round_ = 0
    while kills.done < kills.wanted:
        cut, arguments = swept(tmp_path / f"cut{round_}", workers)
        kills.until_finished(arguments, group=round_ % 2 == 0)
        assert once(cut), "a result is on one line, and no trial was run again"
        found = {row["key"]: stable(row) for row in Table(cut).rows()}
        assert text(found) == text(wanted)
        round_ += 1


def once(table: Path) -> bool:
    """Whether no result of the table, where there is one, is on two lines; failures may be tried again."""
    lines = table.read_text().splitlines() if table.exists() else []
    rows = [json.loads(line) for line in lines if _whole(line)]
    often = Counter(row["key"] for row in rows if row["status"] != "failed")
    return all(count == 1 for count in often.values())


def _whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def fitted(folder: Path) -> str:
    """All that a fit left behind but what was measured, and the names of its files."""
    run = folder / "run"
    with (run / "history.csv").open() as file:
        history = [stable(row) for row in csv.DictReader(file)]
    names = sorted(path.name for path in run.iterdir())
    result, request = (stable(json.loads((run / f"{name}.json").read_text())) for name in ("result", "request"))
    del result["stored_bytes"]  # of the whole file, where times are printed with more or fewer digits
    return text([names, history, result, request])


def check_run(tmp_path: Path, kills: Kills, command: tuple[str, ...]) -> None:
    (tmp_path / "whole").mkdir()
    kills.undisturbed((str(tmp_path / "whole"), command))
    wanted = fitted(tmp_path / "whole")
    model = store.load(tmp_path / "whole" / "run" / "model.safetensors").network
    round_ = 0
    while kills.done < kills.wanted:
        folder = tmp_path / f"cut{round_}"
        folder.mkdir()
        kills.until_finished((str(folder), command))
        assert fitted(folder) == wanted
        assert once(folder / "run" / "trials.jsonl")
        assert same_bits(store.load(folder / "run" / "model.safetensors").network, model)
        round_ += 1


def check_saves(tmp_path: Path, kills: Kills) -> None:
    path, count = tmp_path / "model.safetensors", 100_000
    while kills.done < kills.wanted:
        ours, theirs = multiprocessing.get_context("forkserver").Pipe(duplex=False)
        path.unlink(missing_ok=True)
        process = victims.start(victims.saves, str(path), count, theirs)
        theirs.close()
        with victims.ending(process):
            last = int.from_bytes(ours.recv_bytes(), "big")
            assert victims.kill_after(process, kills.rng.uniform(0, 0.3))
        kills.done += 1
        while True:
            try:
                last = int.from_bytes(ours.recv_bytes(), "big")
            except EOFError:
                break
        found = store.load(path)
        assert found.seed in (last, last + 1), "the last save that returned, or the one that was under way"
        assert float(found.network.layers[0].values[0]) == found.seed + 1


@pytest.mark.parametrize("kind", ["sweep", "fit", "saves"])
def test_a_few_kills(tmp_path: Path, kind: str) -> None:
    check(tmp_path, kind, kills=4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "kills"), [("sweep", 50), ("fit", 50), ("saves", 50), ("two workers", 10), ("tune", 10)]
)
def test_many_kills(tmp_path: Path, kind: str, kills: int) -> None:
    check(tmp_path, kind, kills, seed=1)


def check(tmp_path: Path, kind: str, kills: int, seed: int) -> None:
    killer = Kills(np.random.default_rng(seed), kills)
    if kind == "tune":
        pytest.importorskip("optuna")
    if kind in ("fit", "tune"):
        check_run(tmp_path, killer, FIT if kind == "fit" else TUNE)
    elif kind == "saves":
        check_saves(tmp_path, killer)
    else:
        check_sweep(tmp_path, killer, 2 if kind == "two workers" else 1)
    assert killer.done == kills
