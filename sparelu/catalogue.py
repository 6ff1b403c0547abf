"""Every method by name: what the files of the folders declare, and what installed packages add.

Nothing has to be listed: a class of a file below a folder of :data:`FOLDERS` is a method when it is a
:class:`~sparelu.method.Fitter`, :class:`~sparelu.method.Compressor` or :class:`~sparelu.method.Certifier` with a
``name`` of its own and nothing abstract. Another package adds methods by entry points
(:data:`sparelu.plugins.GROUP`), each of which names a class, or a module whose classes are taken; one that cannot be
used is named in a warning.
"""

import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from sparelu.data import Budget, Data
from sparelu.method import Certifier, Compressor, Fitter, Method, configured
from sparelu.plugins import plugins
from sparelu.settings import SettingError, nearest

FOLDERS = ("recover", "interpolate", "convex", "train", "compress", "certify")
EXTRAS = ("lightning", "transformers")
"""Files of the folders that serve a library of their name: they add no method, and it need not be installed."""


class PluginWarning(UserWarning):
    """A package that is installed adds methods that cannot be used; all others can."""


def _own_methods() -> dict[str, type[Method]]:
    """Import every file of the folders; the methods by name, folder after folder."""
    found: dict[str, type[Method]] = {}
    for folder in FOLDERS:
        package = import_module(f"sparelu.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] not in EXTRAS:
                import_module(module.name)
        prefix = f"{package.__name__}."
        here = [kind for kind in _concrete(Method) if kind.__module__.startswith(prefix)]
        found |= {kind.name: kind for kind in sorted(here, key=lambda kind: kind.name)}
    return found


def _concrete(kind: type[Method]) -> Iterator[type[Method]]:
    """Yield the classes below ``kind`` that can be made and have a name of their own."""
    for below in kind.__subclasses__():
        if "name" in vars(below) and not inspect.isabstract(below):
            yield below
        yield from _concrete(below)


def _add_plugins(methods: dict[str, type[Method]]) -> dict[str, str]:
    """Add the methods of installed packages; return why some could not be, by entry point."""
    broken = {}
    for plugin in plugins():
        try:
            added = {kind.name: kind for kind in _declared_by(plugin)}
            if taken := sorted(added.keys() & methods.keys()):
                raise ValueError(f"there is a method of the name {taken[0]!r} already")
        except Exception as error:  # whatever a package of somebody else does, the rest works
            origin = plugin.dist.name if plugin.dist is not None else plugin.value
            broken[plugin.name] = f"{origin}: {type(error).__name__}: {error}"
            continue
        methods |= added
    return broken


def _declared_by(plugin: EntryPoint) -> list[type[Method]]:
    """Return the methods of an entry point, each made once with its defaults."""
    given = plugin.load()
    if isinstance(given, ModuleType):
        kinds = [kind for kind in _concrete(Method) if kind.__module__ == given.__name__]
    else:
        kinds = [given]
    if not kinds or not all(isinstance(k, type) and issubclass(k, (Fitter, Compressor, Certifier)) for k in kinds):
        raise TypeError(f"{plugin.value} is no Fitter, Compressor or Certifier, nor a module with one")
    for kind in kinds:
        kind()
    return kinds


METHODS: dict[str, type[Method]] = _own_methods()
BROKEN: dict[str, str] = _add_plugins(METHODS)
"""Why an entry point adds nothing, by its name."""

for _name, _reason in BROKEN.items():
    warnings.warn(
        f"the plugin {_name!r} adds no method ({_reason}); all other methods work", PluginWarning, stacklevel=2
    )


def _named(name: str, kind: type[Method]) -> type[Any]:
    known = {n: m for n, m in METHODS.items() if issubclass(m, kind)}
    if name not in known:
        raise SettingError(f"there is no {kind.__name__.lower()} {name!r}; {nearest(name, known)}")
    return known[name]


def fitter(name: str, **settings: Any) -> Fitter:
    """Make the Fitter called ``name``. Raises :class:`~sparelu.method.SettingError` naming the nearest known."""
    found: Fitter = configured(_named(name, Fitter), settings)
    return found


def compressor(name: str, **settings: Any) -> Compressor:
    """Make the Compressor called ``name``."""
    found: Compressor = configured(_named(name, Compressor), settings)
    return found


def certifier(name: str, **settings: Any) -> Certifier:
    """Make the Certifier called ``name``."""
    found: Certifier = configured(_named(name, Certifier), settings)
    return found


def choose(data: Data, budget: Budget) -> tuple[str, str]:
    """Choose the method that ``auto`` means for these data and this budget; its name, and why.

    Images with ``channels`` in the budget: ``rigl``. One input and one target: ``piecewise``, which is exact there.
    Everything else: ``gmp``.
    """
    if budget.channels:
        return "rigl", "it moves the support of convolutions to where the gradient is largest"
    if data.inputs == 1 and fitter("piecewise").refuses(data, budget) is None:
        return "piecewise", "for one input and one target it is exact, and finds the number of knots if none is given"
    return (
        "gmp",
        f"gradual magnitude pruning keeps the most accuracy at small budgets ({data.task}, {data.inputs} inputs)",
    )
