"""Columns as people have them: found by rule, learnt from training rows alone, applied to any rows; against pandas."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparelu.columns import Category, Columns, Moment, Number, learn_columns
from sparelu.columns.values import form_of, moments_of, numbers_of, texts_of
from sparelu.data import DataError
from sparelu.datasets import columns_for, pieces_for, read_table, rows
from sparelu.datasets.arrow import table_in_memory
from sparelu.experiments.trials.folds import fold_split

CITIES = ["Paris", "Rome", "Oslo", "Bonn"]


def learn(**columns: Any) -> Columns:
    table = pa.table(columns)
    return learn_columns(table_in_memory(table, Path("table")), table.column_names)


def random_table(seed: int, n: int = 300) -> pd.DataFrame:
    """A table with columns of every kind, a tenth of some missing."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "age": rng.integers(18, 90, n).astype(float),
            "city": rng.choice(CITIES, n, p=[0.5, 0.3, 0.15, 0.05]),
            "member": rng.random(n) < 0.3,
            "since": pd.Timestamp("2019-03-05") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "word": [f"word {i}" for i in range(n)],
        }
    )
    for name in ("age", "city", "since"):
        table.loc[rng.random(n) < 0.1, name] = None
    return table


@pytest.mark.parametrize("seed", range(5))
def test_inputs_are_those_that_pandas_makes(seed: int) -> None:
    table = random_table(seed)
    columns = learn(**{name: pa.array(table[name], from_pandas=True) for name in table})
    found = dict(zip(columns.inputs, columns.encode(pa.table(table).column, len(table)).T, strict=True))
    want = pd.get_dummies(table["city"], dtype=float)
    for city in CITIES:
        np.testing.assert_array_equal(found[f"city = {city}"], want[city])
    np.testing.assert_allclose(found["age"], table["age"].fillna(table["age"].mean()))
    for name in ("age", "city", "since"):
        np.testing.assert_array_equal(found[f"{name} is missing"], table[name].isna())
    known = ~table["since"].isna().to_numpy()
    since = table["since"][known]
    np.testing.assert_allclose(found["days of since"][known], (since - since.min()).dt.days)
    np.testing.assert_array_equal(found["month of since"][known], since.dt.month)
    np.testing.assert_array_equal(found["weekday of since"][known], since.dt.day_of_week + 1)
    assert [one.name for one in columns.left_out] == ["id", "word"]
    assert Columns.of(json.loads(json.dumps(columns.plain()))) == columns


def test_rare_and_unseen_levels_are_one_input() -> None:
    texts = ["a"] * 40 + ["b"] * 30 + ["c"] * 4 + ["d"] * 3 + ["e"] * 20
    columns = learn(x=texts)
    assert columns.inputs == ("x = a", "x = b", "x = e", "x is rare")
    new = columns.encode(pa.table({"x": ["d", "z", "b", None, "  a "]}).column, 5)
    np.testing.assert_array_equal(new, [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("texts", "inputs"),
    [
        (["m"] * 9 + ["f"] * 8, ("x = f",)),
        (["m"] * 9 + ["f"], ("x is rare",)),
        (["m"] * 9 + [None], ("x is missing",)),
        (["m"] * 9 + ["f"] * 8 + [None], ("x = f", "x is missing")),
        ([f"level {i % 30:02d}" for i in range(300)], (*(f"x = level {i:02d}" for i in range(20)), "x is rare")),
        (["1", "2", "?", "3"], ("x", "x is missing")),
        (["1,000", "$2", "3%", "-4.5e1"], ("x",)),
        (["01/02/2020", "05/03/2021"], ("days of x", "month of x", "weekday of x")),
        (["2020-01-01 10:00", "2020-01-01 15:30"], ("days of x", "hour of x")),
    ],
)
def test_text_is_read_for_what_it_holds(texts: list[str | None], inputs: tuple[str, ...]) -> None:
    columns = learn(x=texts)
    assert columns.inputs == inputs
    assert np.isfinite(columns.encode(pa.table({"x": texts}).column, len(texts))).all()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([3, 3, 3], "has one value only"),
        (["a"] * 9, "has one value only"),
        ([None, None], "holds no values"),
        (["", " "], "holds no values"),
        (["?", "NA"], "holds no values"),
        ([dt.date(2020, 1, 1)] * 3, "has one value only"),
        ([f"n{i}" for i in range(50)], "has no text that stands in 5 rows and 1% of them"),
        ([[1], [2]], "holds values of type list<item: int64>"),
    ],
)
def test_what_says_nothing_is_left_out_with_a_word(values: list[Any], why: str) -> None:
    columns = learn(x=values, y=[1.0, *[2.0] * (len(values) - 1)])
    assert [(one.name, one.why) for one in columns.left_out] == [("x", why)]
    assert columns.inputs == ("y",)


