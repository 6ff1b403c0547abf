"""Pages of the API: what each package says of itself and the names that it offers."""

import importlib
import inspect
from types import ModuleType
from typing import Any

import docstrings

PACKAGES = {
    "sparelu": "Verbs and nouns",
    "sparelu.train": "Training in your own loop",
    "sparelu.nn": "Sparse modules",
    "sparelu.export": "Export",
    "sparelu.datasets": "Data sets",
    "sparelu.gaussian": "Gaussian moments",
    "sparelu.run": "The verbs, with their laws",
    "sparelu.identifiability": "Identifiability",
}
"""The packages whose names are for users, with what they are for."""


def navigation() -> list[Any]:
    """Return the entries of the navigation."""
    return [{title: f"api/{package}.md"} for package, title in PACKAGES.items()]


def pages() -> dict[str, str]:
    """Return the Markdown of every package's page, by file name."""
    return {f"api/{package}.md": _page(package, title) for package, title in PACKAGES.items()}


def _page(package: str, title: str) -> str:
    module = importlib.import_module(package)
    names = _offered(module)
    groups = {kind: [w for w, k in names.items() if k == kind] for kind in ("class", "function")}
    parts = [f"# {title}", f"`{package}`", docstrings.as_markdown(inspect.getdoc(module) or "")]
    for kind, heading in (("function", "## Functions"), ("class", "## Classes")):
        if groups[kind]:
            parts += [heading, *(f"::: {where}" for where in sorted(groups[kind], key=_last))]
    return "\n\n".join(parts) + "\n"


def _last(where: str) -> str:
    return where.rpartition(".")[2].lower()


def _offered(module: ModuleType) -> dict[str, str]:
    """Return where each public name of ``module`` is defined, and whether it is a class or a function."""
    found = {}
    for name in getattr(module, "__all__", None) or dir(module):
        value = getattr(module, name)
        home = getattr(value, "__module__", "") or ""
        if name.startswith("_") or not home.startswith("sparelu") or not hasattr(value, "__name__"):
            continue
        if module.__file__ and not module.__file__.endswith("__init__.py") and home != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            found[f"{home}.{value.__name__}"] = "class" if inspect.isclass(value) else "function"
    return found
