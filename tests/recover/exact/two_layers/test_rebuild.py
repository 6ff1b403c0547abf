"""One function of two hidden layers, written anew from a form of it that has other kinks."""

import numpy as np
import torch

from sparelu.data import Budget, Data
from sparelu.networks.network import Network
from sparelu.outcome import Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.two_layers.equality import same_form
from sparelu.recover.exact.two_layers.hinges import DeepKinks
from sparelu.recover.exact.two_layers.rebuild import bends, rebuilt, sparsest_basis
from sparelu.run import fit

FIRST = np.array([[-0.7, 0.2, 0, 0, 0, 0], [0, 0, 0.4, -0.8, -1.7, 0]])


def exchanged() -> DeepKinks:
    """(2 p_+ - q_+)_+ with its first kink another one: ((2 p - q)_+ - (-q)_+)_+, in kinks of kinks."""
    p, q = (torch.as_tensor(np.append(row, 0.0)) for row in FIRST)
    n = 2 * p - q
    planes, one = torch.stack([n, q]), torch.ones(1).double()
    # z = (|n| + n) / 2 - (|q| - q) / 2, and (z)_+ = (z + |z|) / 2
    inner, direct = torch.tensor([[0.5, -0.5]]).double(), (n + q)[None] / 2
    return DeepKinks(planes, torch.zeros(2).double(), inner[0] / 2, inner, direct, one, 0 * one, direct[0] / 2)


def test_the_exchanged_form_is_the_function() -> None:
    x = np.random.default_rng(0).standard_normal((500, 6))
    h = np.maximum(x @ FIRST.T, 0)
    values = exchanged()(torch.as_tensor(np.column_stack([x, np.ones(500)])))
    np.testing.assert_allclose(values.numpy(), np.maximum(2 * h[:, 0] - h[:, 1], 0), atol=1e-12)


def test_a_function_bends_along_its_first_layer_and_the_pieces_of_its_second() -> None:
    found = bends(exchanged())
    p, q = (torch.as_tensor(np.append(row, 0.0)) for row in FIRST)
    for want in (p, q, 2 * p - q):
        assert float((found @ want).abs().max() / want.norm()) > 1 - 1e-12


def test_the_sparsest_basis_is_that_of_least_weight() -> None:
    """Against all bases of a small set."""
    rng = np.random.default_rng(1)
    rows = torch.as_tensor(rng.standard_normal((6, 4)) * (rng.random((6, 4)) < 0.6))
    rows = torch.cat([rows, rows[:1] + rows[1:2]])
    rank = int(torch.linalg.matrix_rank(rows))
    sizes = [
        int((rows[list(chosen)] != 0).sum())
        for chosen in torch.combinations(torch.arange(7), rank).tolist()
        if int(torch.linalg.matrix_rank(rows[list(chosen)])) == rank
    ]
    basis = sparsest_basis(rows, 7)
    assert len(basis) == int(torch.linalg.matrix_rank(basis)) == rank
    assert int((basis != 0).sum()) == min(sizes)
    assert len(sparsest_basis(rows, 2)) == 2


def test_the_sparser_first_layer_is_found_and_the_function_kept() -> None:
    x = np.random.default_rng(2).standard_normal((6000, 6))
    h = np.maximum(x @ FIRST.T, 0)
    y = np.maximum(2 * h[:, 0] - h[:, 1], 0)
    sample = Sample(x, y)
    found = rebuilt(exchanged(), 2, sample, 0.0, np.random.default_rng(3))
    assert (found.weight != 0).sum(1).tolist() == [2, 3]
    error = torch.cat([found(rows) - goal for rows, goal in sample.blocks()])
    assert float(error.abs().max()) < 1e-9


def test_two_neurons_on_the_same_two_kinks_come_back() -> None:
    """A search may find this function in three kinks and one bent one, which no network of 2 and 2 neurons has."""
    second = np.array([[-0.315, 0.287], [0.9097, -0.5623]])
    layers = [Network.two_layer(w, np.ones(2)).layers[0] for w in (FIRST, second)]
    net = Network((*layers, Network.two_layer(np.eye(2), np.ones(2)).layers[1]))
    x = np.random.default_rng(4).standard_normal((9000, 6))
    solution = fit(Exact(), Data(x, net(x).numpy()[:, 0]), Budget((2, 2)))
    assert solution.status is Status.converged
    assert same_form(solution.network, net)
