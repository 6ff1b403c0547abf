"""Layers, and which inputs feed which neurons."""

from sparelu.experiments.report.section import Content, Report, Section
from sparelu.experiments.report.tables import neuron_rows


def _content(report: Report) -> Content:
    neurons, left_out = neuron_rows(report.solution)
    stored = sum(layer.nonzeros for layer in report.solution.network.layers)
    live = sum(len(wires.weights) for wires in report.body.layers)
    return Content({"neurons": neurons, "neurons_left_out": left_out, "dead_weights": stored - live})


LAYERS = Section("layers", 60, _content)
