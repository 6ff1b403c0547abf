"""The page of all measurements: RESULTS.md with its figures, from the rows that are kept.

    python benchmarks/board.py                                    writes the page; runs nothing
    python benchmarks/board.py --run [NAME ...] [--limit-minutes 60] [--rerun] [--workers 2]
    python benchmarks/board.py --run --quick                      small grids, into runs/benchmarks-quick/

Every other file of this folder that declares BENCHMARKS is on the page. Quick rows, their page and figures stay in
their own folder, so that nothing that took hours is overwritten by minutes.
"""

import argparse
import importlib.util
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from sparelu.experiments.benchmarks.benchmark import TOPICS, Benchmark, markdown
from sparelu.experiments.benchmarks.run import add_options, folder_of, run_all
from sparelu.experiments.figures.curves import STYLE
from sparelu.experiments.sweeps.sweep import Table, trial_key
from sparelu.experiments.trials.task import Row
from sparelu.writing import write_atomically

HERE = Path(__file__).parent
HEADINGS = {
    "recover": "Which sparse network made these data?",
    "interpolate": "Which is the sparsest network through these points?",
    "convex": "Which network is optimal, and how far is this one from it?",
    "train": "How does a network become sparse while it learns?",
    "compress": "Can fewer neurons say the same?",
    "certify": "What may be claimed of this network?",
    "run": "What do all methods share?",
}
DOTS = 130
COLOURS = 256


@dataclass(frozen=True)
class Section:
    """A benchmark, the command that runs it, and the rows that are kept."""

    benchmark: Benchmark
    command: str
    rows: list[Row]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The flat rows that have results."""
        return self.benchmark.results(self.rows)


def declared(folder: Path = HERE) -> dict[str, Sequence[Benchmark]]:
    """The benchmarks of every file of ``folder`` that declares some."""
    sys.path.insert(0, str(folder))  # a file may use the measured function of another
    found = {}
    for path in sorted(folder.glob("*.py")):
        if path.name != Path(__file__).name and "BENCHMARKS" in path.read_text():
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module  # so that worker processes find its functions by name
            spec.loader.exec_module(module)
            found[path.name] = module.BENCHMARKS
    return found


def sections(rows: Path) -> list[Section]:
    """All benchmarks in the order of their topics, with their rows in the folder ``rows``."""
    found = []
    for file, own in declared().items():
        for b in own:
            command = f"python benchmarks/{file}" + (f" {b.name}" if len(own) > 1 else "")
            found.append(Section(b, command, Table(b.path(rows)).rows()))
    return sorted(found, key=lambda section: TOPICS.index(section.benchmark.topic))


def write_page(rows: Path, page: Path, quick: bool) -> None:
    """Write ``page`` and the figures beside it, in ``figures/``."""
    own = sections(rows)
    parts = [introduction(own, quick), summary(own)]
    for topic in TOPICS:
        chosen = [section for section in own if section.benchmark.topic == topic]
        if chosen:
            parts.append(f"## {HEADINGS[topic]}")
            parts += [text_of(section, page.parent / "figures", quick) for section in chosen]
    write_atomically(page, ("\n\n".join(parts) + "\n").encode())


def introduction(own: Sequence[Section], quick: bool) -> str:
    """What the page is, and on what it was measured."""
    rows = [row for section in own for row in section.rows]
    command = "make benchmarks-quick" if quick else "make benchmarks"
    parts = [
        "# Measurements",
        f"""Written by `python benchmarks/board.py` from the kept rows; `{command}` measures what is missing. Ratios are
        of numbers from the same row, that is, from the same run. Times are seconds of the processor unless a heading
        says otherwise. How to read and extend this: [README.md](README.md).""",
    ]
    if rows:
        days = sorted(row["finished"][:10] for row in rows)
        hours = sum(row.get("processor_seconds", 0.0) for row in rows) / 3600
        versions = spoken(", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows)
        parts.append(
            f"""{len(rows):,} rows, {days[0]} to {days[-1]}, {hours:.1f} processor hours recorded, on
            {spoken(row["cpu"] for row in rows)} shared with other work; {versions}."""
        )
    if carried := sum(bool(row.get("carried")) for row in rows):
        parts.append(
            f"""{carried:,} of them were measured before rows said their circumstances: their commit is the one that
            kept them, their versions and processor are those of the machine that carried them over."""
        )
    return "\n\n".join(" ".join(part.split()) for part in parts)


def spoken(values: Iterable[Any]) -> str:
    """Different values, in the order of first appearance."""
    return "; ".join(dict.fromkeys(str(v) for v in values if v)) or "not recorded"


def summary(own: Sequence[Section]) -> str:
    """One line for each target."""
    lines = []
    for section in own:
        name = f"[{section.benchmark.question}](#{anchor(section.benchmark.question)})"
        lines += [(name, asked, measured) for asked, measured in judged(section)]
    return "## Asked and measured\n\n" + markdown(["question", "asked", "measured"], lines)


def anchor(heading: str) -> str:
    """The address of a heading on the page."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def judged(section: Section) -> list[tuple[str, str]]:
    """What was asked and what the rows say."""
    rows = section.results
    return [(asked, say(rows) if rows else "not measured yet") for asked, say in section.benchmark.targets.items()]


