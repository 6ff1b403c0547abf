"""The commands that read a finished run: ``predict``, ``show``, ``report``."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as Printed
from rich.text import Text

from sparelu import store
from sparelu.cli.certify_export import print_claims
from sparelu.cli.flags import data_source
from sparelu.cli.outputs import check_output, check_page, write_pieces
from sparelu.cli.session import console, errors
from sparelu.data import DataError
from sparelu.datasets import DATASETS, pieces_for
from sparelu.datasets.pieces import cut
from sparelu.experiments.formatting import size
from sparelu.experiments.trials.run_folder import RunFolder
from sparelu.json_form import dumps
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Solution
from sparelu.settings import SettingError

FEW = 20
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text begins with that spreadsheets compute."""


def predict_command(run: Path, data: str, out: Path | None, force: bool = False, proba: bool = False) -> None:
    """Write a column of predictions for each target, or of probabilities for each class, as CSV, piece by piece."""
    solution, _, _ = RunFolder(run).read()
    if proba and solution.task != "classification":
        raise SettingError("--proba: the run is a regression, which has no classes; leave it out")
    if out is not None:
        check_output(out, run, [data], force)
    count, pieces = 0, _pieces(data, solution)

    def texts() -> Iterator[bytes]:
        nonlocal count
        yield _csv([_class_headings(solution) if proba else _headings(solution)])
        for rows in pieces:
            count += len(rows)
            yield _csv(solution.probabilities(rows).tolist() if proba else _predictions(solution, rows))

    if out is None:
        for text in texts():
            sys.stdout.write(text.decode())
        return
    write_pieces(out, texts(), run)
    errors.print(f"{count} predictions written to {out}", highlight=False, soft_wrap=True)


def _pieces(data: str, solution: Solution) -> Iterator[np.ndarray]:
    """Yield the inputs of a named data set, or the columns of a file that the model was trained on."""
    name, parameters = data_source(data)
    if name in DATASETS:
        rows = DATASETS[name].load(0, {**parameters}).x
        if rows.shape[1] != solution.network.inputs:
            raise DataError(f"{data} has {rows.shape[1]} inputs, and the model reads {solution.network.inputs}")
        return cut(rows)
    pieces, note = pieces_for(data, solution.names, solution.columns)
    if note:
        errors.print(note, highlight=False, soft_wrap=True)
    return pieces


def _headings(solution: Solution) -> list[Any]:
    target, outputs = str(solution.about.get("target", "y")), solution.network.outputs
    many = solution.task == "regression" and outputs > 1
    return [_cell(f"{target}{i}") for i in range(outputs)] if many else [_cell(target)]


def _class_headings(solution: Solution) -> list[Any]:
    target = str(solution.about.get("target", "y"))
    return [_cell(f"{target} = {label}") for label in solution.classes]


def _predictions(solution: Solution, rows: np.ndarray) -> list[list[Any]]:
    found: list[list[Any]] = np.asarray(solution.predict(rows)).reshape(len(rows), -1).tolist()
    return [[_cell(value) for value in row] for row in found] if solution.task == "classification" else found


