"""Text is data: names of columns, classes, files and folders are nowhere taken for markup, code or formulas."""

import csv
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sparelu.cli.__main__ import app
from sparelu.cli.session import OK, USAGE, harmless
from tests.cli.runs import invoke, sign_run
from tests.experiments.toys import Shrunk, make_known

HURT = (
    *("[/b]", "[red]a", ":smile:", "[link=x]y", "=1+1", "@SUM(A1)", "-2+3", "+a", "a,b", 'a"b', "a;b"),
    *("<script>x</script>",
    '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "{% if %}", "*/ int x; /*", "??/", "\\", "\\x"),
    *("$\\frac{$", "$$x$$", "%s%n", "{0}", "\x1b[2J", "\u202eabc", "ä", "名前", "\N{SNAKE}", "a\tb", "_hidden", "None"),
    *("nan", "&amp;", "'; --", "#NAME?"),
)  # fmt: skip
PLAIN = tuple(f"c{i}" for i in range(len(HURT)))


class Tags(HTMLParser):
    """The tags of a page with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attributes)))


def write(path: str, names: tuple[str, ...], target: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, len(names)))
    with Path(path).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, target])
        table.writerows(np.column_stack([x, x[:, 0] + x[:, 1]]).tolist())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_known(monkeypatch, Shrunk)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(*arguments: str) -> str:
    done = invoke(*arguments)
    assert done.exit_code == OK, done.output
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    return done.stdout


def used(names: tuple[str, ...], target: str, data: str, run: str) -> dict[str, str]:
    """What each command printed of a fit of a table with these names, and its report."""
    write(data, names, target)
    fit = ("fit", data, "--target", target, "--method", "shrunk", "--hidden", "40", "--nonzeros", "40", "--out", run)
    said = {"fit": ran(*fit), "show": ran("show", run, "--all"), "certify": ran("certify", run)}
    said["compress"] = ran("compress", run, "--neurons", "40", "--method", "merge", "--out", f"{run} small")
    said["predict"] = ran("predict", run, data)
    for kind in ("c", "onnx", "numpy"):
        ran("export", run, "--format", kind)
    ran("report", run)
    return said | {"page": Path(run, "report.html").read_text()}


def test_names_are_data_for_every_command(folder: Path) -> None:
    plain = used(PLAIN, "y", "d.csv", "run")
    said = used(HURT, "=[/i]<b>*/", "[bold]d$$.csv", "[red]r u n&")
    for name in HURT:
        assert harmless(name.split()[0]) in said["show"], name
    assert next(csv.reader(io.StringIO(said["predict"]))) == ["'=[/i]<b>*/"]
    assert said["predict"].splitlines()[1:] == plain["predict"].splitlines()[1:]
    assert Tags(said["page"]).found == Tags(plain["page"]).found, "no name is a tag or an attribute"
    assert "$$x$$" not in said["page"].partition("<script")[2], "no name is a formula"
    header = Path("[red]r u n&", "export", "network.h").read_text()
    assert header.count("*/") == Path("run", "export", "network.h").read_text().count("*/")
    assert header.isascii()
    if shutil.which("cc"):
        source = str(Path("[red]r u n&", "export", "network.c").absolute())
        subprocess.run(["cc", "-std=c99", "-trigraphs", "-Wall", "-fsyntax-only", source], check=True)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(Path("[red]r u n&", "export", "network.onnx"))
    assert {p.key: json.loads(p.value) for p in model.metadata_props}["names"] == list(HURT)
    wrong = invoke("predict", "[red]r u n&", "[/b]\x1b[2J.csv")
    assert wrong.exit_code == USAGE
    assert "[/b]" in wrong.stderr
    assert "\x1b" not in wrong.output


def test_labels_are_data(folder: Path) -> None:
    Path("d.csv").write_text("a,b\n1,1\n-1,1\n")
    for i, name in enumerate(HURT):
        run = str(sign_run(Path(f"run{i}"), ("a", "b"), ("no", name), target=name, data=name))
        rows = list(csv.reader(io.StringIO(CliRunner().invoke(app, ["predict", run, "d.csv"]).stdout)))
        cell = f"'{name}" if name[0] in "=+-@\t" else name
        assert rows == [[cell], [cell], ["no"]], "what a spreadsheet would compute is marked as text"
    for kind in ("c", "onnx"):
        ran("export", run, "--format", kind)
    assert harmless(name) in ran("show", run)


def test_a_sweep_and_its_board_take_names_as_data(folder: Path) -> None:
    pages = []
    for name, target in (("d.csv", "y"), ("$\\frac{$[red]<i>.csv", "=y</script>")):
        write(name, HURT, target)
        grid = {"data": name, "target": target, "method": "shrunk", "hidden": 40, "nonzeros": [5, 10]}
        lines = [f"{key} = {json.dumps(value)}" for key, value in grid.items()]
        Path("grid.toml").write_text("\n".join(["[[trials]]", *lines, "settings.shrunk = { shrink = [0.5, 1.0] }"]))
        table = f"{name}.jsonl"
        assert harmless(name)[:5] in ran("sweep", "grid.toml", "--out", table, "--workers", "1")
        ran("report", table)
        pages.append(Path(f"{table}-report", "board.html").read_text())
    plain, hurt = pages
    assert Tags(hurt).found == Tags(plain).found
