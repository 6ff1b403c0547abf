"""What each column does: what is lost without it, and how the prediction follows it."""

from collections.abc import Sequence

from bokeh.models import NumeralTickFormatter, Range1d
from bokeh.plotting import figure

from sparelu.experiments.figures.rows import SERIES
from sparelu.experiments.report.charts import frame, y_range
from sparelu.experiments.report.section import Content, Report, Section

DRAWN = 6
"""Columns whose effect is drawn: the most important ones."""


def _content(report: Report) -> Content | None:
    effects = report.found.get("effects")
    if not effects:
        return None
    solution, classes = report.solution, len(report.solution.classes)
    y = f"probability of {solution.classes[1]}" if classes == 2 else f"predicted {solution.about.get('target', 'y')}"
    drawn = [one for one in effects if len(one["effect"]) > 1][:DRAWN]
    levels = y_range([level for one in drawn for _, level in one["effect"]] or [0.0])
    charts = {f"effect {i}": _chart(one["name"], one["effect"], y, levels, classes == 2) for i, one in enumerate(drawn)}
    names = {f"effect {i}": one["name"] for i, one in enumerate(drawn)}
    return Content({"effects": effects, "effect_names": names, "of_classes": classes > 0}, charts)


def _chart(name: str, points: Sequence[Sequence[float]], y: str, levels: tuple[float, float], share: bool) -> figure:
    """Draw the mean output against the value of a column; all columns between the same ``levels``."""
    plot = frame(name, y, height=220)
    plot.y_range = Range1d(start=levels[0], end=levels[1])
    plot.line([a for a, _ in points], [b for _, b in points], color=SERIES[0], line_width=2)
    if share:
        plot.yaxis.formatter = NumeralTickFormatter(format="0%")
    return plot


EFFECTS = Section("effects", 46, _content)
