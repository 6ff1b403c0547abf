"""How does a network become sparse while it learns?

The names here are for any ``torch.nn.Module`` in your own loop, and are in ``__init__.pyi``: read ``dynamic``,
``static``, ``at_init`` and ``oneshot`` first. ``fit`` has the same methods for the verb ``fit``; ``sparsifier`` is what
they run on.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_PLACES = {
    alias.name: node.module or ""
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
"""The module of each public name: it is imported when the name is asked for, so that a method needs its files alone."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_PLACES)
