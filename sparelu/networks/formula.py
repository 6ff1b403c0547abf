"""What a network computes as a formula that can be written down: sums of inputs and of hinges max(0, sum).

A hinge max(0, c s) with c > 0 is c max(0, s): inside, the largest factor is brought to 1 or -1, so that a hinge of one
input shows the value at which it bends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sparelu.networks.network import Network

TERMS = 200
"""Terms of a formula at most; what is longer is no reading matter."""


@dataclass(frozen=True)
class Sum:
    """Represent ``constant`` + factor * value + ...; a value is the number of an input, or a Sum below a hinge."""

    constant: float
    terms: tuple[tuple[float, "int | Sum"], ...]

    @property
    def length(self) -> int:
        """Count the terms, those of inner sums too."""
        return sum(1 if isinstance(value, int) else value.length for _, value in self.terms)


@dataclass(frozen=True)
class Notation:
    """Hold how a language writes numbers, hinges (``{}`` is what stands in one) and products."""

    number: Callable[[float], str]
    hinge: str
    times: str


WORDS = Notation(lambda value: f"{value:.4g}", "max(0, {})", " ")


def network_formulas(network: Network) -> tuple[Sum, ...]:
    """Return the formula of each output.

    Neurons that several read are written at each of them. Raises ``ValueError`` above :data:`TERMS` terms.
    """
    net = network.to(torch.float64, "cpu").compact()
    values: list[int | Sum] = list(range(net.inputs))
    sums: list[Sum] = []
    for i, layer in enumerate(net.layers):
        rows: dict[int, list[tuple[float, int | Sum]]] = {}
        for row, column, weight in zip(
            layer.outputs_of_values.tolist(), layer.indices.tolist(), layer.values.tolist(), strict=True
        ):
            rows.setdefault(row, []).append((weight, values[column]))
        bias = layer.dense_bias().tolist()
        sums = [_joined(Sum(bias[row], tuple(rows.get(row, ())))) for row in range(layer.shape[0])]
        if sum(one.length for one in sums) > TERMS:
            raise ValueError(f"a formula of this network has more than {TERMS} terms")
        values = list(sums) if i + 1 < len(net.layers) else values
    return tuple(sums if net.skip is None else _with_skip(sums, net))


def _with_skip(sums: Sequence[Sum], net: Network) -> list[Sum]:
    """Add the affine part, before the hinges."""
    assert net.skip is not None
    bias, rows = net.skip.dense_bias().tolist(), net.skip.outputs_of_values.tolist()
    own: list[list[tuple[float, int | Sum]]] = [[] for _ in sums]
    for row, column, weight in zip(rows, net.skip.indices.tolist(), net.skip.values.tolist(), strict=True):
        own[row].append((weight, column))
    return [Sum(one.constant + bias[i], (*own[i], *one.terms)) for i, one in enumerate(sums)]


def _joined(given: Sum) -> Sum:
    """Bring the hinges that a sum reads to scale; those that are constant join its constant."""
    constant = given.constant
    terms: list[tuple[float, int | Sum]] = []
    for factor, value in given.terms:
        if isinstance(value, int):
            terms.append((factor, value))
        elif not value.terms:
            constant += factor * max(0.0, value.constant)
        else:
            top = max(abs(weight) for weight, _ in value.terms)
            inner = tuple((weight / top, inside) for weight, inside in value.terms)
            terms.append((factor * top, Sum(value.constant / top, inner)))
    return Sum(constant, tuple(terms))


def write_formula(formula: Sum, inputs: Sequence[str], notation: Notation = WORDS) -> str:
    """Write a formula with the names, or the expressions, of the ``inputs``: ``22.1 + 3.4 max(0, rooms - 6.2)``."""
    return _written(formula, inputs, notation, constant_first=True)


def _written(formula: Sum, inputs: Sequence[str], notation: Notation, constant_first: bool) -> str:
    parts = [_term(factor, value, inputs, notation) for factor, value in formula.terms]
    constant = [(formula.constant < 0, notation.number(abs(formula.constant)))] if formula.constant or not parts else []
    first = constant_first or (formula.constant > 0 and bool(parts) and parts[0][0])  # 2 - age, not -age + 2
    parts = [*constant, *parts] if first else [*parts, *constant]
    text = "".join(f" {'-' if negative else '+'} {part}" for negative, part in parts)
    return text[3:] if text.startswith(" +") else f"-{text[3:]}"


def _term(factor: float, value: int | Sum, inputs: Sequence[str], notation: Notation) -> tuple[bool, str]:
    """Return whether a term is subtracted, and what is."""
    if isinstance(value, int):
        what = inputs[value]
    else:
        what = notation.hinge.format(_written(value, inputs, notation, constant_first=False))
    number = notation.number(abs(factor))
    return factor < 0, what if number in ("1", "1.0") else f"{number}{notation.times}{what}"
