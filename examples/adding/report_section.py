"""The largest weights as a table: a section in one file, ``sparelu/experiments/report/sections/largest_weights.py``."""

import numpy as np

from sparelu.experiments.report.live_network import input_namer
from sparelu.experiments.report.section import Content, Report, Section

SHOWN = 5
TEMPLATE = """
<section id="largest-weights">
<h2>The largest weights of the first layer</h2>
<table>
<thead><tr><th scope="col">input</th><th scope="col" class="number">weight</th></tr></thead>
<tbody>
{% for name, weight in largest %}
<tr><th scope="row">{{ name }}</th><td class="number">{{ weight | signed }}</td></tr>
{% endfor %}
</tbody></table>
</section>
"""


def _content(report: Report) -> Content | None:
    """Return inputs with their weights, the largest first; nothing is shown of a network without weights."""
    wires, name = report.body.layers[0], input_namer(report.solution)
    order = np.argsort(-np.abs(wires.weights), kind="stable")[:SHOWN]
    largest = [(name(int(wires.sources[i])), float(wires.weights[i])) for i in order]
    return Content({"largest": largest}) if largest else None


LARGEST_WEIGHTS = Section("largest_weights", 65, _content, TEMPLATE)
