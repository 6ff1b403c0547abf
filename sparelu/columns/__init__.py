"""Columns as people have them, and the inputs that a network reads of them.

Start with :mod:`~sparelu.columns.columns`: what is learnt of a table, and how it is applied. The kinds of columns
are in :mod:`~sparelu.columns.kinds`, the rules by which they are found in :mod:`~sparelu.columns.learning`.
"""

from sparelu.columns.columns import Columns, LeftOut
from sparelu.columns.kinds import Category, Kind, Moment, Number
from sparelu.columns.learning import learn_columns

__all__ = ["Category", "Columns", "Kind", "LeftOut", "Moment", "Number", "learn_columns"]
