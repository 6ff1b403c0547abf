"""Compression in closed form: the best frame for the part of a network that does not depend on directions."""

from dataclasses import dataclass

import numpy as np

from sparelu.compress.bounds import lower_bound, rest_energy
from sparelu.compress.frames import InvariantTarget, build_frame, optimum
from sparelu.compress.shallow import distance_certificate, fits, from_two_layer, shallow_reason, two_layer, unchanged
from sparelu.data import Budget, Data
from sparelu.gaussian import inner, squared_norm
from sparelu.method import Compressor
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate


@dataclass(frozen=True)
class Simplex(Compressor):
    """Replace a scalar network without biases by the best frame for its invariant part.

    Use it for a network with one output and no biases, for inputs that are about standard normal.

    Not for trained networks on rows of their own: ``population`` fits those rows too.
    """

    name = "simplex"
    question = "compress"
    paper = "Amani, Bombari, Mondelli, Pukdee, Rini, Sharp asymptotics on the compression of two-layer networks, 2022"

    def refuses(self, network: Network, budget: Budget, data: Data | None) -> str | None:
        reason = shallow_reason(network, budget)
        if reason is not None or fits(network, budget):
            return reason
        if network.outputs != 1 or network.biases or network.skip is not None:
            return "the closed form is for one output without biases or affine part: use `population`"
        try:
            optimum(InvariantTarget.of(two_layer(network)), budget.hidden[0])
        except ValueError as error:
            return str(error)
        return None

    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        if fits(network, budget):
            return unchanged(network, budget)
        target, m = two_layer(network), budget.hidden[0]
        invariant = InvariantTarget.of(target)
        student = build_frame(invariant, m, rng)
        energy = float(squared_norm(target))
        gap = max(energy + float(squared_norm(student) - 2 * inner(student, target)), 0.0)
        best = optimum(invariant, m)
        evidence = f"E[(f - f0)^2] = {rest_energy(target, energy):.3g} of E[f^2] = {energy:.3g}"
        assumption = Assumption("the weights point everywhere alike", "taken on trust", evidence)
        bound = lower_bound(target, m, energy)
        return from_two_layer(student, network), (
            distance_certificate(gap, energy, "standard normal inputs"),
            Certificate(
                f"predicted squared distance ({best.regime.value})",
                best.loss,
                "output^2",
                (assumption,),
                source=self.paper,
            ),
            Certificate(
                f"no {m} neurons with outputs of one sign come nearer",
                bound,
                "output^2",
                vacuous=bound <= 0,
                source="docs/simplex_proof.md",
            ),
        )
