"""Image data sets: digits (in scikit-learn), MNIST and CIFAR-10; pixels float32 in [0, 1], official test rows apart."""

import gzip
import hashlib
import io
import math
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from sparelu.data import Data, DataError
from sparelu.datasets.arrays import open_npz
from sparelu.datasets.dataset import Dataset, declared
from sparelu.datasets.fetch import FOLDER_SETTING, Remote, fetch, local_file, local_folder
from sparelu.method import Rule

Keep = Annotated[tuple[int, ...] | None, Rule("the label numbers to keep; all when not given", low=0, high=9)]

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MNIST_FILES = tuple(
    Remote(name, f"sha256:{known}", MNIST_MIRRORS)
    for name, known in (
        ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
)
MNIST_BYTES = 11_594_722
IDX_BYTES = 16 + 60_000 * 28**2
"""Bytes of the largest file, decompressed."""
DEFLATED = 1100
"""Bytes that one of gzip becomes at most are 1032."""
MNIST_DECODED = (
    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
)
"""SHA-256 of the bytes of training images, training labels, test images, test labels, in the official order."""

CIFAR10_FILE = Remote(
    "cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
)
CIFAR10_BYTES = 170_052_171
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SIDE = 32
CIFAR10_BATCH = 10_000 * (1 + 3 * CIFAR10_SIDE**2)
"""Bytes of the largest member that is read."""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training images (n, height, width[, channels]) uint8, training labels (n,), test images, test labels."""


def digits() -> Data:
    """Return 1797 images of 8 x 8 pixels, ten classes, from scikit-learn; it has no official test rows."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Data((x / 16).astype(np.float32), y, "classification", name="digits", target="digit", image=(8, 8))


@declared
def mnist(keep: Keep = None) -> Data:
    """Return MNIST: 60000 and 10000 images of 28 x 28 pixels; the decoded arrays are checked against a SHA-256.

    Read from the folder SPARELU_DATA (``mnist.npz`` with x_train, y_train, x_test, y_test, or the four original
    files), else downloaded. Raises :class:`~sparelu.data.DataError` when files are missing, wrong or damaged.
    """
    path = local_file("mnist.npz", MNIST_FILES[0].name)
    if path is not None and path.suffix == ".npz":
        x, y, x_test, y_test = _npz(path, "x_train", "y_train", "x_test", "y_test")
        arrays: Arrays = x, y, x_test, y_test
    else:
        arrays = read_idx_files(_files(MNIST_FILES))
    for array, wanted in zip(arrays, MNIST_DECODED, strict=True):
        if hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).tobytes()).hexdigest() != wanted:
            raise DataError(f"these are not the images and labels of MNIST ({path or 'download'}): get the files again")
    return images(arrays, tuple(range(10)), "mnist", "digit", keep)


@declared
def cifar10(keep: Keep = None) -> Data:
    """Return CIFAR-10: 50000 and 10000 images of 32 x 32 x 3 pixels.

    Downloaded in the binary form, which needs no unpickling; or read from the folder SPARELU_DATA: that archive, or
    ``cifar10_jpeg.npz``, whose images went through JPEG and are in an order of their own: the name is then
    "cifar10 (JPEG, lossy)". Raises :class:`~sparelu.data.DataError` when files are missing, wrong or damaged.
    """
    path = local_file(CIFAR10_FILE.name, "cifar10_jpeg.npz")
    if path is not None and path.suffix == ".npz":
        return images(_jpeg_npz(path), CIFAR10_CLASSES, "cifar10 (JPEG, lossy)", "object", keep)
    return images(read_cifar10(_files([CIFAR10_FILE])[0]), CIFAR10_CLASSES, "cifar10", "object", keep)


def images(arrays: Arrays, classes: Sequence[int | str], name: str, target: str, keep: Keep = None) -> Data:
    """Return data of image arrays, labels 0..len(classes)-1; with ``keep`` only these labels, renumbered in order."""
    kept = sorted(set(keep)) if keep else list(range(len(classes)))
    if len(kept) < 2:
        raise DataError(f"keep must name at least two classes, got {kept}")

    def part(x: np.ndarray, y: np.ndarray, test: Data | None) -> Data:
        rows = np.isin(y, kept)
        pixels = np.divide(x[rows].reshape(rows.sum(), -1), np.float32(255), dtype=np.float32)
        labels = np.searchsorted(kept, y[rows])
        known = tuple(classes[k] for k in kept)
        return Data(pixels, labels, "classification", (), known, name, target, image=tuple(x.shape[1:]), test=test)

    return part(arrays[0], arrays[1], part(arrays[2], arrays[3], None))


