"""Networks as formulas of raw columns: run as Python, by SQLite, and by a reader of cells, they predict the same."""

import csv
import io
import re
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparelu.columns import Category, Columns, Moment, Number
from sparelu.data import Budget
from sparelu.datasets.frames import inputs_of
from sparelu.export.formulas import python_function, spreadsheet, sql_query
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status

COLUMNS = Columns(
    (
        Number("size m2"),
        Number('odd "name"', missing=True, fill=1.5),
        Category("town", missing=True, levels=("a", "b's"), base="c", rare=True),
    )
)
ROWS: list[dict[str, Any]] = [
    {"size m2": size, 'odd "name"': odd, "town": town}
    for size in (-1.0, 0.3, 2.0)
    for odd in (None, -2.0, 4.0)
    for town in ("a", "b's", "c", "elsewhere", None)
]


def solution_of(seed: int, outputs: int, classes: tuple[Any, ...] = ()) -> Solution:
    rng = np.random.default_rng(seed)
    widths = [len(COLUMNS.inputs), 3, 3, outputs]
    weights = [rng.standard_normal((b, a)) for a, b in zip(widths, widths[1:], strict=False)]
    network = Network.from_dense(weights, [rng.standard_normal(b) for b in widths[1:]])
    return Solution(
        network, Status.converged, "none", {}, Budget((3, 3)), 0, True, names=COLUMNS.inputs, classes=classes,
        task="classification" if classes else "regression", about={"columns": COLUMNS.plain(), "target": "kind's"},
    )  # fmt: skip


CASES = [(0, 1, ()), (1, 2, ()), (2, 1, ("no", "it's")), (3, 2, ("no", "yes")), (4, 3, (1, 2, 7)), (5, 1, (0, 1))]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[1]} of {case[2]}")
def solution(request: pytest.FixtureRequest) -> Solution:
    return solution_of(*request.param)


def predicted(solution: Solution) -> list[Any]:
    x = inputs_of(pd.DataFrame(ROWS), COLUMNS)
    return np.asarray(solution.predict(x)).tolist()


def same(found: list[Any], solution: Solution) -> None:
    wanted = predicted(solution)
    if solution.classes:
        assert found == wanted
    else:
        assert np.array(found) == pytest.approx(np.array(wanted), rel=1e-9, abs=1e-9)


def test_python(solution: Solution) -> None:
    names: dict[str, Any] = {}
    exec(python_function(solution, "model"), names)
    same([names["model"](row) for row in ROWS], solution)
    absent = [{name: float("nan") if value is None else value for name, value in row.items()} for row in ROWS]
    same([names["model"](row) for row in absent], solution)


def test_sql(solution: Solution) -> None:
    base = sqlite3.connect(":memory:")
    base.execute('CREATE TABLE data ("size m2" REAL, "odd ""name""" REAL, town TEXT)')
    base.executemany("INSERT INTO data VALUES (?, ?, ?)", [tuple(row.values()) for row in ROWS])
    found = base.execute(sql_query(solution)).fetchall()
    base.close()
    same([row[-1] if solution.classes or len(row) == 1 else list(row) for row in found], solution)


WORDS = {"IF", "EXACT", "ISBLANK", "MAX", "OR", "MATCH", "CHOOSE"}
FUNCTIONS = {
    "IF": lambda condition, yes, no: yes if condition else no,
    "EXACT": lambda a, b: a == b,
    "ISBLANK": lambda a: a is None,
    "MAX": lambda *v: max(v[0]) if isinstance(v[0], list) else max(v),
    "OR": lambda *v: any(v),
    "MATCH": lambda what, among, _: among.index(what) + 1,
    "CHOOSE": lambda number, *values: values[number - 1],
}


def cells(page: str, row: Mapping[str, Any]) -> Iterator[Any]:
    """Compute the formulas of the second row, as a spreadsheet would, with the values of ``row`` filled in."""
    names, second = csv.reader(io.StringIO(page))
    known: dict[str, Any] = {}
    for i, (name, cell) in enumerate(zip(names, second, strict=True)):
        place = f"{chr(65 + i)}2"
        if name in row:
            known[place] = row[name]
            continue
        assert cell.startswith("=")
        text = re.sub(r"([A-Z]2):([A-Z]2)", lambda m: f"[{', '.join(_between(m[1], m[2]))}]", cell[1:])
        text = re.sub(r'"((?:[^"]|"")*)"', lambda m: repr(m[1].replace('""', '"')), text)
        known[place] = eval(text, {**FUNCTIONS, "__builtins__": {}}, known)
        yield known[place]


def _between(first: str, last: str) -> list[str]:
    return [f"{chr(letter)}2" for letter in range(ord(first[0]), ord(last[0]) + 1)]


def test_spreadsheet(solution: Solution) -> None:
    page = spreadsheet(solution)
    found = [list(cells(page, row)) for row in ROWS]
    same([row[-1] if solution.classes or len(row) == 1 else row for row in found], solution)


def test_columns_that_are_not_read_are_left_out() -> None:
    network = Network.two_layer([[0.0, 2.0, 0, 0, 0, 0, 0]], [1.0], [-3.0])
    solution = Solution(
        network, Status.converged, "none", {}, Budget((1,)), 0, True, names=COLUMNS.inputs,
        about={"columns": COLUMNS.plain(), "target": "y"},
    )  # fmt: skip
    assert "size" not in python_function(solution) + sql_query(solution) + spreadsheet(solution)
    plain = Solution(Network.two_layer([[0.5, 0.0]], [3.0]), Status.converged, "none", {}, Budget((1,)), 0, True)
    assert "0.0, row['x0'])" in python_function(plain)
    assert spreadsheet(plain) == 'x0,y\n0.0,"=1.5*MAX(0,A2)"\n'


def test_names_are_no_program() -> None:
    evil = '"""\nraise SystemExit\n"""'
    network = Network.two_layer([[1.0]], [1.0])
    columns = Columns((Number(evil),))
    solution = Solution(
        network, Status.converged, "none", {}, Budget((1,)), 0, True, names=columns.inputs, task="classification",
        classes=(evil, "yes" + evil), about={"columns": columns.plain(), "target": evil},
    )  # fmt: skip
    names: dict[str, Any] = {}
    exec(python_function(solution), names)
    assert names["network"]({evil: -1.0}) == evil
    assert names["network"]({evil: 1.0}) == "yes" + evil


def test_dates_and_long_networks_are_refused() -> None:
    columns = Columns((Moment("day"),))
    network = Network.two_layer([[1.0]], [1.0])
    dated = Solution(
        network, Status.converged, "none", {}, Budget((1,)), 0, True, names=columns.inputs,
        about={"columns": columns.plain()},
    )  # fmt: skip
    with pytest.raises(ValueError, match="column 'day' holds dates.*--drop"):
        sql_query(dated)
    long = Solution(
        Network.from_dense([np.ones((20, 11)), np.ones((1, 20))]), Status.converged, "none", {}, Budget((20,)), 0, True
    )
    with pytest.raises(ValueError, match="more than 200 terms"):
        python_function(long)
