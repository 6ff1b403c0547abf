"""JSON that others wrote: read with a limit to its depth, and checked against a form before anything is made of it.

A form is a function that raises :class:`FormError` when a value is not of it, naming where it stands.
"""

import json
import math
import secrets
import sys
from collections.abc import Callable, Container, Mapping
from typing import Any

DEPTH = 100
"""Levels of lists and objects that a reader goes down; what we write has at most ten."""
WHOLE_MAX = sys.maxsize

Form = Callable[[Any, str], None]


class FormError(ValueError):
    """A text is not JSON, is nested too deep, or has another form than wanted."""


def loads(text: str | bytes) -> Any:
    """Read the value of a JSON text. Raises :class:`FormError` for what is no JSON, or nested deeper than ``DEPTH``."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise FormError(f"lists or objects are nested deeper than {DEPTH} levels") from None
    except ValueError as error:
        raise FormError(f"not JSON: {error}") from None
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise FormError(f"lists or objects are nested deeper than {DEPTH} levels")


def dumps(value: Any, **how: Any) -> str:
    """Return strict JSON: NaN as null, and infinity as 1e999, a number beyond the range of every reader.

    ``how`` is passed on to :func:`json.dumps`.
    """
    mark = secrets.token_hex(16)
    text = json.dumps(_finite(value, mark), allow_nan=False, **how)
    return text.replace(f'"{mark}"', "1e999").replace(f'"-{mark}"', "-1e999")


def _finite(value: Any, mark: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else mark if value > 0 else f"-{mark}"
    if isinstance(value, dict):
        return {name: _finite(inner, mark) for name, inner in value.items()}
    return [_finite(inner, mark) for inner in value] if isinstance(value, (list, tuple)) else value


def with_nan(value: Any, names: Container[str]) -> Any:
    """Return what was read with NaN for null in the entries called ``names``, at any depth: numbers that were none."""
    if isinstance(value, dict):
        return {
            name: math.nan if inner is None and name in names else with_nan(inner, names)
            for name, inner in value.items()
        }
    return [with_nan(inner, names) for inner in value] if isinstance(value, list) else value


def _inside(value: Any) -> list[Any]:
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in held if isinstance(inner, (dict, list))]


def whole(low: int = -WHOLE_MAX, high: int = WHOLE_MAX) -> Form:
    """Return the form of a whole number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise FormError(f"{where} must be a whole number from {low} to {high}, got {_shown(value)}")

    return check


def number(low: float = -math.inf) -> Form:
    """Return the form of a number of at least ``low``, or NaN."""

    def check(value: Any, where: str) -> None:
        good = isinstance(value, float) or (isinstance(value, int) and abs(value) <= WHOLE_MAX)
        if not good or isinstance(value, bool) or value < low:
            raise FormError(
                f"{where} must be a number{'' if low == -math.inf else f' from {low:g}'}, got {_shown(value)}"
            )

    return check


def of(*kinds: type) -> Form:
    """Return the form of a value of one of the types."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise FormError(f"{where} must be of type {wanted}, got {_shown(value)}")

    return check


def label() -> Form:
    """Return the form of a name or a class: a text, a finite number, or a boolean."""
    plain = of(str, int, float, bool)

    def check(value: Any, where: str) -> None:
        plain(value, where)
        if isinstance(value, float) and not math.isfinite(value):
            raise FormError(f"{where} must be finite, got {value}")

    return check


text, flag, anything, _an_object = of(str), of(bool), of(object), of(dict)


def optional(form: Form) -> Form:
    """Return the form that allows null as well."""
    return lambda value, where: None if value is None else form(value, where)


def listed(form: Form, *lengths: int) -> Form:
    """Return the form of a list of values of a form, of one of the ``lengths`` where any are given."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or (lengths and len(value) not in lengths):
            wanted = f" of length {' or '.join(map(str, lengths))}" if lengths else ""
            raise FormError(f"{where} must be a list{wanted}, got {_shown(value)}")
        for i, inner in enumerate(value):
            form(inner, f"{where}[{i}]")

    return check


def mapped(form: Form) -> Form:
    """Return the form of an object whose values are all of a form."""

    def check(value: Any, where: str) -> None:
        _an_object(value, where)
        for name, inner in value.items():
            form(inner, f"{where}.{name:.40}")

    return check


def record(fields: Mapping[str, Form], more: Mapping[str, Form] | None = None, open: bool = False) -> Form:
    """Return the form of an object with all of ``fields``, any of ``more``, and others only where it is ``open``."""
    known = {**fields, **(more or {})}

    def check(value: Any, where: str) -> None:
        _an_object(value, where)
        for name in fields:
            if name not in value:
                raise FormError(f"{where} has no {name!r}")
        for name, inner in value.items():
            if name in known:
                known[name](inner, f"{where}.{name}")
            elif not open:
                raise FormError(f"{where} has an unknown entry {name!r:.60}")

    return check


def _shown(value: Any) -> str:
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (list, dict)) else f"{value!r:.60}"