def _files(files: Sequence[Remote]) -> list[Path]:
    """Return downloads, or the same files in the folder SPARELU_DATA with the same check of their hash."""
    folder = local_folder()
    if folder is None:
        return fetch(files)
    paths = []
    for file in files:
        path = local_file(file.name)
        assert path is not None
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if f"sha256:{found}" != file.hash:
            raise DataError(f"{path} ({FOLDER_SETTING}) has the SHA-256 {found}, wanted {file.hash}: get it again")
        paths.append(path)
    return paths


def read_idx_files(paths: Sequence[Path]) -> Arrays:
    """Return training images, training labels, test images, test labels from gzipped IDX files in that order."""
    a, b, c, d = (read_idx(path) for path in paths)
    return a, b, c, d


def read_idx(path: Path) -> np.ndarray:
    """Return an array of bytes from a gzipped IDX file: two zero bytes, type 8, the number of dimensions, the sizes.

    Raises :class:`~sparelu.data.DataError` for another type, or fewer bytes than the sizes say.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(min(IDX_BYTES, DEFLATED * path.stat().st_size) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}): get it again") from None
    if len(content) > IDX_BYTES:
        raise DataError(f"{path} holds more than {IDX_BYTES:,} bytes, the largest of these files: get it again")
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an IDX file of bytes: it starts with {content[:4].hex(' ')}")
    if len(content) < 4 + 4 * content[3] or content[3] > 4:
        raise DataError(f"{path} has {len(content)} bytes, and {content[3]} dimensions: get it again")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise DataError(f"{path} has {len(content)} bytes, wanted {start + math.prod(shape)} for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_cifar10(path: Path) -> Arrays:
    """Return the arrays of the binary archive: records of one label byte and three planes of 32 x 32 pixels."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                opened = archive.extractfile(member) if Path(member.name).name in names else None
                if opened is not None and member.size > CIFAR10_BATCH:
                    raise DataError(
                        f"{path}: {member.name} has {member.size} bytes, wanted {CIFAR10_BATCH}: get it again"
                    )
                if opened is not None:
                    found[Path(member.name).name] = _records(opened.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete archive ({error}): get it again") from None
    if missing := [n for n in names if n not in found]:
        raise DataError(f"{path} lacks {', '.join(missing)}: get it again")
    x, y = (np.concatenate([found[n][i] for n in names[:5]]) for i in (0, 1))
    return x, y, *found[names[5]]


def _records(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    pixels = 3 * CIFAR10_SIDE**2
    if len(content) % (pixels + 1):
        raise DataError(f"a CIFAR-10 batch has {len(content)} bytes, not a multiple of {pixels + 1}: get it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, pixels + 1)
    planes = records[:, 1:].reshape(-1, 3, CIFAR10_SIDE, CIFAR10_SIDE)
    return planes.transpose(0, 2, 3, 1), records[:, 0]


def _npz(path: Path, *keys: str) -> tuple[np.ndarray, ...]:
    try:
        arrays = open_npz(path)
        return tuple(arrays[key] for key in keys)
    except (DataError, KeyError) as error:
        raise DataError(f"{path} is damaged or lacks one of the arrays {', '.join(keys)} ({error})") from None


def _jpeg_npz(path: Path) -> Arrays:
    """Return images decoded from ``jpeg_<part>[offset_<part>[i] : offset_<part>[i + 1]]``."""
    from PIL import Image

    def part(jpeg: np.ndarray, offset: np.ndarray) -> np.ndarray:
        out = np.empty((len(offset) - 1, CIFAR10_SIDE, CIFAR10_SIDE, 3), np.uint8)
        for i in range(len(out)):
            try:
                with Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())) as picture:
                    if picture.size != (CIFAR10_SIDE, CIFAR10_SIDE) or picture.mode != "RGB":  # before it is decoded
                        raise ValueError(f"{picture.mode} of {picture.size} pixels")
                    out[i] = np.asarray(picture)
            except (OSError, ValueError, TypeError, SyntaxError) as error:
                raise DataError(f"{path}: image {i} is damaged ({error}): get it again") from None
        return out

    parts = [_npz(path, f"jpeg_{p}", f"offset_{p}", f"y_{p}") for p in ("train", "test")]
    (a, b), (c, d) = ((part(jpeg, offset), y) for jpeg, offset, y in parts)
    return a, b, c, d


DIGITS = Dataset("digits", "1797 images of 8 x 8 pixels, ten classes", digits)
MNIST = Dataset(
    "mnist", "70000 images of 28 x 28 pixels, ten classes", mnist, "four gzipped IDX files", MNIST_BYTES, True
)
CIFAR10 = Dataset(
    "cifar10", "60000 images of 32 x 32 x 3 pixels, ten classes", cifar10, "a gzipped archive", CIFAR10_BYTES, True
)
