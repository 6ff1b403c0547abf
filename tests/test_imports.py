"""Imports point down only, in the order of LEVELS."""

import ast
from pathlib import Path

import pytest

import sparelu

ROOT = Path(sparelu.__file__).parent
LEVELS = [
    ("cli",),
    ("experiments", "estimators", "export", "datasets"),
    ("catalogue",),
    ("recover", "interpolate", "convex", "train", "compress", "certify"),
    ("run", "nn"),
    ("method", "store", "identifiability", "oracle_sources"),
    ("solution_form",),
    ("outcome", "oracle"),
    ("oracle_cache",),
    ("data",),
    ("budget",),
    ("networks", "moments", "columns"),
    ("gaussian", "topk", "runtime", "settings", "plugins", "digest", "json_form", "writing"),
]
"""Folders and files of one line never import each other, but for those of TOGETHER."""
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}
TOGETHER = {"method", "store", "oracle_sources", "experiments", "datasets", "export", "estimators"}


def imports(path: Path) -> set[str]:
    """First names below ``sparelu`` that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sparelu"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def violations(path: Path, mine: str) -> list[str]:
    """Imports of ``path`` that do not point down."""
    below = [n for n in imports(path) if n != mine and n in LEVEL]
    return [n for n in below if LEVEL[n] < LEVEL[mine] or (LEVEL[n] == LEVEL[mine] and n not in TOGETHER)]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if mine in ("__init__", "__main__"):
        return
    assert mine in LEVEL, f"{mine} has no place in the layers of the design"
    assert violations(path, mine) == []


def test_a_wrong_import_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from sparelu.catalogue import METHODS\n    from sparelu import cli\n")
    assert sorted(violations(bad, "recover")) == ["catalogue", "cli"]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
