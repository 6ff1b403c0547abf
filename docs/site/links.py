"""Links of the documentation that point at files of the project, which are no pages of the site."""

import posixpath
import re

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def resolved(markdown: str, source: str, page: str, copies: dict[str, str]) -> str:
    """Return the text of the page ``page`` whose links stand as in the project's file ``source``.

    A link to another page, or to a file that is a page here (``copies``), becomes a link to that page; one to any other
    file of the project becomes the file's name in code type, since the site holds no code.
    """
    pages = {file: name for name, file in copies.items()}

    def replaced(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        name = pages.get(file) or _inside(file)
        if name is None:
            return f"{text} (`{file}`)" if text.strip("`") != file else f"`{file}`"
        address = posixpath.relpath(name, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({address}{'#' + anchor if anchor else ''})"

    return LINK.sub(replaced, markdown)


def _inside(file: str) -> str | None:
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return file.removeprefix("benchmarks/") if file.startswith("benchmarks/figures/") else None
