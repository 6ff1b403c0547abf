"""Flat rows picked, grouped, and averaged over seeds: what figures are drawn from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FlatRow = Mapping[str, Any]
"""One level of names to numbers and texts, as :func:`sparelu.experiments.report.sweep_report.flat` makes of a sweep's
row.
"""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of series that differ also to the colour-blind (Okabe & Ito 2008)."""


def finite(row: FlatRow, name: str) -> bool:
    """Say whether the row has a finite number of this name."""
    value = row.get(name)
    return isinstance(value, (int, float)) and math.isfinite(value)


def drawable(rows: Sequence[FlatRow], *names: str) -> list[FlatRow]:
    """Return the rows with finite numbers of these names. Raises ``ValueError`` when there is none."""
    found = [row for row in rows if all(finite(row, name) for name in names)]
    if not found:
        raise ValueError(
            f"none of {len(rows)} rows has a finite {' and '.join(names)}: there is nothing to draw; see their status"
        )
    return found


def group_by(rows: Sequence[FlatRow], *names: str) -> dict[tuple[Any, ...], list[FlatRow]]:
    """Return rows by their values of ``names``, in the order of first appearance."""
    groups: dict[tuple[Any, ...], list[FlatRow]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def over_seeds(rows: Sequence[FlatRow], value: str) -> np.ndarray:
    """Return an array (budgets, 4) in the order of nonzeros: mean nonzeros, mean and standard deviation of ``value``,
    rows.

    Rows that asked for the same budget are repetitions; where none was asked, rows of the same nonzeros.
    """
    repeated: dict[Any, list[FlatRow]] = {}
    for row in rows:
        repeated.setdefault(row["nonzeros"] if row.get("budget") is None else row["budget"], []).append(row)
    found = []
    for cell in repeated.values():
        values = np.array([row[value] for row in cell], dtype=float)
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        found.append((np.mean([row["nonzeros"] for row in cell]), values.mean(), spread, len(values)))
    return np.array(sorted(found))