def _cell(value: Any) -> Any:
    """Return a text that a spreadsheet would compute with an apostrophe before it, which says that it is text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def show_command(run: Path, everything: bool, as_json: bool) -> None:
    """Print the layers and the neurons of a stored network, and what is proved of one that was asked for."""
    solution, request, result = RunFolder(run).read()
    asked = request.get("oracle")
    if as_json:
        print(dumps({**solution_summary(solution), "result": result}, indent=1, default=str))
        return
    network = solution.network.compact()
    worth = (
        f"{result['score_name']} {result['test']['score']:.4f} on {result['test']['rows']:,} rows"
        if asked is None
        else f"{result['status']} after {result['rows_asked']:,} rows asked"
    )
    console.print(
        f"{solution.method} on {asked or solution.about.get('data')}: {network.nonzeros:,} nonzeros, "
        f"{network.biases:,} biases, {size(store.weight_bytes(network))} stored; {worth}",
        highlight=False,
    )
    for name, text in _formula(solution).items():
        console.print(Text(f"\n{name} = {text}"), highlight=False)
    console.print(layer_table(network))
    console.print(neuron_table(solution, network, None if everything else FEW))
    if asked is not None:  # the others have them in their report
        print_claims(solution.certificates)


def _formula(solution: Solution) -> dict[str, str]:
    """Return the formula of each output; of a long one nothing."""
    try:
        return solution.formula()
    except ValueError:
        return {}


def solution_summary(solution: Solution) -> dict[str, Any]:
    """Return counts, settings and layers as JSON values."""
    net = solution.network.compact()
    return {
        "method": solution.method,
        "settings": dict(solution.settings),
        "status": solution.status.name,
        "nonzeros": net.nonzeros,
        "biases": net.biases,
        "skip_nonzeros": net.skip_nonzeros,
        "layers": [{"shape": list(part.shape), "nonzeros": part.nonzeros} for part in net.parts],
        "classes": list(solution.classes),
        "inputs": list(solution.names),
        "formula": _formula(solution),
    }


def layer_table(network: Network) -> Printed:
    """Return one row for each layer: shape, weights, density, biases, bytes."""
    table = Printed(title="Layers", title_justify="left")
    for heading in ("layer", "inputs", "outputs", "nonzeros", "density", "biases"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    parts: list[tuple[str, Layer | Convolution]] = [(f"{i + 1}", part) for i, part in enumerate(network.parts)]
    if network.skip is not None:
        parts.append(("skip (affine)", network.skip))
    for name, layer in parts:
        table.add_row(
            name + layer.kind,
            f"{layer.shape[1]:,}",
            f"{layer.shape[0]:,}",
            f"{layer.nonzeros:,}",
            f"{layer.nonzeros / layer.cells:.2%}" if layer.cells else "-",
            f"{layer.biases:,}",
        )
    return table


def neuron_table(solution: Solution, network: Network, limit: int | None) -> Printed:
    """Return which inputs feed each neuron of the first layer, strongest first, and what it feeds."""
    first = network.layers[0]
    shown = range(first.shape[0])[:limit]
    left = first.shape[0] - len(shown)
    table = Printed(
        title="Neurons of the first layer" + (f" ({left} more: --all)" if left else ""), title_justify="left"
    )
    for heading in ("neuron", "reads (weight)", "bias", "feeds (weight)"):
        table.add_column(heading)
    above = network.layers[1] if len(network.layers) > 1 else None
    outputs = solution.classes if len(network.layers) == 2 and len(solution.classes) == network.outputs else ()
    for j in shown:
        feeds = _list(*_column(above, j), [str(c) for c in outputs], limit) if above is not None else ""
        indices, values, bias = _row(first, j)
        table.add_row(str(j), _list(indices, values, list(solution.names), limit), f"{bias:.3g}", feeds)
    return table


def _row(layer: Layer, j: int) -> tuple[np.ndarray, np.ndarray, float]:
    at = np.flatnonzero(layer.rows.numpy() == j)
    if not at.size:
        return np.empty(0, dtype=int), np.empty(0), 0.0
    start, end = int(layer.indptr[at[0]]), int(layer.indptr[at[0] + 1])
    bias = 0.0 if layer.bias is None else float(layer.bias[at[0]])
    return layer.indices[start:end].numpy(), layer.values[start:end].numpy(), bias


def _column(layer: Layer, j: int) -> tuple[np.ndarray, np.ndarray]:
    here = layer.indices.numpy() == j
    return layer.outputs_of_values.numpy()[here], layer.values.numpy()[here]


def _list(indices: np.ndarray, values: np.ndarray, names: list[str], limit: int | None) -> str:
    order = np.argsort(-np.abs(values), kind="stable")
    top = order if limit is None else order[:6]
    words = [f"{names[indices[i]] if names else indices[i]} ({values[i]:+.3g})" for i in top]
    return ", ".join(words) + (f", {len(order) - len(top)} more" if len(top) < len(order) else "")


def report_command(run: Path, beside: Sequence[Path] = (), force: bool = False) -> None:
    """Write the report of a run anew, with other runs ``beside`` it, or figures and a board of the rows of a sweep."""
    from sparelu.experiments.report.sweep_report import BOARD, write_sweep_report
    from sparelu.experiments.sweeps.sweep import Table
    from sparelu.experiments.write_run import rewrite_report

    if run.is_file():
        where = run.with_suffix("")
        if where.is_file():  # the name of the table without its ending is that of another file, or its own
            where = run.with_name(f"{run.name}-report")
        check_page(where / BOARD, force)
        write_sweep_report(where, Table(run).rows(), run.stem)
        console.print(f"written: {where}/", highlight=False)
        return
    folder = RunFolder(run)
    with folder.held():
        rewrite_report(folder, [RunFolder(other) for other in beside])
    console.print(f"written: {folder.report}", highlight=False)
