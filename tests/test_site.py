"""The site: a page for every method that says when to use it, links, the picture of the floors, blocks of pages."""

import sys
from pathlib import Path

import pytest

from sparelu.catalogue import METHODS
from sparelu.method import settings_of
from tests.readme import PAGES, blocks, commands

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs/site"))

import architecture
import check_offline
import docstrings
import links
import method_pages


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return method_pages.pages()


def test_every_method_has_a_page_and_a_line_in_the_index(pages: dict[str, str]) -> None:
    assert set(pages) == {"methods/index.md"} | {f"methods/{name}.md" for name in METHODS}
    assert all(f"[{name}]({name}.md)" in pages["methods/index.md"] for name in METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_paper_settings_advice_and_what_the_method_takes(name: str, pages: dict[str, str]) -> None:
    text, method = pages[f"methods/{name}.md"], METHODS[name]
    assert method.paper in text
    assert all(f"`--{s.name.replace('_', '-')}`" in text for s in settings_of(method))
    assert "When to use it" in text, "its docstring has no paragraph that begins with 'Use it '"
    assert "When not" in text, "its docstring has no paragraph that begins with 'Not '"
    assert "| yes |" in text, "it takes none of the data of the page"
    assert ":class:" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see :func:`~a.b.c` and ``x``", "see `c` and `x`"),
        (":mod:`.kinks`", "`kinks`"),
        ("plain `code` stays", "plain `code` stays"),
    ],
)
def test_roles_become_code(text: str, shown: str) -> None:
    assert docstrings.as_markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](docs/tuning.md#x)", "[a](tuning.md#x)"),
        ("[code](sparelu/run.py)", "code (`sparelu/run.py`)"),
        ("[`Makefile`](Makefile)", "`Makefile`"),
        ("[out](https://example.org)", "[out](https://example.org)"),
        ("[here](#place)", "[here](#place)"),
        ("![f](benchmarks/figures/a.png)", "![f](figures/a.png)"),
        ("[m](benchmarks/RESULTS.md)", "[m](measurements.md)"),
    ],
)
def test_links_lead_to_pages_or_name_files(text: str, shown: str) -> None:
    assert links.resolved(text, "README.md", "index.md", {"measurements.md": "benchmarks/RESULTS.md"}) == shown


def test_links_of_a_deeper_page_are_relative_to_it() -> None:
    shown = links.resolved("[a](../tuning.md)", "docs/tutorials/a.md", "tutorials/a.md", {})
    assert shown == "[a](../tuning.md)"


def test_floors_stand_above_what_they_import() -> None:
    below = architecture.imported()
    floor = {name: i for i, names in enumerate(architecture.floors()) for name in names}
    assert set(floor) == set(below)
    for name, others in below.items():
        for other in others:
            assert floor[other] > floor[name] or name in below[other]
    assert floor["cli"] == 0
    assert "cli" not in set().union(*below.values())


def test_the_picture_has_every_wing() -> None:
    text = architecture.filled("before <!-- picture of the floors --> after")
    assert text.startswith("before <div")
    assert all(f">{name}/<" in text or f">{name}<" in text for name in architecture.wings())


def test_the_figures_of_the_house_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture, "_figures", lambda: "new")
    page = "a <!-- figures of the house --> old <!-- end of the figures --> b"
    assert architecture.filled(page) == "a new b"
    assert architecture.filled("a b") == "a b"
    kept = (Path(__file__).parents[1] / "docs/architecture.md").read_text()
    assert "| wanted |" not in architecture.filled(kept), "the page would show two tables"


def test_a_site_that_loads_from_elsewhere_or_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<h1 id="top">x</h1><a href="#top">x</a><a href="https://example.org">x</a>')
    assert check_offline.problems(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<script src="https://example.org/a.js"></script><img src="gone.png"><a href="good.html#gone">x</a>'
    )
    (tmp_path / "bad.css").write_text("@font-face { src: url(https://example.org/font.woff) }")
    said = "\n".join(check_offline.problems(tmp_path))
    assert "bad.html: loads https://example.org/a.js" in said
    assert "leads to gone.png, which is not there" in said
    assert "leads to good.html#gone, which has no such place" in said
    assert "bad.css: loads" in said
    assert len(said.splitlines()) == 4


PAGE = """
```bash
sparelu fit a --x 1   # a comment
make test
sparelu fit \\
  b
```

<!-- not run: takes an hour -->
```python
slow()
```
1. indented

   ```python
   quick()
   ```
"""


def test_blocks_of_a_page_are_found_with_their_reasons() -> None:
    bash, slow, quick = blocks(PAGE)
    assert commands(bash.text) == ["sparelu fit a --x 1", "sparelu fit b"]
    assert (slow.language, slow.reason) == ("python", "takes an hour")
    assert (quick.text, quick.reason) == ("quick()\n", None)


def test_every_block_of_the_pages_has_a_language() -> None:
    fences = [
        line.strip() for page in PAGES for line in page.read_text().splitlines() if line.strip().startswith("```")
    ]
    assert fences
    assert fences[1::2] == ["```"] * (len(fences) // 2)
    assert "```" not in fences[::2]
