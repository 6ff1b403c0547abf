"""What a report is made of: sections, each in a file of ``sections``, which are found by looking."""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from bokeh.model import Model
from bokeh.plotting import figure

from sparelu.experiments.report.charts import CrossValidation, Point
from sparelu.experiments.report.compression_curve import CompressionCurve
from sparelu.experiments.report.live_network import Anatomy, anatomy
from sparelu.experiments.report.tables import LayerRow, layer_rows
from sparelu.outcome import Solution


@dataclass(frozen=True, eq=False)
class Report:
    """What sections are made from, as :func:`~sparelu.experiments.report.run_report.write_report` is given it."""

    solution: Solution
    points: Sequence[Point]
    score_name: str
    split: str
    mean_image: np.ndarray | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    validation: CrossValidation | None = None
    function: figure | None = None
    widths: CompressionCurve | None = None
    found: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def body(self) -> Anatomy:
        """Return the live part of the network."""
        return anatomy(self.solution.network)

    @cached_property
    def layers(self) -> tuple[LayerRow, ...]:
        """Return a row for each layer."""
        return layer_rows(self.solution.network)

    def shared(self) -> dict[str, Any]:
        """Return what every template may use, by name."""
        return {
            "solution": self.solution,
            "chosen": next(p for p in self.points if p.chosen),
            "points": sorted(self.points, key=lambda p: (p.label, p.nonzeros)),
            "dense": next((p for p in self.points if p.label == "dense"), None),
            "score_name": self.score_name,
            "split": self.split,
            "body": self.body,
            "layers": self.layers,
            "used_inputs": len(self.body.inputs),
        }


@dataclass(frozen=True)
class Content:
    """What a section shows: ``values`` for its template by name, and charts, which it prints as ``charts.NAME``."""

    values: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, Model] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One part of a report.

    ``content`` says what it shows of a report, None to leave it out; ``order`` is its place from the top, in steps of
    ten. ``template`` is text for Jinja, a ``<section>`` that may use what :meth:`Report.shared` and ``content`` give;
    without one it is ``templates/sections/NAME.html``. Names of charts are its own: no two sections share one.
    """

    name: str
    order: int
    content: Callable[[Report], Content | None]
    template: str = ""


def find_sections() -> list[Section]:
    """Import every file of ``sections``; the sections in their order."""
    from sparelu.experiments.report import sections

    modules = [import_module(f"{sections.__name__}.{m.name}") for m in pkgutil.iter_modules(sections.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Section)]
    return sorted(found, key=lambda section: section.order)
