"""The commands that list what there is: ``methods`` and ``datasets``."""

from typing import Any

from rich.table import Table

from sparelu.catalogue import METHODS
from sparelu.cli.flags import named_method
from sparelu.cli.session import size
from sparelu.datasets import DATASETS, Dataset
from sparelu.method import settings_of


def methods_table(name: str | None) -> tuple[Table, list[dict[str, Any]]]:
    """All methods, or the settings of one."""
    return _methods() if name is None else _settings(name)


def _methods() -> tuple[Table, list[dict[str, Any]]]:
    rows = [
        {"name": m.name, "question": m.question, "about": _first_line(m), "paper": m.paper} for m in METHODS.values()
    ]
    return _table("Methods (settings: sparelu methods NAME)", ("name", "question", "about"), rows), rows


def _settings(name: str) -> tuple[Table, list[dict[str, Any]]]:
    method = named_method(name)
    rows = [
        {"flag": "--" + s.name.replace("_", "-"), "default": s.default, "wants": s.wanted(), "about": s.rule.help}
        for s in settings_of(method)
    ]
    return _table(f"{name}: {_first_line(method)}", ("flag", "default", "wants", "about"), rows), rows


def datasets_table() -> tuple[Table, list[dict[str, Any]]]:
    """The named data sets."""
    rows = [
        {"name": d.name, "about": d.summary, "parameters": _parameters(d), "downloads": _downloads(d)}
        for d in DATASETS.values()
    ]
    columns = ("name", "about", "parameters", "downloads")
    return _table("Data sets (with parameters: name:key=value,key=value)", columns, rows), rows


def _parameters(dataset: Dataset) -> str:
    return ", ".join(f"{p.name}={_text(p.default)}" for p in dataset.parameters if p.name != "seed")


def _downloads(dataset: Dataset) -> str:
    return f"{dataset.downloads}, {size(dataset.size)}" if dataset.downloads else "nothing"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _first_line(method: type[Any]) -> str:
    return (method.__doc__ or "").strip().splitlines()[0]


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    return table
