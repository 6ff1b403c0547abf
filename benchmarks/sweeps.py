"""What a sweep costs beyond its fits: time of a row, time to list and draw many rows, and what a second worker gains.

OMP_NUM_THREADS=1 python benchmarks/sweeps.py
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.experiments.benchmarks.benchmark import Benchmark, Rows, calls, markdown
from sparelu.experiments.benchmarks.run import run_benchmarks
from sparelu.experiments.report.sweep_report import write_sweep_report
from sparelu.experiments.sweeps.sweep import Table, in_process, sweep
from sparelu.experiments.sweeps.workers import joblib_engine
from sparelu.experiments.trials.task import Row
from sparelu.experiments.trials.trial import Trial

ENGINES: dict[str, Callable[[], Any]] = {
    "in process": lambda: in_process,
    "joblib, 1 worker": lambda: joblib_engine(1),
    "joblib, 2 workers": lambda: joblib_engine(2),
}


def overhead(engine: str, rows: int = 250) -> dict[str, Any]:
    """Seconds of a row beyond its fit, medians: between two rows on the wall, and of the processor within a row."""
    given = {"shape": "sine", "rows": 40}
    quick = {"epochs": 1, "least": 1}
    trials = [Trial("curve", given, method="magnitude", settings=quick, hidden=(8,), nonzeros=5, seed=i % 7,
                    test_fraction=0.2 + i / 10_000) for i in range(rows)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        sweep(trials[:5], Path(folder) / "warm.jsonl", engine=ENGINES[engine]())
        ends = [time.perf_counter()]
        found = sweep(
            trials,
            Path(folder) / "rows.jsonl",
            engine=ENGINES[engine](),
            watch=lambda *_: ends.append(time.perf_counter()),
        )
    beyond = np.diff(ends) - statistics.median(r["seconds"] for r in found)
    return {
        "rows": len(found),
        "wall": float(np.median(beyond)),
        "processor": statistics.median(r["processor_seconds"] - r["seconds"] for r in found),
        "fit": statistics.median(r["seconds"] for r in found),
    }


def listing(rows: int = 10_000) -> dict[str, Any]:
    """Seconds to read and draw a table of ``rows`` rows: in this process, and as a command with its start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _many(rows)))
        start, clock = time.perf_counter(), time.process_time()
        write_sweep_report(Path(folder) / "many", Table(path).rows(), "many")
        inside = time.perf_counter() - start, time.process_time() - clock
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "sparelu", "report", str(path)], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": inside[0], "processor": inside[1], "command_wall": time.perf_counter() - start, "command": spent}


def _many(count: int) -> list[Row]:
    """Rows as a sweep on the digits writes them: three methods, six budgets, seeds."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        method, budget = ("gmp", "imp", "magnitude")[i % 3], (50, 100, 200, 500, 1000, 2000)[i // 3 % 6]
        score = 0.97 - 8 / budget + 0.01 * float(rng.normal())
        judged = {"rows": 360, "nonzeros": budget, "score": score, "accuracy": score, "cross_entropy": 0.2}
        found.append(
            {
                "key": f"{i:016x}",
                "trial": {"data": "digits", "method": method, "nonzeros": budget, "seed": i // 18},
                **{"method": method, "status": "max_steps", "nonzeros": budget, "score": score},
                **{"score_name": "accuracy", "seconds": 0.01 * budget, "peak_memory": 10**7 + 10**4 * budget},
                **{"stored_bytes": 6 * budget, "train": judged, "test": judged},
                **{"versions": {"sparelu": "0.1.0"}, "cpu": "a CPU", "threads": 1, "device": "cpu"},
            }
        )
    return found


CHILD = """
import sys, tempfile, time
from pathlib import Path
import torch
from benchmarks.sweeps import planted
from sparelu.experiments.sweeps.sweep import in_process, sweep

