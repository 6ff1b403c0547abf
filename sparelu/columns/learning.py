"""Rules by which the kind of a column is found, from training rows alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from sparelu.columns.columns import Columns, LeftOut
from sparelu.columns.kinds import PARTS, Category, Kind, Moment, Number
from sparelu.columns.values import COUNTED, are_numbers, form_of, kind_of, moments_of, numbers_of, texts_of

if TYPE_CHECKING:
    import pyarrow

LEVELS = 20
"""Levels of a text column that have an input of their own, at most; the most frequent ones."""
OFTEN, SHARE = 5, 0.01
"""Rows, and share of the rows, in which a level must stand to have an input of its own."""
AT_A_TIME, PIECE = 64, 2**16
"""Number columns, and rows of them, that are read at a time."""
INDEX_NAMES = frozenset(("", "id", "index", "idx", "row", "rowid", "row_id", "rownames", "row.names", "unnamed: 0"))
"""Names, in lower case, of columns that only count the rows when all their values are different whole numbers."""

HOLDS_NOTHING = "holds no values"
CONSTANT = "has one value only"
COUNTS = "counts the rows"
NAMES_ROWS = f"has no text that stands in {OFTEN} rows and {SHARE:.0%} of them"


@runtime_checkable
class RawTable(Protocol):
    """What columns are learnt from: types, one whole column, and number columns as rows that are read in pieces."""

    @property
    def schema(self) -> Any: ...
    @property
    def rows(self) -> int: ...
    def column(self, name: str, /) -> Any: ...
    def numbers(self, names: Sequence[str], /) -> Any: ...


def learn_columns(table: RawTable, names: Sequence[str], rows: np.ndarray | None = None) -> Columns:
    """Learn how each of the columns is read, from the ``rows`` of a table (all where None).

    Whether text is numbers, dates or neither is told from the whole column, as a file tells the types of others: other
    rows of the table can then be read too. All else is learnt from the rows.

    * Numbers, booleans, times of the day, and text of which every value is a number: one input. Where values are
      missing, their mean, and an input that says so.
    * Dates, and text of which every value is a date of one form: days since the first, month, weekday and hour, those
      that vary.
    * Other text: an input for each of the :data:`LEVELS` most frequent levels that stand in at least :data:`OFTEN`
      rows and a hundredth of them; one for all others. Of two, the more frequent needs none.
    * What holds one value, counts the rows, names each row, or holds lists is left out.

    Raises ``ValueError`` that names every column with infinite numbers.
    """
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    whole = partial(_rows_of, table, rows)
    found = _learn_numbers(table, [name for name in names if kind_of(types[name]) == "number"], rows, whole)
    wrong = []
    for name in names:
        try:
            if name not in found:
                found[name] = _learn(name, whole(name), table.column(name))
        except ValueError as error:
            found[name] = error
        if isinstance(found[name], ValueError):
            wrong.append(f"column {name!r} {found[name]}")
    if wrong:
        raise ValueError("; ".join(wrong))
    left = tuple(LeftOut(name, why) for name in names if isinstance(why := found[name], str))
    return Columns(tuple(kind for name in names if isinstance(kind := found[name], Kind)), left)


def _rows_of(table: RawTable, rows: np.ndarray | None, name: str) -> "pyarrow.ChunkedArray":
    column = table.column(name)
    return column if rows is None else column.take(rows)


def _learn_numbers(
    table: RawTable, names: Sequence[str], rows: np.ndarray | None, whole: Callable[[str], Any]
) -> dict[str, Kind | str | ValueError]:
    """Learn columns of numbers, some at a time and in pieces of rows, so that little of them is in memory."""
    found: dict[str, Kind | str | ValueError] = {}
    chosen = np.arange(table.rows) if rows is None else rows
    for start in range(0, len(names), AT_A_TIME):
        group = names[start : start + AT_A_TIME]
        source, sums = table.numbers(group), Sums(len(group))
        for at in range(0, len(chosen), PIECE):
            sums.add(source[chosen[at : at + PIECE]] if rows is not None else source[at : at + PIECE])
        for i, name in enumerate(group):
            found[name] = sums.kind(name, i)
            if name.strip().lower() in INDEX_NAMES and isinstance(found[name], Number):
                found[name] = _number(name, numbers_of(whole(name)))
    return found


class Sums:
    """What one pass over pieces of number columns learns: how many are known, their sum, the ends, infinite ones."""

    def __init__(self, columns: int) -> None:
        self.rows, self.known, self.total = 0, np.zeros(columns, np.int64), np.zeros(columns)
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self.infinite: dict[int, int] = {}

    def add(self, values: np.ndarray) -> None:
        """Add rows (n, columns), NaN where there is no value."""
        absent, infinite = np.isnan(values), np.isinf(values)
        for i in np.flatnonzero(infinite.any(axis=0)):
            self.infinite.setdefault(int(i), self.rows + int(infinite[:, i].argmax()))
        self.rows += len(values)
        self.known += len(values) - absent.sum(axis=0)
        self.total += np.where(absent, 0.0, values).sum(axis=0)
        self.low = np.minimum(self.low, np.where(absent, np.inf, values).min(axis=0))
        self.high = np.maximum(self.high, np.where(absent, -np.inf, values).max(axis=0))

    def kind(self, name: str, i: int) -> Kind | str | ValueError:
        """Return the kind of column ``i``, why it is left out, or why it cannot be read."""
        if not self.known[i]:
            return HOLDS_NOTHING
        if i in self.infinite:
            return ValueError(f"holds an infinite number in row {self.infinite[i]} ({COUNTED})")
        missing = bool(self.known[i] < self.rows)
        if self.low[i] == self.high[i] and not missing:
            return CONSTANT
        return Number(name, missing, float(self.total[i] / self.known[i]))


def _learn(name: str, column: "pyarrow.ChunkedArray", every: "pyarrow.ChunkedArray") -> Kind | str | ValueError:
    """Return the kind of a column that holds no numbers, or why it is left out; ``every`` has the other rows too."""
    kind = kind_of(column.type)
    if kind == "moment":
        return _moment(name, moments_of(column, ""), "")
    if kind == "bytes":
        raise ValueError("holds bytes that are not UTF-8 text: save the file as UTF-8")
    if kind != "text":
        return f"holds values of type {column.type}"
    codes, texts = texts_of(column)
    if not texts:
        return HOLDS_NOTHING
    everything = texts if column is every else texts_of(every)[1]
    if are_numbers(everything):
        return _number(name, numbers_of(column))
    form = form_of(everything)
    return _category(name, codes, texts) if form is None else _moment(name, moments_of(column, form), form)


def _number(name: str, values: np.ndarray) -> Kind | str | ValueError:
    """Return the kind of numbers that are all at hand."""
    known = values[~np.isnan(values)]
    counts = name.strip().lower() in INDEX_NAMES and np.array_equal(known, np.floor(known))
    if counts and len(np.unique(known)) == known.size:
        return COUNTS
    sums = Sums(1)
    sums.add(values[:, None])
    return sums.kind(name, 0)


def _category(name: str, codes: np.ndarray, texts: list[str]) -> Kind | str:
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    order = sorted(range(len(texts)), key=lambda i: (-counts[i], texts[i]))
    often = [i for i in order if counts[i] >= max(OFTEN, SHARE * len(codes))][:LEVELS]
    missing, rare = bool((codes < 0).any()), len(often) < len(texts)
    groups = len(often) + rare
    if not often:
        return NAMES_ROWS
    if groups == 1 and not missing:
        return CONSTANT
    base = texts[often[0]] if groups <= 2 else None
    levels = tuple(texts[i] for i in often if texts[i] != base)
    return Category(name, missing, levels, base, rare)


def _moment(name: str, seconds: np.ndarray, form: str) -> Kind | str:
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return HOLDS_NOTHING
    start = float(known.min())
    varying = tuple(part for part, of in PARTS.items() if np.ptp(of(known, start)) > 0)
    missing = known.size < seconds.size
    if not varying and not missing:
        return CONSTANT
    return Moment(name, missing, varying or ("days",), start, float(known.mean()), form)
