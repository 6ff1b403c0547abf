"""Files: what is read, which task it makes, and what is said when a file cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sparelu.data import DataError
from sparelu.datasets import arrow
from sparelu.datasets.tables import columns_for, read_table

Writer = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a text, bytes, an array (NPY), or a dict (Parquet, or arrays for an NPZ name)."""

    def writer(name: str, content: Any) -> Path:
        path = tmp_path / name
        if isinstance(content, str | bytes):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        elif name.endswith(".npz"):
            np.savez(path, **content)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        else:
            pq.write_table(pa.table(content), path)
        return path

    return writer


MATRIX = np.random.default_rng(0).normal(size=(30, 4))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_named_columns(name: str, write: Writer) -> None:
    columns = {"age": [30, 40, 50], "member": [True, False, True], "pay": [1.5, 2.5, 3.0]}
    rows = "".join(f"{a},{str(m).lower()},{p}\n" for a, m, p in zip(*columns.values(), strict=True))
    path = write(name, "age,member,pay\n" + rows if name.endswith("csv") else columns)
    data = read_table(path, "pay")
    assert (data.names, data.target, data.task, data.name) == (("age", "member"), "pay", "regression", name)
    assert data.dtype == torch.float64
    np.testing.assert_array_equal(data.x[:], [[30, 1], [40, 0], [50, 1]])
    np.testing.assert_array_equal(data.y[:], columns["pay"])
    for same in (2, "2", -1):
        np.testing.assert_array_equal(read_table(path, same).y[:], columns["pay"])
    labels = read_table(path, "member")
    assert (labels.task, labels.classes) == ("classification", (False, True))
    np.testing.assert_array_equal(labels.y[:], [1, 0, 1])


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "b"], "classification", ("a", "b")),
        ([True, False, True], "classification", (False, True)),
        ([3, 1, 3], "classification", (1, 3)),
        ([3.0, 1.0, 3.0], "classification", (1.0, 3.0)),
        (list(range(20)), "classification", tuple(range(20))),
        (list(range(21)), "regression", ()),
        ([0.5, 1.0, 2.0], "regression", ()),
    ],
)
def test_the_rule_for_the_task(values: list, task: str, classes: tuple, write: Writer) -> None:
    data = read_table(write("a.parquet", {"x": np.arange(len(values)), "y": values}), "y")
    assert (data.task, data.classes) == (task, classes)


def test_a_given_task_overrules_the_rule(write: Writer) -> None:
    path = write("a.csv", "x,y\n1,1\n2,2\n3,2\n")
    assert read_table(path, "y").task == "classification"
    assert read_table(path, "y", task="regression").y[:].tolist() == [1.0, 2.0, 2.0]
    floats = write("b.csv", "x,y\n1,1.5\n2,2.5\n3,2.5\n")
    assert read_table(floats, "y", task="classification").classes == (1.5, 2.5)


def test_names_are_classes_where_that_is_asked(write: Writer) -> None:
    text = "a,b\n" + "".join(f"{i},n{i}\n" for i in range(21))
    assert len(read_table(write("a.csv", text), "b", "classification").classes) == 21


def test_csv_separators_headers_and_spaces(write: Writer) -> None:
    for text in (
        "a;b;c\n1;2;x\n4;5;y\n",
        "a\tb\tc\n1\t2\tx\n4\t5\ty\n",
        "\n a, b, c\n1, 2,x\n4, 5,y\n",
        "\ufeffa,b,c\n1,2,x\n4,5,y\n",
    ):
        data = read_table(write("a.csv", text), "c")
        assert data.names == ("a", "b")
        np.testing.assert_array_equal(data.x[:], [[1, 2], [4, 5]])
    headless = read_table(write("a.csv", "1,2,3.5\n4,5,6\n"), 0)
    assert (headless.names, headless.target, headless.n) == (("x1", "x2"), "x0", 2)
    numbered = read_table(write("a.csv", "0,1,2\n1,2,3.5\n4,5,6\n"), "2")
    assert (numbered.names, numbered.target, numbered.n) == (("0", "1"), "2", 2)


def test_a_csv_row_of_several_megabytes(write: Writer) -> None:
    wide = 3000
    head, row = ",".join(f"c{i}" for i in range(wide)), ",".join(["0.25" + 800 * "0"] * wide)
    other = row.replace("0.25", "0.75")
    assert read_table(write("a.csv", f"{head},y\n{row},1.5\n{other},2.5\n"), "y").x.shape == (2, wide)


def test_quoted_lines_may_cross_the_blocks_of_the_reader(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "BLOCK", 100)
    data = read_table(write("a.csv", "a,b\n" + "".join(f'{i},"one\n\ntwo {i % 2}"\n' for i in range(200))), "b")
    assert (data.n, data.classes) == (200, ("one\n\ntwo 0", "one\n\ntwo 1"))


