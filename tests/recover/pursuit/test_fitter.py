"""Pursuit: growth, swaps and refits, against enumeration, autograd, finite differences and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, OrthogonalMatchingPursuit

from sparelu import Budget, Data, fit
from sparelu.method import Refusal
from sparelu.outcome import Status
from sparelu.recover.pursuit.atoms import Hinges, grown
from sparelu.recover.pursuit.fitter import Pursuit
from sparelu.recover.pursuit.neurons import (
    SignedNeurons,
    TrainingRows,
    logistic_derivatives,
    objective,
    refit_neurons,
    saliency,
    squared_derivatives,
    system,
)


def _net(rng: np.random.Generator, m: int, d: int, biases: bool) -> SignedNeurons:
    weight = torch.as_tensor(rng.standard_normal((m, d + 1)) * (rng.random((m, d + 1)) < 0.6))
    weight[:, -1] *= biases
    sign = torch.as_tensor(np.where(rng.random(m) < 0.5, -1.0, 1.0))
    return SignedNeurons(sign, weight, torch.tensor([0.3 * biases], dtype=torch.float64))


def _rows(rng: np.random.Generator, n: int, d: int, classes: bool, biases: bool, ridge: float = 0.0) -> TrainingRows:
    x = torch.as_tensor(rng.standard_normal((n, d)))
    y = torch.as_tensor((rng.random(n) < 0.5).astype(float) if classes else rng.standard_normal(n))
    return TrainingRows.of(x, y, logistic_derivatives if classes else squared_derivatives, biases, ridge)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_slope_is_that_of_autograd(classes: bool, biases: bool) -> None:
    rng = np.random.default_rng(0)
    rows, net = _rows(rng, 40, 5, classes, biases, ridge=0.1), _net(rng, 4, 5, biases)
    found = system(net, rows)
    weight, constant = net.weight.clone().requires_grad_(), net.constant.clone().requires_grad_()
    z = torch.relu(rows.x @ weight.T) @ net.sign + constant
    loss = (
        torch.nn.functional.binary_cross_entropy_with_logits(z, rows.y)
        if classes
        else torch.nn.functional.mse_loss(z, rows.y) / 2
    )
    loss = loss + 0.05 * (weight[:, :-1].square() * rows.x[:, :-1].square().mean(0)).sum()
    assert found.value == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    assert weight.grad is not None
    assert constant.grad is not None
    wanted = torch.cat([weight.grad[found.places], constant.grad] if biases else [weight.grad[found.places]])
    assert torch.allclose(-found.slope, wanted, atol=1e-12)


def test_hinge_sums_are_those_of_their_columns() -> None:
    rng = np.random.default_rng(1)
    left, curvature = (torch.as_tensor(v) for v in (rng.standard_normal(3000), rng.random(3000)))
    for biases in (False, True):
        rows = _rows(rng, 3000, 4, False, biases)
        hinges = Hinges.of(rows)
        slope, power = hinges.sums(rows, left, curvature)
        for kind in range(len(hinges)):
            column = torch.relu(hinges.turn[kind] * rows.x[:, :-1] + hinges.shift[kind])
            assert torch.allclose(slope[kind], left @ column)
            assert torch.allclose(power[kind], curvature @ column.square())


def test_first_weight_is_the_best_of_all() -> None:
    rng = np.random.default_rng(2)
    rows = _rows(rng, 60, 6, False, False)
    none = SignedNeurons(torch.zeros(0).double(), torch.zeros(0, 7).double(), torch.zeros(1).double())
    net, value = refit_neurons(grown(none, rows, 1, 3), rows, 10, 1e-12, 0.0)
    columns = [torch.relu(s * rows.x[:, i]) for s, i in itertools.product((1, -1), range(6))]
    best = max(float((c @ rows.y) ** 2 / (c @ c)) for c in columns)
    assert value == pytest.approx((float(rows.y @ rows.y) - best) / 120, rel=1e-9)
    assert net.nonzeros == 1


def test_open_gates_make_orthogonal_matching_pursuit() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 12))
    x /= np.linalg.norm(x, axis=0)
    y = x[:, [1, 4, 7]] @ np.array([2.0, -1.0, 0.7]) + 0.05 * rng.standard_normal(80)
    peer = OrthogonalMatchingPursuit(n_nonzero_coefs=4, fit_intercept=True).fit(x, y)
    open_x = np.column_stack([x, np.ones(80)])
    rows = TrainingRows.of(torch.as_tensor(open_x[:, :-1]), torch.as_tensor(y), squared_derivatives, True, 0.0)
    neuron = torch.zeros(1, 13).double()
    neuron[0, -1] = 100.0
    net, value = refit_neurons(
        SignedNeurons(torch.ones(1).double(), neuron, torch.zeros(1).double()), rows, 3, 0.0, 0.0
    )
    for _ in range(4):
        net, value = refit_neurons(grown(net, rows, 1, 1), rows, 5, 1e-12, 0.0)
    assert set(net.weight[0, :-1].nonzero()[:, 0].tolist()) == set(np.flatnonzero(peer.coef_))
    assert 2 * value == pytest.approx(float(((peer.predict(x) - y) ** 2).mean()), rel=1e-6)


def test_saliency_is_what_dropping_costs() -> None:
    rng = np.random.default_rng(4)
    rows, net = _rows(rng, 200, 4, False, False), _net(rng, 2, 4, False)
    rows = TrainingRows.of(rows.x[:, :-1], net(rows.x) + 0.01 * rows.y, squared_derivatives, False, 0.0)
    net, value = refit_neurons(net, rows, 30, 0.0, 0.0)
    _, places, cost = saliency(net, rows)
    solve = system(net, rows)
    for k in range(len(cost)):
        keep = torch.arange(len(cost)) != k
        a = solve.columns[:, keep]
        target = solve.left + solve.columns @ net.weight[places]
        rest = target - a @ torch.linalg.lstsq(a, target).solution
        assert float(cost[k]) == pytest.approx(0.5 * float(rest.square().mean()) - value, rel=1e-6)


def test_two_classes_with_one_open_neuron_are_logistic_regression() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((150, 3))
    y = (x @ np.array([1.0, -2.0, 0.5]) + rng.logistic(size=150) > 0).astype(float)
    rows = TrainingRows.of(torch.as_tensor(x), torch.as_tensor(y), logistic_derivatives, True, 0.0)
    weight = torch.tensor([[0.1, 0.1, 0.1, 1000.0]], dtype=torch.float64)
    net, value = refit_neurons(
        SignedNeurons(torch.ones(1).double(), weight, torch.tensor([-1000.0]).double()), rows, 50, 1e-14, 0.0
    )
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y)
    assert np.allclose(net.weight[0, :3], peer.coef_[0], atol=1e-4)
    assert value == pytest.approx(objective(net, rows))


def test_meets_a_clipped_linear_function_with_its_weights() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((120, 300))
    w = np.zeros(300)
    w[[3, 50, 200]] = 1.0, -0.8, 0.6
    y = np.maximum(x @ w, 0.0)
    solution = fit(Pursuit(biases=False), Data(x, y), Budget((5,), nonzeros=3))
    assert solution.status is Status.converged
    hidden = solution.network.layers[0]
    assert hidden.indices.tolist() == [3, 50, 200]
    assert np.allclose(hidden.values, w[[3, 50, 200]])
    assert solution.network.biases == 0


def test_width_is_kept_and_rows_are_drawn() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((500, 5))
    y = np.abs(x[:, 0]) + np.abs(x[:, 1] - 0.5)
    network = fit(Pursuit(rows=100), Data(x, y), Budget((2,), nonzeros=6), seed=1).network
    assert network.compact().hidden[0] <= 2
    other = fit(Pursuit(rows=100), Data(x, y), Budget((2,), nonzeros=6), seed=2).network
    assert not torch.equal(network.layers[0].values, other.layers[0].values)


def test_several_outputs_are_refused() -> None:
    data = Data(np.eye(4), np.eye(4))
    with pytest.raises(Refusal, match="one output"):
        fit(Pursuit(), data, Budget((2,), nonzeros=3))
