"""The figures of the house: is it still one that a stranger finds his way in? Run as a script, it prints a table.

    python tests/house.py

Counted on the source alone, but for the files that a method needs, which are those that importing it reads.
"""

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE, TESTS = ROOT / "sparelu", ROOT / "tests"
Function = ast.FunctionDef | ast.AsyncFunctionDef

NEEDED = {
    "RigL in a user's loop": ("from sparelu.train import RigL; RigL", 8),
    "few-weights": ("from sparelu.interpolate.few_weights import FewWeights", 10),
    "population": ("from sparelu.compress.population import Population", 12),
}
"""What a method is imported by, and the files of the package that this may read."""
VERBS = frozenset((TESTS / "verbs.txt").read_text().split())
"""Verbs that docstrings open with; "return" and its like, not "the" and "number of"."""


@dataclass(frozen=True)
class Source:
    """One file: its path, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def sources(folder: Path) -> list[Source]:
    """Read the files below a folder."""
    texts = {path: path.read_text() for path in sorted(folder.rglob("*.py"))}
    return [Source(path, text, ast.parse(text)) for path, text in texts.items()]


def folder_sizes(files: Iterable[Source]) -> dict[str, int]:
    """Count the files of each folder, ``__init__`` left out."""
    counted = Counter(s.path.parent.relative_to(PACKAGE).as_posix() for s in files if s.path.name != "__init__.py")
    return dict(counted)


def files_needed(statement: str) -> list[str]:
    """Return the modules of the package that a statement imports in a fresh process, packages with no code left out."""
    code = f"import sys\n{statement}\nprint(*sorted(m for m in sys.modules if m.startswith('sparelu.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return [name for name in done.stdout.split() if not (PACKAGE.parent / name.replace(".", "/")).is_dir()]


def lengths(files: Iterable[Source]) -> list[int]:
    """Return the lines of every function, from ``def`` to its last."""
    return [(f.end_lineno or f.lineno) - f.lineno + 1 for s in files for f in s.functions]


def numeric_constants(source: Source) -> list[str]:
    """Return the names at the level of the module that are bound to numbers written there."""
    found = []
    for node in source.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_number(value):
                found.append(name)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                pairs = zip(names, values, strict=False)
                found += [n.id for n, v in pairs if isinstance(n, ast.Name) and _is_number(v)]
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None and _is_number(value):
                found.append(name)
    return found


def _is_number(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case ast.UnaryOp(operand=operand):
            return _is_number(operand)
        case ast.BinOp(left=left, right=right):
            return _is_number(left) and _is_number(right)
    return False


def openings(files: Iterable[Source]) -> dict[str, str]:
    """Return the first word of every docstring of a function or method, lower case, by where it is."""
    found = {}
    for s in files:
        for f in s.functions:
            if text := ast.get_docstring(f):
                word = re.match(r"[\w'-]+", text)
                where = f"{s.path.relative_to(ROOT)}:{f.lineno} {f.name}"
                found[where] = word.group().lower() if word else ""
    return found


def without_a_verb(files: Iterable[Source]) -> dict[str, str]:
    """Return the docstrings whose first word is no verb, by where they are."""
    return {where: word for where, word in openings(files).items() if word not in VERBS}


def homonyms(files: Iterable[Source]) -> dict[str, list[str]]:
    """Return the names of public functions and classes that several modules define, with these modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for s in files:
        for node in s.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith(
                "_"
            ):
                places[node.name].append(s.path.relative_to(ROOT).as_posix())
    return {name: where for name, where in sorted(places.items()) if len(set(where)) > 1}


def checks_per_test(files: Iterable[Source]) -> float:
    """Return the mean number of ``assert``, ``assert_...``, ``raises`` and ``warns`` in functions ``test_...``."""
    counts = []
    for s in files:
        for f in s.functions:
            if f.name.startswith("test_"):
                counts.append(sum(map(_is_check, ast.walk(f))))
    return statistics.mean(counts)


def _is_check(node: ast.AST) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in ("raises", "warns") or name.startswith("assert_")
    return False


def figures() -> list[tuple[str, str, str]]:
    """Return the rows of the table: what is counted, what it came to, and what was wanted."""
    package, tests = sources(PACKAGE), sources(TESTS)
    sizes = folder_sizes(package)
    outside = {folder: n for folder, n in sizes.items() if not 5 <= n <= 14}
    small = [s for s in package if "recover" not in s.path.parts]
    said, silent = openings(package), without_a_verb(package)
    p95 = statistics.quantiles(lengths(package), n=20)[-1]
    constants = sum(len(numeric_constants(s)) for s in small) / len(small)
    rows = [("folders with 5 to 14 files", f"{len(sizes) - len(outside)} of {len(sizes)} {outside or ''}", "all")]
    rows += [
        (f"files that {name} needs", str(len(files_needed(statement))), f"at most {most}")
        for name, (statement, most) in NEEDED.items()
    ]
    return [
        *rows,
        ("lines of a function, 95%", f"{p95:.0f}", "at most 26"),
        ("numeric constants a file outside recover/", f"{constants:.2f}", "below 0.5"),
        ("docstrings that open without a verb", f"{len(silent) / len(said):.0%} of {len(said)}", "below 10%"),
        ("public names that several modules define", str(len(homonyms(package))), "0"),
        ("checks a test", f"{checks_per_test(tests):.2f}", "at least 2.6"),
    ]


def main() -> None:
    """Print the table in Markdown."""
    print("| | measured | wanted |\n|---|---|---|")
    for what, measured, wanted in figures():
        print(f"| {what} | {measured} | {wanted} |")


if __name__ == "__main__":
    main()
