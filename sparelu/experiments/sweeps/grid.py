"""A grid of trials in a TOML file: lists are multiplied, ``"@field"`` repeats another field.

    format = 1
    [[trials]]
    data = "planted"
    method = ["aiht", "exact"]
    hidden = [20, 100]
    nonzeros = [20, 100, 500]
    seed = [0, 1, 2]
    parameters = { hidden = "@hidden", nonzeros = "@nonzeros" }
    settings.aiht = { epochs = [15, 50] }

``settings.NAME`` belongs to the trials of that method alone.
"""

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sparelu.experiments.trials.request_form import check_request
from sparelu.experiments.trials.trial import Trial
from sparelu.method import nearest

FORMAT = 1
CELLS = 1_000_000
"""Trials of one grid at most. Each would run for a second at the very least: that is twelve days."""
FIELDS = {f.name for f in fields(Trial)}


class GridError(ValueError):
    """A grid file cannot be used; the message says where and why."""


def read_grid(path: Path) -> list[Trial]:
    """Return the trials of a TOML file. Raises :class:`GridError`."""
    if not path.is_file():
        raise GridError(f"{path}: no such file")
    try:
        content = tomllib.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise GridError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise GridError(f"{path}: lists or tables are nested too deep") from None
    try:
        return trials_of(content)
    except GridError as error:
        raise GridError(f"{path}: {error}") from None


def trials_of(content: Mapping[str, Any]) -> list[Trial]:
    """Return the trials of a grid as a mapping, without repetitions, in order. Raises :class:`GridError`."""
    if not isinstance(content.get("format", FORMAT), int):
        raise GridError(f"format must be a whole number, got {content['format']!r}")
    if content.get("format", FORMAT) > FORMAT:
        raise GridError(
            f"written for a newer sparelu (format {content['format']}, this one reads up to {FORMAT}): upgrade it"
        )
    for name in content:
        if name not in ("format", "name", "trials"):
            raise GridError(f"there is no key {name!r}; {nearest(name, ('format', 'name', 'trials'))}")
    blocks = content.get("trials", [])
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise GridError("trials must be [[trials]] blocks, in double brackets")
    found: dict[str, Trial] = {}
    if (count := sum(map(_cells, blocks))) > CELLS:
        raise GridError(f"the grid asks for up to {count:,} trials, more than {CELLS:,}: shorten its lists")
    for block in blocks:
        for trial in _block(block):
            found.setdefault(repr(trial), trial)
    if not found:
        raise GridError("the grid is empty: give at least one [[trials]] block with `data` and a budget")
    return list(found.values())


def _cells(block: Mapping[str, Any]) -> int:
    """Count the trials that a block has at most, before any is made."""
    own = list(block["settings"].values()) if isinstance(block.get("settings"), Mapping) else []
    tables = [block, *(t for t in (block.get("parameters"), *own) if isinstance(t, Mapping))]
    return math.prod(len(v) for table in tables for v in table.values() if isinstance(v, list) and v)


def _block(block: Mapping[str, Any]) -> Iterator[Trial]:
    for name in block:
        if name not in FIELDS:
            raise GridError(f"a trial has no field {name!r}; {nearest(name, FIELDS)}")
    if "data" not in block:
        raise GridError("a [[trials]] block names no `data`")
    settings, parameters = block.get("settings", {}), block.get("parameters", {})
    if not isinstance(settings, Mapping) or not all(isinstance(own, Mapping) for own in settings.values()):
        raise GridError("settings belong to a method: write settings.NAME = { ... }")
    if not isinstance(parameters, Mapping):
        raise GridError(f"parameters must be a table of names and values, got {parameters!r:.60}")
    plain = {k: v for k, v in block.items() if k not in ("settings", "parameters")}
    for chosen in _product(plain):
        own = settings.get(str(chosen.get("method", "auto")), {})
        for values, given in itertools.product(_product(own), _product(parameters)):
            yield _trial(chosen, values, given)


def _product(lists: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every choice of one value from each list; what is no list is a list of one."""
    if any(v == [] for v in lists.values()):
        raise GridError(f"the grid is empty: {next(k for k, v in lists.items() if v == [])} is an empty list")
    options = [v if isinstance(v, list) else [v] for v in lists.values()]
    for values in itertools.product(*options):
        yield dict(zip(lists, values, strict=True))


def _trial(chosen: Mapping[str, Any], settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> Trial:
    given = {k: _refer(k, v, chosen) for k, v in chosen.items()}
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"]) if isinstance(given["hidden"], list) else (given["hidden"],)
    referred = {k: _refer(k, v, chosen) for k, v in parameters.items()}
    try:
        trial = Trial(**{**given, "settings": dict(settings), "parameters": referred})
        check_request(json.loads(json.dumps(trial.request())))
    except (TypeError, ValueError) as error:
        raise GridError(str(error)) from None
    return trial


def _refer(name: str, value: Any, chosen: Mapping[str, Any]) -> Any:
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value[1:] not in chosen:
        raise GridError(f"{name} = {value!r} refers to a field that the block does not give")
    return chosen[value[1:]]
