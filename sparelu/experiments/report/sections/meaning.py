"""What the numbers mean, and what they do not."""

from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content:
    return Content()


MEANING = Section("meaning", 90, _content)
