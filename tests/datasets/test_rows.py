"""Rows that are read when asked: the same numbers as in memory, and memory that does not follow the file."""

import pickle
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.data import Data, DataError
from sparelu.datasets import rows as rows_module
from sparelu.datasets.rows import KeptColumns, ParquetRows, check_numbers
from sparelu.datasets.tables import read_table

X = np.random.default_rng(0).normal(size=(103, 3))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """103 rows in row groups of 10, columns a, b, c."""
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    pq.write_table(pa.table({n: X[:, i] for i, n in enumerate("abc")}), path, row_group_size=10)
    return path


INDEX = st.one_of(
    st.lists(st.integers(-103, 102), max_size=40).map(lambda v: np.array(v, dtype=np.int64)),
    st.lists(st.booleans(), min_size=103, max_size=103).map(np.array),
    st.slices(103),
    st.integers(-103, 102),
)


@settings(max_examples=100, deadline=None)
@given(index=INDEX)
def test_every_index_gives_what_an_array_gives(parquet: Path, index: object) -> None:
    np.testing.assert_array_equal(ParquetRows(parquet, ["c", "a"])[index], X[:, [2, 0]][index])
    columns = KeptColumns(X, np.array([2, 0]), np.dtype(np.float32))
    np.testing.assert_array_equal(columns[index], X[:, [2, 0]].astype(np.float32)[index])
    assert columns[index].dtype == np.float32


@pytest.mark.parametrize("index", [[103], [-104], [0, 500]])
def test_rows_out_of_range(parquet: Path, index: list[int]) -> None:
    with pytest.raises(IndexError, match=r"is not in 0\.\.102"):
        ParquetRows(parquet, ["a"])[index]


def test_what_comes_back_is_a_copy(parquet: Path) -> None:
    rows = ParquetRows(parquet, ["a"])
    rows[0:5][:] = 7
    np.testing.assert_array_equal(rows[0:5], X[0:5, :1])


def test_rows_travel_to_another_process(parquet: Path) -> None:
    rows = pickle.loads(pickle.dumps(ParquetRows(parquet, ["b"])))
    np.testing.assert_array_equal(rows[:], X[:, [1]])


def test_decoded_groups_are_kept_up_to_the_limit(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    decode = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda f, i, **k: read.append(i) or decode(f, i, **k))
    monkeypatch.setattr(rows_module, "CACHE_BYTES", 2 * 10 * 8)
    rows = ParquetRows(parquet, ["a"])
    for index in ([0, 15], [1, 11], [25], [14, 24], [2]):
        np.testing.assert_array_equal(rows[index], X[index, :1])
    assert read == [0, 1, 2, 0]


def test_a_damaged_row_group_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), path, compression="gzip")
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file, or is damaged"):
        read_table(path, "b")


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_a_streamed_file_splits_standardises_and_batches_as_one_in_memory(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, X)
    else:
        pq.write_table(pa.table({f"x{i}": X[:, i] for i in range(3)}), path, row_group_size=10)
    streamed, whole = read_table(path, -1), Data(X[:, :2].copy(), X[:, 2].copy())
    assert not streamed.in_memory
    a, b = streamed.split(0.3, seed=4), whole.split(0.3, seed=4)
    for mine, other in ((a.train, b.train), (a.test, b.test), (streamed, whole)):
        np.testing.assert_array_equal(mine.x[:], other.x[:])
        np.testing.assert_array_equal(mine.y[:], other.y[:])
    np.testing.assert_allclose(a.train.standardised()[0].x[:], b.train.standardised()[0].x[:], rtol=1e-12)
    mine = list(a.train.batches(16, np.random.default_rng(1)))
    other = list(b.train.batches(16, np.random.default_rng(1)))
    assert sorted(np.concatenate([y for _, y in mine]).ravel()) == sorted(np.concatenate([y for _, y in other]).ravel())


@pytest.mark.usefixtures("streamed")
def test_bad_values_of_a_streamed_file_are_named_by_their_row_in_the_file(tmp_path: Path) -> None:
    bad = X.copy()
    bad[[57, 92], 1] = np.inf
    np.save(tmp_path / "a.npy", bad)
    pq.write_table(pa.table({f"x{i}": bad[:, i] for i in range(3)}), tmp_path / "a.parquet", row_group_size=10)
    with pytest.raises(DataError, match="in 2 row.s. of column.s. 'x1': row 57, 92 "):
        read_table(tmp_path / "a.npy", 0)
    with pytest.raises(DataError, match="column 'x1' holds an infinite number in row 57 "):
        read_table(tmp_path / "a.parquet", 0)


def test_bad_rows_are_counted_through_all_pieces_and_the_first_are_named() -> None:
    x = np.zeros((9, 2**19), np.float32)  # read two rows at a time
    x[[1, 2, 3, 5, 6, 8], [0, 0, 7, 0, 0, 0]] = np.inf
    with pytest.raises(DataError, match=r"here has .* in 6 row.s. of column.s. 'c', 'd': row 1, 2, 3, 5, 6, \.\.\. \("):
        check_numbers(x, ["c"] * 7 + ["d"] * (2**19 - 7), "here")


def test_small_files_are_in_memory_and_larger_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", X)
    assert read_table(tmp_path / "a.npy").in_memory
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 103 * 2 * 8 - 1)
    assert not read_table(tmp_path / "a.npy").in_memory


@pytest.mark.usefixtures("streamed")
def test_a_memory_map_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(600_000, 16))
    mapped[:] = np.random.default_rng(0).normal(size=16)
    mapped[::2, -1] += 1
    mapped.flush()
    del mapped
    tracemalloc.start()
    data = read_table(path)
    data.statistics  # noqa: B018
    for x, _ in data.batches(1000):
        assert x.shape[1] == 15
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size == pytest.approx(77e6, rel=0.01)
    assert peak < 45e6


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc")
def test_parquet_is_streamed(tmp_path: Path) -> None:
    """In a process of its own: the most memory it ever held beyond what the imports took."""
    program = textwrap.dedent(
        """
        import re, sys
        from pathlib import Path
        import numpy as np, pyarrow as pa, pyarrow.parquet as pq
        from sparelu.datasets import rows
        from sparelu.datasets.tables import read_table

        def memory(key): return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

        path, rng = sys.argv[1], np.random.default_rng(0)
        schema = pa.schema([(f"x{i}", pa.float64()) for i in range(20)])
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as out:
            for _ in range(60):
                out.write_table(pa.table(dict(zip(schema.names, rng.random((20, 20_000)))), schema=schema))
        rows.IN_MEMORY_BYTES, rows.CACHE_BYTES = 0, 2**23
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        split = read_table(path, "x19").split(0.2, 0)
        split.train.statistics
        n = sum(len(x) for x, _ in split.train.batches(5000, rng))
        print(n, Path(path).stat().st_size / 2**20, memory("VmHWM") - before)
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "a.parquet")],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rows_module.__file__).parents[2])},
    )
    n, size, grown = map(float, done.stdout.split())
    assert n == 960_000
    assert size > 180
    assert grown < 0.75 * size, f"{grown} of {size}: half where nothing else runs, more where readers have to wait"
