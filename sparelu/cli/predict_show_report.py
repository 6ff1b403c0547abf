"""The commands that read a finished run: ``predict``, ``show``, ``report``."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as Printed

from sparelu import store
from sparelu.cli.flags import data_source
from sparelu.cli.session import console, errors
from sparelu.data import Rows
from sparelu.datasets import DATASETS, columns_for
from sparelu.experiments.formatting import size
from sparelu.experiments.report.sweep_report import write_sweep_report
from sparelu.experiments.sweeps.sweep import Table
from sparelu.experiments.trials.run_folder import RunFolder
from sparelu.experiments.write_run import rewrite_report
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Solution
from sparelu.writing import write_atomically

FEW = 20


def predict_command(run: Path, data: str, out: Path | None) -> None:
    """Write one column of predictions (one for each target) as CSV."""
    solution, _, _ = RunFolder(run).read()
    rows = _rows(data, solution)
    predicted = np.concatenate([np.asarray(solution.predict(part)) for part in _parts(rows)])
    columns = predicted.reshape(len(predicted), -1)
    target = str(solution.about.get("target", "y"))
    names = [target] if columns.shape[1] == 1 else [f"{target}{i}" for i in range(columns.shape[1])]
    text = _csv(names, columns)
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
        errors.print(f"{len(columns)} predictions written to {out}", highlight=False)


def _rows(data: str, solution: Solution) -> Rows:
    """Return the inputs of a named data set, or the columns of a file that the model was trained on."""
    name, parameters = data_source(data)
    if name in DATASETS:
        return DATASETS[name].load(0, {**parameters}).x
    rows, note = columns_for(data, solution.names)
    if note:
        errors.print(note, highlight=False)
    return rows


def _parts(rows: Any, size: int = 65536) -> list[np.ndarray]:
    return [np.asarray(rows[at : at + size]) for at in range(0, rows.shape[0], size)]


def _csv(names: list[str], columns: np.ndarray) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    table.writerows(columns.tolist())
    return text.getvalue()


def show_command(run: Path, everything: bool, as_json: bool) -> None:
    """Print the layers and the neurons of a stored network."""
    solution, _, result = RunFolder(run).read()
    if as_json:
        print(json.dumps({**solution_summary(solution), "result": result}, indent=1, default=str))
        return
    network = solution.network.compact()
    console.print(
        f"{solution.method} on {solution.about.get('data')}: {network.nonzeros:,} nonzeros, "
        f"{network.biases:,} biases, {size(store.weight_bytes(network))} stored; {result['score_name']} "
        f"{result['test']['score']:.4f} on {result['test']['rows']:,} rows",
        highlight=False,
    )
    console.print(layer_table(network))
    console.print(neuron_table(solution, network, None if everything else FEW))


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


def report_command(run: Path, beside: Sequence[Path] = ()) -> None:
    """Write the report of a run anew, with other runs ``beside`` it, or figures and a board of the rows of a sweep."""
    if run.is_file():
        where = run.with_suffix("")
        write_sweep_report(where, Table(run).rows(), run.stem)
        console.print(f"written: {where}/", highlight=False)
        return
    folder = RunFolder(run)
    rewrite_report(folder, [RunFolder(other) for other in beside])
    console.print(f"written: {folder.report}", highlight=False)