@pytest.mark.parametrize("name", ["", "id", "ID", "rownames", "Unnamed: 0"])
def test_a_column_that_counts_is_known_by_its_name_and_values(name: str) -> None:
    assert learn(**{name: range(7, 50)}).left_out[0].why == "counts the rows"
    assert learn(**{name: [1.5, 2.5, 3.5]}).inputs == (name,)
    assert learn(time=range(50)).inputs == ("time",)


def test_numbers_are_learnt_in_pieces_as_they_are_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200_000, 3))
    values[rng.random(values.shape) < 0.01] = np.nan
    table = pa.table({f"x{i}": pa.array(values[:, i], from_pandas=i == 0) for i in range(3)})
    some = np.sort(rng.permutation(200_000)[:150_000])
    columns = learn_columns(table_in_memory(table, Path("table")), table.column_names, some)
    fills = [kind.fill for kind in columns.read if isinstance(kind, Number)]
    np.testing.assert_allclose(fills, np.nanmean(values[some], axis=0), rtol=1e-9)
    assert all(kind.missing for kind in columns.read)


def test_only_training_rows_are_learnt_from(tmp_path: Path) -> None:
    table = random_table(1).assign(y=np.arange(300.0))
    table.to_csv(tmp_path / "a.csv", index=False)
    data = read_table(tmp_path / "a.csv", "y")
    assert data.source is not None
    split = data.split(0.3, 0)
    kept = table.drop(index=split.test_rows)
    age = next(kind for kind in split.train.columns.read if isinstance(kind, Number) and kind.name == "age")
    assert age.fill == pytest.approx(kept["age"].mean())
    assert age.fill != pytest.approx(table["age"].mean())
    assert split.test.columns == split.train.columns
    assert split.test.names == split.train.names
    held = table.loc[split.test_rows, "city"]
    paris = np.asarray(split.test.x)[:, split.test.names.index("city = Paris")]
    np.testing.assert_array_equal(paris, held == "Paris")
    fold = fold_split(split.train, 3, 1, 0)
    inner = kept.iloc[np.setdiff1d(np.arange(len(kept)), fold.test_rows)]
    age = next(kind for kind in fold.train.columns.read if isinstance(kind, Number) and kind.name == "age")
    assert age.fill == pytest.approx(inner["age"].mean())


