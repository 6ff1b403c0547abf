"""The report of one run for people: a single HTML file that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from bokeh.model import Model
from bokeh.plotting import figure

from sparelu.experiments.report.charts import CrossValidation, Point, history_charts, score_chart, validation_chart
from sparelu.experiments.report.compression_curve import Curve, width_chart
from sparelu.experiments.report.html import embedded, render
from sparelu.experiments.report.live_network import anatomy, image_shape, input_namer, output_namer
from sparelu.experiments.report.network_drawing import draw
from sparelu.experiments.report.pixel_maps import PixelMaps, pixel_maps
from sparelu.experiments.report.tables import circumstances, layer_rows, neuron_rows
from sparelu.outcome import Solution
from sparelu.store import write_atomically

__all__ = ["CrossValidation", "Point", "write_report"]


def write_report(
    path: Path,
    solution: Solution,
    points: Sequence[Point],
    score_name: str,
    split: str,
    mean_image: np.ndarray | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
    validation: CrossValidation | None = None,
    function: figure | None = None,
    widths: Curve | None = None,
) -> None:
    """Write the report of ``solution`` to ``path``, atomically.

    ``points`` are the networks on the curve; exactly one is ``chosen``, the one in ``solution``. ``score_name`` says
    what their scores are ("accuracy" is printed in percent), ``split`` how test rows were kept apart. ``mean_image``
    (the pixels of one image, in any shape) lies under the pixel maps when ``solution.about["image"]`` gives the
    image shape. ``extra`` adds rows to the circumstances, ``validation`` the curve by which the budget was chosen,
    ``function`` the chart of a function of one input, ``widths`` the curve of a compression.

    Raises ``ValueError`` when not exactly one point is chosen, when it has another count than the network, or when
    ``mean_image`` does not have one number for each input.
    """
    chosen = _chosen(points, solution)
    if mean_image is not None and mean_image.size != solution.network.inputs:
        raise ValueError(
            f"mean_image has {mean_image.size} numbers, wanted one for each of {solution.network.inputs} inputs"
        )
    named = score_name.startswith(("test", "training"))
    score_name = (score_name if named else f"test {score_name}").replace("R2", "R²")
    context = {
        **_charts(points, score_name, solution, validation, function, widths),
        **_network(solution, mean_image),
        "solution": solution,
        "chosen": chosen,
        "points": sorted(points, key=lambda p: (p.label, p.nonzeros)),
        "dense": next((p for p in points if p.label == "dense"), None),
        "score_name": score_name,
        "split": split,
        "validation": validation,
        "widths": widths,
        "circumstances": circumstances(solution, split, extra),
    }
    write_atomically(path, render("report.html", context))


def _chosen(points: Sequence[Point], solution: Solution) -> Point:
    chosen = [p for p in points if p.chosen]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen)} of {len(points)} points are chosen: mark the one that the report is about")
    if chosen[0].nonzeros != solution.network.nonzeros:
        raise ValueError(
            f"the chosen point has {chosen[0].nonzeros} nonzeros and the network {solution.network.nonzeros}: "
            "mark the point of this network"
        )
    return chosen[0]


def _charts(
    points: Sequence[Point],
    score_name: str,
    solution: Solution,
    validation: CrossValidation | None,
    function: figure | None,
    widths: Curve | None,
) -> dict[str, Any]:
    curve, history = score_chart(points, score_name, solution.method), history_charts(solution.history)
    charts: dict[str, Model] = {} if curve is None else {"curve": curve}
    if validation is not None:
        charts["validation"] = validation_chart(validation)
    if function is not None:
        charts["function"] = function
    if widths is not None and (drawn := width_chart(widths)) is not None:
        charts["widths"] = drawn
    return {
        **embedded(charts | {f"history of {name}": chart for name, chart in history}),
        "history": [name for name, _ in history],
    }


def _network(solution: Solution, mean_image: np.ndarray | None) -> dict[str, Any]:
    network, shape = solution.network, image_shape(solution)
    body, of_input, of_output = anatomy(network), input_namer(solution), output_namer(solution)
    maps: PixelMaps | None = None
    if shape is not None:
        maps = pixel_maps(body, network.outputs, shape, of_output, mean_image)
    neurons, left_out = neuron_rows(solution)
    return {
        "drawing": draw(body, network.outputs, of_input, of_output),
        "maps": maps,
        "layers": layer_rows(network),
        "neurons": neurons,
        "neurons_left_out": left_out,
        "used_inputs": len(body.inputs),
        "dead_weights": sum(layer.nonzeros for layer in network.layers) - sum(len(w.weights) for w in body.layers),
    }
