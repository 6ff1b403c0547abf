"""Bounds of a pair of networks against attacks by gradient, corners, and exact cases; predictions against matrices."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from sparelu.certify.averaged import bound_product
from sparelu.certify.pairs import Inputs, bound_gap, product_of_norms
from sparelu.certify.pruned import Pruned, predicted_change, predicted_slope, without_smallest
from sparelu.data import Data
from sparelu.networks.network import Layer, Network
from sparelu.run import certify


def random_pair(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[Network, Network]:
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    biases = [0.3 * rng.standard_normal(b) for b in sizes[1:]]
    skip = Layer.from_dense(0.1 * rng.standard_normal((sizes[-1], sizes[0])))
    dense = Network(Network.from_dense(weights, biases).layers, skip)
    return dense, without_smallest(dense, rng.uniform(0.1, 0.7))


def attack(f: Network, g: Network, low: np.ndarray, high: np.ndarray, seed: int) -> tuple[float, float]:
    """Largest |f_k - g_k| and |f - g|_2 that projected gradient ascent from many starts finds in the box."""
    one, two = f.to_module(), g.to_module()
    lo, hi = torch.tensor(low), torch.tensor(high)
    start = torch.rand((40, len(low)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    best = [0.0, 0.0]
    for kind in range(2):
        x = (lo + start * (hi - lo)).requires_grad_()
        for step in range(30):
            d = one(x) - two(x)
            value = d.abs().amax(dim=1) if kind == 0 else d.norm(dim=1)
            best[kind] = max(best[kind], float(value.max().detach()))
            (grad,) = torch.autograd.grad(value.sum(), x)
            size = (hi - lo) * 0.3 * (1 - step / 30)
            x = torch.minimum(torch.maximum(x.detach() + size * grad.sign(), lo), hi).requires_grad_()
    return best[0], best[1]


def test_no_attack_passes_the_bound_on_100_pairs() -> None:
    rng = np.random.default_rng(0)
    for i in range(100):
        sizes = [(3, 6, 2), (4, 8, 8, 1), (5, 6, 5, 4, 3)][i % 3]
        f, g = random_pair(rng, sizes)
        centre, half = rng.standard_normal(sizes[0]), rng.uniform(0, 1) ** 2
        low, high = centre - half, centre + half
        bound = bound_gap(f, g, Inputs(low, high))
        largest, length = attack(f, g, low, high, i)
        assert largest <= bound.largest
        assert length <= bound.norm
        assert bound.norm <= product_of_norms(f, g, Inputs(low, high))


def test_signed_bounds_hold_at_random_points_of_a_ball() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        f, g = random_pair(rng, (4, 7, 6, 2))
        x = rng.standard_normal((500, 4))
        x = x / np.linalg.norm(x, axis=1, keepdims=True) * rng.uniform(0, 1.5, (500, 1))
        bound = bound_gap(f, g, Inputs(np.full(4, -1.0), np.full(4, 1.0), 1.5))
        d = (f(np.clip(x, -1, 1)) - g(np.clip(x, -1, 1))).numpy()
        assert (d >= bound.low).all()
        assert (d <= bound.high).all()


def test_the_bound_is_exact_where_no_unit_switches() -> None:
    """On a small box about a point both networks are affine, and an affine gap is largest at a corner."""
    rng = np.random.default_rng(2)
    f, g = random_pair(rng, (3, 5, 4, 1))
    x = rng.standard_normal(3)
    corners = x + 1e-6 * np.array(list(itertools.product((-1, 1), repeat=3)))
    exact = float((f(corners) - g(corners)).abs().max())
    assert np.isclose(bound_gap(f, g, Inputs(x - 1e-6, x + 1e-6)).largest, exact, rtol=1e-9)


def test_one_neuron_is_exact() -> None:
    """relu(x) - relu(x / 2) on [-1, 1] lies in [0, 1/2]."""
    f, g = Network.two_layer([[1.0]], [1.0]), Network.two_layer([[0.5]], [1.0])
    found = bound_gap(f, g, Inputs(np.array([-1.0]), np.array([1.0])))
    assert found.high[0] >= 0.5
    assert np.isclose(found.largest, 0.5)


def test_equal_networks_have_no_gap() -> None:
    rng = np.random.default_rng(3)
    f, _ = random_pair(rng, (3, 5, 2))
    assert bound_gap(f, f, Inputs(-np.ones(3), np.ones(3))).norm < 1e-13


def test_different_widths_are_named() -> None:
    f, g = Network.two_layer(np.ones((2, 3)), np.ones(2)), Network.two_layer(np.ones((1, 3)), np.ones(1))
    with pytest.raises(ValueError, match="cannot be paired"):
        bound_gap(f, g, Inputs(-np.ones(3), np.ones(3)))


@pytest.mark.parametrize("method", ["random", "magnitude"])
def test_predicted_norms_are_met_within_a_tenth(method: str) -> None:
    rng = np.random.default_rng(4)
    d, q = 512, 0.05
    w = rng.uniform(-1, 1, (d, d)) * np.sqrt(3 / d)
    lost = rng.random((d, d)) < q if method == "random" else np.abs(w) < np.quantile(np.abs(w), q)
    assert np.isclose(np.linalg.norm(w * lost, 2), predicted_change(d, q, method), rtol=0.1)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("method", ["random", "magnitude"])
def test_predicted_slopes(method: str, alpha: float) -> None:
    """Within 0.03, means of two draws: one draw up to 512 strays by 0.1, as a row of it loses 5 entries."""
    rng = np.random.default_rng(5)
    sizes = np.array([64, 128, 256, 512, 1024])

    def change(d: int) -> float:
        w = rng.uniform(-1, 1, (d, d)) * np.sqrt(3 / d)
        q = d**-alpha
        lost = rng.random((d, d)) < q if method == "random" else np.abs(w) < np.quantile(np.abs(w), q)
        return float(svds(csr_array(w * lost), k=1, return_singular_vectors=False, random_state=0)[0])

    means = [np.mean([np.log(change(d)) for _ in range(2)]) for d in sizes]
    slope = np.polyfit(np.log(sizes), means, 1)[0]
    assert abs(slope - predicted_slope(alpha, method)) < 0.03


def test_prune_exactly_the_smallest() -> None:
    net = Network.from_dense([np.array([[3.0, -0.1, 2.0, 0.5], [0.2, 5.0, 1.0, 4.0]])], [np.ones(2)])
    small = without_smallest(net, 0.25)
    assert np.array_equal(small.layers[0].dense().numpy(), [[3, 0, 2, 0.5], [0, 5, 1, 4]])
    assert small.layers[0].dense_bias().tolist() == [1, 1]


def test_certificate_near_rows_is_tighter_than_in_the_box() -> None:
    rng = np.random.default_rng(6)
    net, _ = random_pair(rng, (4, 8, 1))
    data = Data(rng.standard_normal((100, 4)), rng.standard_normal(100))
    far, near = certify(Pruned(), net, data), certify(Pruned(radius=0.01), net, data)
    rows = float((net(data.x) - without_smallest(net, 0.1)(data.x)).abs().max())
    assert near.value <= far.value
    assert rows <= far.value
    assert Pruned(reference="no/such/file").refuses(net, data) is not None


def test_averaged_norms_hold_for_every_pattern_and_are_below_the_product() -> None:
    """All 0-1 diagonal matrices between three small factors, by enumeration."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        a, b, c = rng.standard_normal((3, 4)), rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
        rows, norm = bound_product([a, b, c])
        worst_rows, worst = np.zeros(2), 0.0
        for d in itertools.product((0.0, 1.0), repeat=7):
            whole = c @ np.diag(d[3:]) @ b @ np.diag(d[:3]) @ a
            worst_rows, worst = (
                np.maximum(worst_rows, np.linalg.norm(whole, axis=1)),
                max(worst, np.linalg.norm(whole, 2)),
            )
        assert (worst_rows <= rows).all()
        assert worst <= norm <= np.prod([np.linalg.norm(m, 2) for m in (a, b, c)])