def test_quoted_labels_keep_commas_and_lines(write: Writer) -> None:
    data = read_table(write("a.csv", 'a,"the label"\n1,"x, y"\n2,"two\nlines"\n3,"NA"\n4,NA\n'), "the label")
    assert data.classes == ("NA", "two\nlines", "x, y")  # what no quotes mark as text is no value
    np.testing.assert_array_equal(data.x, [[1], [2], [3]])


def test_parquet_types_that_are_numbers_or_labels(write: Writer) -> None:
    from decimal import Decimal

    content = {
        "decimal": [Decimal("1.5"), Decimal("2.5")],
        "half": pa.array(np.array([1, 2], np.float16)),
        "coded": pa.array([7, 8]).dictionary_encode(),
        "a": [1.0, 2.0],
        "a.b": [3.0, 4.0],
        "label": pa.array(["u", "v"]).dictionary_encode(),
    }
    data = read_table(write("a.parquet", content), "label")
    assert data.classes == ("u", "v")
    np.testing.assert_array_equal(data.x[:], [[1.5, 1, 7, 1, 3], [2.5, 2, 8, 2, 4]])
    np.testing.assert_array_equal(
        read_table(write("b.parquet", content).with_name("b.parquet"), "label").x[:], data.x[:]
    )
    assert read_table(write("c.parquet", {k: content[k] for k in ("a", "decimal")}), "decimal").y[:].tolist() == [
        1.5,
        2.5,
    ]


def test_npy_takes_a_column_number(write: Writer) -> None:
    path = write("a.npy", MATRIX)
    last, second = read_table(path), read_table(path, "1")
    np.testing.assert_array_equal(last.x[:], MATRIX[:, :3])
    np.testing.assert_array_equal(last.y[:], MATRIX[:, 3])
    np.testing.assert_array_equal(second.x[:], MATRIX[:, [0, 2, 3]])
    assert (second.names, second.target) == (("x0", "x2", "x3"), "x1")
    np.testing.assert_array_equal(read_table(write("f.npy", np.asfortranarray(MATRIX)), 1).x[:], second.x[:])


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(np.float64, torch.float64), (np.float32, torch.float32), (np.float16, torch.float32), (np.int64, torch.float64),
     (np.uint8, torch.float32), (bool, torch.float32)],
)  # fmt: skip
def test_npy_number_types(dtype: type, kept: torch.dtype, write: Writer) -> None:
    matrix = (np.arange(40).reshape(10, 4) % 7).astype(dtype)
    data = read_table(write("a.npy", matrix))
    assert data.dtype == kept
    np.testing.assert_array_equal(data.tensors()[0].numpy(), matrix[:, :3].astype(float))


def test_npz_names_test_rows_and_images(write: Writer) -> None:
    for x, y in (("x", "y"), ("X", "Y"), ("X", "y"), ("data", "target"), ("x_train", "y_train")):
        data = read_table(write("a.npz", {x: MATRIX, y: MATRIX[:, 0]}))
        assert (data.n, data.target, data.test) == (30, y, None)
    split = {
        "X_train": MATRIX[:20],
        "y_train": np.array(["u", "v"] * 10),
        "X_test": MATRIX[20:],
        "y_test": np.array(["v"] * 10),
    }
    data = read_table(write("b.npz", split))
    assert data.test is not None
    assert (data.classes, data.test.classes, data.test.y[:].tolist()) == (("u", "v"), ("u", "v"), [1] * 10)
    assert "own test rows" in data.split(0.2, 0).how
    pictures = read_table(
        write("c.npz", {"x": np.arange(120, dtype=np.uint8).reshape(10, 3, 4), "y": np.arange(10) % 2})
    )
    assert (pictures.image, pictures.inputs, pictures.x.dtype) == ((3, 4), 12, np.float32)
    chosen = read_table(write("d.npz", {"x": MATRIX, "y": MATRIX[:, :1], "pair": MATRIX[:, :2]}), "pair")
    assert (chosen.target, chosen.outputs) == ("pair", 2)
    assert read_table(write("e.npz", {"x": MATRIX, "y": MATRIX[:, :1]})).y.shape == (30,)


WITH_NAN, WITH_INF = MATRIX.copy(), MATRIX.copy()
WITH_NAN[[3, 7], 1] = np.nan
WITH_INF[5, 3] = np.inf

