"""What the network gets wrong on test rows, beside what simple models get."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from sparelu.experiments.figures.rows import SERIES
from sparelu.experiments.report.charts import MUTED, frame
from sparelu.experiments.report.section import Content, Report, Section

TOOLS = "pan,box_zoom,reset"


def _content(report: Report) -> Content | None:
    errors, simple = report.found.get("errors", {}), report.found.get("simple", [])
    if not errors and not simple:
        return None
    charts: dict[str, figure] = {}
    if errors.get("pairs"):
        charts["residuals"] = _residuals(errors["pairs"], str(report.solution.about.get("target", "y")))
    if errors.get("roc"):
        charts["roc"] = _roc(errors["roc"])
    if len(errors.get("calibration", ())) > 1:
        charts["calibration"] = _calibration(errors["calibration"])
    classes = [str(label) for label in report.solution.classes]
    confusion: Sequence[Sequence[int]] = errors.get("confusion") or ()
    if len(confusion) != len(classes):
        confusion = ()
    return Content({"errors": errors, "simple": simple, "classes": classes, "confusion": confusion}, charts)


def _residuals(pairs: Sequence[Sequence[float]], target: str) -> figure:
    """Draw prediction minus truth against prediction."""
    plot = frame(f"predicted {target}", "predicted minus true", height=300)
    source = ColumnDataSource({"found": [a for a, _ in pairs], "error": [b for _, b in pairs]})
    dots = plot.scatter("found", "error", source=source, size=5, color=SERIES[0], alpha=0.5, line_color=None)
    plot.add_layout(Span(location=0, dimension="width", line_color=MUTED))
    plot.add_tools(HoverTool(renderers=[dots], tooltips=[("predicted", "@found"), ("minus true", "@error")]))
    return plot


def _roc(points: Sequence[Sequence[float]]) -> figure:
    """Draw the true positives against the false ones, with the diagonal of guessing."""
    plot = _shares("share of the other class called so", "share of the second class found")
    plot.line([0, 1], [0, 1], color=MUTED, line_dash="dashed")
    plot.line([a for a, _ in points], [b for _, b in points], color=SERIES[0], line_width=2)
    return plot


def _calibration(groups: Sequence[Sequence[float]]) -> figure:
    """Draw what came against what was said, with the diagonal of perfect calibration."""
    plot = _shares("probability that was said", "share that came")
    plot.line([0, 1], [0, 1], color=MUTED, line_dash="dashed")
    table: Mapping[str, Any] = dict(zip(("said", "came", "rows"), map(list, zip(*groups, strict=True)), strict=True))
    source = ColumnDataSource(dict(table))
    plot.line("said", "came", source=source, color=SERIES[0], line_width=2)
    dots = plot.scatter("said", "came", source=source, color=SERIES[0], size=8)
    tips = [("said", "@said{0.0%}"), ("came", "@came{0.0%}"), ("rows", "@rows")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    return plot


def _shares(x: str, y: str) -> figure:
    plot = frame(x, y, height=300)
    plot.x_range, plot.y_range = Range1d(start=-0.02, end=1.02), Range1d(start=-0.02, end=1.02)
    plot.xaxis.formatter = plot.yaxis.formatter = NumeralTickFormatter(format="0%")
    return plot


ERRORS = Section("errors", 25, _content)