@pytest.mark.parametrize(("good", "odd"), [("12", "unknown"), ("01/02/2020", "13/02/2020"), ("01/02/2020", "soon")])
def test_one_odd_text_is_read_in_any_split(tmp_path: Path, good: str, odd: str) -> None:
    """Where the training rows alone look like numbers or dates of a form, the test rows must not end the fit."""
    texts = [odd if i == 7 else good.replace("1", str(1 + i % 9), 1) for i in range(100)]
    pd.DataFrame({"x": np.arange(100) % 13, "text": texts, "y": np.arange(100.0)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    data = read_table(tmp_path / "a.csv", "y")
    train, test = data.parts(np.delete(np.arange(100), 7), np.array([7]))
    assert train.names == test.names
    assert type(train.columns.read[-1]) is type(data.columns.read[-1])
    assert np.isfinite(np.asarray(test.x)).all()


def test_a_streamed_table_is_the_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(2).assign(y=np.arange(300.0))
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "a.parquet", row_group_size=70)
    whole = read_table(tmp_path / "a.parquet", "y")
    split = whole.split(0.2, 3)
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    streamed = read_table(tmp_path / "a.parquet", "y")
    assert not streamed.in_memory
    assert streamed.columns == whole.columns
    np.testing.assert_array_equal(np.asarray(streamed.x[:]), whole.x)
    assert streamed.digest == whole.digest
    again = streamed.split(0.2, 3)
    np.testing.assert_array_equal(np.asarray(again.train.x[:]), split.train.x)
    np.testing.assert_array_equal(np.asarray(again.test.x[:]), split.test.x)


def test_other_levels_are_other_data(tmp_path: Path) -> None:
    table = random_table(3).assign(y=np.arange(300.0))
    digests = set()
    for city in ("Oslo", "Cairo"):
        table.assign(city=table["city"].replace("Oslo", city)).to_csv(tmp_path / "a.csv", index=False)
        digests.add(read_table(tmp_path / "a.csv", "y").digest)
    assert len(digests) == 2


def test_rows_to_predict_are_made_as_the_training_rows(tmp_path: Path) -> None:
    table = random_table(4).assign(y=np.arange(300.0))
    table.to_csv(tmp_path / "a.csv", index=False)
    data = read_table(tmp_path / "a.csv", "y")
    table[::-1].drop(columns=["word", "y"]).to_csv(tmp_path / "new.csv", index=False)
    x, note = columns_for(tmp_path / "new.csv", data.names, data.columns)
    np.testing.assert_array_equal(x[::-1], data.x)
    assert note is None
    pieces, _ = pieces_for(tmp_path / "new.csv", data.names, data.columns)
    np.testing.assert_array_equal(np.concatenate(list(pieces)), x)
    for row in (3, 70_000):
        many = pd.concat([table] * 300, ignore_index=True).assign(age="7")
        many.loc[row, "age"] = "x"
        many.to_csv(tmp_path / "many.csv", index=False)
        with pytest.raises(DataError, match=f"csv: column 'age' holds 'x' where numbers belong in row {row} [^;]*$"):
            list(pieces_for(tmp_path / "many.csv", data.names, data.columns)[0])
    table.assign(age="old", since="yesterday").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(
        DataError, match="'age' holds 'old' where numbers belong in row 0 .*; column 'since' holds 'yesterday' where"
    ):
        columns_for(tmp_path / "bad.csv", data.names, data.columns)


def test_columns_are_dropped_or_chosen_by_name(tmp_path: Path) -> None:
    random_table(5).assign(y=np.arange(300.0)).to_csv(tmp_path / "a.csv", index=False)
    assert read_table(tmp_path / "a.csv", "y", only=["member", "age"]).names == ("age", "age is missing", "member")
    names = read_table(tmp_path / "a.csv", "y", drop=["city", "since"]).names
    assert names == ("age", "age is missing", "member")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(read=3), "must be a list"),
        (lambda c: c["read"][0].update(kind="mood"), "of the kind 'mood'"),
        (lambda c: c["read"][0].update(fill="x"), "fill must be a number"),
        (lambda c: c["read"][0].update(fill=float("nan")), "fill"),
        (lambda c: c["read"][1].update(levels=[1]), "levels"),
        (lambda c: c["read"][0].pop("name"), "has no 'name'"),
        (lambda c: c["read"].append({"kind": "date"}), "has no 'name'"),
    ],
)
def test_forged_columns_are_refused(change: Any, words: str) -> None:
    plain = json.loads(json.dumps(PLAIN))
    change(plain)
    with pytest.raises(ValueError, match=words):
        Columns.of(plain)


PLAIN = Columns(
    (
        Number("a", True, 2.0),
        Category("b", False, ("u",), "v", True),
        Moment("c", False, ("days", "month"), 0.0, 5.0, ""),
    )
).plain()


def test_values_of_arrow_types() -> None:
    clock = pa.chunked_array([pa.array([dt.time(1, 0), None])])
    np.testing.assert_array_equal(numbers_of(clock), [3600, np.nan])
    np.testing.assert_array_equal(numbers_of(pa.chunked_array([pa.array([dt.timedelta(hours=2)])])), [7200])
    np.testing.assert_array_equal(numbers_of(pa.chunked_array([pa.array([True, None])])), [1, np.nan])
    zoned = pa.array([pd.Timestamp("2020-01-01 12:00", tz="Europe/Paris")])
    assert moments_of(pa.chunked_array([zoned]), "")[0] == pd.Timestamp("2020-01-01 12:00").timestamp()
    codes, names = texts_of(pa.chunked_array([pa.array(["b", " a", None]), pa.array(["n/a", "b"])]))
    assert (codes.tolist(), names) == ([1, 0, -1, -1, 1], ["a", "b"])
    assert form_of(["13/01/2020", "01/02/2020"]) == "%d/%m/%Y"
    assert form_of(["2020-13-01"]) is None
