"""Image sets: the parsers on files made here, and the whole way from a server on loopback to Data."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sparelu.data import DataError
from sparelu.datasets import fetch as fetching
from sparelu.datasets import images, load
from sparelu.datasets.fetch import Remote, fetch
from tests.datasets.conftest import Shop

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8), np.arange(30, dtype=np.uint8) % 10
X_TEST, Y_TEST = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
SMALL = (X, Y, X_TEST, Y_TEST)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


def cifar_archive(batches: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def small_mnist(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shop:
    """MNIST is 50 images, at two mirrors of which the first has nothing; the cache is new."""
    names = [file.name for file in images.MNIST_FILES]
    shop.files = {name: idx(array) for name, array in zip(names, SMALL, strict=True)}
    mirrors = (shop.url + "nothing-here/", shop.url)
    files = tuple(Remote(name, f"sha256:{sha256(shop.files[name])}", mirrors) for name in names)
    monkeypatch.setattr(images, "MNIST_FILES", files)
    monkeypatch.setattr(images, "MNIST_DECODED", tuple(sha256(array.tobytes()) for array in SMALL))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shop


def test_digits() -> None:
    data = load("digits")
    assert (data.n, data.inputs, data.image, data.test, data.task) == (1797, 64, (8, 8), None, "classification")
    assert data.classes == tuple(range(10))
    assert data.x.dtype == np.float32
    assert data.x[:].max() == 1
    assert np.bincount(data.y[:]).min() == 174  # scikit-learn's documentation: about 180 of each class


def test_mnist_from_a_server_and_then_from_the_cache(small_mnist: Shop) -> None:
    data = load("mnist")
    assert data.test is not None
    np.testing.assert_array_equal(data.x[:], (X.reshape(30, 784) / 255).astype(np.float32))
    np.testing.assert_array_equal(data.y[:], Y)
    np.testing.assert_array_equal(data.test.y[:], Y_TEST)
    assert (data.image, data.test.image, data.classes) == ((28, 28), (28, 28), tuple(range(10)))
    asked = small_mnist.asked.copy()
    load("mnist")
    assert small_mnist.asked == asked


def test_keep_takes_some_classes_and_renumbers_them(small_mnist: Shop) -> None:
    data = load("mnist", keep="7,2")
    assert data.test is not None
    assert (data.classes, data.outputs, data.n) == ((2, 7), 1, 6)
    np.testing.assert_array_equal(data.y[:], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(data.x[1], (X[7].reshape(-1) / 255).astype(np.float32))
    with pytest.raises(DataError, match="keep must name at least two classes"):
        load("mnist", keep=(3,))


def test_decoded_arrays_that_are_not_mnist_are_refused(small_mnist: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MNIST_DECODED", (sha256(b""),) * 4)
    with pytest.raises(DataError, match="these are not the images and labels of MNIST"):
        load("mnist")


def test_a_server_that_fails_first_is_asked_again(shop: Shop, tmp_path: Path) -> None:
    shop.files["a"] = b"hello"
    shop.failures["a"] = 2
    (path,) = fetch([Remote("a", f"sha256:{sha256(b'hello')}", (shop.url,))], tmp_path, retries=2)
    assert path.read_bytes() == b"hello"
    assert shop.asked["a"] == 3


def test_a_wrong_file_is_not_kept_and_each_mirror_is_named(shop: Shop, tmp_path: Path) -> None:
    shop.files["a"] = b"tampered"
    remote = Remote("a", f"sha256:{sha256(b'hello')}", (shop.url, shop.url + "gone/"))
    with pytest.raises(DataError, match=r"could not get a:") as caught:
        fetch([remote], tmp_path, retries=0)
    message = str(caught.value)
    assert "SHA256" in message
    assert "404" in message
    assert "SPARELU_DATA" in message
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_cache_is_fetched_again(shop: Shop, tmp_path: Path) -> None:
    shop.files["a"] = b"hello"
    remote = Remote("a", f"sha256:{sha256(b'hello')}", (shop.url,))
    fetch([remote], tmp_path)[0].write_bytes(b"hell")
    assert fetch([remote], tmp_path)[0].read_bytes() == b"hello"
    assert shop.asked["a"] == 2


@pytest.mark.parametrize(("limit", "words"), [("LARGEST", "more than 1,000 bytes"), ("LONGEST", "longer than 1000 s")])
def test_a_download_has_an_end(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    shop.files["a"] = bytes(2_000)
    monkeypatch.setattr(fetching, limit, 1000)
    if limit == "LONGEST":
        seconds = iter(range(0, 10**6, 700))
        monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
        monkeypatch.setattr(fetching, "PIECE", 500)
    with pytest.raises(DataError, match=words):
        fetch([Remote("a", f"sha256:{sha256(bytes(2_000))}", (shop.url,))], tmp_path, retries=0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [], "nothing is kept of it"


def test_no_server_at_all(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not get a"):
        fetch([Remote("a", "sha256:00", ("http://127.0.0.1:9/",))], tmp_path, retries=0)


def test_cifar10_from_a_server(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    records = [bytes([i % 10]) + pixels[i].transpose(2, 0, 1).tobytes() for i in range(12)]
    batches = {f"data_batch_{i + 1}.bin": b"".join(records[2 * i : 2 * i + 2]) for i in range(5)}
    shop.files["cifar-10-binary.tar.gz"] = cifar_archive(
        {"readme.html": b"x", **batches, "test_batch.bin": b"".join(records[10:])}
    )
    known = f"sha256:{sha256(shop.files['cifar-10-binary.tar.gz'])}"
    monkeypatch.setattr(images, "CIFAR10_FILE", Remote("cifar-10-binary.tar.gz", known, (shop.url,)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load("cifar10")
    assert data.test is not None
    assert (data.n, data.test.n, data.image, data.name) == (10, 2, (32, 32, 3), "cifar10")
    assert data.classes[:2] == ("airplane", "automobile")
    np.testing.assert_array_equal(data.x[:].reshape(10, 32, 32, 3), (pixels[:10] / 255).astype(np.float32))
    np.testing.assert_array_equal(data.test.y[:], [0, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "not a complete gzip file"),
        (idx(X)[:-200], "not a complete gzip file"),
        (
            gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01aaaa", mtime=0),
            "not an IDX file of bytes: it starts with 00 00 0d 01",
        ),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05aaaa", mtime=0), r"has 12 bytes, wanted 13 for shape \(5,\)"),
        (gzip.compress(b"\x00\x00\x08\x03\x00\x00", mtime=0), "has 6 bytes"),
        (gzip.compress(b"", mtime=0), "not an IDX file"),
    ],
)
def test_damaged_idx_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        images.read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar_archive({"data_batch_1.bin": b"abc"}), "a CIFAR-10 batch has 3 bytes, not a multiple of 3073"),
        (cifar_archive({"data_batch_1.bin": bytes(3073)}), "lacks data_batch_2.bin, .*test_batch.bin"),
        (b"garbage", "not a complete archive"),
    ],
)
def test_damaged_archives(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        images.read_cifar10(path)


def test_the_data_folder_is_read_instead_of_the_network(
    small_mnist: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    monkeypatch.setenv("SPARELU_DATA", str(tmp_path))
    np.testing.assert_array_equal(load("mnist").y[:], Y)
    (tmp_path / "mnist.npz").unlink()
    with pytest.raises(DataError, match=r"holds no mnist.npz and no train-images-idx3-ubyte.gz: put it there"):
        load("mnist")
    for name, content in small_mnist.files.items():
        (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(load("mnist").y[:], Y)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(Y))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz .* has the SHA-256"):
        load("mnist")
    assert not small_mnist.asked


def test_a_data_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARELU_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="SPARELU_DATA names '/no/such/folder', and there is no such folder"):
        load("mnist")


def test_cifar10_as_jpeg_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    arrays: dict[str, np.ndarray] = {"names": np.array(images.CIFAR10_CLASSES)}
    shades = {"train": [0, 128, 255], "test": [64, 192]}
    for part, levels in shades.items():
        files = []
        for level in levels:
            out = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(out, "JPEG")
            files.append(out.getvalue())
        arrays[f"jpeg_{part}"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"offset_{part}"] = np.cumsum([0] + [len(f) for f in files])
        arrays[f"y_{part}"] = np.arange(len(levels), dtype=np.uint8)
    np.savez(tmp_path / "cifar10_jpeg.npz", **arrays)
    monkeypatch.setenv("SPARELU_DATA", str(tmp_path))
    data = load("cifar10")
    assert data.test is not None
    assert data.name == "cifar10 (JPEG, lossy)"
    np.testing.assert_allclose(data.x[:].mean(axis=1) * 255, shades["train"], atol=1)
    np.testing.assert_allclose(data.test.x[:].mean(axis=1) * 255, shades["test"], atol=1)


@pytest.mark.parametrize("content", [b"PK broken", b""])
def test_a_damaged_data_folder_file(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    monkeypatch.setenv("SPARELU_DATA", str(tmp_path))
    with pytest.raises(DataError, match="is damaged or lacks one of the arrays x_train"):
        load("mnist")


@pytest.mark.skipif(
    not (Path(os.environ.get("SPARELU_DATA", "")) / "mnist.npz").is_file() or not os.environ.get("SPARELU_DATA"),
    reason="the setting SPARELU_DATA names no folder with mnist.npz",
)
def test_the_real_mnist() -> None:
    data = load("mnist")
    assert data.test is not None
    assert (data.n, data.test.n) == (60000, 10000)
    assert np.bincount(data.y[:]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert float(data.x[:].mean()) == pytest.approx(0.1307, abs=1e-4)  # the mean that the field normalises with
