"""A network as a formula of the columns of a table: a Python function, an SQL query, a spreadsheet."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparelu.columns import Category, Columns, Kind, Moment, Number
from sparelu.networks.formula import Notation, network_formulas, write_formula
from sparelu.outcome import Solution

CELL = 8192
"""Characters of a formula that a spreadsheet takes."""


@dataclass(frozen=True)
class Language:
    """How a language writes a formula: numbers and hinges, columns and texts, what is missing or equal, and a choice.

    ``choose`` has places for a condition and for the values where it holds and where not.
    """

    notation: Notation
    column: Callable[[str], str]
    text: Callable[[Any], str]
    missing: str
    equal: str
    either: Callable[[Sequence[str]], str]
    choose: str

    def inputs(self, columns: Columns) -> list[str]:
        """Return the expression of each input of a network. Raises ``ValueError`` for dates."""
        return [written for kind in columns.read for written in self._of(kind)]

    def _of(self, kind: Kind) -> list[str]:
        column, number = self.column(kind.name), self.notation.number
        absent = self.missing.format(column)
        marks = [self.choose.format(absent, "1", "0")] if kind.missing else []
        if isinstance(kind, Number):
            return [self.choose.format(absent, number(kind.fill), column) if kind.missing else column, *marks]
        if isinstance(kind, Category):
            found = [self.choose.format(self._is(column, level), "1", "0") for level in kind.levels]
            if kind.rare:
                known = [absent, *(self._is(column, t) for t in (*kind.levels, kind.base) if t is not None)]
                found.append(self.choose.format(self.either(known), "0", "1"))
            return [*found, *marks]
        words = "holds dates" if isinstance(kind, Moment) else f"is of the kind {kind.word}"
        raise ValueError(f"column {kind.name!r} {words}, which formulas do not take: fit without it (--drop)")

    def _is(self, column: str, text: str) -> str:
        return self.equal.format(column, self.text(text))


def _quoted(mark: str, doubled: str) -> Callable[[Any], str]:
    """Return how a text stands between two marks; numbers stand as they are."""

    def text(value: Any) -> str:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return repr(value)
        return mark + str(value).replace(mark, doubled) + mark

    return text


PYTHON = Language(
    Notation(repr, "max(0.0, {})", " * "), lambda name: f"row[{name!r}]", repr,
    "{0} is None or {0} != {0}", "{} == {}", " or ".join, "({1} if {0} else {2})",
)  # fmt: skip
SQL = Language(
    Notation(repr, "CASE WHEN {0} > 0 THEN {0} ELSE 0 END", " * "), _quoted('"', '""'), _quoted("'", "''"),
    "{} IS NULL", "{} = {}", " OR ".join, "CASE WHEN {0} THEN {1} ELSE {2} END",
)  # fmt: skip


def python_function(solution: Solution, name: str = "network") -> str:
    """Write the functions ``NAME`` (the prediction of a row) and ``NAME_scores`` (the outputs of the network).

    A row is a mapping from the names of the columns to their values, None or NaN where there is none. Raises
    ``ValueError`` for a network of too many terms and for columns of dates, as all formulas here do.
    """
    scores = ",\n        ".join(_written(solution, PYTHON))
    return (
        f"# {ascii(', '.join(solution.output_names))}\n"  # no name can end a comment, or a text, and be a program
        f"def {name}_scores(row):\n"
        f'    """Return what the network computes of a row."""\n'
        f"    return [\n        {scores},\n    ]\n\n\n"
        f"# {ascii(_target(solution))}\n"
        f"def {name}(row):\n"
        f'    """Predict a row: a value by the name of each column, None or NaN where there is none."""\n'
        f"    scores = {name}_scores(row)\n    return {_python_prediction(solution)}\n"
    )


def _python_prediction(solution: Solution) -> str:
    labels, outputs = _labels(solution), solution.network.outputs
    if not labels:
        return "scores[0]" if outputs == 1 else "scores"
    if outputs == 1:
        return f"{labels[1]!r} if scores[0] > 0 else {labels[0]!r}"
    return f"{labels!r}[scores.index(max(scores))]"


def sql_query(solution: Solution, table: str = "data") -> str:
    """Write a query that predicts every row of ``table``; of classes the scores and the label."""
    scores, names = _written(solution, SQL), [SQL.column(name) for name in solution.output_names]
    inner = ",\n".join(f"  {score} AS {name}" for score, name in zip(scores, names, strict=True))
    query = f"SELECT\n{inner}\nFROM {SQL.column(table)}"
    if not solution.classes:
        return query + ";\n"
    labels = [SQL.text(label) for label in _labels(solution)]
    if len(names) == 1:
        chosen = f"CASE WHEN {names[0]} > 0 THEN {labels[1]} ELSE {labels[0]} END"
    else:
        first = [" AND ".join(f"{a} >= {b}" for b in names if b != a) for a in names[:-1]]
        cases = " ".join(f"WHEN {c} THEN {label}" for c, label in zip(first, labels, strict=False))
        chosen = f"CASE {cases} ELSE {labels[-1]} END"
    wanted = ", ".join([*names, f"{chosen} AS {SQL.column(_target(solution))}"])
    return f"SELECT {wanted}\nFROM (\n{query}\n) AS scores;\n"


def spreadsheet(solution: Solution) -> str:
    """Write a CSV file with the columns that are read, a row to be filled in, and formulas of the predictions.

    Raises ``ValueError`` above the 8,192 characters of a cell.
    """
    used = _used(solution)
    place = {kind.name: _letters(i) + "2" for i, kind in enumerate(used.read)}
    language = Language(
        Notation(repr, "MAX(0,{})", "*"), place.__getitem__, _quoted('"', '""'), "ISBLANK({})", "EXACT({},{})",
        lambda conditions: f"OR({','.join(conditions)})", "IF({0},{1},{2})",
    )  # fmt: skip
    formulas = ["=" + text for text in _written(solution, language)]
    if any(len(text) > CELL for text in formulas):
        raise ValueError(f"a cell of a spreadsheet holds {CELL:,} characters, which this network needs more than")
    head, names = [kind.name for kind in used.read], solution.output_names
    if solution.classes:
        first, last = _letters(len(head)), _letters(len(head) + len(names) - 1)
        labels = [language.text(label) for label in _labels(solution)]
        one = f"=IF({first}2>0,{labels[1]},{labels[0]})"
        scores = f"{first}2:{last}2"
        formulas.append(one if len(names) == 1 else f"=CHOOSE(MATCH(MAX({scores}),{scores},0),{','.join(labels)})")
        names.append(_target(solution))
    rows = [[f"'{name}" if name.startswith(("=", "+", "-", "@")) else name for name in (*head, *names)]]
    rows.append([*map(_example, used.read), *formulas])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _example(kind: Kind) -> str:
    """Return a value to stand in a column until it is filled in."""
    if isinstance(kind, Category):
        return kind.base or (kind.levels[0] if kind.levels else "")
    return repr(kind.fill) if isinstance(kind, Number) else ""


def _letters(place: int) -> str:
    """Return the name of a column of a spreadsheet: A, B, ..., Z, AA, ..."""
    before, last = divmod(place, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _columns(solution: Solution) -> Columns:
    names = solution.names or tuple(f"x{i}" for i in range(solution.network.inputs))
    return solution.columns or Columns(tuple(Number(str(name)) for name in names))


def _used(solution: Solution) -> Columns:
    """Return the columns that the network reads."""
    net, columns = solution.network.compact(), _columns(solution)
    read = set(net.layers[0].indices.tolist()) | (set() if net.skip is None else set(net.skip.indices.tolist()))
    whose = [kind.name for kind in columns.read for _ in kind.inputs]
    names = {whose[i] for i in read}
    return Columns(tuple(kind for kind in columns.read if kind.name in names))


def _written(solution: Solution, language: Language) -> list[str]:
    """Return the formula of each output; of the inputs that the network does not read nothing is written."""
    used = {kind.name for kind in _used(solution).read}
    inputs = []
    for kind in _columns(solution).read:
        inputs += language.inputs(Columns((kind,))) if kind.name in used else [""] * len(kind.inputs)
    return [write_formula(one, inputs, language.notation) for one in network_formulas(solution.network)]


def _labels(solution: Solution) -> list[Any]:
    """Return the classes as values of Python."""
    return [label.item() if isinstance(label, np.generic) else label for label in solution.classes]


def _target(solution: Solution) -> str:
    return str(solution.about.get("target", "y"))
