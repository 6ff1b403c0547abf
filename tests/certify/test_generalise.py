"""Complexities against exact ones (all signs, exact suprema) and Monte Carlo; certificates against fresh rows."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparelu.certify.complexity import (
    Chain,
    Complexity,
    energies,
    golowich,
    graph_complexity,
    operator_norm,
    partitions,
    path_norm,
)
from sparelu.certify.generalise import BOUNDS, Generalise, bounds, margin_loss
from sparelu.certify.unrolled import unroll
from sparelu.data import Data
from sparelu.networks.network import Layer, Network
from sparelu.run import certify


def singles(network: Network, x: np.ndarray, whole: bool = False) -> Complexity:
    """The graph bound, all units single (the bound for sparse graphs) or layers whole."""
    chain = Chain.of(network)
    groups = tuple(np.zeros(w.shape[0], dtype=int) if whole else np.arange(w.shape[0]) for w in chain.weights[:-1])
    return graph_complexity(chain, energies([x], chain.constant), len(x), groups)


def unit(network: Network, x: np.ndarray, whole: bool = False) -> float:
    """Its value at scale 1."""
    return singles(network, x, whole).unit


def signs(m: int) -> np.ndarray:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=m)))


def single_input_sup(xi: np.ndarray, column: np.ndarray) -> np.ndarray:
    """sup over |w| <= 1 of |sum_i xi_i relu(w x_i)| for one input: attained at w = 1 or w = -1."""
    return np.maximum(np.abs(xi @ np.maximum(column, 0)), np.abs(xi @ np.maximum(-column, 0)))


def two_input_sup(xi: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """The same for two inputs, exactly: between angles at which some w.x_i = 0 the sum is w.u for one u."""
    angles = np.sort(
        (np.arctan2(pair[:, 1], pair[:, 0])[:, None] + np.array([0.5, -0.5]) * np.pi).ravel() % (2 * np.pi)
    )
    ends = np.append(angles, angles[0] + 2 * np.pi)
    best = np.zeros(len(xi))
    for left, right in itertools.pairwise(ends):
        middle = 0.5 * (left + right)
        active = pair @ [np.cos(middle), np.sin(middle)] > 0
        u = xi @ (pair * active[:, None])
        for flipped in (u, -u):
            at = np.arctan2(flipped[:, 1], flipped[:, 0])
            inside = (at - left) % (2 * np.pi) <= right - left
            edge = np.maximum(
                *(flipped @ np.array([np.cos(t), np.sin(t)]) for t in (left, right)),
            )
            best = np.maximum(best, np.where(inside, np.linalg.norm(flipped, axis=1), edge))
    return best


def exact_shallow(network: Network, x: np.ndarray) -> float:
    """Exact complexity of {sum_j v_j relu(w_j.x): |v| <= 1, |w_j| <= 1, supports of ``network``}, all sign vectors.

    The supremum over v is the root of the sum of squares of the suprema of the units.
    """
    xi = signs(len(x))
    total = np.zeros(len(xi))
    for row in network.layers[0].dense().numpy():
        read = np.flatnonzero(row)
        total += (single_input_sup(xi, x[:, read[0]]) if len(read) == 1 else two_input_sup(xi, x[:, read])) ** 2
    return float(np.sqrt(total).mean()) / len(x)


def printed(network: Network, x: np.ndarray) -> float:
    """The printed form at scale 1: no fan-in of the top layer, in both of its variants the larger one.

    sqrt(max_p sum_i x_ip^2) times the root of the fan-ins below the top, times 2 sqrt 2 (1 + sqrt(2 L log k_max)).
    """
    degrees = [int(layer.indptr.diff().max()) for layer in network.layers[:-1]]
    size = math.sqrt(float((x**2).sum(axis=0).max()) * math.prod(degrees))
    return 2 * math.sqrt(2) * size * (1 + math.sqrt(2 * len(network.layers) * math.log(max(degrees)))) / len(x)


def test_two_input_sup_is_the_largest_over_directions() -> None:
    rng = np.random.default_rng(0)
    pair, xi = rng.standard_normal((9, 2)), signs(9)[:200]
    t = np.linspace(0, 2 * np.pi, 20001)
    sampled = np.abs(xi @ np.maximum(pair @ np.stack([np.cos(t), np.sin(t)]), 0)).max(axis=1)
    found = two_input_sup(xi, pair)
    assert (found >= sampled - 1e-12).all()
    assert np.allclose(found, sampled, rtol=1e-3)


def test_without_the_top_fan_in_it_is_no_bound() -> None:
    """One-by-one filters and a top layer over 400 non-negative pixels: the printed form is below the exact value."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (12, 400))
    network = Network.from_dense([np.eye(400), np.ones((1, 400))])
    exact = exact_shallow(network, x)
    assert printed(network, x) < 0.6 * exact
    assert exact <= unit(network, x)


