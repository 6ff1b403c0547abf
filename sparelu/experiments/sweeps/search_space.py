"""What a search may try for a method's settings: ranges given as texts, or derived from their declarations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparelu.method import Method, Setting, SettingError, nearest, settings_of

SPREAD = math.sqrt(10)
"""A derived range reaches half a decade to each side of the default. A convention, not a measurement."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, ends included; ``log``: uniform in the logarithm; ``whole`` numbers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, name: str) -> float | int:
        """Return the value that an Optuna trial takes."""
        if self.whole:
            return int(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def holds(self, value: Any) -> bool:
        """Say whether a search could try ``value``."""
        return value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of ``values``."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that an Optuna trial takes."""
        return trial.suggest_categorical(name, self.values)

    def holds(self, value: Any) -> bool:
        """Say whether a search could try ``value``."""
        return value in self.values


Space = dict[str, Range | Choice]


def search_space(method: type[Method], given: Mapping[str, str]) -> Space:
    """Return the settings to search by name.

    ``given`` maps a setting to ``LOW:HIGH``, ``log:LOW:HIGH``, a list of values ``A,B,C``, or an empty text, which
    takes :func:`derived`. With nothing given, every number of the method that is not whole and has a positive default
    is searched in its derived range. Whole numbers (epochs, rows) mostly buy quality with time, so they are searched
    only when named.

    Raises :class:`~sparelu.method.SettingError` for an unknown setting, a range that breaks the setting's rule, and a
    method with nothing to search.
    """
    known = {s.name: s for s in settings_of(method)}
    for name in given:
        if name not in known:
            raise SettingError(f"{method.name} has no setting {name!r} to search; {nearest(name, known)}")
    if given:
        return {name: _parsed(method.name, known[name], text) for name, text in given.items()}
    free = [s for s in known.values() if s.kind is float and s.default is not None and s.default > 0]
    if not free:
        raise SettingError(
            f"{method.name} has no setting to search by itself: name one with its range, such as --search NAME=1:10 "
            f"({', '.join(known) or 'it has no settings'}), or leave --trials out"
        )
    return {s.name: derived(method.name, s) for s in free}


def derived(method: str, setting: Setting) -> Range | Choice:
    """Return the range that a declaration implies: its choices, true and false, or half a decade around a positive
    default.

    Raises :class:`~sparelu.method.SettingError` where there is no such default.
    """
    if setting.rule.choices:
        return Choice(setting.rule.choices)
    if setting.kind is bool:
        return Choice((False, True))
    if setting.kind not in (int, float) or setting.default is None or setting.default <= 0:
        name = setting.name
        raise SettingError(f"{method}: no range follows from the default of {name}: give one, --search {name}=LOW:HIGH")
    rule, default = setting.rule, setting.default
    lows = [b for b in (rule.low, _towards(default, rule.above)) if b is not None]
    highs = [b for b in (rule.high, _towards(default, rule.below)) if b is not None]
    low, high = max([default / SPREAD, *lows]), min([default * SPREAD, *highs])
    if setting.kind is int:
        return Range(max(1, round(low)), round(high), log=True, whole=True)
    return Range(low, high, log=True)


def _towards(default: float, bound: float | None) -> float | None:
    """Return nine tenths of the way from the default to an open bound, which itself is not allowed; none at 0."""
    return None if not bound else default + 0.9 * (bound - default)


def _parsed(method: str, setting: Setting, text: str) -> Range | Choice:
    """Return a range or a list from its text, checked against the setting's rule."""
    if not text:
        return derived(method, setting)
    parts = text.removeprefix("log:").split(":")
    if len(parts) == 1:
        return Choice(tuple(setting.check(method, setting.parse(v)) for v in text.split(",")))
    wanted = f"--search {setting.name}={text}: wanted LOW:HIGH, log:LOW:HIGH or a list A,B,C"
    if len(parts) != 2 or setting.kind not in (int, float):
        raise SettingError(wanted)
    low, high = (setting.check(method, setting.parse(end)) for end in parts)
    log = text.startswith("log:")
    if not low < high or (log and low <= 0):
        raise SettingError(f"{wanted}, with LOW below HIGH" + (" and above 0" if log else ""))
    return Range(low, high, log, setting.kind is int)
