"""Data by name or from files: :func:`load` is the one door.

A data set is declared in its own file: a :class:`Dataset` at the level of the module, found by looking.
"""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sparelu.data import Data, DataError
from sparelu.datasets.dataset import Dataset
from sparelu.datasets.pieces import pieces_for
from sparelu.datasets.planted import planted_network
from sparelu.datasets.tables import FORMATS, columns_for, read_table
from sparelu.settings import SettingError, describe_unknown_data


def _declared() -> dict[str, Dataset]:
    """Import every file of this folder; the data sets that they declare, by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Dataset)]
    return {dataset.name: dataset for dataset in sorted(found, key=lambda d: d.name)}


DATASETS: dict[str, Dataset] = _declared()


def load(
    name_or_path: str | Path,
    target: str | int | None = None,
    task: str | None = None,
    seed: int = 0,
    *,
    drop: Sequence[str] = (),
    only: Sequence[str] = (),
    **parameters: Any,
) -> Data:
    """Return data of a known name with its ``parameters`` (values, or texts as a command line gives them), or of a
    file.

    ``target``, ``task``, and columns to ``drop`` or to read as the ``only`` ones, are for files
    (:func:`~sparelu.datasets.tables.read_table`); ``seed`` is for names whose data are drawn at random. Raises
    :class:`~sparelu.data.DataError` for an unknown name or a file that cannot be used,
    :class:`~sparelu.method.SettingError` for a wrong parameter; both name the nearest known.
    """
    name = str(name_or_path)
    if name in DATASETS:
        if target is not None or task is not None or drop or only:
            raise DataError(
                f"data set {name!r} has its own target, task and inputs: leave target, task, drop and only out"
            )
        return DATASETS[name].load(seed, parameters)
    if not Path(name).exists():
        raise DataError(describe_unknown_data(name, DATASETS, FORMATS))
    if parameters:
        raise SettingError(f"files take no parameter {next(iter(parameters))!r}: only data sets with a name do")
    return read_table(name, target, task, drop, only)


__all__ = ["DATASETS", "Dataset", "columns_for", "load", "pieces_for", "planted_network", "read_table"]
