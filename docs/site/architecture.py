"""The picture of the floors, drawn from the imports, and figures measured while the site is built."""

import ast
import subprocess
import sys
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE, HOUSE = ROOT / "sparelu", ROOT / "tests/house.py"
WIDTH, BOX, FLOOR, LEFT, ACROSS = 820, 40, 70, 8, 6
"""Measures of the picture in its own units; ``ACROSS`` boxes stand side by side at most."""


def filled(markdown: str) -> str:
    """Return the page with the picture where it is marked, and the table of figures measured anew between its marks."""
    if "<!-- picture of the floors -->" in markdown:
        markdown = markdown.replace("<!-- picture of the floors -->", f'<div class="floors">{_picture()}</div>')
    if "<!-- figures of the house -->" in markdown:
        before, _, rest = markdown.partition("<!-- figures of the house -->")
        markdown = before + _figures() + rest.partition("<!-- end of the figures -->")[2]
    return markdown


def _figures() -> str:
    command = [sys.executable, str(HOUSE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tests/house.py ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wings() -> dict[str, int]:
    """Return the lines of every file and folder directly below the package."""
    lines: Counter[str] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        lines[_wing(path)] += len(path.read_text().splitlines())
    return {name: n for name, n in lines.items() if not name.startswith("__")}


def imported() -> dict[str, set[str]]:
    """Return which others each file or folder of the package imports."""
    names = set(wings())
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in sorted(PACKAGE.rglob("*.py")):
        mine = _wing(path)
        if mine in names:
            found[mine] |= {other for other in _imports(path) if other in names and other != mine}
    return found


def floors() -> list[list[str]]:
    """Return the names by floor, the highest first: each stands one floor above the highest that it imports.

    Names that import each other in a circle share a floor.
    """
    below = imported()
    height = dict.fromkeys(below, 0)
    for _ in below:
        height = {
            name: max((height[o] + (name not in below[o]) for o in others), default=0) for name, others in below.items()
        }
    found = [sorted(name for name in height if height[name] == level) for level in range(max(height.values()) + 1)]
    return [names for names in reversed(found) if names]


def _wing(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sparelu":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def _places() -> dict[str, tuple[float, float, float]]:
    """Return left edge, top edge and width of every box."""
    places = {}
    rows = [names[i : i + ACROSS] for names in floors() for i in range(0, len(names), ACROSS)]
    for row, names in enumerate(rows):
        width = min((WIDTH - 2 * LEFT) / len(names) - 12, 170)
        start = (WIDTH - len(names) * (width + 12) + 12) / 2
        places |= {name: (start + i * (width + 12), 8 + row * FLOOR, width) for i, name in enumerate(names)}
    return places


def _picture() -> str:
    places, lines = _places(), wings()
    parts = []
    for name, others in sorted(imported().items()):
        x, y, w = places[name]
        for other in sorted(others):
            a, b, v = places[other]
            if b > y:
                parts.append(f'<path d="M{x + w / 2:.0f} {y + BOX} L{a + v / 2:.0f} {b:.0f}"/>')
    for name, (x, y, w) in places.items():
        kind = "folder" if (PACKAGE / name).is_dir() else "file"
        shown = f"{name}/" if kind == "folder" else name
        middle = x + w / 2
        parts += [
            f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{w:.1f}" height="{BOX}" rx="6"/>',
            f'<text x="{middle:.1f}" y="{y + 18}">{escape(shown)}</text>',
            f'<text class="small" x="{middle:.1f}" y="{y + 32}">{lines[name]:,} lines</text>',
        ]
    height = max(y for _, y, _ in places.values()) + BOX + 8
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The floors of the package: imports point down">'
        f"{''.join(parts)}</svg>"
    )