def test_no_mixture_of_rows_passes_the_bound_on_their_hull_and_rows_alone_are_exact() -> None:
    rng = np.random.default_rng(11)
    for _ in range(20):
        f, g = random_pair(rng, (5, 9, 7, 3))
        rows = rng.standard_normal((6, 5)) * rng.uniform(0, 2) + rng.standard_normal(5)
        bound = bound_gap(f, g, Inputs.hull(rows))
        shares = np.vstack([np.eye(6), rng.dirichlet(np.full(6, 0.3), 300)])
        d = f(shares @ rows) - g(shares @ rows)
        assert (d.amax(dim=0).numpy() <= bound.high).all()
        assert (d.amin(dim=0).numpy() >= bound.low).all()
        assert float(d.norm(dim=1).max()) <= bound.norm
        box = Inputs(rows.min(axis=0), rows.max(axis=0), float(np.linalg.norm(rows, axis=1).max()))
        assert bound.norm <= bound_gap(f, g, box).norm * (1 + 1e-9)
        one = bound_gap(f, g, Inputs.hull(rows[:1]))
        assert one.norm == pytest.approx(float(d[0].norm()), rel=1e-6)


def test_certificates_on_groups_hold_on_all_rows_and_tighten_with_their_number() -> None:
    rng = np.random.default_rng(12)
    f, g = random_pair(rng, (3, 8, 6, 1))
    data = Data(rng.standard_normal((200, 3)), np.zeros(200))
    most = float((f(data.x) - without_smallest(f, 0.3)(data.x)).abs().max())
    values = [certify(Pruned(fraction=0.3, groups=k), f, data).value for k in (1, 16, 200)]
    assert most <= values[2] <= values[1] <= values[0]
    assert values[2] == pytest.approx(most, rel=1e-6)
