"""What was learnt of the columns of a table, and how it is applied to any rows of such a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sparelu.columns.kinds import KINDS, PARTS, Kind, Number
from sparelu.columns.values import COUNTED, WrongValue
from sparelu.json_form import FormError, flag, listed, number, optional, record, text

if TYPE_CHECKING:
    import pyarrow

COMMON = {"kind": text, "name": text, "missing": flag}
FORMS = {
    "number": record({**COMMON, "fill": number()}),
    "category": record({**COMMON, "levels": listed(text), "base": optional(text), "rare": flag}),
    "date": record({**COMMON, "parts": listed(text, 1, 2, 3, 4), "start": number(), "fill": number(), "form": text}),
}
PLAIN = record(
    {"read": listed(record({"kind": text}, open=True)), "left_out": listed(record({"name": text, "why": text}))}
)


@dataclass(frozen=True)
class LeftOut:
    """A column that is not read, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Columns:
    """The columns that are ``read``, in order, each with what was learnt of it; and those ``left_out``."""

    read: tuple[Kind, ...]
    left_out: tuple[LeftOut, ...] = ()

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs (d,) that a network gets."""
        return tuple(name for kind in self.read for name in kind.inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns that are read."""
        return tuple(kind.name for kind in self.read)

    @property
    def are_numbers(self) -> bool:
        """Say whether each column is one input as it stands: numbers of which none is missing."""
        return all(isinstance(kind, Number) and not kind.missing for kind in self.read)

    def encode(self, column: Callable[[str], "pyarrow.ChunkedArray"], rows: int, start: int = 0) -> np.ndarray:
        """Return the inputs (rows, d), float64, of a table whose ``column`` of a name is asked for.

        Raises ``ValueError`` that names every column which does not hold what it held when it was learnt, and a row,
        counted from ``start``.
        """
        values, at, wrong = np.empty((rows, len(self.inputs))), 0, []
        for kind in self.read:
            width = len(kind.inputs)
            try:
                values[:, at : at + width] = kind.encode(column(kind.name))
            except ValueError as error:
                where = f" in row {start + error.row} ({COUNTED})" if isinstance(error, WrongValue) else ""
                wrong.append(f"column {kind.name!r} {error}{where}")
            at += width
        if wrong:
            raise ValueError("; ".join(wrong))
        return values

    def used(self, inputs: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Say of each of the columns ``names`` whether one of its inputs is among those marked in ``inputs`` (d,)."""
        starts = np.cumsum([0, *(len(kind.inputs) for kind in self.read)])
        read = {kind.name: inputs[a:b].any() for kind, a, b in zip(self.read, starts, starts[1:], strict=False)}
        return np.array([read.get(name, False) for name in names], dtype=bool)

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON values, of which :meth:`of` makes the same."""
        return {"read": [kind.plain() for kind in self.read], "left_out": [vars(one) for one in self.left_out]}

    @classmethod
    def of(cls, plain: Any) -> "Columns":
        """Make what :meth:`plain` gave. Raises ``ValueError`` for values of another form."""
        PLAIN(plain, "columns")
        read = tuple(_kind_of(given) for given in plain["read"])
        return cls(read, tuple(LeftOut(**one) for one in plain["left_out"]))


def _kind_of(given: Mapping[str, Any]) -> Kind:
    if given["kind"] not in KINDS:
        raise FormError(f"columns.read has a column of the kind {given['kind']!r:.60}")
    FORMS[given["kind"]](given, "columns.read")
    if unknown := set(given.get("parts", ())) - PARTS.keys():
        raise FormError(f"columns.read has a part of a date {min(unknown)!r:.60}")
    if not all(math.isfinite(value) for value in given.values() if isinstance(value, float)):
        raise FormError(f"columns.read has a number of {given['name']!r:.60} that is not finite, such as its fill")
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k != "kind"}
    return KINDS[given["kind"]](**rest)


def describe_left_out(columns: Columns, shown: int = 10) -> str:
    """Say which columns are not read, and why; empty where all are."""
    reasons: dict[str, list[str]] = {}
    for one in columns.left_out:
        reasons.setdefault(one.why, []).append(repr(one.name))
    return "; ".join(f"{_listed(names, shown)} {why}" for why, names in reasons.items())


def _listed(names: Sequence[str], shown: int) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
