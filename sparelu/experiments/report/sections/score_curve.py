"""Score against nonzeros of all networks that were fitted."""

from sparelu.experiments.report.charts import score_chart
from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content | None:
    """Return the chart; one network is no curve."""
    if len(report.points) < 2:
        return None
    chart = score_chart(report.points, report.score_name, report.solution.method)
    return Content(charts={} if chart is None else {"curve": chart})


SCORE_CURVE = Section("score_curve", 30, _content)
