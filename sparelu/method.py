"""The three interfaces (Fitter, Compressor, Certifier) and the one declaration of a hyperparameter.

A method is a frozen dataclass whose fields are made by :func:`setting`. Validation and its message,
command-line flags, sweep grids, estimator parameters and cache keys come from that declaration.
"""

import dataclasses
import difflib
import functools
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

import numpy as np

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.oracle import Oracle
from sparelu.outcome import Certificate, Iterate, State, Status

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


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
        """The rule as it is printed."""
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
        """Whether ``value``, already of the right type, keeps the rule."""
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
        return bool(np.isfinite(value)) and all(bound is None or test(bound) for bound, test in tests)


def setting(default: Any, help: str, **rule: Any) -> Any:
    """A hyperparameter: a dataclass field with its default, help text and :class:`Rule`."""
    return dataclasses.field(default=default, metadata={"rule": Rule(help, **rule)})


@dataclass(frozen=True)
class Setting:
    """A declared hyperparameter, as flags, grids and tables read it."""

    name: str
    kind: type
    optional: bool
    default: Any
    rule: Rule

    def wanted(self) -> str:
        """Type and rule in words."""
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
        """The value of a command-line text. Raises :class:`SettingError`."""
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
        """The value in its declared type. Raises :class:`SettingError` when it breaks type or rule."""
        good: Any = None
        if value is None and self.optional:
            return None
        if self.kind is bool:
            good = value if isinstance(value, (bool, np.bool_)) else None
        elif self.kind is int:
            good = int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else None
        elif self.kind is float:
            number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            good = float(value) if number else None
        elif self.kind is tuple:
            good = tuple(value) if isinstance(value, (tuple, list)) else None
        else:
            good = value if isinstance(value, str) else None
        if good is None or not self.rule.allows(good):
            raise SettingError(f"{method}: {self.name} must be {self.wanted()}, got {value!r}")
        return good


def settings_of(method: "type[Method] | Method") -> tuple[Setting, ...]:
    """The declared hyperparameters of a method."""
    kind: Any = method if isinstance(method, type) else type(method)  # mypy takes a class for an instance's hash
    return _settings_of(kind)


@functools.cache
def _settings_of(kind: "type[Method]") -> tuple[Setting, ...]:
    hints = typing.get_type_hints(kind)
    return tuple(_setting(f, hints[f.name]) for f in dataclasses.fields(kind))


def _setting(f: "dataclasses.Field[Any]", hint: Any) -> Setting:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [o for o in options if o is not type(None)]
    kind = typing.get_origin(kinds[0]) or kinds[0]
    default = None if f.default is MISSING else f.default
    return Setting(f.name, kind, len(kinds) < len(options), default, f.metadata["rule"])


@dataclass(frozen=True)
class Method:
    """What every method is: a frozen dataclass of settings, with a name, its folder's verb, and its paper.

    ``question`` is the folder: recover, interpolate, train, compress or certify.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    paper: ClassVar[str]

    def __post_init__(self) -> None:
        for s in settings_of(self):
            object.__setattr__(self, s.name, s.check(self.name, getattr(self, s.name)))

    def settings(self) -> dict[str, Any]:
        """All settings by name, JSON values only."""
        return {s.name: _plain(getattr(self, s.name)) for s in settings_of(self)}

    def changed(self) -> dict[str, Any]:
        """The settings that are not at their default: what addresses a result by content."""
        return {s.name: _plain(getattr(self, s.name)) for s in settings_of(self) if getattr(self, s.name) != s.default}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Fitter(Method, ABC):
    """Finds a network for data within a budget.

    Laws, tested over the whole catalogue: the network keeps the budget exactly; the seed decides the result;
    data are not changed; ``steps`` resumed from any state ends in the same bits; progress rises to 1; bad input is
    refused with a reason.

    With ``sums_over_rows`` it fits over ranks as well: all that it learns of the rows are sums of what
    :meth:`Data.chunks`, :meth:`Data.batches` and the like yield, made by ``data.ranks``. The result is then that of one
    process to rounding, with the same bits on all ranks. ``network`` and ``state`` of an iterate ask for no sums.
    """

    sums_over_rows: ClassVar[bool] = False
    asks: ClassVar[bool] = False
    """Whether ``data`` is an :class:`~sparelu.oracle.Oracle` that it asks, not rows that are given."""

    def unfit(self, data: Data | Oracle) -> str | None:
        """Say why ``data`` are not of the kind that this method takes; None when they are."""
        if self.asks and isinstance(data, Data):
            return "it asks a function where it likes, and rows cannot be asked: give it an Oracle"
        if not self.asks and isinstance(data, Oracle):
            return (
                "it needs rows of data, and an oracle has none: use the method queries, or make Data of rows and "
                "oracle.ask(rows)"
            )
        return None

    @abstractmethod
    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Why this method cannot serve the data or the budget, with the way out; None when it can."""

    @abstractmethod
    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield after every round; return how it ended.

        ``start`` is the ``state()`` of an earlier iterate: that iterate is yielded again first, and the rounds after
        it follow bit for bit; the caller has put ``rng`` back to its place. All randomness comes from ``rng``.
        """


class Compressor(Method, ABC):
    """Turns a network into a smaller one."""

    @abstractmethod
    def refuses(self, network: Network, budget: Budget, data: Data | None) -> str | None:
        """Why this network cannot be compressed so; None when it can."""

    @abstractmethod
    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        """A network within ``budget`` (``budget.hidden`` neurons at most), and what is claimed of it."""


class Certifier(Method, ABC):
    """States what is proved of a network."""

    @abstractmethod
    def refuses(self, network: Network, data: Data | None) -> str | None:
        """Why nothing can be said; None when something can."""

    @abstractmethod
    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        """The claim, its value and its assumptions."""


def nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" for the nearest known name, or the list of all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def configured(kind: type[Method], values: dict[str, Any]) -> Any:
    """The method with the named settings. Raises :class:`SettingError` naming an unknown one and the nearest known."""
    known = {s.name for s in settings_of(kind)}
    for key in values:
        if key not in known:
            raise SettingError(f"{kind.name} has no setting {key!r}; {nearest(key, known)}")
    return kind(**values)


def budget_reason(
    data: Data,
    budget: Budget,
    needed: bool = True,
    depth: tuple[int, int] = (1, 10**6),
    convolutions: bool = False,
) -> str | None:
    """The common reasons to refuse: no budget where one is needed, one that does not fit, or a shape out of range."""
    if budget.channels and not convolutions:
        return (
            "it fits no convolutions: choose a method of sparse training such as rigl or chase, or leave out `channels`"
        )
    if not budget.channels and not depth[0] <= len(budget.hidden) <= depth[1]:
        return f"it fits {depth[0]} to {depth[1]} hidden layers, got {len(budget.hidden)}: change `hidden`"
    try:
        allowed = budget.count(data.inputs, data.outputs, data.image)
    except ValueError as error:
        return str(error)
    return "it needs a budget: give nonzeros, density, sparsity or compression" if needed and allowed is None else None