BAD: list[tuple[str, Any, dict, str]] = [
    ("a.csv", "", {}, r"a.csv is empty \(0 bytes\)"),
    ("a.csv", "\n\n", {}, "has no rows, only blank lines"),
    ("a.csv", "a,b\n", {"target": "a"}, "has no rows, only the names 'a', 'b'"),
    ("a.csv", "age,price\n1,2\n", {"target": "prise"}, "has no column 'prise'; did you mean 'price'"),
    ("a.csv", "age,price\n1,2\n", {"target": "2"}, "has no column number 2: it has 2, counted from 0: 'age', 'price'"),
    ("a.csv", "age,price\n1,2\n", {}, "which column of .* is the target.* columns are 'age', 'price'"),
    ("a.csv", "a\n1\n2\n", {"target": "a"}, "has the target column 'a' only"),
    ("a.csv", "a,b\nu,2\nx1,3\n", {"target": "b"}, "no column that can be read .* 'a' has no text that stands"),
    ("a.csv", "a,b,c\n1,2,1\n,3,2\n4,5,-inf\ninf,6,3\n", {"target": "b"},
     "column 'a' holds an infinite number in row 3 .*; column 'c' holds an infinite number in row 2"),
    ("a.csv", "a,b\n1,\n3,\n", {"target": "b"}, "target 'b' holds no value"),
    ("a.csv", "a,b\n1,u\n3,u\n", {"target": "b"}, "target 'b' has one class only .'u'.: at least two"),
    ("a.csv", "a,b\n1,7\n3,7\n", {"target": "b"}, "one class only .7."),
    ("a.csv", "a,b\n1,.5\n3,.5\n", {"target": "b"}, "target 'b' is constant .0.5."),
    ("a.csv", "a,b\n1,2\n1,2,3\n\n4\n", {"target": "b"}, "2 row.s. do not have 2 cells .*: row 1 has 3, row 2 has 1"),
    ("a.csv", "1,2\n1,2,3\n4\n", {"target": 1}, "2 row.s. do not have 2 cells .*: row 1 has 3, row 2 has 1"),
    ("a.csv", ",a,b\n0,2,3\n1,2,3\n", {"target": "b"}, "'' counts the rows; 'a' has one value only"),
    ("a.csv", "a,c,b\n1,2,3\n2,3,4\n", {"target": "b", "drop": ["d"]}, "has no column 'd'"),
    ("a.csv", "age,c,b\n1,2,3\n2,3,4\n", {"target": "b", "only": ["agee"]}, "no column 'agee'; did you mean 'age'"),
    ("a.csv", "day,b\n2020-01-01,2\n2020-01-02,3\n", {"target": "day"}, "target 'day' holds values of type date32"),
    ("a.csv", "a,b\n1,caf\xe9\n".encode("latin-1"), {"target": "b"}, "is not UTF-8 text"),
    ("a.csv", b"a,b\n" + 5000 * b"1,u\n" + b"2,caf\xe9\n", {"target": "b"}, "'b' holds bytes that are not UTF-8"),
    ("a.csv", "a,b\n1,u\n3,v\n", {"target": "b", "task": "regression"}, "'b' holds text .'u'. where regression"),
    ("a.csv", "a,b\n1,u\n3,v\n", {"target": "b", "task": "ranking"}, "task must be 'regression' or 'class"),
    ("a.csv", "a,b\n" + "".join(f"{i},n{i}\n" for i in range(21)), {"target": "b"}, "21 different values in 21 rows"),
    ("a.txt", "a", {}, "the ending '.txt', and only files that end in .csv, .parquet, .npy, .npz"),
    ("a", "a", {}, "has no ending, and only files"),
    ("a.parquet", "PAR1 garbage PAR1", {}, "is not a readable Parquet file"),
    ("a.parquet", {"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}, {"target": "b"}, "has no rows"),
    ("a.parquet", {"a": [[1], [2]], "b": [1, 2]}, {"target": "b"}, "'a' holds values of type list"),
    ("a.npy", MATRIX, {"drop": ["x0"]}, "has no column names: drop and only are for CSV and Parquet"),
    ("a.npy", MATRIX, {"target": "y"}, "has no column names: give the target as a number from 0 to 3"),
    ("a.npy", MATRIX, {"target": 4}, "has no column number 4: it has 4"),
    ("a.npy", MATRIX[:, :1], {}, "has one column only"),
    ("a.npy", MATRIX[:0], {}, r"no rows or no columns: shape \(0, 4\)"),
    ("a.npy", MATRIX[0], {}, r"must hold one matrix \(rows, columns\), got shape \(4,\)"),
    ("a.npy", np.array([[1, "a"], [2, None]], dtype=object), {}, "Python objects are never unpickled"),
    ("a.npy", MATRIX.astype(complex), {}, "values of type complex128: real numbers are wanted"),
    ("a.npy", MATRIX.astype(str), {}, "real numbers are wanted"),
    ("a.npy", WITH_NAN, {}, "NaN or infinity in 2 row.s. of column.s. 'x1': row 3, 7 "),
    ("a.npy", WITH_INF, {}, "NaN or infinity in 1 row.s. of column.s. 'x3': row 5 "),
    ("a.npy", b"\x93NUMPY\x01\x00", {}, "a complete file of plain numbers is wanted"),
    ("a.npy", "hello", {}, "is not an NPY file"),
    ("a.npz", "hello", {}, "is not an NPZ file, or is cut short"),
    ("a.npz", {"a": MATRIX}, {}, "has no array for inputs: wanted x or X .*, it has a"),
    ("a.npz", {"x": MATRIX}, {}, "has no array for the target: wanted y"),
    ("a.npz", {"x": MATRIX, "y": MATRIX[:3, 0]}, {}, "has 30 rows of inputs and 3 of targets"),
    ("a.npz", {"x": MATRIX, "y": np.array([None] * 30)}, {}, "Python objects are never unpickled"),
    ("a.npz", {"x": MATRIX, "y": WITH_NAN[:, :2]}, {}, "2 row.s. of column.s. 'y': row 3, 7 "),
    ("a.npz", {"x": MATRIX, "y": MATRIX[:, :2]}, {"task": "classification"}, "labels must have one value a row"),
    ("a.npz", {"x": MATRIX[:0], "y": MATRIX[:0, 0]}, {}, "has no rows"),
    ("a.npz", {"x_train": MATRIX, "y_train": np.arange(30) % 2, "x_test": MATRIX, "y_test": np.arange(30) % 3}, {},
     "the test rows have a class 2 that the training rows lack"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "given", "message"), BAD)
def test_files_that_cannot_be_used(name: str, content: Any, given: dict, message: str, write: Writer) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(name, content), **given)


def test_no_file_a_folder_and_double_parquet_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file '.*none.csv'"):
        read_table(tmp_path / "none.csv", "a")
    with pytest.raises(DataError, match="is not a file"):
        read_table(tmp_path, "a")
    pq.write_table(pa.table([[1, 2], [3, 4]], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="more than one column 'a'"):
        read_table(tmp_path / "a.parquet", "a")


def test_a_file_that_would_run_code_does_not(write: Writer, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "sprung"), "w"))

    for name in ("a.npy", "a.npz"):
        trap = np.array([[Trap(), 1], [Trap(), 2]], dtype=object)
        with pytest.raises(DataError, match="never unpickled"):
            read_table(write(name, trap if name == "a.npy" else {"x": trap, "y": np.arange(2)}))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["new.csv", "new.parquet"])
