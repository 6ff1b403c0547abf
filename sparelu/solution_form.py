"""The header of a stored solution: what it must say, and a solution made of it once it does."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from sparelu.columns import Columns
from sparelu.data import Budget
from sparelu.json_form import (
    FormError,
    anything,
    flag,
    label,
    listed,
    mapped,
    number,
    of,
    optional,
    record,
    text,
    whole,
    with_nan,
)
from sparelu.networks.convolution import Convolution
from sparelu.networks.layer import INT32_MAX, Layer
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate, Solution, Status

PLAIN = ("method", "settings", "seed", "within_budget", "seconds", "peak_memory", "task", "versions", "about")
"""Fields of a solution that are JSON values as they are."""

GEOMETRY = ("image", "side", "stride", "padding")
"""What is stored of a convolution beside its kernel."""

MEASURED = ("seconds", "value")
"""Numbers beside those of the history that may be NaN, for which null is written."""

SIZE = whole(1, INT32_MAX)
CONVOLUTION = record(
    {"image": listed(SIZE, 3), "side": whole(1, 1000), "stride": whole(1, 1000), "padding": whole(0, 1000)}
)
CLAIM = record(
    {"claim": text, "value": number(), "unit": text, "assumptions": listed(anything), "vacuous": flag, "source": text},
    {"data": text},
)
HEADER = record(
    {
        "shapes": listed(listed(SIZE, 2)),
        "skip": whole(0, 1),
        "status": text,
        "plain": record(
            {
                **{"method": text, "settings": of(dict), "seed": whole(), "within_budget": flag, "seconds": number(0)},
                **{"peak_memory": whole(0), "task": text, "versions": mapped(text), "about": of(dict)},
            }
        ),
        "budget": record(
            {"hidden": listed(SIZE), "nonzeros": optional(whole(1))},
            {**{k: optional(number(0)) for k in ("density", "sparsity", "compression")}, "channels": listed(SIZE)},
        ),
        "classes": listed(label()),
        "names": listed(label()),
        "history": listed(mapped(number())),
        "certificates": listed(CLAIM),
    },
    {"convolutions": mapped(CONVOLUTION)},
)
IMAGE = optional(listed(SIZE, 2, 3))
ASSUMPTION = record({"text": text, "state": text}, {"evidence": text})


def header_of(solution: Solution) -> dict[str, Any]:
    """Return all of a solution but its arrays, as JSON values."""
    net = solution.network
    layers = [*(part.kernel for part in net.parts), *([net.skip] if net.skip is not None else [])]
    convolutions = {str(i): part for i, part in enumerate(net.parts) if isinstance(part, Convolution)}
    claims = [{**vars(c), "assumptions": [vars(a) for a in c.assumptions]} for c in solution.certificates]
    return {
        "convolutions": {i: {name: getattr(part, name) for name in GEOMETRY} for i, part in convolutions.items()},
        "shapes": [list(layer.shape) for layer in layers],
        "skip": int(net.skip is not None),
        "status": solution.status.name,
        "plain": {k: getattr(solution, k) for k in PLAIN},
        "budget": {f.name: getattr(solution.budget, f.name) for f in fields(Budget) if f.init},
        "classes": list(solution.classes),
        "names": list(solution.names),
        "history": [dict(h) for h in solution.history],
        "certificates": claims,
    }


def solution_of(header: Any, layer: Callable[[str, tuple[int, int]], Layer]) -> Solution:
    """Return the solution of a header; ``layer`` reads the arrays of a name for a shape.

    Raises ``ValueError`` for a header of another form, and for one whose parts do not fit together.
    """
    header = with_nan(header, MEASURED)
    if isinstance(header, dict) and isinstance(header.get("history"), list):
        header["history"] = [with_nan(row, row) if isinstance(row, dict) else row for row in header["history"]]
    HEADER(header, "header")
    shapes = [(a, b) for a, b in header["shapes"]]
    count = len(shapes) - header["skip"]
    parts = _with_geometry([layer(f"layer{i}", shapes[i]) for i in range(count)], header.get("convolutions", {}))
    network = Network(tuple(parts), layer("skip", shapes[-1]) if header["skip"] else None)
    _check_fits(header, network)
    budget: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["budget"].items()
    }
    return Solution(
        network=network,
        status=Status[header["status"]],
        budget=Budget(**budget),
        certificates=tuple(_certificate(c) for c in header["certificates"]),
        classes=tuple(header["classes"]),
        names=tuple(header["names"]),
        history=tuple(header["history"]),
        **header["plain"],
    )


def _with_geometry(layers: list[Layer], given: Mapping[str, Any]) -> list[Layer | Convolution]:
    """Return the layers, those that ``given`` has a geometry of as convolutions."""
    parts: list[Layer | Convolution] = list(layers)
    for number_, geometry in given.items():
        if number_ not in map(str, range(len(layers))):
            raise FormError(f"header.convolutions names part {number_!r:.20} of {len(layers)}")
        kernel = layers[int(number_)]
        part = Convolution(kernel, **{**geometry, "image": tuple(geometry["image"])})
        if part.padding >= part.side or max(part.shape) > INT32_MAX:
            raise FormError(f"the convolution {number_} has padding {part.padding} and {part.shape[0]} outputs")
        parts[int(number_)] = part
    return parts


def _check_fits(header: Mapping[str, Any], network: Network) -> None:
    """Check that names, classes, task and image are those of a network with such inputs and outputs."""
    if header["status"] not in Status.__members__:
        raise FormError(f"header.status is {header['status']!r:.60}")
    names, classes, plain = header["names"], header["classes"], header["plain"]
    if names and len(names) != network.inputs:
        raise FormError(f"{len(names)} names for {network.inputs} inputs")
    if any(isinstance(label, float) and math.isnan(label) for label in classes):
        raise FormError("header.classes holds NaN, which is no label")
    if plain["task"] not in ("regression", "classification"):
        raise FormError(f"header.plain.task is {plain['task']!r:.60}")
    outputs = (1, 2) if len(classes) == 2 else (len(classes),)
    if plain["task"] == "classification" and (len(classes) < 2 or network.outputs not in outputs):
        raise FormError(f"{len(classes)} classes for {network.outputs} outputs")
    if plain["task"] == "regression" and classes:
        raise FormError(f"{len(classes)} classes of a regression")
    image = plain["about"].get("image")
    IMAGE(image, "header.plain.about.image")
    columns = plain["about"].get("columns")
    if columns is not None and list(Columns.of(columns).inputs) != names:
        raise FormError("the inputs that are made of columns are not those of the network")
    size = 1
    for side in image or ():
        size *= side
    if image is not None and size != network.inputs:
        raise FormError(f"an image of {image} for {network.inputs} inputs")


def _certificate(given: Mapping[str, Any]) -> Certificate:
    for i, assumption in enumerate(given["assumptions"]):
        ASSUMPTION(assumption, f"assumption {i}")
    return Certificate(**{**given, "assumptions": tuple(Assumption(**a) for a in given["assumptions"])})
