"""The report of one run for people: a single HTML file that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from bokeh.plotting import figure

from sparelu.experiments.report.charts import CrossValidation, Point
from sparelu.experiments.report.compression_curve import CompressionCurve
from sparelu.experiments.report.html import embedded, render, render_section
from sparelu.experiments.report.section import Report, find_sections
from sparelu.outcome import Solution
from sparelu.writing import write_atomically

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
    widths: CompressionCurve | None = None,
    found: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write the report of ``solution`` to ``path``, atomically.

    ``points`` are the networks on the curve; exactly one is ``chosen``, the one in ``solution``. ``score_name`` says
    what their scores are ("accuracy" is printed in percent), ``split`` how test rows were kept apart. ``mean_image``
    (the pixels of one image, in any shape) lies under the pixel maps when ``solution.about["image"]`` gives the
    image shape. ``extra`` adds rows to the circumstances, ``validation`` the curve by which the budget was chosen,
    ``function`` the chart of a function of one input, ``widths`` the curve of a compression, ``found``
    what :mod:`~sparelu.experiments.errors` and :mod:`~sparelu.experiments.effects` found, by name.

    Raises ``ValueError`` when not exactly one point is chosen, when it has another count than the network, or when
    ``mean_image`` does not have one number for each input.
    """
    _check_chosen(points, solution)
    if mean_image is not None and mean_image.size != solution.network.inputs:
        raise ValueError(
            f"mean_image has {mean_image.size} numbers, wanted one for each of {solution.network.inputs} inputs"
        )
    named = score_name.startswith(("test", "training"))
    score_name = (score_name if named else f"test {score_name}").replace("R2", "R²")
    report = Report(solution, points, score_name, split, mean_image, extra, validation, function, widths, found)
    write_atomically(path, _page(report))


def _check_chosen(points: Sequence[Point], solution: Solution) -> None:
    """Raise ``ValueError`` unless one point is chosen, and it is this network's."""
    chosen = [p for p in points if p.chosen]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen)} of {len(points)} points are chosen: mark the one that the report is about")
    if chosen[0].nonzeros != solution.network.nonzeros:
        raise ValueError(
            f"the chosen point has {chosen[0].nonzeros} nonzeros and the network {solution.network.nonzeros}: "
            "mark the point of this network"
        )


def _page(report: Report) -> bytes:
    """Return the page: every section that has something to show, in its place."""
    shown = [(section, content) for section in find_sections() if (content := section.content(report)) is not None]
    charts = [name for _, content in shown for name in content.charts]
    if len(set(charts)) < len(charts):
        raise ValueError(f"two sections name a chart alike: {', '.join(sorted(charts))}")
    page = embedded({name: chart for _, content in shown for name, chart in content.charts.items()})
    shared = report.shared() | page
    parts = [
        render_section(section.name, section.template, shared | dict(content.values)) for section, content in shown
    ]
    return render("report.html", shared | {"sections": parts})
