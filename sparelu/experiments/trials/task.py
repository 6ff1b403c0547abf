"""What a sweep can run: anything described by plain values that comes to one row."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np

from sparelu.experiments.trials.run_folder import canonical_json
from sparelu.runtime.resources import Meter

Row = dict[str, Any]


class Task(ABC):
    """One row to be: a :class:`~sparelu.experiments.trials.trial.Trial`, or the :class:`Call` of any measured
    function.
    """

    device: str

    @abstractmethod
    def request(self) -> dict[str, Any]:
        """Return what is asked, as JSON values; what is at its default may be left out."""

    @abstractmethod
    def address(self) -> dict[str, Any]:
        """Return what the row is found by, as JSON values: two tasks of one address have the same result."""

    @abstractmethod
    def seeds(self) -> dict[str, int]:
        """Return the seeds by what they decide."""

    @abstractmethod
    def data_changed(self, kept: str | None) -> str:
        """Return how the data differ from those of a row with the digest ``kept``, in words; empty where they do not.

        Raises what reading the data raises.
        """

    @abstractmethod
    def outcome(self) -> Row:
        """Run it. Raises :class:`~sparelu.method.Refusal` when it does not apply, anything else when it fails."""


@dataclass(frozen=True)
class Call(Task):
    """A measured function ``function(**settings) -> dict`` of JSON values, in the study called ``name``.

    The function is called by its keyword arguments; the row has them all in ``trial``, what it returned in
    ``measured``, and its seconds and peak memory.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def request(self) -> dict[str, Any]:
        """Return the study and all settings, the function's defaults among them."""
        return {"study": self.name, "settings": {**self._defaults(), **self.settings}}

    def address(self) -> dict[str, Any]:
        """Return the study and the settings that are not at the function's default."""
        default = self._defaults()
        changed = {
            k: v for k, v in self.settings.items() if canonical_json(v) != canonical_json(default.get(k, object()))
        }
        return {"study": self.name, "settings": changed}

    def _defaults(self) -> dict[str, Any]:
        given = signature(self.function).parameters.values()
        return {p.name: p.default for p in given if p.default is not p.empty}

    def seeds(self) -> dict[str, int]:
        """Return the setting ``seed``, where there is one."""
        return {"seed": self.settings["seed"]} if "seed" in self.settings else {}

    def data_changed(self, kept: str | None) -> str:
        """Return empty: the settings say all."""
        return ""

    def outcome(self) -> Row:
        """Call the function. Raises ``TypeError`` when it returns what JSON does not know."""
        meter = Meter()
        with meter.running():
            found = self.function(**self.settings)
        measured = json.loads(json.dumps(dict(found), default=_number))
        costs = {"seconds": meter.seconds, "peak_memory": meter.peak_memory}
        return {"measured": measured, "status": "measured", **costs}


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row is made of JSON values, not of {type(value).__name__}: turn {value!r:.60} into numbers")
