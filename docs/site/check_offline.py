"""Check a built site: every link leads to a file and an anchor of the site, and nothing is loaded from elsewhere.

python docs/site/check_offline.py build/site
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
"""Elements whose address the browser loads by itself."""
IGNORED = {"canonical", "prev", "next", "alternate", "edit"}


class Page(HTMLParser):
    """Collects what a page loads, where it leads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of one element."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in IGNORED:
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])


def problems(site: Path) -> list[str]:
    """Return what is wrong with the site, a line for each problem."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for url in {*page.loaded, *page.leads}:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or name.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name}: leads to {url}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: leads to {url}, which has no such place")
    for path in sorted(site.rglob("*.css")):
        found += [
            f"{path.relative_to(site)}: loads {url}"
            for url in re.findall(r"url\([\"']?(https?:[^)]+)", path.read_text())
        ]
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print(*wrong, f"{len(wrong)} problems in {sys.argv[1]}", sep="\n")
    sys.exit(bool(wrong))
