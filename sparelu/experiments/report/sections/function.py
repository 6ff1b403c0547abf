"""The function of a network of one input."""

from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content | None:
    return None if report.function is None else Content(charts={"function": report.function})


FUNCTION = Section("function", 10, _content)