def test_constant_filters_pass_the_printed_form() -> None:
    """CONV-3 on constant images: constant filters alone reach more than the printed form, and less than the bound."""
    rng = np.random.default_rng(2)
    parts = [part for _ in range(3) for part in (torch.nn.Conv2d(1, 1, 2, bias=False), torch.nn.ReLU())]
    head = torch.nn.Linear(625, 1, bias=False)
    network = unroll(torch.nn.Sequential(*parts, torch.nn.Flatten(), head), (1, 28, 28))
    c = rng.uniform(0, 1, 1000)
    x = np.repeat(c[:, None], 784, axis=1)
    # filters of entries 1/2 double a constant image, top weights 1/25 on 625 pixels multiply by 25
    reached = 2**3 * 25 * np.abs(rng.choice([-1.0, 1.0], (2000, 1000)) @ c).mean() / 1000
    official = 2 * math.sqrt(2) * math.sqrt(float((c**2).sum())) * 2**3 * (1 + math.sqrt(8 * math.log(4))) / 1000
    assert official < reached <= unit(network, x)


@pytest.mark.parametrize("inputs", [1, 2])
def test_exact_complexity_is_below_the_bound_on_random_graphs(inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    for _ in range(50):
        d, h, m = rng.integers(3, 9), rng.integers(1, 8), 9
        weight = np.zeros((h, d))
        for row in weight:
            row[rng.choice(d, inputs, replace=False)] = 1.0
        network = Network.from_dense([weight, np.ones((1, h))])
        x = rng.standard_normal((m, d))
        exact = exact_shallow(network, x)
        assert exact <= unit(network, x)
        assert exact <= unit(network, x, whole=True) * math.sqrt(h)  # |W|_F <= sqrt h in this class


def test_monte_carlo_of_three_layers_is_below_the_bound() -> None:
    """A lower bound of the complexity: the best of many networks in the class for each sign vector."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        masks = [rng.random((5, 4)) < 0.5, rng.random((5, 5)) < 0.5, rng.random((1, 5)) < 0.7]
        for mask in masks:
            mask[:, 0] = True
        x = rng.standard_normal((10, 4))
        values = []
        for _ in range(200):
            h = x
            for mask in masks[:-1]:
                w = mask * rng.standard_normal(mask.shape)
                h = np.maximum(h @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T, 0)
            values.append(h[:, masks[-1][0]])
        xi = rng.choice([-1.0, 1.0], (100, 10))
        lower = np.mean([max(np.linalg.norm(s @ v) for v in values) for s in xi]) / 10
        assert lower <= unit(Network.from_dense([m.astype(float) for m in masks]), x)


def random_network(rng: np.random.Generator, sizes: tuple[int, ...], density: float, bias: bool = True) -> Network:
    weights = [rng.standard_normal((b, a)) * (rng.random((b, a)) < density) for a, b in itertools.pairwise(sizes)]
    return Network.from_dense(weights, [rng.standard_normal(b) for b in sizes[1:]] if bias else None)


def best(network: Network, x: np.ndarray) -> float:
    chain = Chain.of(network)
    energy = energies([x], chain.constant)
    return min(graph_complexity(chain, energy, len(x), g).value for g in partitions(chain))


def test_never_above_golowich_on_100_sparse_graphs() -> None:
    rng = np.random.default_rng(4)
    for i in range(100):
        network = random_network(
            rng, [(8, 6, 1), (5, 7, 6, 3), (6, 20, 20, 20, 1)][i % 3], rng.uniform(0.1, 1), i % 2 == 0
        )
        x = rng.standard_normal((30, network.inputs))
        chain = Chain.of(network)
        assert best(network, x) <= golowich(chain, energies([x], chain.constant), 30).value * (1 + 1e-12)


def test_one_unit_per_layer_is_golowich_with_one_layer_less() -> None:
    rng = np.random.default_rng(5)
    network = Network.from_dense([rng.standard_normal((1, 4)), np.array([[2.0]]), np.array([[-3.0]])])
    x = rng.standard_normal((20, 4))
    norms = float(np.linalg.norm(network.layers[0].dense())) * 6
    expected = norms * (1 + math.sqrt(4 * math.log(2))) * math.sqrt((x**2).sum()) / 20
    assert np.isclose(best(network, x), expected)


def test_rescaling_permuting_and_removing() -> None:
    rng = np.random.default_rng(6)
    network = random_network(rng, (6, 9, 7, 2), 0.5, bias=False)
    x = rng.standard_normal((25, 6))
    w = [layer.dense().numpy() for layer in network.layers]
    scale, order = rng.uniform(0.1, 10, 9), rng.permutation(7)
    moved = Network.from_dense([w[0] * scale[:, None], (w[1] / scale)[order], w[2][:, order]])
    before = singles(network, x)
    assert np.isclose(singles(moved, x).value, before.value)
    for _ in range(20):
        fewer = [a.copy() for a in w]
        layer = fewer[rng.integers(3)]
        layer[tuple(v[0] for v in rng.permuted(np.array(np.nonzero(layer)), axis=1)[:, :1])] = 0
        less = singles(Network.from_dense(fewer), x)
        assert less.unit <= before.unit * (1 + 1e-12)
        assert less.scale <= before.scale * (1 + 1e-12)


def test_path_norm_is_a_sum_over_paths() -> None:
    rng = np.random.default_rng(7)
    network = random_network(rng, (3, 4, 2, 1), 0.8, bias=False)
    a, b, c = (np.abs(layer.dense().numpy()) for layer in network.layers)
    paths = sum(a[j, p] * b[k, j] * c[0, k] for p in range(3) for j in range(4) for k in range(2))
    found = path_norm(Chain.of(network), energies([rng.standard_normal((5, 3))], False), 5)
    assert np.isclose(found.scale, paths)


def test_operator_norm_is_never_too_small() -> None:
    from scipy import sparse

    rng = np.random.default_rng(8)
    for shape in ((5, 9), (9, 5), (2100, 2050)):
        w = sparse.random_array(shape, density=0.01 if shape[0] > 100 else 0.7, random_state=rng, format="csr")
        assert operator_norm(w) >= sparse.linalg.svds(w.tocsc(), k=1, return_singular_vectors=False)[0] * (1 - 1e-9)


def test_margin_losses_by_hand() -> None:
    network = Network((Layer.from_dense(np.eye(3)),))
    x = np.array([[3.0, 1.0, 0.0], [0.0, 0.5, 0.25], [0.0, 0.0, 4.0]])
    labels = Data(x, np.array([0, 1, 0]), "classification", classes=("a", "b", "c"))
    assert np.isclose(margin_loss(network, labels, 1.0), (0 + 0.75 + 1) / 3)
    line = Network((Layer.from_dense([[2.0]]),))
    targets = Data(np.array([[1.0], [2.0]]), np.array([1.5, 9.0]))
    assert np.isclose(margin_loss(line, targets, 2.0), (0.25 + 1) / 2)
    two = Data(np.array([[1.0], [-0.25]]), np.array([1, 0]), "classification")
    assert np.isclose(margin_loss(line, two, 2.0), (0 + 0.75) / 2)


def test_certificate_holds_on_fresh_rows_and_is_not_always_vacuous() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((200_000, 2)) / 10
    data = Data(x, (x[:, 0] > 0).astype(int), "classification")
    network = Network.two_layer(np.array([[1.0, 0], [-1, 0]]), np.array([1.0, -1.0]))
    claim = certify(Generalise(margin=0.02, support="fixed"), network, data)
    fresh = rng.standard_normal((100_000, 2)) / 10
    error = float(((network(fresh)[:, 0] > 0).numpy() != (fresh[:, 0] > 0)).mean())
    assert error <= claim.value < 1
    assert not claim.vacuous
    small = data.take(np.arange(100))
    assert certify(Generalise(margin=0.02), network, small).vacuous


def test_every_bound_has_a_row_and_a_price() -> None:
    rng = np.random.default_rng(10)
    network = random_network(rng, (4, 6, 3), 0.6)
    data = Data(rng.standard_normal((50, 4)), rng.integers(0, 3, 50), "classification")
    fixed, searched = (bounds(network, data, 1.0, 0.01, s) for s in (False, True))
    assert {b.name for b in fixed} == set(BOUNDS)
    dearer = {a.name for a, b in zip(fixed, searched, strict=True) if b.gap > a.gap}
    assert dearer == {"graph"}
    for name in BOUNDS:
        assert name in certify(Generalise(bound=name), network, data).claim


def test_a_million_weights_have_a_finite_complexity_above_that_of_fewer() -> None:
    rng = np.random.default_rng(11)
    sizes, layers = (2000, 4000, 4000, 10), []
    for a, b in itertools.pairwise(sizes):
        n = min(a * b, 500_000)
        layers.append(
            Layer.from_triplets((b, a), rng.integers(b, size=n), rng.integers(a, size=n), rng.standard_normal(n))
        )
    network = Network(tuple(layers))
    assert network.nonzeros > 9e5
    chain = Chain.of(network)
    energy = np.ones(2000)
    groups = tuple(np.arange(w.shape[0]) for w in chain.weights[:-1])
    whole = graph_complexity(chain, energy, 1000, groups)
    halved = replace(chain, weights=tuple(0.5 * w for w in chain.weights))
    half = graph_complexity(halved, energy, 1000, groups)
    assert 0 < half.value < whole.value < np.inf
    assert half.unit == pytest.approx(whole.unit)