def text_of(section: Section, figures: Path, quick: bool) -> str:
    """One section: how it was measured, the tables, the figure, the target, and how to repeat it."""
    benchmark, rows = section.benchmark, section.results
    parts = [f"### {benchmark.question}", " ".join(cleandoc(benchmark.text).split())]
    if rows:
        parts.append(benchmark.table(rows))
    if rows and benchmark.figure is not None:
        try:
            write_png(benchmark.figure(rows), figures / f"{benchmark.name}.png")
            parts.append(f"![{benchmark.question}](figures/{benchmark.name}.png)")
        except ValueError as error:  # a few rows may have nothing to draw
            parts.append(f"No figure yet: {error}.")
    parts.append(markdown(["asked", "measured"], judged(section)))
    return "\n\n".join([*parts, provenance(section, quick)])


def provenance(section: Section, quick: bool) -> str:
    """The command, how much of the grid is there, when and at which commits it was measured, and what failed."""
    benchmark, rows = section.benchmark, section.rows
    own = len({trial_key(task) for task in (benchmark.quick if quick else benchmark.full)} & {r["key"] for r in rows})
    wanted = len(benchmark.quick if quick else benchmark.full)
    says = [f"`{section.command}{' --quick' if quick else ''}`"]
    says.append(f"{own} of {wanted} rows of the grid" + (f", {len(rows) - own} others" if len(rows) > own else ""))
    if rows:
        days = sorted({row["finished"][:10] for row in rows})
        says.append("measured " + (days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"))
        says.append(f"commits {spoken(row.get('commit') for row in rows)}")
        says.append(f"threads: {spoken(row.get('threads') for row in rows)}")
    text = "; ".join(says) + "."
    for row in rows:
        if row["status"] in ("failed", "refused"):
            text += f"\n- {row['status']}: {settings(row)}: {row['error'].splitlines()[0]}"
    return text


def settings(row: Row) -> str:
    """The settings of a row in words."""
    asked = row["trial"].get("settings", {}) if "study" in row["trial"] else row["trial"]
    return ", ".join(f"{k} {v}" for k, v in asked.items())


def write_png(figure: Figure, path: Path) -> None:
    """A small file: the same figure gives the same bytes."""
    content, small = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="png", dpi=DOTS)
    image = Image.open(content).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, small.getvalue())


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these benchmarks are run (default: all)")
    parser.add_argument("--run", action="store_true", help="run what is missing first")
    add_options(parser)
    options = parser.parse_args()
    rows = folder_of(options, HERE)
    every = [b for own in declared().values() for b in own]
    for name in set(options.names) - {b.name for b in every}:
        parser.error(f"there is no benchmark {name!r}; there are {', '.join(b.name for b in every)}")
    page = HERE / "RESULTS.md" if rows == HERE / "results" else rows / "RESULTS.md"
    try:
        if options.run:
            run_all([b for b in every if not options.names or b.name in options.names], rows, options)
    finally:
        write_page(rows, page, options.quick)
        print(page)


if __name__ == "__main__":
    main()
