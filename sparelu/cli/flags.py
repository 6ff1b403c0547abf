"""Flags that come from declarations: a method's settings, and the parameters of a named data set."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparelu.cli.declarations import Declaration, declarations
from sparelu.settings import SettingError, nearest

FORMATS = ("onnx", "onnx-sparse", "c", "numpy", "python", "sql", "spreadsheet")
COMMON = (
    *("target", "task", "method", "hidden", "channels", "nonzeros", "density", "sparsity", "compression", "seed"),
    *("out", "resume", "test-fraction", "standardise", "device", "seconds", "json", "path", "budgets", "folds"),
    *("select", "drop", "only"),
)


def method_settings(extra: Sequence[str], method: Declaration) -> dict[str, Any]:
    """Return settings from ``--name value`` or ``--name=value`` pairs.

    Raises :class:`SettingError` naming an unknown flag and the nearest known one, or a value that breaks its rule.
    """
    known = {s.name.replace("_", "-"): s for s in method.settings}
    found: dict[str, Any] = {}
    rest = list(extra)
    while rest:
        flag = rest.pop(0)
        name, equals, text = flag.removeprefix("--").partition("=")
        if not flag.startswith("--"):
            raise SettingError(f"unexpected argument {flag!r}: a flag starts with --")
        if name not in known:
            hint = nearest(name, [*known, *COMMON])
            raise SettingError(f"there is no option --{name} for method {method.name}; {hint}")
        if not equals:
            if not rest:
                raise SettingError(f"--{name} wants a value: {known[name].wanted()}")
            text = rest.pop(0)
        found[known[name].name] = known[name].check(method.name, known[name].parse(text))
    return found


def check_known(extra: Sequence[str]) -> None:
    """Raise :class:`SettingError` for a flag that no fitter has: with ``auto`` the method is known after the data."""
    fitters = [m for m in declarations().methods.values() if m.kind == "fitter"]
    known = {s.name.replace("_", "-") for m in fitters for s in m.settings}
    for flag in extra:
        name = flag.removeprefix("--").partition("=")[0]
        if flag.startswith("--") and name not in known:
            raise SettingError(f"there is no option --{name}; {nearest(name, [*known, *COMMON])}")


def ranges(given: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=RANGE`` (or ``NAME`` alone, for the range that follows from its default) by name."""
    found = {}
    for text in given:
        name, _, values = text.partition("=")
        found[name.strip().removeprefix("--").replace("-", "_")] = values.strip()
    return found


def data_source(text: str) -> tuple[str, dict[str, str]]:
    """Return a data set's name or path, and parameters given as ``name:key=value,key=value``."""
    name, colon, rest = text.partition(":")
    if not colon or "=" not in rest:
        return text, {}
    found: dict[str, str] = {}
    key = ""
    for part in rest.split(","):
        if "=" in part:
            key, _, value = part.partition("=")
            found[key.strip()] = value.strip()
        else:  # one more number of a list, as in hidden=100,50
            found[key.strip()] += "," + part.strip()
    return name, found


def check_run(path: Path) -> None:
    """Raise :class:`SettingError` for a folder that is not there."""
    if not path.is_dir():
        raise SettingError(f"{path}: no such run folder (sparelu fit writes one below runs/)")


def check_format(kind: str) -> None:
    """Raise :class:`SettingError` for a format that nothing is exported in."""
    if kind not in FORMATS:
        raise SettingError(f"there is no format {kind!r}; {nearest(kind, FORMATS)}")


def check_name(name: str) -> None:
    """Raise :class:`SettingError` for a name that is none of a file in the folder that is written into."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise SettingError(f"--name must be the name of a file, without a folder, got {name!r}")


def named_method(name: str) -> Declaration:
    """Return the declaration of a method. Raises :class:`SettingError` naming the nearest known."""
    known = declarations().methods
    if name not in known:
        raise SettingError(f"there is no method {name!r}; {nearest(name, [*known, 'auto'])}")
    return known[name]


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Return a list such as ``100`` or ``300,100``. Raises :class:`SettingError`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingError(f"{what} must be whole numbers separated by commas, got {text!r}") from None


def texts(told: str) -> tuple[str, ...]:
    """Return a list such as ``id,comment``; a name with a comma stands in double quotes."""
    return tuple(part.strip() for part in next(csv.reader([told], skipinitialspace=True)))


def channels(text: str | None) -> tuple[int, ...]:
    """Return the flag ``--channels``; none without it."""
    return () if text is None else whole_numbers(text, "--channels")
