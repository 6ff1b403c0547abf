"""The planted generator against the published procedure, written out densely, and against known moments."""

import hashlib

import numpy as np
import pytest

from sparelu.data import DataError
from sparelu.datasets.planted import planted, planted_network
from sparelu.method import SettingError


def published(layers: int, d: int, k: int, m: int, s: int, n: int, seed: int) -> tuple[list, np.ndarray, np.ndarray]:
    """Dense weights (in, out), inputs and labels of the published generator."""
    weights, stream = [], np.random.RandomState(seed + 1)
    widths = [d] + [m] * layers + ([k] if k > 1 else [])
    for a, b in zip(widths, widths[1:], strict=False):
        share = min(a * b, int(s / (len(widths) - 1)))
        w = np.zeros(a * b)
        place = stream.choice(a=a * b, size=share, replace=False)
        w[place] = stream.normal(size=share).astype(np.float32)
        weights.append(w.reshape(a, b))
    x = np.random.RandomState(seed + 2).normal(size=(n, d)).astype(np.float32)
    h = x.astype(np.float64)
    for i, w in enumerate(weights):
        h = h @ w
        if i < len(weights) - 1 or k == 1:
            h = np.maximum(h, 0)
    return weights, x, h.sum(axis=1) if k == 1 else h


@pytest.mark.parametrize(
    ("layers", "k", "m", "s"), [(1, 1, 20, 100), (2, 1, 20, 301), (1, 10, 20, 101), (1, 1, 3, 999)]
)
@pytest.mark.parametrize("seed", [0, 2])
def test_data_and_network_are_the_published_ones(layers: int, k: int, m: int, s: int, seed: int) -> None:
    weights, x, y = published(layers, 30, k, m, s, 500, seed)
    made = planted(inputs=30, rows=400, test_rows=100, hidden=(m,) * layers, nonzeros=s, outputs=k, seed=seed)
    network = planted_network(inputs=30, hidden=(m,) * layers, nonzeros=s, outputs=k, seed=seed)
    assert made.test is not None
    np.testing.assert_array_equal(np.concatenate([made.x[:], made.test.x[:]]), x)
    np.testing.assert_allclose(np.concatenate([made.y[:], made.test.y[:]]), y, rtol=1e-6, atol=1e-6)
    for layer, w in zip(network.layers, weights, strict=False):
        np.testing.assert_array_equal(layer.dense().numpy().T, w)
    assert len(network.layers) == layers + 1


def test_streams_start_with_the_known_numbers_of_their_seeds() -> None:
    x = planted(inputs=4, rows=10, test_rows=0, hidden=(3,), nonzeros=12).x[:]
    assert x[0, 0] == np.float32(-0.41675785)  # the first normal number of legacy seed 2
    assert planted(inputs=4, rows=10, test_rows=0, hidden=(3,), nonzeros=12, seed=10).x[0, 0] == np.float32(0.47298583)


def test_golden_checksum_of_the_published_cell() -> None:
    made = planted(nonzeros=100, hidden=(100,))
    assert made.test is not None
    assert (
        hashlib.sha256(made.x[:].tobytes()).hexdigest()
        == "02b17f79fc4ed60fbe70d38a730abd73735886b88c008d5241ba688053dca265"
    )
    assert made.x.shape == (50000, 100)
    assert made.test.x.shape == (10000, 100)
    np.testing.assert_allclose(
        np.asarray(made.y[:3], np.float64), [30.798538374, 35.748697351, 16.593314343], rtol=1e-6
    )


def test_labels_are_the_networks_outputs() -> None:
    import torch

    given = {"inputs": 8, "hidden": (5, 4), "nonzeros": 30, "output_weights": "real", "biases": 0.5, "seed": 3}
    made, network = planted(rows=200, test_rows=0, **given), planted_network(**given)
    assert network.layers[0].biases > 0
    out = network(torch.tensor(made.x[:], dtype=torch.float64))[:, 0].numpy()
    np.testing.assert_allclose(made.y[:], out, rtol=1e-6, atol=1e-7)


