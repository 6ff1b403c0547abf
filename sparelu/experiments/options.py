"""What may be asked of a fit, declared once: a field is an entry of a grid, a part of the address, and a flag.

Flags, their help and their defaults are made of these declarations (:mod:`sparelu.cli.options`). Nothing heavy is
imported here, so that a wrong wish is refused at once.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

from sparelu.budget import Budget
from sparelu.settings import SettingError, nearest

SELECT = ("one-se", "best")


@dataclass(frozen=True)
class Flag:
    """How a field is told on the command line: its ``help``, the ``default`` there, and a ``name`` unlike its own."""

    help: str
    default: Any
    name: str = ""


def option(default: Any, help: str, *, name: str = "", told: Any = None) -> Any:
    """Declare a field that is a flag too; ``told`` is the default of the command line where it is another one."""
    return dataclasses.field(default=default, metadata={"flag": Flag(help, default if told is None else told, name)})


@dataclass(frozen=True)
class TrialOptions:
    """What decides a result, as JSON values. ``standardise`` None: files are standardised, named data sets are not.

    With ``folds`` the training rows are cut into so many parts, and number ``fold`` takes the place of the test rows.
    """

    data: str = dataclasses.field(
        metadata={
            "flag": Flag(
                "A CSV, Parquet, NPY or NPZ file, or a name (see: sparelu datasets); parameters as "
                "name:key=value,key=value.",
                ...,
            )
        }
    )
    parameters: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    target: str | None = option(None, "The column to predict, by name or number.")
    drop: tuple[str, ...] = option((), "Columns that are not to be read, such as id,comment.")
    only: tuple[str, ...] = option((), "Columns to read, and no others.")
    task: str | None = option(None, "regression or classification; found from the target if not given.")
    method: str = option("auto", "A method (see: sparelu methods), or auto.")
    settings: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = option((100,), "Hidden widths, such as 100 or 300,100.")
    channels: tuple[int, ...] = option(
        (), "Of images: convolutions before the hidden layers, such as 16,32 (3 x 3, stride 2)."
    )
    nonzeros: int | None = option(None, "Weights allowed. One of these four.")
    density: float | None = option(None, "Share of the weights allowed.")
    sparsity: float | None = option(None, "Share of the weights that must be zero.")
    compression: float | None = option(None, "All weights divided by those allowed.")
    seed: int = option(0, "Decides everything random.")
    test_fraction: float = option(0.2, "Rows kept for testing, where the source keeps none.")
    standardise: bool | None = option(None, "Scale inputs (default: files yes, named data no).")
    device: str = option("cpu", "auto, cpu or cuda.", told="auto")
    folds: int = 0
    fold: int = 0

    def request(self) -> dict[str, Any]:
        """Return the fields that are not at their default, as JSON values."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {f.name: given[f.name] for f in fields(self) if f.name == "data" or given[f.name] != _default(f)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}

    def budget(self) -> Budget:
        """Return the budget. Raises ``ValueError`` for two at once or one out of range."""
        four = {name: getattr(self, name) for name in ("nonzeros", "density", "sparsity", "compression")}
        return Budget(self.hidden, channels=self.channels, **four)


def _default(f: "dataclasses.Field[Any]") -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


@dataclass(frozen=True)
class BudgetChoice:
    """The choice of a budget by cross-validation: the ``budgets`` of nonzeros (none: as many as suit), and the rule."""

    budgets: tuple[int, ...] = option((), "Numbers of nonzeros to choose from, such as 50,100,200.")
    _: KW_ONLY
    folds: int = option(5, "Folds of the cross-validation.")
    select: str = option(
        "one-se", "one-se: the smallest budget whose mean loss is within a standard error of the least; or best."
    )


@dataclass(frozen=True, kw_only=True)
class Plan(BudgetChoice):
    """What is tuned: the ``budgets`` of nonzeros, and how.

    ``trials`` settings are fitted for each budget, the method's own (those of the base trial) first; 1 compares budgets
    alone and needs no Optuna. ``search`` maps settings to ranges
    (:func:`~sparelu.experiments.sweeps.search_space.search_space`). ``select`` is ``one-se`` or ``best``
    (:func:`~sparelu.experiments.trials.one_standard_error.choose_budget`). ``pruner`` (median, hyperband or none) stops
    poor settings after some of the folds.
    """

    trials: int = option(1, "Settings tried for each budget; above 1 wants the extra sparelu[search].")
    search: Mapping[str, str] = dataclasses.field(
        default_factory=dict,
        metadata={
            "flag": Flag(
                "A setting to search, NAME=LOW:HIGH, NAME=log:LOW:HIGH, NAME=A,B or NAME; may be repeated.", None
            )
        },
    )
    pruner: str = option("median", "Stops poor settings after some folds: median, hyperband or none.")

    def request(self) -> dict[str, Any]:
        """Return JSON values, as a run folder keeps them."""
        return {**vars(self), "budgets": list(self.budgets), "search": dict(self.search)}


def check_select(name: str) -> str:
    """Return the name of a rule. Raises :class:`~sparelu.settings.SettingError` for another."""
    if name not in SELECT:
        raise SettingError(f"--select must be one of {', '.join(SELECT)}, got {name!r}; {nearest(name, SELECT)}")
    return name
