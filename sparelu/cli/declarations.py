"""What there is to choose from, with all settings and parameters, without importing any of it.

Torch takes seconds to import; a list of methods, or a word about a flag that does not exist, should not. So what the
methods and data sets declare is kept beside the byte code of this file, and like byte code it is made anew when a
source file is not the one that it was made from: any file of this package, or of an installed package that adds
methods. Where the folder cannot be written it is made at every call, which is slow and right.
"""

import contextlib
import functools
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from sparelu.plugins import plugins
from sparelu.settings import Rule, Setting, SettingError, nearest

KEPT = Path(importlib.util.cache_from_source(__file__)).with_suffix(".json")
PACKAGE = Path(__file__).parent.parent
KINDS: dict[str, type] = {kind.__name__: kind for kind in (int, float, bool, str, tuple)}


@dataclass(frozen=True)
class Declaration:
    """A method or a data set as it is listed: its ``name``, its ``kind``, one line ``about`` it, and its settings.

    ``kind`` is fitter, compressor, certifier or data set; ``facts`` are further values by name: of a method
    its ``question``, ``paper`` and ``sums_over_rows``, of a data set ``downloads`` and their ``size``.
    """

    name: str
    kind: str
    about: str
    settings: tuple[Setting, ...]
    facts: dict[str, Any]

    def check(self, values: Mapping[str, str]) -> None:
        """Raise :class:`SettingError` for an unknown name among ``values``, or a text that breaks its rule."""
        known = {s.name: s for s in self.settings}
        for name, text in values.items():
            if name not in known:
                hint = nearest(name, known) if known else "it takes none"
                raise SettingError(f"data set {self.name!r} has no parameter {name!r}; {hint}")
            value = known[name].parse(text)
            known[name].check(self.name, value)


@dataclass(frozen=True)
class Declarations:
    """All methods and data sets by name, the endings of files, and why plugins are ``broken``, by their name."""

    methods: dict[str, Declaration]
    datasets: dict[str, Declaration]
    files: tuple[str, ...]
    broken: dict[str, str]

    def method(self, name: str, kind: str = "") -> Declaration:
        """Return a method, of one ``kind`` if given. Raises :class:`SettingError` naming the nearest known."""
        known = {n: m for n, m in self.methods.items() if kind in ("", m.kind)}
        if name not in known:
            raise SettingError(f"there is no {kind or 'method'} {name!r}; {nearest(name, known)}")
        return known[name]


@functools.cache
def declarations() -> Declarations:
    """Read what is kept, or import all methods and data sets and keep what they declare."""
    sources = _sources()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(KEPT.read_text())
        if kept["sources"] == sources:
            return _read(kept)
    read_now = not _was_imported()
    found = _made()
    with contextlib.suppress(OSError):
        # what was imported earlier may be of other files than those of now; what was missing may be there next time
        if read_now and not found.broken:
            _keep({"sources": sources, **asdict(found)})
    return found


def _was_imported() -> bool:
    return "sparelu.catalogue" in sys.modules


def _keep(content: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    beside = KEPT.with_name(f"{KEPT.name}.{os.getpid()}")
    beside.parent.mkdir(exist_ok=True)
    beside.write_text(json.dumps(content, default=lambda kind: kind.__name__))
    os.replace(beside, KEPT)


def _sources() -> list[str]:
    """Say of which files the declarations are made: path, time of change and size of each, as for byte code."""
    named = [f"{plugin.name} = {plugin.value}" for plugin in plugins()]
    files = sorted({path for plugin in plugins() for path in _files(plugin)} | set(PACKAGE.rglob("*.py")))
    return named + [f"{path} {stat.st_mtime_ns} {stat.st_size}" for path in files for stat in [path.stat()]]


def _files(plugin: EntryPoint) -> Iterator[Path]:
    """Yield the files of the package that an entry point is in; none when it is not there."""
    try:
        spec = importlib.util.find_spec(plugin.module.partition(".")[0])
    except (ImportError, ValueError):
        return
    if spec is not None:
        yield from (p for folder in spec.submodule_search_locations or () for p in Path(folder).rglob("*.py"))
        yield from [Path(spec.origin)] if spec.origin and spec.submodule_search_locations is None else []


def _made() -> Declarations:
    """Import all methods and data sets, and note what they declare."""
    from sparelu import catalogue, datasets
    from sparelu.datasets.tables import FORMATS

    return Declarations(
        {name: declaration_of(kind) for name, kind in catalogue.METHODS.items()},
        {
            d.name: Declaration(d.name, "data set", d.summary, d.parameters, {"downloads": d.downloads, "size": d.size})
            for d in datasets.DATASETS.values()
        },
        tuple(FORMATS),
        dict(catalogue.BROKEN),
    )


def declaration_of(method: Any) -> Declaration:
    """Return what a class of methods declares."""
    from sparelu.method import Certifier, Compressor, Fitter, settings_of

    kind = next(k for k in (Fitter, Compressor, Certifier) if issubclass(method, k))
    about = (method.__doc__ or "").strip().partition("\n")[0]
    facts = {
        "question": method.question,
        "paper": method.paper,
        "sums_over_rows": kind is Fitter and method.sums_over_rows,
    }
    return Declaration(method.name, kind.__name__.lower(), about, settings_of(method), facts)


def _read(kept: dict[str, Any]) -> Declarations:
    methods, datasets = ({name: _declaration(d) for name, d in kept[part].items()} for part in ("methods", "datasets"))
    return Declarations(methods, datasets, tuple(kept["files"]), kept["broken"])


def _declaration(kept: dict[str, Any]) -> Declaration:
    return Declaration(**{**kept, "settings": tuple(_setting(**s) for s in kept["settings"])})


def _setting(name: str, kind: str, optional: bool, default: Any, rule: dict[str, Any]) -> Setting:
    default = tuple(default) if isinstance(default, list) else default
    return Setting(name, KINDS[kind], optional, default, Rule(**{**rule, "choices": tuple(rule["choices"])}))
