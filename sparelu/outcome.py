"""What comes back: iterates of a fit, its status and solution, and certificates with their assumptions."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from torch import Tensor

from sparelu.columns import Columns
from sparelu.data import Budget, labels, probabilities
from sparelu.networks.formula import network_formulas, write_formula
from sparelu.networks.network import Network

State = Mapping[str, Any]
"""What a method needs to go on: nested mappings of tensors and JSON values, nothing else."""


@dataclass(frozen=True)
class Assumption:
    """One premise of a certificate: ``state`` is "checked", "violated" or "taken on trust", with its ``evidence``."""

    text: str
    state: str
    evidence: str = ""

    def __post_init__(self) -> None:
        if self.state not in ("checked", "violated", "taken on trust"):
            raise ValueError(f"an assumption is 'checked', 'violated' or 'taken on trust', got {self.state!r}")


@dataclass(frozen=True)
class Certificate:
    """A claim of ``value`` in ``unit`` about a network, under ``assumptions``; ``vacuous`` when it says nothing.

    ``data`` is the digest (:mod:`sparelu.digest`) of the rows that were at hand, empty where there were none.
    """

    claim: str
    value: float
    unit: str
    assumptions: tuple[Assumption, ...] = ()
    vacuous: bool = False
    source: str = ""
    data: str = ""

    @property
    def holds(self) -> bool:
        """Say whether no assumption is violated."""
        return all(a.state != "violated" for a in self.assumptions)


@dataclass(frozen=True)
class Iterate:
    """One round of a fit. ``network`` and ``state`` are called only when wanted, before the next round begins.

    ``progress`` rises to 1; ``loss`` is the training loss of the round; ``numbers`` are further figures for
    the history, ``certificates`` what the method proves of its network.
    """

    progress: float
    loss: float
    network: Callable[[], Network]
    state: Callable[[], State]
    numbers: Mapping[str, float] = field(default_factory=dict)
    certificates: Callable[[], tuple[Certificate, ...]] = tuple


class Status(Enum):
    """How a fit ended; the value says what to do next."""

    converged = "The method reached its own stopping rule."
    best_found = (
        "The best network that was found; the data do not prove that it is the right one. Its certificates say how far "
        "off it is and why: more rows, labels without noise, a larger budget or more cycles may settle it."
    )
    max_steps = "All rounds were used. Give more rounds or time if the loss was still falling."
    diverged = "The loss became infinite or NaN; the network returned is empty. Lower the step size or scale the data."
    interrupted = "Stopped from outside. Run the same command with --resume to go on."
    refused = "The method cannot serve these data or this budget; the reason is given with it."


@dataclass(frozen=True, eq=False)
class Solution:
    """A network, how it was found, and what is claimed of it.

    ``history`` has one row for each round (progress, loss, seconds, and the method's own figures). ``seconds`` is the
    method's time alone, ``peak_memory`` the bytes it added to the process. ``about`` describes data and circumstances.
    """

    network: Network
    status: Status
    method: str
    settings: Mapping[str, Any]
    budget: Budget
    seed: int
    within_budget: bool
    seconds: float = 0.0
    peak_memory: int = 0
    history: tuple[Mapping[str, float], ...] = ()
    certificates: tuple[Certificate, ...] = ()
    task: str = "regression"
    classes: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> Columns | None:
        """Return how the inputs are made of the columns of a table; None where they are read as they stand."""
        plain = self.about.get("columns")
        return None if plain is None else Columns.of(plain)

    def formula(self) -> dict[str, str]:
        """Write what the network computes, in the units of the data, numbers to four digits: of each output by name.

        Of two classes it is the logarithm of the odds of the second; of more, the score of each, of which the largest
        is predicted. Raises ``ValueError`` for a network of more than :data:`~sparelu.networks.formula.TERMS` terms.
        """
        names = [name if name.isidentifier() else f"[{name}]" for name in map(str, self.names)]
        names = names or [f"x{i}" for i in range(self.network.inputs)]
        written = [write_formula(one, names) for one in network_formulas(self.network)]
        return dict(zip(self.output_names, written, strict=True))

    def _repr_html_(self) -> str:
        """Say in a notebook what was found: the counts, how it ended and, where it is short, the formula."""
        net, status = self.network, html.escape(self.status.value)
        head = f"<b>{html.escape(self.method)}</b>: {net.nonzeros} nonzeros, {net.biases} biases. {status}"
        try:
            lines = [f"{html.escape(name)} = {html.escape(text)}" for name, text in self.formula().items()]
        except ValueError:
            return f"<p>{head}</p>"
        return f"<p>{head}</p>" + "".join(f"<p><code>{line}</code></p>" for line in lines)

    @property
    def output_names(self) -> list[str]:
        """Return what the outputs of the network are: the targets, the log odds of the second class, or scores."""
        target, count = str(self.about.get("target", "y")), self.network.outputs
        if self.task == "classification":
            return [f"log odds of {self.classes[1]}"] if count == 1 else [f"score of {label}" for label in self.classes]
        return [target] if count == 1 else [f"{target}{i}" for i in range(count)]

    def probabilities(self, x: Any) -> np.ndarray:
        """Return the probability of each class, in the order of ``classes``, for raw rows ``x`` (n, d): (n, k).

        Raises ``ValueError`` for a regression.
        """
        if self.task != "classification":
            raise ValueError("a regression has no classes, and so no probabilities of them")
        return probabilities(self.network(x).cpu().numpy())

    def predict(self, x: Any) -> np.ndarray:
        """Return predictions for raw rows ``x`` (n, d): labels (n,), numbers (n,), or (n, k) for several targets."""
        scores: Tensor = self.network(x)
        if self.task == "classification":
            return labels(scores, self.classes)
        return scores.cpu().numpy() if scores.shape[1] > 1 else scores[:, 0].cpu().numpy()