def test_output_weights_and_biases_leave_the_published_part_alone() -> None:
    plain = planted_network(inputs=20, hidden=(30,), nonzeros=60)
    for law, wanted in (("one", {1.0}), ("sign", {-1.0, 1.0})):
        other = planted_network(inputs=20, hidden=(30,), nonzeros=60, output_weights=law, biases=0.1)
        np.testing.assert_array_equal(other.layers[0].dense().numpy(), plain.layers[0].dense().numpy())
        assert set(other.layers[1].values.tolist()) == wanted
    real = planted_network(inputs=20, hidden=(30,), nonzeros=60, output_weights="real").layers[1].values
    assert len(set(real.tolist())) == real.numel() > 1
    assert real.min() < 0 < real.max()


def test_vector_output_weights_keep_their_places() -> None:
    given = {"inputs": 20, "hidden": (30,), "nonzeros": 60, "outputs": 4}
    plain, sign, one = (planted_network(output_weights=law, **given) for law in ("published", "sign", "one"))
    np.testing.assert_array_equal(np.sign(plain.layers[1].dense().numpy()), sign.layers[1].dense().numpy())
    np.testing.assert_array_equal(plain.layers[1].dense().numpy() != 0, one.layers[1].dense().numpy() == 1)


def test_noise_has_the_asked_size_and_spares_the_test_rows() -> None:
    given = {"inputs": 10, "rows": 20000, "test_rows": 50, "hidden": (5,), "nonzeros": 20}
    clean, noisy = planted(**given), planted(noise=0.1, **given)
    assert clean.test is not None
    assert noisy.test is not None
    gap = np.asarray(noisy.y[:], np.float64) - clean.y[:]
    assert gap.std() / np.std(clean.y[:]) == pytest.approx(0.1, rel=0.03)
    np.testing.assert_array_equal(clean.test.y[:], noisy.test.y[:])
    np.testing.assert_array_equal(clean.x[:], noisy.x[:])


def test_input_laws_have_their_moments() -> None:
    given = {"inputs": 4, "rows": 40000, "test_rows": 0, "hidden": (5,), "nonzeros": 20}
    uniform = planted(law="uniform", **given).x[:]
    assert np.abs(uniform).max() <= np.float32(np.sqrt(3))
    assert uniform.std() == pytest.approx(1, abs=0.01)
    pixels = planted(law="bernoulli", **given).x[:]
    assert set(np.unique(pixels)) == {0.0, 1.0}
    assert pixels.mean() == pytest.approx(0.5, abs=0.01)
    tied = np.corrcoef(planted(law="correlated", correlation=-0.6, **given).x[:].T)
    np.testing.assert_allclose(tied[0], [1, -0.6, 0.36, -0.216], atol=0.02)
    assert planted(law="correlated", correlation=-0.6, **given).x[:].std() == pytest.approx(1, abs=0.01)


def test_global_random_state_is_untouched() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    planted(inputs=5, rows=10, test_rows=0, hidden=(3,), nonzeros=9)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_a_wide_network_stays_small() -> None:
    network = planted_network(inputs=5, hidden=(200_000,), nonzeros=300)
    held = [t for layer in network.layers for t in (layer.rows, layer.indptr, layer.indices, layer.values)]
    assert sum(t.numel() * t.element_size() for t in held) < 20_000
    made = planted(inputs=5, rows=100, test_rows=0, hidden=(200_000,), nonzeros=300)
    assert np.asarray(made.y[:]).any()


def test_labels_that_are_all_zero_are_refused() -> None:
    with pytest.raises(DataError, match="all labels are zero: the sparse layers of seed 0 do not connect"):
        planted(rows=20, test_rows=0, hidden=(50, 50, 50), nonzeros=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nonzeros": 1, "hidden": (5, 5)}, "1 nonzeros cannot be shared among 2 layers"),
        ({"nonzeros": 0}, "nonzeros must be a whole number at least 1, got 0"),
        ({"hidden": (2.5,)}, "hidden must be whole numbers"),
        ({"hidden": (0,)}, "hidden must be a list at least 1"),
        ({"law": "cauchy"}, "law must be one of gaussian, uniform, bernoulli, correlated, heavy, got 'cauchy'"),
        ({"noise": float("nan")}, "noise must be a number at least 0"),
        ({"seed": -1}, "seed must be a whole number at least 0"),
    ],
)
def test_bad_parameters_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        planted(rows=10, **given)
    assert isinstance(caught.value, DataError | SettingError)


def test_one_number_serves_as_the_hidden_widths() -> None:
    assert planted_network(inputs=4, hidden=3, nonzeros=6).layers[0].shape == (3, 4)
