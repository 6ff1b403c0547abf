"""The one declaration of a hyperparameter: its type, its default, its rule, and how a value is refused.

Validation and its message, command-line flags, sweep grids, estimator parameters and cache keys come from it. This
module imports nothing heavy, so that the command line can read declarations, and refuse a wrong value, at once.
"""

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
BOOLEAN_TYPES = ("bool", "bool_")
"""Python's and NumPy's, which is no subclass of it; NumPy registers its numbers with :mod:`numbers`."""


class SettingError(ValueError):
    """A hyperparameter is unknown or out of its rule."""


class Refusal(ValueError):
    """The method cannot serve these data or this budget; the message is the reason."""


@dataclass(frozen=True)
class Rule:
    """What values a setting takes: bounds (``low``, ``high`` closed, ``above``, ``below`` open) or ``choices``."""

    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def words(self) -> str:
        """Return the rule as it is printed."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        bounds = (
            ("at least", self.low),
            ("above", self.above),
            ("at most", self.high),
            ("below", self.below),
        )
        return " and ".join(f"{text} {bound:g}" for text, bound in bounds if bound is not None)

    def allows(self, value: Any) -> bool:
        """Say whether ``value``, already of the right type, keeps the rule."""
        if self.choices:
            return value in self.choices
        if isinstance(value, tuple):
            return all(self.allows(v) for v in value)
        if isinstance(value, (bool, str)) or value is None:
            return True
        tests = (
            (self.low, value.__ge__),
            (self.high, value.__le__),
            (self.above, value.__gt__),
            (self.below, value.__lt__),
        )
        return math.isfinite(value) and all(bound is None or test(bound) for bound, test in tests)


def setting(default: Any, help: str, **rule: Any) -> Any:
    """Declare a hyperparameter: a dataclass field with its default, help text and :class:`Rule`."""
    return dataclasses.field(default=default, metadata={"rule": Rule(help, **rule)})


@dataclass(frozen=True)
class Setting:
    """A declared hyperparameter, as flags, grids and tables read it; ``kind`` is int, float, bool, str or tuple."""

    name: str
    kind: type
    optional: bool
    default: Any
    rule: Rule

    def wanted(self) -> str:
        """Return type and rule in words."""
        kind = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "a text",
            tuple: "a list",
        }[self.kind]
        words = self.rule.words()
        if self.rule.choices:
            return words
        return f"{kind} {words}".strip() + (" or none" if self.optional else "")

    def parse(self, text: str) -> Any:
        """Read the value from a command-line text. Raises :class:`SettingError`."""
        try:
            return self._parse(text)
        except (ValueError, KeyError):
            raise SettingError(f"{self.name} must be {self.wanted()}, got {text!r}") from None

    def _parse(self, text: str) -> Any:
        if self.optional and text.lower() == "none":
            return None
        if self.kind is bool:
            return BOOLEANS[text.lower()]
        if self.kind is tuple:
            return tuple(float(part) if "." in part or "e" in part else int(part) for part in text.split(","))
        return self.kind(text)

    def check(self, method: str, value: Any) -> Any:
        """Return the value in its declared type. Raises :class:`SettingError` when it breaks type or rule."""
        good: Any = None
        if value is None and self.optional:
            return None
        if self.kind is bool:
            good = bool(value) if type(value).__name__ in BOOLEAN_TYPES else None
        elif self.kind is int:
            good = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None
        elif self.kind is float:
            good = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None
        elif self.kind is tuple:
            good = tuple(value) if isinstance(value, (tuple, list)) else None
        else:
            good = value if isinstance(value, str) else None
        if good is None or not self.rule.allows(good):
            raise SettingError(f"{method}: {self.name} must be {self.wanted()}, got {value!r}")
        return good


def declared_setting(name: str, hint: Any, default: Any, rule: Rule) -> Setting:
    """Return the setting of a field or an argument whose type hint is ``T`` or ``T | None``."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kind = next(o for o in options if o is not type(None))
    return Setting(name, typing.get_origin(kind) or kind, len(options) > 1, default, rule)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say "did you mean 'x'?" of the nearest known name, or list all known ones when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def describe_unknown_data(name: str, known: Iterable[str], formats: Iterable[str]) -> str:
    """Say that ``name`` is neither a file nor a data set, which known one is near, and how files end."""
    near = nearest(name, known)
    stop = "" if near.endswith("?") else "."
    return f"no file {name!r} exists, and no data set has that name: {near}{stop} Files end in {', '.join(formats)}"
