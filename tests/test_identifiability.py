"""What rows can see of a network: different networks of one function on them, and the one form they share."""

import numpy as np
import pytest
import torch

from sparelu.identifiability import identifiability, visible
from sparelu.networks.network import Network


def _equal(a: Network, b: Network) -> bool:
    a, b = a.oriented(1e-6), b.oriented(1e-6)
    return all(torch.equal(p.indices, q.indices) for p, q in zip(a.layers, b.layers, strict=True))


@pytest.mark.parametrize(
    ("twin", "collinear", "antipodal"),
    [((0.5, 1.0, 0.0), 1, 0), ((-3.0, -6.0, 0.0), 0, 1), ((1.0, 1.0, 0.0), 0, 0)],
)
def test_networks_of_one_function_share_the_canonical_form(twin, collinear: int, antipodal: int) -> None:
    """Collinear neurons share their weights in any way: two planted networks, one function, one canonical form."""
    w = np.array([[1.0, 2.0, 0.0], list(twin), [0.0, 0.0, 1.0]])
    net = Network.two_layer(w, np.ones(3))
    found = identifiability(net)
    assert (found.collinear, found.antipodal) == (collinear, antipodal)
    if collinear:
        other = Network.two_layer(w * np.array([[1.2], [0.6], [1.0]]), np.ones(3))
        x = np.random.default_rng(0).standard_normal((100, 3))
        np.testing.assert_allclose(other(x).numpy(), net(x).numpy())
        assert other.canonical().hidden == net.canonical().hidden == (2,)


def test_two_antipodal_pairs_leave_a_linear_part_that_moves_between_them() -> None:
    """x_0 = (x_0)_+ - (-x_0)_+: weights of either sign of one kink differ by a linear function."""
    x = np.random.default_rng(1).standard_normal((50, 2))
    a = Network.two_layer(np.array([[2.0, 0], [-1.0, 0], [1.0, 1], [-1.0, -1]]), np.array([1.0, 1, 1, 1]))
    b = Network.two_layer(np.array([[3.0, 0], [1.0, 1], [-2.0, -2], [0, 1.0], [0, -1.0]]), np.array([1.0, 0, 1, 1, -1]))
    left = a(x).numpy() - b(x).numpy()
    fit = np.linalg.lstsq(x, left, rcond=None)[0]
    np.testing.assert_allclose(x @ fit, left, atol=1e-12)
    assert a.oriented().hidden == b.oriented().hidden


def test_neurons_that_no_row_crosses_are_an_affine_part() -> None:
    """Active everywhere, silent everywhere, one input of two values; the fourth neuron alone is seen."""
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.uniform(0, 1, (400, 3)), rng.integers(0, 2, 400)])
    w = np.array([[1.0, 0.5, 0, 0], [-1.0, 0, -1, 0], [0, 0, 0, 2.0], [1.0, -1, 0, 0]])
    net = Network.two_layer(w, np.array([1.0, 2, -1, 1]), np.array([0.1, 0.0, -1, 0]))
    seen = visible(net, x)
    assert seen.hidden == (1,)
    np.testing.assert_allclose(seen(x).numpy(), net(x).numpy(), atol=1e-12)
    far = np.array([[-5.0, -5, -5, 3]])
    assert abs(float(seen(far)) - float(net(far))) > 1


def test_a_network_that_rows_cross_is_seen_whole() -> None:
    rng = np.random.default_rng(3)
    net = Network.two_layer(rng.standard_normal((3, 4)), rng.standard_normal((2, 3)), rng.standard_normal(3))
    seen, x = visible(net, rng.standard_normal((500, 4))), rng.standard_normal((50, 4))
    assert _equal(seen, net)
    assert float((seen(x) - net(x)).abs().max()) < 1e-9


def test_depth_is_refused() -> None:
    net = Network.two_layer(np.ones((1, 2)), np.ones(1))
    deep = Network((net.layers[0], net.layers[1], net.layers[1]))
    with pytest.raises(ValueError, match="one hidden layer"):
        visible(deep, np.zeros((1, 2)))


def test_a_kink_that_too_few_rows_lie_beyond_is_not_seen() -> None:
    """Two rows decide weight and bias of any input: three tell which it is."""
    x = np.column_stack([np.arange(10.0), np.random.default_rng(4).standard_normal((10, 2))])
    for start, neurons in ((6.5, 1), (7.5, 0)):
        net = Network.two_layer(np.array([[1.0, 0, 0]]), np.ones(1), np.array([-start]))
        assert visible(net, x).hidden == (neurons,)
