"""Data, method, cost and machine, and the history of the fit."""

from sparelu.experiments.report.charts import history_charts
from sparelu.experiments.report.section import Content, Report, Section
from sparelu.experiments.report.tables import describe_circumstances


def _content(report: Report) -> Content:
    charts = dict(history_charts(report.solution.history))
    facts = describe_circumstances(report.solution, report.split, report.extra)
    named = {f"history of {name}": chart for name, chart in charts.items()}
    return Content({"circumstances": facts, "history": list(charts)}, named)


HOW_IT_WAS_MADE = Section("how_it_was_made", 80, _content)
