"""The tables of a report as rows of text: layers, neurons with their inputs, circumstances."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparelu.data import Budget
from sparelu.experiments.formatting import count, duration, initial, plain, settings, signed, size
from sparelu.experiments.report.live_network import Anatomy, Wires, anatomy, input_namer, output_namer
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Solution
from sparelu.store import weight_bytes

NEURONS = 100
ENDS = 8


@dataclass(frozen=True)
class LayerRow:
    """A layer in words; ``live`` counts its units that are fed and read, of ``shape[0]``."""

    name: str
    shape: tuple[int, int]
    live: int
    nonzeros: int
    density: float
    biases: int
    bytes: int


@dataclass(frozen=True)
class NeuronRow:
    """A neuron: what feeds it, its bias, and what it feeds, the strongest first."""

    name: str
    weights: int
    inputs: str
    bias: str
    feeds: str


def layer_rows(network: Network) -> tuple[LayerRow, ...]:
    """Return one row for each layer from the input up, then the affine skip part where there is one."""
    body = anatomy(network)
    live = [len(h) for h in body.hidden]
    names = [f"hidden {i + 1}" if len(live) > 1 else "hidden" for i in range(len(live))] + ["output"]
    rows = [
        _layer_row(name + part.kind, part, alive)
        for name, part, alive in zip(names, network.parts, [*live, _fed(network.layers[-1])], strict=True)
    ]
    if network.skip is not None:
        rows.append(_layer_row("affine part", network.skip, _fed(network.skip)))
    return tuple(rows)


def _fed(layer: Layer) -> int:
    return int(layer.rows.numel())


def _layer_row(name: str, layer: Layer | Convolution, live: int) -> LayerRow:
    density = layer.nonzeros / layer.cells if layer.cells else 0.0
    return LayerRow(name, layer.shape, live, layer.nonzeros, density, layer.biases, weight_bytes(Network((layer,))))


def neuron_rows(solution: Solution, limit: int = NEURONS) -> tuple[tuple[NeuronRow, ...], int]:
    """Return the ``limit`` strongest live neurons of each hidden layer and all outputs, and how many neurons were left
    out.
    """
    body = anatomy(solution.network)
    of_input, of_output = input_namer(solution), output_namer(solution)
    rows, left_out = [], 0
    for i, units in enumerate(body.hidden):
        order = units[np.lexsort((units, -body.strength(i)))]
        left_out += max(0, len(order) - limit)
        below = of_input if i == 0 else _neuron(i - 1, body)
        above = of_output if i == len(body.hidden) - 1 else _neuron(i + 1, body)
        mine = _neuron(i, body)
        for unit in order[:limit].tolist():
            rows.append(_neuron_row(mine(unit), unit, body.layers[i], below, _out_of(unit, body.layers[i + 1], above)))
    below = of_input if not body.hidden else _neuron(len(body.hidden) - 1, body)
    for unit in range(min(solution.network.outputs, limit)):
        rows.append(_neuron_row(f"output {of_output(unit)}", unit, body.layers[-1], below, ""))
    if body.skip is not None:
        for unit in range(min(solution.network.outputs, limit)):
            rows.append(_neuron_row(f"affine part of {of_output(unit)}", unit, body.skip, of_input, ""))
    return tuple(rows), left_out


def _neuron(layer: int, body: Anatomy) -> Callable[[int], str]:
    where = f" of layer {layer + 1}" if len(body.hidden) > 1 else ""
    return lambda unit: f"neuron {unit}{where}"


def _neuron_row(name: str, unit: int, into: Wires, below: Callable[[int], str], feeds: str) -> NeuronRow:
    mine = into.targets == unit
    bias = signed(into.bias[unit]) if unit in into.bias else "none"
    return NeuronRow(name, int(mine.sum()), _ends(into.sources[mine], into.weights[mine], below), bias, feeds)


def _out_of(unit: int, out: Wires, above: Callable[[int], str]) -> str:
    mine = out.sources == unit
    return _ends(out.targets[mine], out.weights[mine], above)


def _ends(units: np.ndarray, weights: np.ndarray, name: Callable[[int], str]) -> str:
    order = np.argsort(-np.abs(weights), kind="stable")
    shown = "; ".join(f"{name(int(units[i]))} ({signed(float(weights[i]))})" for i in order[:ENDS])
    return shown + (f"; {len(order) - ENDS} more" if len(order) > ENDS else "")


def describe_circumstances(solution: Solution, split: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return data, method, settings, seed, cost and machine, in the order in which they are printed."""
    about, s = dict(solution.about), solution
    method = s.method + (" with " + settings(s.settings) if s.settings else "")
    known = {
        "Data": _data(about, s),
        "Split": split,
        "Method": method,
        "Budget": _budget(s.budget),
        "Within budget": plain(s.within_budget),
        "Ended": f"{s.status.name.replace('_', ' ')}. {s.status.value}",
        "Seed": str(s.seed),
        "Time of the fit": duration(s.seconds),
        "Peak memory of the fit": size(s.peak_memory),
        "Machine": _machine(about),
        "Versions": ", ".join(f"{name} {v}" for name, v in s.versions.items()),
    }
    shown = ("data", "target", "rows", "inputs", "image", "device", "threads", "machine")
    rest = {k.replace("_", " ").capitalize(): plain(v) for k, v in about.items() if k not in shown}
    return {k: v for k, v in {**known, **rest, **{initial(k): v for k, v in extra.items()}}.items() if v}


def _data(about: Mapping[str, object], s: Solution) -> str:
    what = f"{len(s.classes)} classes" if s.classes else f"{s.network.outputs} target{'s'[: s.network.outputs > 1]}"
    rows = f", {plain(about['rows'])} training rows" if "rows" in about else ""
    named = f"{about['data']}, target {about.get('target', 'y')}: " if "data" in about else ""
    return f"{named}{s.task}, {count(s.network.inputs)} inputs, {what}{rows}"


def _budget(budget: Budget) -> str:
    asked = {k: getattr(budget, k) for k in ("nonzeros", "density", "sparsity", "compression")}
    given = [f"{k} {plain(v)}" for k, v in asked.items() if v is not None]
    return f"hidden {plain(budget.hidden)}; " + (given[0] if given else "number of nonzeros found by the method")


def _machine(about: Mapping[str, object]) -> str:
    parts = [str(about["machine"])] if "machine" in about else []
    parts += [f"device {about['device']}"] if "device" in about else []
    parts += [f"{about['threads']} threads" if about["threads"] != 1 else "1 thread"] if "threads" in about else []
    return ", ".join(parts)
