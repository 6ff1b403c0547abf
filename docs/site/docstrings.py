"""Docstrings as Markdown: the roles of reStructuredText become names in code type."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":[a-z]+:`(~?)([^`]+)`")


def as_markdown(text: str) -> str:
    """Return ``text`` with roles such as :class:`~a.b.Name` as `Name`, and double backquotes as single ones."""

    def name(match: re.Match[str]) -> str:
        shown = match[2].rpartition(".")[2] if match[1] else match[2].lstrip(".")
        return f"`{shown}`"

    return ROLE.sub(name, text).replace("``", "`")


class Markdown(Extension):
    """Rewrites every docstring that the API pages show."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
