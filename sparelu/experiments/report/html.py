"""A page of HTML that needs nothing but itself: templates, inlined charts, and the filters that print numbers."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from bokeh.core.properties import value
from bokeh.core.property.vectorization import Value
from bokeh.embed import components
from bokeh.model import Model
from bokeh.models import Axis
from bokeh.models.annotations import LegendItem
from bokeh.resources import Component, Resources
from markupsafe import Markup

from sparelu.experiments import formatting as text

FILTERS = ("count", "counted", "duration", "initial", "plain", "score", "settings", "signed", "size")


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """Return the page of a template in ``templates/``; every text is escaped."""
    return _environment().get_template(template).render(context).encode()


def render_section(name: str, template: str, context: Mapping[str, Any]) -> Markup:
    """Return one section of a page, of the text ``template`` or, where that is empty, of ``sections/NAME.html``."""
    environment = _environment()
    found = environment.from_string(template) if template else environment.get_template(f"sections/{name}.html")
    return Markup(found.render(context))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sparelu.experiments.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(text, name)
    return environment


def _break_formulas(chart: Model) -> None:
    """Keep names from being read as formulas, for which the page would ask the network for MathJax."""
    for part in chart.references():
        if isinstance(part, Axis) and isinstance(part.axis_label, str):
            part.axis_label = _unbroken(part.axis_label)
        if isinstance(part, LegendItem) and isinstance(part.label, Value):
            part.label = value(_unbroken(part.label.value))


def _unbroken(text: Any) -> Any:
    """Return a text with a word joiner, which is not seen, within each delimiter of TeX."""
    return re.sub(r"(\$|\\)(?=[$(\[])", "\\1\N{WORD JOINER}", text) if isinstance(text, str) else text


def embedded(charts: Mapping[str, Model], tables: bool = False) -> dict[str, Any]:
    """Make context for a page: ``library`` (Bokeh, with its tables where wanted), ``script``, ``charts`` by name."""
    if not charts:
        return {"library": "", "script": "", "charts": {}}
    for chart in charts.values():
        _break_formulas(chart)
    script, places = components(dict(charts))
    wanted: list[Component] = ["bokeh", "bokeh-widgets", "bokeh-tables"] if tables else ["bokeh"]
    library = Resources(mode="inline", components=wanted, log_level="error").render_js()
    return {
        "library": Markup(library),
        "script": Markup(script),
        "charts": {name: Markup(place) for name, place in places.items()},
    }
