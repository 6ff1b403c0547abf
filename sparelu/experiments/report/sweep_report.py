"""The report of a sweep: its figures as PNG and PDF, and one page with all of them and the table of rows."""

import base64
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bokeh.model import Model
from matplotlib.figure import Figure

from sparelu.datasets import DATASETS
from sparelu.experiments.figures.curves import cost_against_nonzeros, save_figure, score_against_nonzeros
from sparelu.experiments.figures.heatmap import panels, phase_transition, sampling_line
from sparelu.experiments.figures.rows import FlatRow, finite, group_by
from sparelu.experiments.formatting import plain
from sparelu.experiments.report.board import board_chart, board_table, source_of
from sparelu.experiments.report.html import embedded, render
from sparelu.experiments.trials.trial import Trial
from sparelu.writing import write_atomically

BOARD = "board.html"
SHAPES = 3
BUDGETS = {
    "nonzeros": "budget of nonzeros",
    "density": "budget as density (share of weights kept)",
    "sparsity": "budget as sparsity (share of zeros)",
    "compression": "budget as compression (all weights / kept)",
}
"""What a budget may be given as, and what its axis is called."""
RECOVERED = 150.0
"""Held-out PSNR in dB from which a planted network counts as recovered: rounding is all that is left."""
CRITERION = f"held-out PSNR of at least {RECOVERED:g} dB"


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one level of names for a row of :func:`sparelu.experiments.sweeps.sweep.sweep`.

    The fields of the trial with their defaults; ``variant``, the data and those of its parameters that repeat no other
    field, and ``family``, the same without the number of rows; ``budget``, the number asked, and ``budget_of`` what;
    ``samples`` and ``inputs`` where the data have them as parameters; ``width`` of the first hidden layer; ``label``,
    the method and the settings that were given; ``parameters.NAME`` and ``settings.NAME``; the results, ``nonzeros``,
    ``score``, ``seconds``, ``peak_memory``, ``status`` and so on, with ``test.NAME`` and ``train.NAME``.
    """
    request = row["trial"]
    trial = {name: request.get(name, default) for name, default in _defaults().items()}
    settings, parameters = trial.pop("settings"), trial.pop("parameters")
    kind = next((k for k in BUDGETS if trial[k] is not None), None)
    asked = None if kind is None else trial[kind]
    given = ", ".join(f"{k} {v}" for k, v in settings.items())
    own = {k: f"{k} {plain(v)}" for k, v in parameters.items() if k != "seed" and plain(trial.get(k)) != plain(v)}
    method = row.get("method", trial["method"])
    found = {k: v for k, v in trial.items() if k not in BUDGETS}
    found |= {"variant": ", ".join([trial["data"], *own.values()]), "hidden": tuple(trial["hidden"])}
    found["family"] = ", ".join([trial["data"], *(text for k, text in own.items() if k != "rows")])
    known = _parameters(trial["data"]) | parameters
    found |= {name: known[k] for name, k in (("samples", "rows"), ("inputs", "inputs")) if k in known}
    found |= {
        "budget": asked,
        "budget_of": kind,
        "width": trial["hidden"][0],
        "label": f"{method} ({given})" if given else method,
    }
    for name, part in (("settings", settings), ("parameters", parameters)):
        found |= {f"{name}.{k}": v for k, v in part.items()}
    for name in ("test", "train"):
        found |= {f"{name}.{k}": v for k, v in row.get(name, {}).items()}
    return found | {k: v for k, v in row.items() if k not in ("trial", "test", "train")}


@functools.cache
def _parameters(data: str) -> dict[str, Any]:
    """Return the parameters of a named data set with their defaults; of a file none."""
    return {p.name: p.default for p in DATASETS[data].parameters} if data in DATASETS else {}


@functools.cache
def _defaults() -> dict[str, Any]:
    return {f.name: getattr(Trial(""), f.name) for f in fields(Trial)}


def write_sweep_report(folder: Path, rows: Sequence[Mapping[str, Any]], title: str) -> Path:
    """Write ``board.html`` and the figures of each variant of the data into ``folder``; the path of the page.

    ``rows`` are those of :func:`sparelu.experiments.sweeps.sweep.sweep`. Raises ``ValueError`` when there is no row.
    """
    if not rows:
        raise ValueError("the sweep has no rows: run it first")
    table = [flat(row) for row in rows]
    pictures = []
    for name, draw in (("variant", figures_of), ("family", transitions_of)):
        for (data,), group in group_by(table, name).items():
            pictures += [_picture(folder, str(data), *found) for found in draw(group).items()]
    source, score_name = source_of(table), _score_name(table)
    chart = board_chart(table, source, score_name)
    charts: dict[str, Model] = {"table": board_table(source)} | ({} if chart is None else {"chart": chart})
    context = {
        **embedded(charts, tables=True),
        "title": title,
        "pictures": pictures,
        "score_name": score_name,
        "count": len(rows),
        "statuses": {status: len(group) for (status,), group in group_by(table, "status").items()},
        "circumstances": _circumstances(rows),
    }
    write_atomically(folder / BOARD, render(BOARD, context))
    return folder / BOARD


def _picture(folder: Path, data: str, name: str, drawn: tuple[str, Figure]) -> dict[str, str]:
    """Write a figure as PNG and PDF; what the page shows of it."""
    caption, figure = drawn
    stem = folder / re.sub(r"[^A-Za-z0-9]+", "-", f"{data} {name}")
    png, _ = save_figure(figure, stem)
    image = "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()
    return {"data": data, "caption": caption, "image": image, "stem": stem.name}


def figures_of(rows: Sequence[FlatRow]) -> dict[str, tuple[str, Figure]]:
    """Return figures of one data set by name, each with its caption: those that the rows can fill.

    Curves are drawn for each of at most three shapes of the hidden layers, panels from two widths and budgets on.
    """
    scored = [row for row in rows if finite(row, "score") and finite(row, "nonzeros")]
    name = _score_name(scored)
    found: dict[str, tuple[str, Figure]] = {}
    dense = [row["score"] for row in scored if row["label"] == "dense"]
    sparse = [row for row in scored if row["label"] != "dense" and row["nonzeros"] > 0]
    shapes = group_by(sparse, "hidden")
    for (hidden,), group in shapes.items() if len(shapes) <= SHAPES else ():
        where = f", hidden {plain(hidden)}" if len(shapes) > 1 else ""
        line = sum(dense) / len(dense) if dense else None
        found[f"score{where}"] = f"{name} against nonzeros{where}", score_against_nonzeros(group, name=name, dense=line)
        if all(any(row.get(cost) for row in group) for cost in ("peak_memory", "seconds")):
            found[f"cost{where}"] = f"peak memory and time against nonzeros{where}", cost_against_nonzeros(group)
    for (kind,), group in group_by(sparse, "budget_of").items():
        if _several(group, "width") and _several(group, "budget"):
            found |= _over_widths(group, name, kind)
    return found


def _over_widths(rows: Sequence[FlatRow], name: str, kind: str) -> dict[str, tuple[str, Figure]]:
    """Return panels over width and budget, and for planted networks the share of them that was recovered."""
    titles = "hidden width", BUDGETS[kind]
    where = "" if kind == "nonzeros" else f", {kind}"
    drawn = panels(rows, "width", "budget", "score", f"mean {name}", titles=titles)
    found = {f"panels{where}": (f"mean {name}{where}", drawn)}
    if all(row["data"] == "planted" for row in rows):
        drawn = phase_transition(rows, "width", "budget", _recovered, CRITERION, titles=titles)
        found[f"recovered{where}"] = f"share of seeds with {CRITERION}{where}", drawn
    return found


def transitions_of(rows: Sequence[FlatRow]) -> dict[str, tuple[str, Figure]]:
    """Draw the share recovered over rows and nonzeros, for planted data of several numbers of rows; one a width."""
    scored = [
        row for row in rows if row["data"] == "planted" and row["budget_of"] == "nonzeros" and finite(row, "psnr")
    ]
    widths = group_by(scored, "hidden", "inputs")
    found: dict[str, tuple[str, Figure]] = {}
    for (hidden, inputs), group in widths.items() if len(widths) <= SHAPES else ():
        if _several(group, "samples") and _several(group, "budget"):
            where = f", hidden {plain(hidden)}" if len(widths) > 1 else ""
            line = sampling_line(inputs * hidden[0])
            titles = "training rows", BUDGETS["nonzeros"]
            drawn = phase_transition(group, "samples", "budget", _recovered, CRITERION, theory=line, titles=titles)
            found[f"samples{where}"] = f"share of seeds with {CRITERION} against rows{where}", drawn
    return found


def _recovered(row: FlatRow) -> bool:
    return bool(row["psnr"] >= RECOVERED)


def _several(rows: Sequence[FlatRow], name: str) -> bool:
    return len({row[name] for row in rows if finite(row, name)}) > 1


def _score_name(rows: Sequence[FlatRow]) -> str:
    names = {row["score_name"] for row in rows if "score_name" in row}
    return f"test {names.pop()}".replace("R2", "R²") if len(names) == 1 else "test score"


def _circumstances(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what all rows share, and every value where they differ."""
    words: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "Versions": lambda row: ", ".join(f"{k} {v}" for k, v in row.get("versions", {}).items()),
        "CPU": lambda row: str(row.get("cpu", "")),
        "Threads": lambda row: str(row.get("threads", "")),
        "Device": lambda row: str(row.get("device", "")),
    }
    found = {name: "; ".join(dict.fromkeys(filter(None, map(say, rows)))) for name, say in words.items()}
    return {name: value for name, value in found.items() if value}
