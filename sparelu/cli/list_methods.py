"""The commands that list what there is: ``methods`` and ``datasets``."""

from typing import Any

from rich.table import Table

from sparelu.cli.declarations import Declaration, declarations
from sparelu.cli.flags import named_method
from sparelu.experiments.formatting import size


def methods_table(name: str | None) -> tuple[Table, list[dict[str, Any]]]:
    """List all methods, or the settings of one."""
    return _methods() if name is None else _settings(name)


def _methods() -> tuple[Table, list[dict[str, Any]]]:
    rows = [
        {"name": m.name, "question": m.facts["question"], "about": m.about, "paper": m.facts["paper"]}
        for m in declarations().methods.values()
    ]
    return _table("Methods (settings: sparelu methods NAME)", ("name", "question", "about"), rows), rows


def _settings(name: str) -> tuple[Table, list[dict[str, Any]]]:
    method = named_method(name)
    rows = [
        {"flag": "--" + s.name.replace("_", "-"), "default": s.default, "wants": s.wanted(), "about": s.rule.help}
        for s in method.settings
    ]
    return _table(f"{name}: {method.about}", ("flag", "default", "wants", "about"), rows), rows


def datasets_table() -> tuple[Table, list[dict[str, Any]]]:
    """List the named data sets."""
    rows = [
        {"name": d.name, "about": d.about, "parameters": _parameters(d), "downloads": _downloads(d)}
        for d in declarations().datasets.values()
    ]
    columns = ("name", "about", "parameters", "downloads")
    return _table("Data sets (with parameters: name:key=value,key=value)", columns, rows), rows


def _parameters(dataset: Declaration) -> str:
    return ", ".join(f"{p.name}={_text(p.default)}" for p in dataset.settings if p.name != "seed")


def _downloads(dataset: Declaration) -> str:
    return f"{dataset.facts['downloads']}, {size(dataset.facts['size'])}" if dataset.facts["downloads"] else "nothing"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    return table
