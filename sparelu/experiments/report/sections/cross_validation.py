"""How the budget was chosen, where it was."""

from sparelu.experiments.report.charts import validation_chart
from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content | None:
    if report.validation is None:
        return None
    return Content({"validation": report.validation}, {"validation": validation_chart(report.validation)})


CROSS_VALIDATION = Section("cross_validation", 40, _content)
