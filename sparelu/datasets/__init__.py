"""Data by name or from files: :func:`load` is the one door."""

from pathlib import Path
from typing import Any

from sparelu.data import Data, DataError
from sparelu.datasets.curves import curve, uniform
from sparelu.datasets.dataset import Dataset
from sparelu.datasets.images import CIFAR10_BYTES, MNIST_BYTES, cifar10, digits, mnist
from sparelu.datasets.pictures import picture
from sparelu.datasets.planted import planted, planted_network
from sparelu.datasets.tables import FORMATS, columns_for, read_table
from sparelu.method import SettingError, nearest

DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset("digits", "1797 images of 8 x 8 pixels, ten classes", digits),
        Dataset("mnist", "70000 images of 28 x 28 pixels, ten classes", mnist, "four gzipped IDX files", MNIST_BYTES),
        Dataset(
            "cifar10", "60000 images of 32 x 32 x 3 pixels, ten classes", cifar10, "a gzipped archive", CIFAR10_BYTES
        ),
        Dataset("picture", "pixels of one image on Fourier features of their coordinates", picture),
        Dataset("planted", "labels made by a known sparse network", planted),
        Dataset("curve", "one input, one output: plateau, sine, convex, sawtooth, doppler or steps", curve),
        Dataset("uniform", "a few points with uniform inputs and labels, to interpolate", uniform),
    )
}


def load(
    name_or_path: str | Path,
    target: str | int | None = None,
    task: str | None = None,
    seed: int = 0,
    **parameters: Any,
) -> Data:
    """Data of a known name with its ``parameters`` (values, or texts as a command line gives them), or of a file.

    ``target`` and ``task`` are for files (:func:`~sparelu.datasets.tables.read_table`); ``seed`` is for names whose
    data are drawn at random. Raises :class:`~sparelu.data.DataError` for an unknown name or a file that cannot be
    used, :class:`~sparelu.method.SettingError` for a wrong parameter; both name the nearest known.
    """
    name = str(name_or_path)
    if name in DATASETS:
        if target is not None or task is not None:
            raise DataError(f"data set {name!r} has its own target and task: leave `target` and `task` out")
        return DATASETS[name].load(seed, parameters)
    if not Path(name).exists():
        raise DataError(
            f"no file {name!r} exists, and no data set has that name; {nearest(name, DATASETS)}. "
            f"Files end in {', '.join(FORMATS)}"
        )
    if parameters:
        raise SettingError(f"files take no parameter {next(iter(parameters))!r}: only data sets with a name do")
    return read_table(name, target, task)


__all__ = ["DATASETS", "Dataset", "columns_for", "load", "planted_network", "read_table"]
