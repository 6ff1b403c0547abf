"""The gallery of examples and the notebooks: each is run while the site is built, and shows what it gave."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
EXAMPLES, NOTEBOOKS = ROOT / "examples", ROOT / "docs/tutorials"
KEPT = ROOT / "build/run_pages"
"""What was run before, by the text of the program and of the whole package: a build after no change runs nothing."""


def navigation() -> list[Any]:
    """Return the entries of the navigation."""
    return ["examples/index.md", *({_title(p)[0]: f"examples/{p.stem}.md"} for p in sorted(EXAMPLES.glob("*.py")))]


def pages() -> dict[str, str | bytes]:
    """Return the pages of all examples and notebooks, and their pictures, by file name."""
    found: dict[str, str | bytes] = {"examples/index.md": _index()}
    for program in sorted(EXAMPLES.glob("*.py")):
        found |= _example(program)
    for notebook in sorted(NOTEBOOKS.glob("*.py")):
        found |= _notebook(notebook)
    return found


def _folder(program: Path) -> Path:
    """Return the folder of what this program gave, empty when it or the package changed since."""
    digest = hashlib.sha256(program.read_bytes() + Path(__file__).read_bytes())
    for path in sorted((ROOT / "sparelu").rglob("*.py")):
        digest.update(path.read_bytes())
    folder = KEPT / f"{program.stem}-{digest.hexdigest()[:12]}"
    if not (folder / "done").exists():
        for old in KEPT.glob(f"{program.stem}-*"):
            shutil.rmtree(old)
        folder.mkdir(parents=True)
    return folder


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "COLUMNS": "100"}


def _title(program: Path) -> tuple[str, str]:
    """Return the title of an example (its file name in words) and what its docstring says."""
    text = re.match(r'"""(.*?)"""', program.read_text(), flags=re.DOTALL)
    said = text[1].partition("\n\nRun:")[0].strip() if text else ""
    return program.stem.replace("_", " ").capitalize(), " ".join(said.split())


def _index() -> str:
    lines = [
        "# Examples",
        "",
        "Every program is run while this site is built; what it printed is shown with it.",
        "",
    ]
    for program in sorted(EXAMPLES.glob("*.py")):
        title, said = _title(program)
        lines += [f"### [{title}]({program.stem}.md)", "", said, ""]
    return "\n".join(lines)


def _example(program: Path) -> dict[str, str | bytes]:
    folder = _folder(program)
    if not (folder / "done").exists():
        command = [sys.executable, str(program)]
        done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        (folder / "done").write_text(done.stdout)
    title, said = _title(program)
    pictures = sorted(folder.glob("*.png"))
    parts = [
        f"# {title}",
        said,
        "## What it prints",
        f"```text\n{(folder / 'done').read_text()}```",
        *(f"![{title}]({program.stem}-{p.name})" for p in pictures),
        "## The program",
        f"`python examples/{program.name}`",
        f"```python\n{program.read_text()}```",
    ]
    page: dict[str, str | bytes] = {f"examples/{program.stem}.md": "\n\n".join(parts) + "\n"}
    return page | {f"examples/{program.stem}-{p.name}": p.read_bytes() for p in pictures}


def _notebook(source: Path) -> dict[str, str | bytes]:
    folder = _folder(source)
    kept = folder / "done"
    if not kept.exists():
        notebook = jupytext.read(source)
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=_environment() | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"})
        kept.write_text(nbformat.writes(notebook))
    notebook = nbformat.reads(kept.read_text(), as_version=4)
    name = source.stem
    found: dict[str, str | bytes] = {f"tutorials/{name}.ipynb": kept.read_bytes()}
    parts = [_cell_text(cell, name, found) for cell in notebook.cells]
    parts.insert(1, f"*A notebook, run while this site was built: [{name}.ipynb]({name}.ipynb).*")
    found[f"tutorials/{name}.md"] = "\n\n".join(parts) + "\n"
    return found


def _cell_text(cell: Any, name: str, files: dict[str, str | bytes]) -> str:
    if cell.cell_type != "code":
        return str(cell.source)
    parts = [f"```python\n{cell.source}\n```"]
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = f"{name}-{len(files)}.png"
            files[f"tutorials/{picture}"] = base64.b64decode(data["image/png"])
            parts.append(f"![what the program above draws]({picture})")
        elif "text/html" in data:
            parts.append(f'<div class="output" markdown="0">\n{data["text/html"]}\n</div>')
        elif text := output.get("text") or data.get("text/plain"):
            parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)
