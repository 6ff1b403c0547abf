"""Run the commands and the Python of README.md, as a reader would. Called by the continuous integration.

Blocks marked ``bash`` run at the root of the project (``make test`` is left out: it has run), Python blocks in an
empty folder. The first failure ends with its output.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run(command: list[str], folder: Path) -> None:
    """Run a command; leave with its output when it fails."""
    bin_folder = ROOT / ".venv" / "bin"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"README: {' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Run every block."""
    text = (ROOT / "README.md").read_text()
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks(text, "bash"):
            lines = [line.partition("#")[0].strip() for line in block.splitlines()]
            for line in filter(None, lines):
                if line.startswith(("make test", "git clone", "cd ", "pip install")):
                    continue
                run(["bash", "-c", line], ROOT if line.startswith("make") else Path(folder))
                count += 1
        for block in blocks(text, "python"):
            run([str(ROOT / ".venv" / "bin" / "python"), "-c", block], Path(folder))
            count += 1
    print(f"README: {count} commands and programs ran")


main()
