"""What the network computes, in the units of the data: networks that are short enough to be read."""

from sparelu.experiments.report.section import Content, Report, Section

TEMPLATE = """
<section id="formula">
<h2>Formula</h2>
{% for name, text in formulas %}
<p class="formula"><code>{{ name }} = {{ text }}</code></p>
{% endfor %}
<p>{{ words }}</p>
</section>
"""
HINGE = "max(0, ...) is zero until what stands in it becomes positive. Numbers are rounded to four digits."
OF_TWO = "The second class is predicted where the log odds are positive."
OF_MANY = "The class of the largest score is predicted."


def _content(report: Report) -> Content | None:
    """Return the formulas; a network that takes too many terms, or has images for inputs, has none."""
    solution = report.solution
    if solution.about.get("image") is not None:
        return None
    try:
        formulas = solution.formula()
    except ValueError:
        return None
    classes = len(solution.classes)
    words = HINGE if not classes else f"{OF_TWO if classes == 2 else OF_MANY} {HINGE}"
    return Content({"formulas": list(formulas.items()), "words": words})


FORMULA = Section("formula", 45, _content, TEMPLATE)
