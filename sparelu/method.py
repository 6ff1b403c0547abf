"""The three interfaces (Fitter, Compressor, Certifier), and what every method is.

A method is a frozen dataclass whose fields are made by :func:`~sparelu.settings.setting`, the one declaration of a
hyperparameter.
"""

import dataclasses
import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

import numpy as np

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.oracle import Oracle
from sparelu.outcome import Certificate, Iterate, State, Status
from sparelu.settings import Refusal as Refusal
from sparelu.settings import Rule as Rule
from sparelu.settings import Setting as Setting
from sparelu.settings import SettingError as SettingError
from sparelu.settings import declared_setting
from sparelu.settings import nearest as nearest
from sparelu.settings import setting as setting


def settings_of(method: "type[Method] | Method") -> tuple[Setting, ...]:
    """Return the declared hyperparameters of a method, in the order of its fields."""
    kind: Any = method if isinstance(method, type) else type(method)  # mypy takes a class for an instance's hash
    return _settings_of(kind)


@functools.cache
def _settings_of(kind: "type[Method]") -> tuple[Setting, ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        declared_setting(f.name, hints[f.name], None if f.default is MISSING else f.default, f.metadata["rule"])
        for f in dataclasses.fields(kind)
    )


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
        """Return all settings by name, JSON values only."""
        return {s.name: _plain(getattr(self, s.name)) for s in settings_of(self)}

    def changed(self) -> dict[str, Any]:
        """Return the settings that are not at their default: what addresses a result by content."""
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
    With ``scales_inputs`` it centres and scales by itself: raw rows are passed on, standardised or not.
    """

    sums_over_rows: ClassVar[bool] = False
    scales_inputs: ClassVar[bool] = False
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
        """Return why this method cannot serve the data or the budget, with the way out; None when it can."""

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
        """Return why this network cannot be compressed so; None when it can."""

    @abstractmethod
    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        """Return a network within ``budget`` (``budget.hidden`` neurons at most), and what is claimed of it."""


class Certifier(Method, ABC):
    """States what is proved of a network."""

    @abstractmethod
    def refuses(self, network: Network, data: Data | None) -> str | None:
        """Return why nothing can be said; None when something can."""

    @abstractmethod
    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        """Return the claim, its value and its assumptions."""


def configured(kind: type[Method], values: dict[str, Any]) -> Any:
    """Return the method with the named settings. Raises :class:`SettingError` naming an unknown one and the nearest
    known.
    """
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
    """Return the common reasons to refuse: no budget where one is needed, one that does not fit, or a shape out of
    range.
    """
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
