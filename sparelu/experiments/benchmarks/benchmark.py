"""A benchmark: a question, a grid of tasks in full and quick, how its rows are shown, and what was published.

Its rows are those of a sweep in the file ``NAME.jsonl`` of a folder; running them is resumable, failures are rows and
never results (:mod:`sparelu.experiments.benchmarks.run`).
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sparelu.experiments.figures.rows import FlatRow
from sparelu.experiments.sweeps.sweep import trial_key
from sparelu.experiments.trials.task import Call, Row, Task

Rows = Sequence[FlatRow]
TOPICS = ("recover", "interpolate", "convex", "train", "compress", "certify", "run")
"""What a benchmark is about: a folder of methods, or ``run`` for what all of them share."""


@dataclass(frozen=True)
class Benchmark:
    """One question that is answered by measurements.

    Args:
        name: of the file of rows, and of the figure.
        topic: one of :data:`TOPICS`.
        question: the heading, one line.
        text: how it is measured, what the published method and the fair baseline are, the source of their numbers.
        full, quick: the tasks; those of ``quick`` take a minute or two at most.
        table: flat rows -> tables in Markdown: ours, the published method, the fair baseline.
        figure: flat rows -> a figure.
        targets: what was asked for -> what the flat rows say of it, in words.
    """

    name: str
    topic: str
    question: str
    text: str
    full: Sequence[Task]
    quick: Sequence[Task]
    table: Callable[[Rows], str]
    figure: Callable[[Rows], Figure] | None = None
    targets: Mapping[str, Callable[[Rows], str]] = field(default_factory=dict)

    def path(self, folder: Path) -> Path:
        """Return the file of rows in ``folder``."""
        return folder / f"{self.name}.jsonl"

    def results(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Return the flat rows of what neither failed nor was refused; settings that came later have their default."""
        asked = {trial_key(task): task.request() for task in (*self.full, *self.quick)}
        own = [row for row in rows if row["status"] not in ("failed", "refused")]
        return [flattened({**row, "trial": asked.get(row["key"], row["trial"])}) for row in own]


def calls(name: str, function: Callable[..., Mapping[str, Any]], *blocks: Mapping[str, Sequence[Any]]) -> list[Call]:
    """Make the calls of a measured function over grids: the lists of a block are multiplied, the blocks are joined."""
    found = (dict(zip(block, values, strict=True)) for block in blocks for values in itertools.product(*block.values()))
    return [Call(name, function, settings) for settings in found]


def flattened(row: Row) -> dict[str, Any]:
    """Return one level of names for the row of any task; of a call: circumstances, settings, results."""
    if "study" not in row["trial"]:
        from sparelu.experiments.report.sweep_report import flat

        return flat(row)
    circumstances = {k: v for k, v in row.items() if k not in ("trial", "measured")}
    return {**circumstances, **row["trial"]["settings"], **row.get("measured", {})}


def markdown(headings: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown; floats to three significant digits, None as a dash."""
    cells = [[_cell(v) for v in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(headings), ["---"] * len(headings), *cells])


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case int():
            return f"{value:,}"
    return str(value)
