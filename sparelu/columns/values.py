"""Values of Arrow columns as NumPy arrays, whatever the file calls them: numbers, texts, moments in time.

Text is read value by value of the distinct ones alone, so that a column of a million rows with ten levels costs ten.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

MISSING = frozenset(("", "?", "-", ".", "na", "n/a", "#n/a", "nan", "null", "none", "missing"))
"""Texts that stand for no value, in lower case, without the blanks around them."""

COUNTED = "the first row of data is 0"
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%Y%m%d", "%d-%b-%Y", "%b %d, %Y")
MOMENTS = (*DAYS, *(f"{day} {time}" for day in DAYS for time in ("%H:%M:%S", "%H:%M")))
"""Forms of dates in text, in the order in which they are tried; the first that reads every value is taken."""

NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
TRUTH = {"true": 1.0, "false": 0.0}
"""Booleans as a CSV file has them: where the types of other columns are not known yet, they are read as text."""
DAY = 86_400.0
"""Seconds of a day."""


class WrongValue(ValueError):
    """A text in a ``row`` of a column, counted from 0, is not what its column holds."""

    def __init__(self, row: int, words: str) -> None:
        super().__init__(words)
        self.row = row


def kind_of(arrow: Any) -> str:
    """Return what an Arrow type holds: number, text, moment, bytes, or other values, which are not read."""
    import pyarrow.types as t

    if t.is_dictionary(arrow):
        return kind_of(arrow.value_type)
    if any(f(arrow) for f in (t.is_integer, t.is_floating, t.is_boolean, t.is_decimal, t.is_null, t.is_duration)):
        return "number"
    if any(f(arrow) for f in (t.is_string, t.is_large_string, t.is_string_view)):
        return "text"
    if any(f(arrow) for f in (t.is_date, t.is_timestamp)):
        return "moment"
    if t.is_time(arrow):
        return "number"
    return "bytes" if t.is_binary(arrow) or t.is_large_binary(arrow) else "other"


def numbers_of(column: "pyarrow.ChunkedArray") -> np.ndarray:
    """Return a column as float64, NaN where there is no value; durations and times of the day are in seconds.

    Raises ``ValueError`` naming the first text that is no number.
    """
    import pyarrow as pa
    import pyarrow.types as t

    if kind_of(column.type) == "text":
        return _by_distinct(column, _number)
    if kind_of(column.type) != "number":
        raise ValueError(f"holds values of type {column.type} where numbers belong")
    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if t.is_null(column.type):
        return np.full(len(column), np.nan)
    if t.is_duration(column.type) or t.is_time(column.type):
        ticks = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
        return numbers_of(column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())) / ticks
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def texts_of(column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, list[str]]:
    """Return of every row the place of its text among the distinct ones (-1 for none), and these, sorted."""
    import pyarrow as pa

    if kind_of(column.type) != "text":
        column = column.cast(pa.string())
    codes, levels = _distinct(column)
    plain = [text.strip() for text in levels]
    names = sorted({text for text in plain if text.lower() not in MISSING})
    place = {text: i for i, text in enumerate(names)}
    return np.array([*(place.get(text, -1) for text in plain), -1])[codes], names


def moments_of(column: "pyarrow.ChunkedArray", form: str) -> np.ndarray:
    """Return a column of dates or times as seconds since 1970, in the zone that they are written in; NaN for none.

    ``form`` is that of text (:data:`MOMENTS`; empty for ISO 8601). Raises ``ValueError`` naming the first text of
    another form.
    """
    import pyarrow as pa

    if kind_of(column.type) == "text":
        return _by_distinct(column, lambda text: _seconds(text, form))
    if kind_of(column.type) != "moment":
        raise ValueError(f"holds values of type {column.type} where dates belong")
    if getattr(column.type, "tz", None):
        column = column.cast(pa.timestamp("us", column.type.tz))
        column = pa.chunked_array([_local(chunk) for chunk in column.chunks], pa.timestamp("us"))
    ticks = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return numbers_of(ticks) / 1e6


def form_of(texts: list[str]) -> str | None:
    """Return the form in which all of the texts are dates; None when there is none."""
    return next((form for form in MOMENTS if texts and all(_matches(text, form) for text in texts)), None)


def are_numbers(texts: list[str]) -> bool:
    """Say whether all of the texts are numbers."""
    return bool(texts) and all(_matches(text, None) for text in texts)


def _matches(text: str, form: str | None) -> bool:
    try:
        _number(text) if form is None else _seconds(text, form)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    """Return the number that a text is: 12, 1.5e3, 1,234.5, 3,14, 12%, $5, true (1) and false (0)."""
    if (truth := TRUTH.get(text.strip().lower())) is not None:
        return truth
    bare = text.strip().lstrip("$€£").rstrip("%").strip()
    if NUMBER.fullmatch(bare):
        return float(bare)
    if GROUPED.fullmatch(bare):
        return float(bare.replace(",", ""))
    if DECIMAL_COMMA.fullmatch(bare):
        return float(bare.replace(",", "."))
    raise ValueError(f"holds {text!r:.60} where numbers belong")


def _seconds(text: str, form: str) -> float:
    """Return the seconds since 1970 of a date in text, of the form, or as ISO 8601 has it where that is empty."""
    try:
        moment = datetime.strptime(text.strip(), form) if form else datetime.fromisoformat(text.strip())
    except ValueError:
        wanted = f"dates of the form {form}" if form else "dates such as 2020-12-31"
        raise ValueError(f"holds {text!r:.60} where {wanted} belong") from None
    return moment.replace(tzinfo=UTC).timestamp()


def _local(chunk: Any) -> Any:
    import pyarrow.compute as pc

    return pc.local_timestamp(chunk)


def _distinct(column: "pyarrow.ChunkedArray") -> tuple[np.ndarray, list[str]]:
    """Return the place of each row among the distinct texts, -1 for null, and the texts."""
    import pyarrow as pa
    import pyarrow.types as t

    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = pa.chunked_array(column).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a column of no rows or of one chunk, as the version of Arrow has it
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.string()).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(codes, dtype=np.int64), encoded.dictionary.to_pylist()


def _by_distinct(column: "pyarrow.ChunkedArray", read: Callable[[str], float]) -> np.ndarray:
    """Return what ``read`` makes of each text, NaN where there is none."""
    codes, levels = _distinct(column)
    values = []
    for code, text in enumerate(levels):
        try:
            values.append(np.nan if text.strip().lower() in MISSING else read(text))
        except ValueError as error:
            raise WrongValue(int((codes == code).argmax()), str(error)) from None
    return np.array([*values, np.nan])[codes]
