"""The choice of a budget by cross-validation: the best mean loss, or the one-standard-error rule."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparelu.experiments.evaluate import Measurement
from sparelu.experiments.options import check_select


@dataclass(frozen=True)
class Validated:
    """A budget, its loss on each fold (folds,), and the settings that were fitted with.

    The loss is the share of wrong labels, or the mean squared error. ``reason`` says why there are no losses.
    """

    nonzeros: int
    losses: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    chosen: bool = False

    @property
    def loss(self) -> float:
        """Return mean over the folds; infinite where there are none."""
        return float(np.mean(self.losses)) if self.losses else math.inf

    @property
    def error(self) -> float:
        """Return standard error of the mean: standard deviation of the losses of k folds, divided by sqrt k."""
        return float(np.std(self.losses, ddof=1)) / math.sqrt(len(self.losses)) if len(self.losses) > 1 else 0.0

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "nonzeros": self.nonzeros,
            "loss": self.loss,
            "error": self.error,
            "losses": list(self.losses),
            "settings": dict(self.settings),
            "reason": self.reason,
            "chosen": self.chosen,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Validated":
        """Read from a :meth:`row`."""
        return cls(row["nonzeros"], tuple(row["losses"]), row["settings"], row["reason"], row["chosen"])


def choose_budget(curve: Iterable[Validated], select: str = "one-se") -> tuple[Validated, ...]:
    """Return the curve in the order of nonzeros, with one budget chosen.

    ``best`` takes the least mean loss (the smaller budget of equal ones); ``one-se`` the smallest budget whose mean
    loss is within one standard error, that of the best, of the least. Raises ``ValueError`` when no budget has a loss.

    Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3, who take the
    standard error over rows; we take that of the fold means, as Hastie, Tibshirani and Friedman, The Elements of
    Statistical Learning, 2009, section 7.10. A fold counts the same whatever its number of rows.
    """
    points = sorted(curve, key=lambda p: p.nonzeros)
    least = best(points)
    limit = least.loss + (least.error if check_select(select) == "one-se" else 0.0)
    taken = next(p for p in points if p.loss <= limit)
    return tuple(replace(p, chosen=p is taken) for p in points)


def best(curve: Sequence[Validated]) -> Validated:
    """Return the least mean loss; of equal ones the first. Raises ``ValueError`` when there is none."""
    scored = [p for p in curve if math.isfinite(p.loss)]
    if not scored:
        raise ValueError("no budget has a loss on the held-out folds: there is nothing to choose from")
    return min(scored, key=lambda p: p.loss)


def read_loss(measured: Measurement | Mapping[str, Any], task: str) -> float:
    """Return the loss of a measurement (or of its stored form): share of wrong labels, or mean squared error."""
    values = measured if isinstance(measured, Mapping) else vars(measured)
    return 1 - float(values["accuracy"]) if task == "classification" else float(values["mse"])


def loss_name(task: str) -> str:
    """Return what the loss of a task is called."""
    return "share of wrong labels" if task == "classification" else "mean squared error"
