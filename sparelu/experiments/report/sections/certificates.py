"""What is proved of the network."""

from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content:
    return Content()


CERTIFICATES = Section("certificates", 70, _content)
