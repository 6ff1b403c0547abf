"""What is lost with fewer neurons, of a run of ``compress``."""

from sparelu.experiments.report.compression_curve import width_chart
from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content | None:
    if report.widths is None:
        return None
    chart = width_chart(report.widths)
    return Content({"widths": report.widths}, {} if chart is None else {"widths": chart})


COMPRESSION = Section("compression", 20, _content)
