"""The network as a drawing, and the pixels that it reads, of images."""

from sparelu.experiments.report.live_network import image_shape, input_namer, output_namer
from sparelu.experiments.report.network_drawing import draw
from sparelu.experiments.report.pixel_maps import pixel_maps
from sparelu.experiments.report.section import Content, Report, Section


def _content(report: Report) -> Content:
    solution, body = report.solution, report.body
    outputs, shape, of_output = solution.network.outputs, image_shape(solution), output_namer(solution)
    maps = None if shape is None else pixel_maps(body, outputs, shape, of_output, report.mean_image)
    return Content({"drawing": draw(body, outputs, input_namer(solution), of_output), "maps": maps})


DRAWING = Section("drawing", 50, _content)
