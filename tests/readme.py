"""Run every command and program of README.md and of docs/, as a reader would, page by page.

Each page has a folder with the files that it speaks of (see ``write_files``). Commands of a ``bash`` block run one by
one; the Python blocks of a page run in their order and see each other's names; a ``toml`` block is written to
``GRID.toml`` first. A block that the comment ``<!-- not run: REASON -->`` stands before is left out, and the reason
printed. The first failure ends with its output.

    python tests/readme.py [PAGE ...]
"""

import contextlib
import io
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "add_a_method.md")]
"""All pages but one, whose files are run by ``tests/test_adding.py``."""
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*) -->\n+)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^ *```",
    re.M | re.S,
)
ELSEWHERE = ("make ", "pip install", "git clone", "cd ")
"""Commands that set up or test the project itself: the continuous integration has run them before this."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and why it is not run, if so."""

    language: str
    text: str
    reason: str | None


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page in their order."""
    for found in BLOCK.finditer(page):
        lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
        yield Block(found["language"], "\n".join(lines) + "\n", found["reason"])


def commands(text: str) -> list[str]:
    """Return the commands of a ``bash`` block: comments gone, continued lines joined."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith(ELSEWHERE)]


def write_files(folder: Path) -> None:
    """Write the files that pages speak of: tables with the columns that their commands name."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5))
    price = np.maximum(x[:, 0], 0) - 2 * np.maximum(x[:, 1] - 0.3, 0) + 0.1 * rng.standard_normal(200)
    for name, columns in {"data.csv": np.c_[x, price], "new.csv": x[:20]}.items():
        names = [f"x{i}" for i in range(5)] + ["price"]
        np.savetxt(folder / name, columns, delimiter=",", header=",".join(names[: columns.shape[1]]), comments="")
    many = rng.standard_normal((2000, 5))
    table = {f"x{i}": column for i, column in enumerate(many.T)} | {"y": np.maximum(many[:, 0] - many[:, 1], 0)}
    pq.write_table(pa.table(table), folder / "rows.parquet")


def run_command(line: str, folder: Path) -> None:
    """Run one command in ``folder``; leave with its output when it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{line}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")


def run_python(text: str, names: dict[str, object], where: str) -> None:
    """Run a program whose names are ``names``; leave with its output when it fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(text, where, "exec"), names)  # the program of the page, as it stands there
    except Exception:
        raise RuntimeError(f"{where}:\n{text}\n{said.getvalue()}{traceback.format_exc()}") from None


@dataclass(frozen=True)
class Chain:
    """The commands of a page, or its Python blocks, which run in their order in one folder."""

    page: Path
    language: str

    def run(self) -> str:
        """Run them; return a line that says how many ran, in how many processor seconds, and why some did not."""
        count, reasons, names, start = 0, [], {"__name__": "__main__"}, processor_seconds()
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            write_files(Path(place))
            for block in blocks(self.page.read_text()):
                if block.language == "toml":
                    Path("GRID.toml").write_text(block.text)
                if block.language != self.language:
                    continue
                if block.reason:
                    reasons.append(block.reason)
                elif self.language == "python":
                    run_python(block.text, names, f"<{self.page.name}>")
                    count += 1
                else:
                    count += run_commands(commands(block.text), Path(place))
        spent = processor_seconds() - start
        line = f"{self.page.relative_to(ROOT)}, {self.language}: {count} ran in {spent:.0f} processor seconds"
        return "\n  not run: ".join([line, *reasons])


def run_commands(lines: list[str], folder: Path) -> int:
    """Run commands in their order; return how many."""
    for line in lines:
        start = processor_seconds()
        run_command(line, folder)
        print(f"  {processor_seconds() - start:5.1f} s  {line}")
    return len(lines)


def processor_seconds() -> float:
    """Return what this process and the commands it ran have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def chains(pages: list[Path]) -> list[Chain]:
    """Return what is to be run, commands first: they take longest."""
    found = [Chain(page, language) for language in ("bash", "python") for page in pages]
    return [c for c in found if any(block.language == c.language for block in blocks(c.page.read_text()))]


def main(pages: list[Path]) -> None:
    """Run all pages, two at a time, each on one thread."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    start = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for line in pool.map(Chain.run, chains(pages)):
            print(line, flush=True)
    print(f"all in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]] or PAGES)
