"""Every method by name: the folders' ``METHODS`` tuples, joined."""

from typing import Any

from sparelu import certify, compress, interpolate, recover, train
from sparelu.data import Budget, Data
from sparelu.method import Certifier, Compressor, Fitter, Method, SettingError, configured, nearest

FOLDERS = (recover, interpolate, train, compress, certify)

METHODS: dict[str, type[Method]] = {m.name: m for folder in FOLDERS for m in folder.METHODS}


def _named(name: str, kind: type[Method]) -> type[Any]:
    known = {n: m for n, m in METHODS.items() if issubclass(m, kind)}
    if name not in known:
        raise SettingError(f"there is no {kind.__name__.lower()} {name!r}; {nearest(name, known)}")
    return known[name]


def fitter(name: str, **settings: Any) -> Fitter:
    """The Fitter called ``name``. Raises :class:`~sparelu.method.SettingError` naming the nearest known."""
    found: Fitter = configured(_named(name, Fitter), settings)
    return found


def compressor(name: str, **settings: Any) -> Compressor:
    """The Compressor called ``name``."""
    found: Compressor = configured(_named(name, Compressor), settings)
    return found


def certifier(name: str, **settings: Any) -> Certifier:
    """The Certifier called ``name``."""
    found: Certifier = configured(_named(name, Certifier), settings)
    return found


def choose(data: Data, budget: Budget) -> tuple[str, str]:
    """The method that ``auto`` means for these data and this budget, and why.

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
