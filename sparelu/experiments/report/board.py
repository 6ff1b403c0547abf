"""The board of a sweep: one chart of all rows, and a table of them that sorts by any column; both are one selection."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, HoverTool, IndexFilter, Range1d
from bokeh.models.widgets.tables import DataTable, NumberFormatter, StringFormatter, TableColumn
from bokeh.plotting import figure

from sparelu.experiments.figures.rows import SERIES, FlatRow, finite, group_by
from sparelu.experiments.formatting import is_share, plain
from sparelu.experiments.report.charts import count_axis, frame, x_range, y_range

MEGABYTE, KILOBYTE = 1e6, 1e3
COLUMNS = (  # name in the row, heading, number format ("" for text), unit, width in pixels
    ("data", "data", "", 1.0, 90),
    ("label", "method", "", 1.0, 190),
    ("hidden", "hidden", "", 1.0, 80),
    ("budget", "budget", "0,0.[000]", 1.0, 70),
    ("budget_of", "budget of", "", 1.0, 80),
    ("seed", "seed", "0", 1.0, 45),
    ("nonzeros", "nonzeros", "0,0", 1.0, 75),
    ("score", "score", "0.0000", 1.0, 70),
    ("seconds", "seconds", "0,0.00", 1.0, 70),
    ("peak_memory", "peak MB", "0,0.0", MEGABYTE, 70),
    ("stored_bytes", "stored kB", "0,0.0", KILOBYTE, 75),
    ("status", "status", "", 1.0, 90),
    ("error", "reason", "", 1.0, 260),
)
HEIGHT = 460


def source_of(rows: Sequence[FlatRow]) -> ColumnDataSource:
    """Return the columns of the table; a missing number is NaN, a missing text empty."""
    return ColumnDataSource({name: _column(rows, name, form, unit) for name, _, form, unit, _ in COLUMNS})


def _column(rows: Sequence[FlatRow], name: str, form: str, unit: float) -> Any:
    if form:
        return np.array([float(row[name]) / unit if finite(row, name) else math.nan for row in rows])
    return ["" if row.get(name) is None else plain(row[name]) for row in rows]


def board_table(source: ColumnDataSource) -> DataTable:
    """Return all rows; a click on a heading sorts by it."""
    columns = [
        TableColumn(
            field=name,
            title=heading,
            width=width,
            formatter=NumberFormatter(format=form, nan_format="–", text_align="right") if form else StringFormatter(),
        )
        for name, heading, form, _, width in COLUMNS
    ]
    return DataTable(source=source, columns=columns, sizing_mode="stretch_width", height=HEIGHT, index_position=None)


def board_chart(rows: Sequence[FlatRow], source: ColumnDataSource, score_name: str) -> figure | None:
    """Draw every row with a score as a dot, score against nonzeros, a colour for each method.

    A click on a name in the legend hides its dots. None when no row has a score and weights.
    """
    drawn = [
        i for i, row in enumerate(rows) if finite(row, "score") and finite(row, "nonzeros") and row["nonzeros"] > 0
    ]
    if not drawn:
        return None
    plot = frame(
        "nonzero weights (log scale)", score_name, log_x=True, height=400, tools="pan,box_zoom,box_select,reset"
    )
    low, high = y_range([rows[i]["score"] for i in drawn])
    plot.y_range = Range1d(start=low, end=high)
    count_axis(plot, *x_range([rows[i]["nonzeros"] for i in drawn]))
    groups = group_by([{"label": rows[i].get("label"), "at": i} for i in drawn], "label")
    for look, ((label,), group) in enumerate(groups.items()):
        view = CDSView(filter=IndexFilter(indices=[row["at"] for row in group]))
        plot.scatter(
            "nonzeros",
            "score",
            source=source,
            view=view,
            size=7,
            alpha=0.6,
            color=SERIES[look % len(SERIES)],
            legend_label=str(label),
        )
    shown = "@score{0.00%}" if is_share(score_name) else "@score{0.0000}"
    tips = [("", "@label"), ("data", "@data"), ("nonzeros", "@nonzeros{0,0}"), (score_name, shown)]
    plot.add_tools(HoverTool(tooltips=[*tips, ("seed", "@seed"), ("seconds", "@seconds{0.00}")]))
    plot.legend.click_policy = "hide"
    plot.legend.location = "bottom_right"
    plot.legend.background_fill_alpha = 0.8
    return plot
