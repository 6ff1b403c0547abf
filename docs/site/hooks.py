"""Pages that nobody writes by hand, for mkdocs: what the code knows of itself becomes a page.

Read ``method_pages`` first; ``api_pages``, ``run_pages`` (examples and notebooks, executed here) and ``architecture``
are the others. Nothing is listed twice: methods come from the catalogue, names from the package, examples from their
folder.
"""

from pathlib import Path
from typing import Any

import api_pages
import architecture
import links
import method_pages
import run_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

COPIES = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "measurements.md": "benchmarks/RESULTS.md",
}
"""Pages of the site that are files of the project, by their name there."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the lists of methods, examples and modules where the navigation names them."""
    made = {"METHODS": method_pages.navigation, "EXAMPLES": run_pages.navigation, "API": api_pages.navigation}
    filled = []
    for item in config.nav or []:
        ((title, entry),) = item.items()
        filled.append({title: made[entry]() if isinstance(entry, str) and entry in made else entry})
    config.nav = _with_every_page(filled)
    return config


def _with_every_page(nav: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the navigation with the pages of docs/ that it does not name at the end of the guides."""
    named = str(nav)
    for page in sorted((ROOT / "docs").glob("*.md")):
        if f"'{page.name}'" not in named:
            title = page.read_text().partition("\n")[0].removeprefix("# ")
            next(item["Guides"] for item in nav if "Guides" in item).append({title: page.name})
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and their pictures."""
    pages: dict[str, str | bytes] = {name: (ROOT / source).read_text() for name, source in COPIES.items()}
    pages |= {f"figures/{p.name}": p.read_bytes() for p in sorted((ROOT / "benchmarks/figures").glob("*.png"))}
    pages |= method_pages.pages() | api_pages.pages() | run_pages.pages()
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is measured at this moment, and turn links to files of the project into pages or names."""
    source = COPIES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return links.resolved(architecture.filled(markdown), source, page.file.src_uri, COPIES)
