"""How inputs come: columns that are worked on, and the way back; and everyday tables against clean ones."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.inputs import InputColumns, read_columns
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.run import fit

RNG = np.random.default_rng(0)
X = RNG.standard_normal((1500, 5))


def columns_of(x: np.ndarray) -> InputColumns:
    return read_columns(Data(x, RNG.standard_normal(len(x))))


@pytest.mark.parametrize("of", ["copy", "sum", "constant", "group", "none"])
def test_a_basis_of_the_columns(of: str) -> None:
    """Against NumPy's rank of the centred rows; a relation is zero on all rows."""
    level = RNG.integers(0, 4, len(X))
    more = {
        "copy": X[:, 1],
        "sum": X[:, 0] - 3 * X[:, 3] + 7,
        "constant": np.full(len(X), 7.0),
        "group": np.eye(4)[level],
        "none": X[:, 0] ** 2,
    }[of]
    x = np.column_stack([X * np.array([1.0, 100, 1e-3, 1, 1]) + 5, more])
    found = columns_of(x)
    centred = x - x.mean(axis=0)
    assert found.width == np.linalg.matrix_rank(centred / centred.std(axis=0).clip(1e-9), tol=1e-6)
    assert len(found.relations) == x.shape[1] - found.width == (of != "none")
    if of != "none":
        np.testing.assert_allclose(np.column_stack([x, np.ones(len(x))]) @ found.relations.T, 0, atol=1e-8)
    tied = {"copy": [1, 5], "sum": [0, 3, 5], "constant": [5], "group": [5, 6, 7, 8], "none": []}[of]
    assert np.flatnonzero(found.tied).tolist() == tied


def test_the_way_back_is_the_same_function() -> None:
    x = np.column_stack([X * np.array([1e-6, 1, 1e6, 1, 1]) + np.array([0, 1e4, 0, -3e2, 0]), np.full(len(X), 2.0)])
    x = np.column_stack([x, x[:, 1] + 5 * x[:, 3]])
    columns = columns_of(x)
    assert columns.width == 5
    assert columns.centred
    weight, affine = (torch.as_tensor(RNG.standard_normal((n, 6))) for n in (3, 2))
    found = ReluModel(weight, torch.ones(3).double(), torch.as_tensor(RNG.standard_normal((3, 2))), affine)
    rows = columns.sample(x, np.zeros(len(x)), "cpu").tensors(torch.float64)[0]
    raw = columns.raw(columns.uncentred(found))
    np.testing.assert_allclose(raw.network()(x).numpy(), found(rows).numpy(), rtol=1e-7, atol=1e-7)
    worked = columns.data(Data(x, X[:, 0])).x[:]
    np.testing.assert_allclose(worked, rows[:, :-1].numpy(), atol=1e-12)
    folded = columns.fold(found.network())
    np.testing.assert_allclose(folded(x).numpy(), found(rows).numpy(), rtol=1e-7, atol=1e-7)


def test_of_tied_columns_the_fewest_weights() -> None:
    """A neuron on two of four levels, as it looks when the last level is left out."""
    x = np.column_stack([np.eye(4)[RNG.integers(0, 4, 1500)], X[:, 0]])
    columns = columns_of(x)
    wide = torch.zeros(1, 6).double()
    wide[0, [0, 1, 2, 4, 5]] = torch.tensor([-2.0, 1.0, -2.0, 3.0, 2.5]).double()
    short = columns.sparsest(wide)
    assert short[0].nonzero()[:, 0].tolist() == [1, 3, 4, 5]
    one = torch.as_tensor(np.column_stack([x, np.ones(1500)]))
    torch.testing.assert_close(one @ short[0], one @ wide[0])


def truth(inputs: int) -> Network:
    w = np.zeros((3, inputs))
    w[0, :2], w[1, 1:4], w[2, 4] = (1.0, -1.5), (0.8, 1.0, -0.6), 1.3
    return Network.two_layer(w, np.array([1.0, -1.0, 1.0]), np.array([0.2, 0.0, -0.4]))


def moved(mean: np.ndarray, scale: np.ndarray) -> Network:
    """The network of x mean-shifted and scaled that equals ``truth`` on x."""
    net = truth(len(mean))
    w = net.layers[0].dense().numpy() / scale
    return Network.two_layer(w, net.layers[1].dense().numpy()[0], net.layers[0].dense_bias().numpy() - w @ mean)


def recovered(x: np.ndarray, net: Network, **options: bool) -> tuple[Solution, bool]:
    """The solution, and whether it has the places and the values of ``net``."""
    half = len(x) // 2
    solution = fit(Exact(), Data(x[:half], net(x[:half]).numpy()[:, 0]), Budget((6,)), **options)
    a, b = solution.network.canonical(1e-6), net.canonical()
    places = a.layers[0].indices.tolist() == b.layers[0].indices.tolist() and a.skip_nonzeros == b.skip_nonzeros
    y = net(x[half:]).numpy()
    return solution, places and float(np.abs(solution.network(x[half:]).numpy() - y).max()) < 1e-7 * y.std()


WIDE = np.random.default_rng(5).standard_normal((4000, 7))
KINDS = {
    "means of 50 sd": (WIDE + 50, moved(np.full(7, 50.0), np.ones(7))),
    "means of 10,000 sd": (WIDE + 1e4, moved(np.full(7, 1e4), np.ones(7))),
    "scales and years": (
        WIDE * 10.0 ** np.arange(-6, 8, 2) + 2000 * np.eye(7)[4],
        moved(2000 * np.eye(7)[4], 10.0 ** np.arange(-6, 8, 2)),
    ),
    "constant and unread one-hot": (
        np.column_stack([WIDE[:, :5], np.full(4000, 3.0), np.eye(3)[np.arange(4000) % 3]]),
        truth(9),
    ),
    "decimals": (np.round(WIDE, 2), truth(7)),
    "float32 values": (WIDE.astype(np.float32).astype(np.float64), truth(7)),
    "counts beside": (np.column_stack([WIDE[:, :5], np.random.default_rng(1).poisson(2, (4000, 2))]), truth(7)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("standardise", [False, True])
def test_everyday_inputs_are_as_good_as_clean_ones(kind: str, standardise: bool) -> None:
    x, net = KINDS[kind]
    solution, right = recovered(x, net, standardise=standardise)
    assert right
    assert solution.status is Status.converged
    assert solution.network.biases == 2 if kind in ("decimals", "float32 values", "counts beside") else True


def test_a_full_group_that_is_read_is_named() -> None:
    """The support is found; which columns are tied, and by what, is said."""
    level = np.eye(3)[np.random.default_rng(2).integers(0, 3, 4000)]
    x = np.column_stack([WIDE[:, :4], level])
    w = np.zeros((2, 7))
    w[0, [0, 4]], w[1, [1, 2, 5, 6]] = (1.0, -0.7), (1.0, -1.0, 0.8, -0.5)
    net = Network.two_layer(w, np.array([1.0, 1.0]), np.array([0.3, 0.0]))
    solution, _ = recovered(x, net)
    y = net(x).numpy()
    assert np.abs(solution.network(x).numpy() - y).max() < 1e-8
    assert solution.network.nonzeros <= net.nonzeros
    assert solution.status is Status.best_found
    (said,) = (a.evidence for a in solution.certificates[0].assumptions if a.text.startswith("the inputs tell"))
    assert "x4" in said
    assert "= 0" in said
