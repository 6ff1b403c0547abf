"""Rows for prediction come piece by piece, and are those that are read whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from sparelu.data import DataError
from sparelu.datasets import columns_for, pieces_for
from sparelu.datasets.pieces import NUMBERS


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy"])
def test_pieces_are_the_rows(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).standard_normal((200_000, 3))
    path = tmp_path / f"a.{suffix}"
    table = pa.table({f"x{i}": x[:, i] for i in (2, 0, 1)})
    {"csv": pc.write_csv, "parquet": pq.write_table}.get(suffix, lambda t, p: np.save(p, x))(table, path)
    pieces, note = pieces_for(path, ("x0", "x1", "x2"))
    parts = list(pieces)
    assert note is None
    assert len(parts) > 1
    assert max(part.size for part in parts) <= NUMBERS
    assert np.array_equal(np.concatenate(parts), np.asarray(columns_for(path, ("x0", "x1", "x2"))[0][:]))


@pytest.mark.parametrize(
    "text",
    [
        "a,b\ntrue,1\nfalse,2\n",
        "b;a\n1;1\n2;0\n",
        " a , b \n1,1\n0,2\n",
        "\ufeffa,b\n1,1\n0,2\n",
        'a,b,c\n1,1,"x\ny"\n0,2,z\n',
        "a\tb\n1\t1\n0\t2\n",
    ],
)
def test_tables_of_every_kind_are_those_that_are_read_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    pieces, note = pieces_for(path, ("b", "a"))
    whole, whole_note = columns_for(path, ("b", "a"))
    assert np.concatenate(list(pieces)).tolist() == np.asarray(whole[:]).tolist() == [[1, 1], [2, 0]]
    assert note == whole_note


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,\n", r"a.csv has missing values, NaN or infinity in 1 row\(s\) of column\(s\) 'b': row 0"),
        ("a,b\n1,nan\n1,2\ninf,2\n", r"in 2 row\(s\) of column\(s\) 'a', 'b': row 0, 2"),
        ("a,b\n1,x\n", "column 'b' holds 'x' where numbers belong"),
        ("a,b\n1\n", "do not have 2 cells"),
        ("a,c\n1,2\n", "lacks 1 of the 2 columns that the model reads: 'b'"),
        ("a,b\n", "no rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)

    def read() -> None:
        pieces, _ = pieces_for(path, ("a", "b"))
        list(pieces)

    with pytest.raises(DataError, match=words):
        read()


@pytest.mark.parametrize(("bad", "words"), [("x,1", "'x'"), (",1", "row 300000"), ("1,2,3", "row 300000 has 3")])
def test_what_is_wrong_late_is_named_too(tmp_path: Path, bad: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1.2345678,2.25\n" * 300_000 + f"{bad}\n")
    pieces, _ = pieces_for(path, ("a", "b"))
    with pytest.raises(DataError, match=words):
        list(pieces)
