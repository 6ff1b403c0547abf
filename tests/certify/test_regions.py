"""Regions against sampling with bisection, rational arithmetic, and quadtrees: none of them uses the package."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from sparelu.certify.lines import TooManyRegions, find_pieces, restrict_to_line
from sparelu.certify.plane import enumerate_cells
from sparelu.certify.regions import Regions, on_segment, upper_bound
from sparelu.data import Data
from sparelu.networks.network import Layer, Network
from sparelu.run import certify


def random_network(rng: np.random.Generator, inputs: int, widths: tuple[int, ...], density: float = 0.7) -> Network:
    sizes = (inputs, *widths, 1)
    weights = [rng.standard_normal((b, a)) * (rng.random((b, a)) < density) for a, b in itertools.pairwise(sizes)]
    return Network.from_dense(weights, [rng.standard_normal(b) for b in sizes[1:]])


def gradients(network: Network, x: np.ndarray) -> np.ndarray:
    """Autograd of the scalar output at rows x, through the dense module."""
    points = torch.tensor(x, requires_grad=True)
    return torch.autograd.grad(network.to_module()(points).sum(), points, allow_unused=True)[0].numpy()


def counted_by_bisection(network: Network, low: float, high: float, grid: int = 1500) -> int:
    """Regions in one dimension from slopes on a grid; neighbours that differ are bisected until they are 1e-7 apart."""
    t = np.linspace(low, high, grid) + 1e-7 * np.sqrt(2)
    slope = gradients(network, t[:, None])[:, 0]
    left, right, ls, rs = t[:-1], t[1:], slope[:-1], slope[1:]
    while (right - left).max(initial=0.0) > 1e-7:
        differ = np.abs(ls - rs) > 1e-9 * (1 + np.abs(ls))
        left, right, ls, rs = left[differ], right[differ], ls[differ], rs[differ]
        if not left.size:
            break
        middle = 0.5 * (left + right)
        ms = gradients(network, middle[:, None])[:, 0]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        ls, rs = np.concatenate([ls, ms]), np.concatenate([ms, rs])
    return 1 + int((np.abs(ls - rs) > 1e-9 * (1 + np.abs(ls))).sum())


@pytest.mark.parametrize("widths", [(5,), (12,), (4, 4), (6, 5), (3, 4, 3)], ids=str)
def test_one_dimension_agrees_with_bisection(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(widths))
    for _ in range(60):
        network = random_network(rng, 1, widths)
        assert find_pieces(network, -3.0, 3.0).regions == counted_by_bisection(network, -3.0, 3.0)


@pytest.mark.parametrize("widths", [(8,), (6, 6)], ids=str)
def test_segments_agree_with_bisection(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        network = random_network(rng, 7, widths)
        a, b = rng.standard_normal((2, 7))
        assert on_segment(network, a, b) == counted_by_bisection(restrict_to_line(network, a, b - a), 0.0, 1.0)


@pytest.mark.slow
def test_a_thousand_networks_agree_with_bisection() -> None:
    rng = np.random.default_rng(9)
    for i in range(1000):
        d, widths = 1 + i % 6, [(6,), (15,), (5, 4), (7, 6), (4, 4, 4)][i % 5]
        a, b = 2 * rng.standard_normal((2, d))
        network = random_network(rng, d, widths)
        assert on_segment(network, a, b) == counted_by_bisection(restrict_to_line(network, a, b - a), 0.0, 1.0)


@pytest.mark.parametrize("widths", [(40,), (9, 8), (5, 6, 5)], ids=str)
def test_pieces_reproduce_the_function(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    network = random_network(rng, 1, widths)
    network = Network(network.layers, Layer.from_dense([[0.7]], [-0.2]))
    t = np.linspace(-4, 4, 1001)
    assert np.allclose(find_pieces(network)(t), network(t[:, None]).numpy(), rtol=1e-10, atol=1e-10)


def test_equal_and_opposite_neurons_are_one_knot_or_none() -> None:
    w, b, v = [1.0, 3.0, -2.0, 1.0, 1.0], [0.3, 0.9, -0.6, 0.0, 0.1], [1.0, 0.5, -1.0, 2.0, -1.0]
    network = Network.two_layer(np.array(w)[:, None], np.array(v), np.array(b))
    assert find_pieces(network).regions == 4  # -0.3 three times, with changes 1 + 1.5 - 2 = 0.5; 0; -0.1
    v[0] = 0.5  # 0.5 + 1.5 - 2 = 0: the kinks at -0.3 leave a line
    assert find_pieces(Network.two_layer(np.array(w)[:, None], np.array(v), np.array(b))).regions == 3


def test_silent_units_make_patterns_and_no_regions() -> None:
    first = np.array([[1.0], [1.0]])
    network = Network.from_dense([first, np.array([[-1.0, -1.0]]), np.ones((1, 1))], [[0.0, 1.0], [-1.0], [0.0]])
    assert find_pieces(network).regions == 1
    assert find_pieces(network, activation=True).regions == 3


def test_a_million_neurons() -> None:
    rng = np.random.default_rng(0)
    m = 10**6
    network = Network.two_layer(rng.standard_normal((m, 1)), rng.standard_normal(m), rng.standard_normal(m))
    found = find_pieces(network)
    assert found.regions == m + 1
    assert (np.diff(found.knots) > 0).all()


def exact_plane_count(w: np.ndarray, b: np.ndarray, side: int) -> int:
    """Faces of an arrangement of integer lines inside the square of half ``side``: Euler's relation on rationals.

    Distinct lines that meet the open square, plus for every crossing inside it the lines through it less one.
    """
    lines = set()
    for (p, q), c in zip(w.tolist(), b.tolist(), strict=True):
        if (p, q) == (0, 0):
            continue
        lead = Fraction(p) if p else Fraction(q)
        line = (Fraction(p) / lead, Fraction(q) / lead, Fraction(c) / lead)
        values = [line[0] * x + line[1] * y + line[2] for x in (-side, side) for y in (-side, side)]
        if min(values) < 0 < max(values):
            lines.add(line)
    through: dict[tuple[Fraction, Fraction], set] = {}
    for one, two in itertools.combinations(lines, 2):
        det = one[0] * two[1] - two[0] * one[1]
        if det == 0:
            continue
        x, y = (one[1] * two[2] - two[1] * one[2]) / det, (two[0] * one[2] - one[0] * two[2]) / det
        if max(abs(x), abs(y)) < side:
            through.setdefault((x, y), set()).update({one, two})
    return 1 + len(lines) + sum(len(s) - 1 for s in through.values())


@pytest.mark.parametrize("spread", [2, 50], ids=["concurrent", "generic"])
def test_two_dimensions_agree_with_rational_arithmetic(spread: int) -> None:
    rng = np.random.default_rng(spread)
    for _ in range(60):
        w, b = rng.integers(-spread, spread + 1, (8, 2)), rng.integers(-spread, spread + 1, 8)
        network = Network.two_layer(w.astype(float), np.ones(8), b.astype(float))
        found = enumerate_cells(network, np.array([-3.0, -3.0]), np.array([3.0, 3.0]))
        assert found.activation_regions == exact_plane_count(w, b, 3)
        assert np.isclose(found.areas.sum(), 36)


Affine = tuple[Fraction, Fraction, Fraction]


def exact_cut(polygon: list, a: Affine) -> list[list]:
    """The parts of a convex polygon on both sides of a line, in rationals; the polygon itself if it is not cut."""
    value = [a[0] * x + a[1] * y + a[2] for x, y in polygon]
    if not max(value) > 0 > min(value):
        return [polygon]
    parts: list[list] = [[], []]
    for i, p in enumerate(polygon):
        j = (i + 1) % len(polygon)
        for part, sign in zip(parts, (1, -1), strict=True):
            if sign * value[i] >= 0:
                part.append(p)
        if value[i] * value[j] < 0:
            t = value[i] / (value[i] - value[j])
            q = (p[0] + t * (polygon[j][0] - p[0]), p[1] + t * (polygon[j][1] - p[1]))
            parts[0].append(q)
            parts[1].append(q)
    return parts


def exact_deep_counts(weights: list[np.ndarray], biases: list[np.ndarray], side: int) -> tuple[int, int]:
    """Cells and regions of an integer network of two inputs in a square, every number a fraction."""
    s, zero, one = Fraction(side), Fraction(0), Fraction(1)
    cells_ = [([(-s, -s), (s, -s), (s, s), (-s, s)], [(one, zero, zero), (zero, one, zero)])]
    for w, b in zip(weights, biases, strict=True):
        last, found = w is weights[-1], []
        for polygon, below in cells_:
            units = [
                tuple(
                    sum(int(c) * f[k] for c, f in zip(row, below, strict=True)) + (int(d) if k == 2 else 0)
                    for k in range(3)
                )
                for row, d in zip(w, b, strict=True)
            ]
            parts = [polygon]
            for a in () if last else units:
                parts = [q for p in parts for q in exact_cut(p, a)]
            for p in parts:
                on = [last or max(a[0] * x + a[1] * y + a[2] for x, y in p) > 0 for a in units]
                found.append((p, [a if o else (zero,) * 3 for a, o in zip(units, on, strict=True)]))
        cells_ = found
    return len(cells_), joined(cells_)


def joined(found: list) -> int:
    """Components of cells that share an edge and a map."""
    parent, edges = list(range(len(found))), {}

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for k, (p, units) in enumerate(found):
        for i in range(len(p)):
            other = edges.setdefault(frozenset((p[i], p[(i + 1) % len(p)])), k)
            if other != k and found[other][1] == units:
                parent[root(k)] = root(other)
    return len({root(i) for i in range(len(found))})


def rescaled_units(weights: list[np.ndarray], biases: list[np.ndarray], rng: np.random.Generator) -> Network:
    """The same function with every hidden unit scaled by a random factor: coincidences hold up to rounding only."""
    w, b = [a.astype(float) for a in weights], [a.astype(float) for a in biases]
    for i in range(len(w) - 1):
        scale = np.exp(rng.standard_normal(len(w[i])))
        w[i], b[i], w[i + 1] = w[i] * scale[:, None], b[i] * scale, w[i + 1] / scale
    return Network.from_dense(w, b)


def integer_network(rng: np.random.Generator, inputs: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    sizes = [inputs, *rng.integers(1, 5, rng.integers(1, 4)).tolist(), 1]
    k = int(rng.integers(1, 4))
    return (
        [rng.integers(-k, k + 1, (b, a)) for a, b in itertools.pairwise(sizes)],
        [rng.integers(-k, k + 1, b) for b in sizes[1:]],
    )


def test_degenerate_deep_networks_agree_with_rational_arithmetic() -> None:
    """Small integers make concurrent lines, units that vanish on edges of cells, and kinks that cancel."""
    rng = np.random.default_rng(1)
    low, high = np.full(2, -3.0), np.full(2, 3.0)
    for _ in range(60):
        weights, biases = integer_network(rng, 2)
        exact = exact_deep_counts(weights, biases, 3)
        plain = Network.from_dense([w.astype(float) for w in weights], [b.astype(float) for b in biases])
        for network in (plain, rescaled_units(weights, biases, rng)):
            found = enumerate_cells(network, low, high)
            assert (found.activation_regions, found.regions) == exact


def exact_line_count(weights: list[np.ndarray], biases: list[np.ndarray], side: int) -> int:
    """Regions of an integer network of one input on (-side, side), every number a fraction."""
    parts = [((Fraction(-side), Fraction(side)), [(Fraction(1), Fraction(0))])]
    for w, b in zip(weights, biases, strict=True):
        found = []
        for (left, right), below in parts:
            units = [
                (
                    sum(int(c) * f[0] for c, f in zip(row, below, strict=True)),
                    sum(int(c) * f[1] for c, f in zip(row, below, strict=True)) + int(d),
                )
                for row, d in zip(w, b, strict=True)
            ]
            if w is weights[-1]:
                found.append(((left, right), units))
                continue
            ends = sorted({left, right, *(-c / a for a, c in units if a and left < -c / a < right)})
            for one, two in itertools.pairwise(ends):
                on = [a * (one + two) / 2 + c > 0 for a, c in units]
                found.append(((one, two), [u if o else (Fraction(0),) * 2 for u, o in zip(units, on, strict=True)]))
        parts = found
    return 1 + sum(a[1] != b[1] for a, b in itertools.pairwise(parts))


def test_degenerate_lines_agree_with_rational_arithmetic() -> None:
    rng = np.random.default_rng(2)
    for _ in range(150):
        weights, biases = integer_network(rng, 1)
        exact = exact_line_count(weights, biases, 5)
        plain = Network.from_dense([w.astype(float) for w in weights], [b.astype(float) for b in biases])
        for network in (plain, rescaled_units(weights, biases, rng)):
            assert find_pieces(network, -5.0, 5.0).regions == exact


def counted_by_quadtree(network: Network, side: float, first: int = 7, last: int = 12) -> int:
    """Distinct activation patterns met on a grid that is refined where the corners of a square differ."""
    layers = [(w.dense().numpy(), w.dense_bias().numpy()) for w in network.layers[:-1]]

    def patterns(x: np.ndarray) -> np.ndarray:
        bits = []
        for w, b in layers:
            x = x @ w.T + b
            bits.append(x > 0)
            x = np.maximum(x, 0)
        return np.concatenate(bits, axis=1) @ (1 << np.arange(sum(len(b) for _, b in layers)))

    grid = (np.arange(2**first) / 2**first * 2 - 1) * side
    squares, seen = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2), set()
    for level in range(first, last + 1):
        size = 2 * side / 2**level
        corners = np.stack([patterns(squares + size * np.array(c) + 1e-9) for c in itertools.product((0, 1), (0, 1))])
        seen |= set(np.unique(corners).tolist())
        squares = squares[(corners != corners[0]).any(axis=0)]
        squares = (squares[:, None] + 0.5 * size * np.array(list(itertools.product((0, 1), (0, 1))))).reshape(-1, 2)
    return len(seen)


def test_two_dimensions_and_two_layers_agree_with_a_quadtree() -> None:
    """Patterns may be met in several cells: networks on which no pattern is split are compared, and they are most."""
    rng = np.random.default_rng(8)
    compared = 0
    for _ in range(25):
        network = random_network(rng, 2, (4, 3), density=1.0)
        found = enumerate_cells(network, np.array([-2.0, -2.0]), np.array([2.0, 2.0]))
        if found.areas.min() < 1e-4:  # the quadtree may pass a cell this small by
            continue
        compared += 1
        assert found.activation_regions == counted_by_quadtree(network, 2.0)
    assert compared > 10


def test_regions_of_the_plane_are_merged_cells() -> None:
    """|x| + |y| written with a unit that nothing needs: its line is no edge of a region."""
    w = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]])
    network = Network.two_layer(w, [1.0, 1, 1, 1, 1, -1])  # the last two add up to x + y
    found = enumerate_cells(network, -np.ones(2), np.ones(2))
    assert (found.activation_regions, found.regions) == (6, 4)


def test_maps_of_cells_are_gradients() -> None:
    rng = np.random.default_rng(2)
    network = random_network(rng, 2, (6, 5))
    found = enumerate_cells(network, -np.ones(2), np.ones(2))
    middles = np.stack([c.mean(axis=0) for c in found.corners])
    assert np.allclose(found.maps[:, 0, :2], gradients(network, middles), atol=1e-10)


def test_upper_bound_is_kept_and_reached() -> None:
    rng = np.random.default_rng(4)
    network = random_network(rng, 2, (5,), density=1.0)
    far = enumerate_cells(network, np.full(2, -1e4), np.full(2, 1e4))
    assert far.activation_regions == upper_bound(network) == 1 + 5 + 10
    assert find_pieces(random_network(rng, 1, (6,), density=1.0)).regions == 7


def test_too_large_gives_bounds_and_says_so() -> None:
    rng = np.random.default_rng(6)
    network = random_network(rng, 2, (30, 30))
    data = Data(rng.standard_normal((50, 2)), rng.standard_normal(50))
    claim = certify(Regions(limit=20), network, data)
    assert "too large" in claim.assumptions[0].evidence
    assert "at least" in claim.claim
    full = enumerate_cells(network, np.asarray(data.x).min(axis=0), np.asarray(data.x).max(axis=0))
    assert claim.value <= full.regions <= upper_bound(network)
    with pytest.raises(TooManyRegions, match="pass the limit"):
        find_pieces(restrict_to_line(network, np.zeros(2), np.ones(2)), limit=100)


def test_wrong_calls_are_named() -> None:
    network = Network.two_layer(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="reads 3 inputs"):
        find_pieces(network)
    with pytest.raises(ValueError, match="reads 3 inputs"):
        enumerate_cells(network, -np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="empty"):
        find_pieces(restrict_to_line(network, np.zeros(3), np.ones(3)), 1.0, 1.0)
    with pytest.raises(ValueError, match="origin and direction"):
        restrict_to_line(network, np.zeros(2), np.ones(2))


def test_the_simplest_function_nearby_joins_knots_that_nearly_meet() -> None:
    """Three lines, bends split over 40 knots; a random function against linear programmes for all runs of knots."""
    rng = np.random.default_rng(3)
    bends = np.concatenate([-0.3 + 0.01 * rng.random(40), 0.4 + 0.01 * rng.random(40)])
    sizes = np.concatenate([np.full(40, 2 / 40), np.full(40, -3 / 40)])
    found = find_pieces(Network.two_layer(np.ones((80, 1)), sizes, -bends), -1.0, 1.0)
    assert found.regions == 81
    assert found.effective(0.01) == 81
    assert found.simplest(0.02) == 3
    net = Network.two_layer(rng.normal(size=(10, 1)), rng.normal(size=10), rng.normal(size=10))
    small = find_pieces(net, -1.0, 1.0)
    t = np.concatenate([[-1.0], small.knots, [1.0]])
    y = net(t[:, None]).numpy()[:, 0]
    for share in (0.02, 0.1):
        room, best = share * np.ptp(y) + 1e-12, [0] + [99] * (t.size - 1)
        for end in range(1, t.size):
            for start in range(end):
                design = np.column_stack([t[start : end + 1], np.ones(end + 1 - start), -np.ones(end + 1 - start)])
                rows = np.vstack([design, design * [-1, -1, 1]])
                sides = np.concatenate([y[start : end + 1], -y[start : end + 1]])
                line = linprog([0, 0, 1], A_ub=rows, b_ub=sides, bounds=[(None, None)] * 3)
                if line.fun <= room:
                    best[end] = min(best[end], best[start] + 1)
        assert small.simplest(share) == best[-1]
    assert small.simplest(0.0) == small.regions
    with pytest.raises(ValueError, match="unbounded"):
        find_pieces(net).simplest(0.1)