torch.set_num_threads(1)
first, step, rows, samples = map(int, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    sweep(planted(rows, 500)[first::step], Path(folder) / "warm.jsonl", engine=in_process)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    sweep(planted(rows, samples)[first::step], Path(folder) / "rows.jsonl", engine=in_process)
    print(time.perf_counter() - start, flush=True)
"""
"""A process that runs every ``step``-th row without an engine, when it is told to."""


def planted(rows: int, samples: int) -> list[Trial]:
    """The planted grid with the published method."""
    given = {"hidden": 20, "nonzeros": 20, "rows": samples, "test_rows": 1000}
    return [Trial("planted", given, method="aiht", hidden=(20,), nonzeros=20, seed=i) for i in range(rows)]


def speedup(rows: int = 8, samples: int = 20_000, repeats: int = 5) -> dict[str, Any]:
    """Wall seconds of the planted grid with one and two joblib workers of one thread, and with plain processes.

    Medians of ``repeats`` runs in turn. Plain processes that start together and share nothing are the physical limit.
    """
    times: dict[str, Any] = {"load": os.getloadavg()[0]}
    walls: dict[str, list[float]] = {}
    for _ in range(repeats):
        for workers in (1, 2):
            walls.setdefault(f"wall{workers}", []).append(_joblib(workers, rows, samples))
            walls.setdefault(f"plain{workers}", []).append(_plain(workers, rows, samples))
    return times | {name: statistics.median(each) for name, each in walls.items()} | {"walls": walls}


def _joblib(workers: int, rows: int, samples: int) -> float:
    engine = joblib_engine(workers)
    with tempfile.TemporaryDirectory() as folder:
        sweep(planted(8, 500), Path(folder) / "warm.jsonl", engine=engine)  # the workers have started
        start = time.perf_counter()
        sweep(planted(rows, samples), Path(folder) / "rows.jsonl", engine=engine)
        return time.perf_counter() - start


def _plain(processes: int, rows: int, samples: int) -> float:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[1]}
    started: list[Any] = []
    for first in range(processes):
        numbers = [str(n) for n in (first, processes, rows, samples)]
        started.append(subprocess.Popen([sys.executable, "-c", CHILD, *numbers], **pipes))
    for child in started:
        child.stdout.readline()
    for child in started:
        child.stdin.write("go\n")
        child.stdin.flush()
    return max(float(child.communicate()[0]) for child in started)


def _milliseconds(rows: Rows) -> str:
    return markdown(
        ["engine", "rows", "wall beyond the fit, ms", "processor beyond the fit, ms", "fit, ms"],
        [(r["engine"], r["rows"], *(1e3 * r[k] for k in ("wall", "processor", "fit"))) for r in rows],
    )


def _listed(rows: Rows) -> str:
    return markdown(
        ["what", "wall, s", "processor, s"],
        [line for r in rows for line in (("read and drawn", r["wall"], r["processor"]),
                                         ("`sparelu report`, with its start", r["command_wall"], r["command"]))],
    )  # fmt: skip


def _sped(rows: Rows) -> str:
    return markdown(
        ["who", "one, s", "two, s", "ratio", "load average before"],
        [
            (name, r[f"{key}1"], r[f"{key}2"], r[f"{key}1"] / r[f"{key}2"], r["load"])
            for r in rows
            for name, key in (("joblib workers", "wall"), ("plain processes", "plain"))
        ],
    )


def _overhead_words(rows: Rows) -> str:
    worst = max(rows, key=lambda r: r["processor"])
    return f"at most {1e3 * worst['processor']:.1f} ms of the processor ({worst['engine']})"


def _listing_words(rows: Rows) -> str:
    return "; ".join(f"{r['processor']:.1f} s of the processor" for r in rows)


def _speedup_words(rows: Rows) -> str:
    return "; ".join(
        f"{r['wall1'] / r['wall2']:.2f}, where two plain processes gain {r['plain1'] / r['plain2']:.2f}" for r in rows
    )


def _benchmark(
    name: str, question: str, text: str, asked: str, function: Any, blocks: Sequence[Any], show: Any, says: Any
) -> Any:
    return Benchmark(
        name=name,
        topic="run",
        question=question,
        text=text,
        full=calls(name, function, blocks[0]),
        quick=calls(name, function, blocks[1]),
        table=show,
        targets={asked: says},
    )


BENCHMARKS = (
    _benchmark(
        "sweep_overhead",
        "What does a row of a sweep cost beyond its fit?",
        """Fits of about a millisecond, rows written and flushed to disk one by one; medians over the rows. The wall
        time of a machine that does other things is theirs too; processor time is the row's own.""",
        "under 20 ms beyond the fit",
        overhead,
        ({"engine": list(ENGINES)}, {"engine": ["in process"], "rows": [50]}),
        _milliseconds,
        _overhead_words,
    ),
    _benchmark(
        "sweep_listing",
        "How long does it take to list and draw 10,000 rows?",
        """The table is read, and figures (PNG and PDF) and the page with chart and sortable table are written.""",
        "under 5 s",
        listing,
        ({"rows": [10_000]}, {"rows": [1_000]}),
        _listed,
        _listing_words,
    ),
    _benchmark(
        "sweep_workers",
        "What does a second worker gain?",
        """The planted grid with the published method, joblib workers of one thread each that are started already, and
        the same rows in plain processes that share nothing: what the machine can give. Wall time, medians of runs in
        turn.""",
        "two workers at least 1.8 times one",
        speedup,
        ({"rows": [8]}, {"rows": [4], "samples": [2_000], "repeats": [1]}),
        _sped,
        _speedup_words,
    ),
)

if __name__ == "__main__":
    run_benchmarks(BENCHMARKS, __doc__, __file__)
