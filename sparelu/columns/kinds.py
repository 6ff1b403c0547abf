"""Kinds of columns: what is known of one from the training rows, and the inputs that are made of it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sparelu.columns.values import DAY, moments_of, numbers_of, texts_of

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Kind(ABC):
    """One column: its name, and whether rows without a value have an input of their own.

    :attr:`inputs` names what a network reads of it; :meth:`encode` computes that, (n, inputs), in float64.
    """

    name: str
    missing: bool = False

    word: ClassVar[str]

    @property
    def inputs(self) -> list[str]:
        """Return the names of the inputs that are made of the column."""
        return self._own_inputs() + ([f"{self.name} is missing"] if self.missing else [])

    def encode(self, column: "pyarrow.ChunkedArray") -> np.ndarray:
        """Return the inputs (n, inputs) of a column. Raises ``ValueError`` for values of another kind."""
        values, absent = self._own_values(column)
        return np.column_stack([values, absent]) if self.missing else values

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"kind": self.word, **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}}

    @abstractmethod
    def _own_inputs(self) -> list[str]: ...

    @abstractmethod
    def _own_values(self, column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, np.ndarray]:
        """Return the values (n, own inputs), and where (n,) there was none."""


@dataclass(frozen=True)
class Number(Kind):
    """Numbers, booleans, numbers written as text; ``fill`` stands where there is none."""

    fill: float = 0.0

    word = "number"

    def _own_inputs(self) -> list[str]:
        return [self.name]

    def _own_values(self, column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, np.ndarray]:
        values = numbers_of(column)
        absent = np.isnan(values)
        return np.where(absent, self.fill, values)[:, None], absent


@dataclass(frozen=True)
class Category(Kind):
    """Texts of few kinds: for each of ``levels`` an input that is 1 where it stands and else 0.

    ``base`` is a level without an input, with which the others are compared. All other texts, also such as the
    training rows lacked, are ``rare`` together, in an input of their own where there were any.
    """

    levels: tuple[str, ...] = ()
    base: str | None = None
    rare: bool = False

    word = "category"

    def _own_inputs(self) -> list[str]:
        return [f"{self.name} = {level}" for level in self.levels] + ([f"{self.name} is rare"] if self.rare else [])

    def _own_values(self, column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, np.ndarray]:
        codes, texts = texts_of(column)
        place = {level: i for i, level in enumerate(self.levels)} | ({} if self.base is None else {self.base: -1})
        wide = np.zeros((len(texts) + 1, len(self.levels) + self.rare))  # the last row is that of no text
        for row, text in enumerate(texts):
            at = place.get(text, len(self.levels) if self.rare else -1)
            if at >= 0:
                wide[row, at] = 1.0
        return wide[codes], codes < 0


PARTS = {
    "days": lambda seconds, start: (seconds - start) / DAY,
    "month": lambda seconds, _: _months(seconds) % 12 + 1.0,
    "weekday": lambda seconds, _: (np.floor(seconds / DAY) + 3.0) % 7.0 + 1.0,  # 1970 began on a Thursday
    "hour": lambda seconds, _: seconds % DAY / 3600.0,
}
"""Inputs that can be made of a moment: days since the first one, month (1 to 12), weekday (Monday is 1), hour."""


@dataclass(frozen=True)
class Moment(Kind):
    """Dates and times, as those ``parts`` that vary; ``fill`` (seconds since 1970) stands where there is none."""

    parts: tuple[str, ...] = ("days",)
    start: float = 0.0
    fill: float = 0.0
    form: str = ""

    word = "date"

    def _own_inputs(self) -> list[str]:
        return [f"{part} of {self.name}" for part in self.parts]

    def _own_values(self, column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, np.ndarray]:
        seconds = moments_of(column, self.form)
        absent = np.isnan(seconds)
        known = np.where(absent, self.fill, seconds)
        return np.column_stack([PARTS[part](known, self.start) for part in self.parts]), absent


def _months(seconds: np.ndarray) -> np.ndarray:
    """Count months since 1970."""
    return np.floor(seconds).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


KINDS: dict[str, type[Kind]] = {kind.word: kind for kind in (Number, Category, Moment)}