def test_prediction_finds_columns_by_name(name: str, write: Writer) -> None:
    columns = {"city": ["u", "v"], "b": [3.0, 4.0], "a": [1.0, 2.0]}
    path = write(name, "city,b,a\nu,3,1\nv,4,2\n" if name.endswith("csv") else columns)
    x, note = columns_for(path, ("a", "b"))
    np.testing.assert_array_equal(x[:], [[1, 3], [2, 4]])
    assert note == "1 column(s) are not inputs and are ignored: 'city'"
    assert columns_for(path, ("b",))[1] == "2 column(s) are not inputs and are ignored: 'city', 'a'"
    with pytest.raises(DataError, match="lacks 2 of the 3 columns that the model reads: 'aa', 'zip'; .* mean 'a'"):
        columns_for(path, ("aa", "b", "zip"))
    with pytest.raises(DataError, match="column 'city' holds 'u' where numbers belong"):
        columns_for(path, ("city", "a"))


def test_prediction_from_arrays_goes_by_count(write: Writer) -> None:
    path = write("a.npy", MATRIX)
    x, note = columns_for(path, tuple("abcd"))
    np.testing.assert_array_equal(x[:], MATRIX)
    assert note is None
    x, note = columns_for(path, ("x0", "x2", "x3"))
    np.testing.assert_array_equal(x[:], MATRIX[:, [0, 2, 3]])
    assert note == "column 1 is not an input and is ignored"
    with pytest.raises(DataError, match="has 4 columns; the model reads 3: a, b, c"):
        columns_for(path, tuple("abc"))
    x, note = columns_for(write("a.npz", {"x": MATRIX, "y": MATRIX[:, 0]}), tuple("abcd"))
    np.testing.assert_array_equal(x[:], MATRIX)
    assert note == "arrays y are not inputs and are ignored"
    with pytest.raises(DataError, match="has 4 columns in 'x_test'; the model reads 2"):
        columns_for(write("b.npz", {"x_test": MATRIX}), ("a", "b"))
    with pytest.raises(DataError, match="NaN or infinity in 2 row"):
        columns_for(write("c.npy", WITH_NAN), tuple("abcd"))
