"""Could the support that was found be recovered from data? See :mod:`sparelu.identifiability`."""

from dataclasses import dataclass

import numpy as np

from sparelu.certify.premises import width_reason
from sparelu.data import Data
from sparelu.identifiability import PAPER, condition, unsuited
from sparelu.method import Certifier, setting
from sparelu.networks.network import Network
from sparelu.outcome import Certificate


@dataclass(frozen=True)
class Recovered(Certifier):
    """Bound the condition number beta/alpha of the support under standard normal inputs, and what it needs to hold on
    the data.

    On the canonical form: one generator for each +- pair, the linear part apart. Departs from the paper, whose
    constants are not stated: the population Gram matrix is computed, not bounded.

    Use it after recovery, for inputs that are about standard normal.

    Not for networks trained on images or tables, whose inputs violate its premises.
    """

    delta: float = setting(0.01, "probability with which the sample-size condition may fail", above=0, below=1)

    name = "recovered"
    question = "certify"
    paper = PAPER

    def refuses(self, network: Network, data: Data | None) -> str | None:
        return unsuited(network) or width_reason(network, data)

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        return condition(network, data, self.delta)
