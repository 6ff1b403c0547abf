"""Population constants against Monte Carlo and printed values; identifiability on cases made by hand."""

import numpy as np
import pytest

from sparelu.certify.recovered import Recovered
from sparelu.data import Data
from sparelu.identifiability import SupportColumns, extremes, identifiability
from sparelu.networks.network import Layer, Network
from sparelu.run import certify


def monte_carlo(s: SupportColumns, x: np.ndarray) -> np.ndarray:
    gated = (x @ s.generators.T + s.biases >= 0)[:, s.neuron] * x[:, s.coordinate]
    columns = np.column_stack([gated, x[:, s.linear]])
    return columns.T @ columns / len(x)


@pytest.mark.parametrize("biased", [False, True])
def test_gram_agrees_with_monte_carlo(biased: bool) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 5)) * (rng.random((4, 5)) < 0.6)
    w[0, 1] = 1.0
    skip = Layer.from_dense([[0.5, 0, 0, -1.0, 0]])
    network = Network.two_layer(w, np.ones(4), rng.standard_normal(4) if biased else None, skip=skip)
    s = SupportColumns.of(network)
    x = rng.standard_normal((400_000, s.generators.shape[1]))
    assert np.allclose(s.gram(), monte_carlo(s, x), atol=8e-3)


def test_condition_numbers_of_generic_generators() -> None:
    """k generic generators that share one coordinate, d = 100: about 1 + k for steps, far less for signs."""
    rng = np.random.default_rng(1)
    for k, step, sign in ((2, 2.9, 1.08), (5, 6.6, 1.29), (10, 15, 1.72), (20, 37, 2.8)):
        found = []
        for gate in ("step", "sign"):
            shared = SupportColumns(
                rng.standard_normal((k, 100)), np.zeros(k), np.arange(k), np.zeros(k, dtype=int), np.zeros(0, dtype=int)
            )
            alpha, beta = extremes(shared.gram(gate))
            found.append(beta / alpha)
        assert np.allclose(found, [step, sign], rtol=0.3)


def test_two_antipodal_pairs_are_dependent() -> None:
    w = np.array([[1.0, 0.5], [-1.0, -0.5], [0.3, -1.0], [-0.3, 1.0]])
    alpha, _ = extremes(SupportColumns.of(Network.two_layer(w, np.ones(4))).gram())
    assert alpha == 0
    alpha, _ = extremes(SupportColumns.of(Network.two_layer(w[:3], np.ones(3))).gram())
    assert alpha > 0


def test_pairs_are_counted() -> None:
    w = np.array([[1.0, 2, 0], [2, 4, 0], [-1, -2, 0], [0, 0, 1], [0, 0, -3], [1, 2, 1e-3]])
    found = identifiability(Network.two_layer(w, np.ones(6)))
    assert (found.collinear, found.antipodal) == (1, 3)
    shifted = identifiability(Network.two_layer(w, np.ones(6), np.array([1.0, 2, -1, 1, 1, 0])))
    assert (shifted.collinear, shifted.antipodal) == (1, 2)


def states(network: Network, data: Data | None) -> dict[str, str]:
    return {a.text.split(":")[0]: a.state for a in certify(Recovered(), network, data).assumptions}


def test_assumptions_are_checked_on_the_data() -> None:
    rng = np.random.default_rng(2)
    network = Network.two_layer(np.array([[1.0, 0.5, 0], [0, 1.0, -1.0]]), np.array([1.0, -1.0]))
    normal = Data(rng.standard_normal((500, 3)), rng.standard_normal(500))
    good = states(network, normal)
    assert good["inputs are standard normal"] == "checked"
    assert good["on the rows the columns of the support are independent"] == "checked"
    assert good["rows are enough"] == "taken on trust"
    uniform = Data(rng.uniform(-np.sqrt(3), np.sqrt(3), (5000, 3)), rng.standard_normal(5000))
    assert states(network, uniform)["inputs are standard normal"] == "violated"
    few = states(network, normal.take([0, 1, 2]))
    assert few["rows are enough"] == "violated"
    assert few["on the rows the columns of the support are independent"] == "violated"


def test_a_pair_is_one_generator_and_a_linear_part() -> None:
    """|x_0| + |x_1| through four neurons: the canonical form is identifiable though the network is not."""
    w = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    network = Network.two_layer(w, np.ones(4))
    claim = certify(Recovered(), network, None)
    assert claim.holds
    assert np.isfinite(claim.value)
    assert "2 antipodal" in claim.assumptions[0].evidence
    c = 1 / (2 * np.pi)  # E (x_0)_+ (x_1)_+; E (x)_+^2 = E (x)_+ x = 1/2
    values = np.linalg.eigvalsh([[0.5, c, 0.5, 0], [c, 0.5, 0, 0.5], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
    assert np.isclose(claim.value, values[-1] / values[0])


def test_deep_and_large_networks_are_refused() -> None:
    rng = np.random.default_rng(3)
    deep = Network.from_dense([np.ones((2, 3)), np.ones((2, 2)), np.ones((1, 2))])
    assert "one hidden layer" in (Recovered().refuses(deep, None) or "")
    wide = Network.two_layer(rng.standard_normal((200, 20)), np.ones(200))
    assert "too large" in (Recovered().refuses(wide, None) or "")
