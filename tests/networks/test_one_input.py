"""Networks of one input by sorting, against the sum over neurons in rational arithmetic and in torch."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from sparelu.networks.layer import Layer
from sparelu.networks.network import ACTIVATIONS, Network
from sparelu.networks.one_input import evaluate_sorted


def drawn(seed: int, m: int, k: int = 1) -> tuple[Layer, Layer]:
    """Neurons of both orientations, some without a weight, some at one knot, some that an output does not read."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((m, 1)) * (rng.random((m, 1)) < 0.9)
    b = np.where(rng.random(m) < 0.3, -0.5 * w[:, 0], rng.standard_normal(m))
    v = rng.standard_normal((k, m)) * (rng.random((k, m)) < 0.8)
    return Layer.from_dense(w, b), Layer.from_dense(v, rng.standard_normal(k))


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_sum_in_rational_arithmetic(seed: int) -> None:
    hidden, output = drawn(seed, m=12)
    x = np.concatenate([np.random.default_rng(seed).standard_normal(20), [0.5, -1e6, 1e6, 0.0]])
    w, b = hidden.dense()[:, 0].tolist(), hidden.dense_bias().tolist()
    v, c = output.dense()[0].tolist(), output.dense_bias().tolist()

    def exact(at: float) -> float:
        neurons = zip(w, v, b, strict=True)
        terms = (Fraction(q) * max(Fraction(p) * Fraction(at) + Fraction(r), 0) for p, q, r in neurons)
        return float(sum(terms, Fraction(c[0])))

    found = evaluate_sorted(hidden, output, x)
    assert found.shape == (24, 1)
    np.testing.assert_allclose(found[:, 0], [exact(at) for at in x], rtol=1e-14, atol=1e-14)


def test_no_neuron_and_no_knot() -> None:
    x = np.linspace(-1, 1, 5)
    none = evaluate_sorted(Layer.from_dense(np.zeros((0, 1))), Layer.from_dense(np.zeros((2, 0)), [1.0, 2.0]), x)
    assert (none == [1.0, 2.0]).all()
    flat = evaluate_sorted(Layer.from_dense([[0.0]], [3.0]), Layer.from_dense([[2.0]]), x)
    assert (flat == 6.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_network_is_the_same_function_in_pieces_and_at_once(dtype: torch.dtype) -> None:
    hidden, output = drawn(3, m=3000, k=2)
    rng = np.random.default_rng(1)
    skip = Layer.from_dense(rng.standard_normal((2, 1)), rng.standard_normal(2))
    net = Network((hidden, output), skip).to(dtype)
    x = rng.standard_normal((ACTIVATIONS // 3000 + 2, 1))
    once = net(x)
    pieces = torch.cat([net(part) for part in np.array_split(x, 3)])
    assert once.dtype == dtype
    scale = float(pieces.abs().max())
    assert float((once - pieces).abs().max()) < (1e-12 if dtype == torch.float64 else 1e-4) * scale
    assert bool(torch.isnan(net(np.full_like(x, np.nan))).all())


def test_a_hundred_thousand_knots_on_as_many_rows_need_no_table() -> None:
    n = 100_000
    knots = np.sort(np.random.default_rng(0).uniform(size=n))
    changes = np.where(np.arange(n) % 2, 1.0, -1.0)
    hidden = Layer.from_triplets((n, 1), np.arange(n), np.zeros(n, dtype=int), np.ones(n), -knots)
    net = Network((hidden, Layer.from_dense(changes[None])))
    x = np.linspace(0, 1, n)[:, None]
    found = net(x).numpy()[:, 0]
    some = np.arange(0, n, 9973)
    np.testing.assert_allclose(found[some], [changes @ np.maximum(x[i] - knots, 0) for i in some], atol=1e-10)
    assert net.nonzeros == n
