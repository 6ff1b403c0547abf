"""Calls of measured functions on the machinery of a sweep."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparelu.experiments.sweeps.sweep import Table, sweep, trial_key
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.task import Call
from sparelu.method import Refusal

RAN: list[int] = []


def squares(n: int, seed: int = 0, kind: str = "plain") -> dict[str, Any]:
    RAN.append(n)
    if kind == "refused":
        raise Refusal("not for this size")
    if kind == "broken":
        raise ZeroDivisionError("by design")
    if kind == "odd":
        return {"found": {1, 2}}
    return {"square": np.int64(n * n), "root": np.float32(0.5), "list": [n], "kind": kind}


def call(n: int, **settings: Any) -> Call:
    return Call("squares", squares, {"n": n, **settings})


def test_the_address_is_the_content_of_the_settings() -> None:
    assert trial_key(call(3)) == trial_key(call(3, seed=0))
    others = [call(3), call(4), call(3, seed=1), Call("other", squares, {"n": 3})]
    assert len({trial_key(c) for c in others}) == 4
    assert trial_key(call(3)) == "5b364e00299170aa", "golden: kept rows are found by it"


def test_rows_have_settings_results_and_circumstances(tmp_path: Path) -> None:
    (row,) = sweep([Call("squares", squares, {"n": 3, "seed": 2})], tmp_path / "t.jsonl")
    assert row["trial"] == {"study": "squares", "settings": {"n": 3, "seed": 2, "kind": "plain"}}
    assert row["measured"] == {"square": 9, "root": 0.5, "list": [3], "kind": "plain"}
    assert (row["status"], row["seeds"]) == ("measured", {"seed": 2})
    assert {"versions", "threads", "cpu", "finished", "seconds", "processor_seconds", "peak_memory"} <= set(row)
    assert json.loads(json.dumps(row)) == row


def test_done_rows_stay_and_rerun_replaces_them(tmp_path: Path) -> None:
    path, calls = tmp_path / "t.jsonl", [call(n) for n in (1, 2)]
    sweep(calls, path)
    RAN.clear()
    sweep([*calls, call(3)], path)
    assert RAN == [3]
    sweep(calls, path, rerun=True)
    assert RAN == [3, 1, 2]
    assert [r["measured"]["square"] for r in Table(path).rows()] == [1, 4, 9]


def test_refusals_failures_and_unknown_values_are_rows(tmp_path: Path) -> None:
    calls = [call(1, kind=kind) for kind in ("refused", "broken", "odd", "plain")]
    rows = sweep(calls, tmp_path / "t.jsonl")
    assert [r["status"] for r in rows] == ["refused", "failed", "failed", "measured"]
    assert rows[1]["error"] == "ZeroDivisionError: by design"
    assert "JSON values, not of set" in rows[2]["error"]
    RAN.clear()
    sweep(calls, tmp_path / "t.jsonl")
    assert RAN == [1, 1], "failures are tried again, and nothing else"


@pytest.mark.filterwarnings("ignore")
def test_workers_give_the_same_rows(tmp_path: Path) -> None:
    calls = [call(n) for n in range(3)]
    here = sweep(calls, tmp_path / "a.jsonl")
    there = sweep(calls, tmp_path / "b.jsonl", engine=joblib_engine(2))
    assert [(r["key"], r["measured"]) for r in here] == [(r["key"], r["measured"]) for r in there]
