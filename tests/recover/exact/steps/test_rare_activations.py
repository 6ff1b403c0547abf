"""Kinks that few rows lie beyond are found where those rows decide them; other rows are set aside, and it is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted
from sparelu.networks.network import Network
from sparelu.outcome import Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.least_squares import Fit, refit
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.steps.rare_activations import drop_undecided, explain_few
from sparelu.run import Limits, fit
from tests.recover.exact.models import tensor
from tests.recover.exact.test_fitter import same_support, violated
from tests.recover.exact.test_search import local_search


def truth(*rare: tuple[dict[int, float], float]) -> Network:
    """Two common neurons, and others of given weights and bias, in six inputs."""
    w = np.zeros((2 + len(rare), 6))
    w[0, [0, 1]], w[1, 2], b = (1.0, -0.5), 0.7, [0.3, 0.0]
    for j, (weights, bias) in enumerate(rare):
        w[2 + j, list(weights)] = list(weights.values())
        b.append(bias)
    v = np.where(np.arange(len(w)) % 2, -1.0, 1.0)
    return Network.two_layer(w, v, np.array(b))


def labelled(net: Network, n: int = 9000) -> Data:
    x = np.random.default_rng(1).standard_normal((n, 6))
    return Data(x, net(x).numpy()[:, 0])


def beyond(net: Network, data: Data) -> list[int]:
    """Rows on which each neuron is active."""
    w, b = net.layers[0].dense().numpy(), net.layers[0].dense_bias().numpy()
    return (np.asarray(data.x) @ w.T + b > 0).sum(axis=0).tolist()


def without_the_rare(data: Data) -> tuple[Fit, Sample]:
    """The common neurons fitted to all rows."""
    layer = truth().layers[0]
    model = ReluModel.linear(tensor(np.zeros((1, 7)))).with_hinges(
        torch.cat([layer.dense(), layer.dense_bias()[:, None]], dim=1), tensor([[1.0], [-1.0]])
    )
    sample = Sample(data.x, np.asarray(data.y)[:, None])
    return refit(model, sample), sample


@pytest.mark.parametrize(
    "rare",
    [({3: 1.0}, -3.1), ({3: -1.0}, -3.1), ({3: 0.8, 4: 0.6}, -3.0)],
    ids=["above", "below", "two inputs"],
)
def test_a_kink_beyond_a_few_rows_is_found_from_them(rare: tuple[dict[int, float], float]) -> None:
    net = truth(rare)
    data = labelled(net)
    assert 4 <= beyond(net, data)[2] <= 30
    start, sample = without_the_rare(data)
    assert start.mse > 1e-8
    found = explain_few(start.model, sample, lambda after: after.mse < 1e-24, 1e-12, np.random.default_rng(0))
    assert found is not None
    more, unmet = found
    assert len(unmet) == 0
    assert len(more) == 3
    want = np.zeros(7)
    want[list(rare[0])], want[-1] = list(rare[0].values()), rare[1]
    np.testing.assert_allclose(more.weight[2].numpy() * np.sign(more.weight[2, -1].item()), -want, atol=1e-9)


def test_kinks_whose_few_rows_are_mixed_are_told_apart() -> None:
    """Two kinks of two inputs, and one that two rows lie beyond, are missing at once."""
    rare = ({3: 0.8, 4: 0.6}, -2.9), ({4: -0.6, 5: 0.8}, -2.9), ({3: -0.6, 5: -0.8}, -3.6)
    net = truth(*rare)
    data = labelled(net)
    counts = beyond(net, data)[2:]
    assert min(counts[:2]) >= 8
    assert counts[2] == 2
    start, sample = without_the_rare(data)
    found = explain_few(start.model, sample, lambda after: after.mse < 1e-24, 1e-12, np.random.default_rng(0))
    assert found is not None
    more, unmet = found
    assert len(more) == 4
    assert len(unmet) == 2
    supports = sorted((w != 0).nonzero()[:, 0].tolist() for w in more.weight[2:])
    assert supports == [[3, 4, 6], [4, 5, 6]]


def test_a_kink_of_as_many_weights_as_rows_beyond_it_gives_way_to_the_one_that_made_them() -> None:
    """The rows beyond a kink on one input are also met by one on all twenty inputs."""
    x = np.random.default_rng(1).standard_normal((6000, 20))
    place = float(np.sort(x[:, 3])[-19:-17].mean())
    made = np.maximum(x[:, 3] - place, 0.0)
    beyond = x[:, 3] > place
    assert beyond.sum() == 18
    bordered = np.column_stack([x, np.ones(6000)])
    weight = torch.as_tensor(np.linalg.lstsq(bordered[beyond], made[beyond], rcond=None)[0])[None]
    wrong = ReluModel.linear(weight / 2).with_hinges(weight, tensor([[1.0]]))
    keep = beyond | (bordered @ weight[0].numpy() <= 0)
    sample = Sample(x[keep], made[keep, None])
    search = local_search(wrong, sample, np.random.default_rng(0), mse=1e-9)
    assert search.phase == "done"
    assert (search.model.weight[0] != 0).nonzero()[:, 0].tolist() == [3, 20]


def test_the_whole_network_comes_back() -> None:
    net = truth(({3: 1.0}, -3.1), ({4: 0.9}, -2.9), ({5: -1.0}, -3.0))
    data = labelled(net)
    assert max(beyond(net, data)[2:]) < 40
    solution = fit(Exact(), data, Budget((8,)))
    assert solution.status is Status.converged
    assert same_support(solution.network, net)


def test_a_kink_beyond_one_row_is_left_out_and_said_so() -> None:
    x = np.random.default_rng(1).standard_normal((9000, 6))
    net = truth(({3: 1.0}, -float(np.sort(x[:, 3])[-2:].mean())))
    solution = fit(Exact(), labelled(net), Budget((8,)))
    assert solution.status is Status.best_found
    assert same_support(solution.network, truth())
    assert violated(solution) == "rows kept apart are met to rounding"
    assert "1 of the fitted rows" in solution.certificates[0].assumptions[0].evidence


def test_wrong_labels_do_not_hide_the_network() -> None:
    data, net = labelled(truth()), truth()
    y = np.array(data.y)
    y[[10, 2000, 7000]] += [1.0, -0.3, 2.0]
    solution = fit(Exact(), replace(data, y=y), Budget((8,)))
    assert solution.status is Status.best_found
    assert same_support(solution.network, net)
    x = np.random.default_rng(2).standard_normal((1000, 6))
    np.testing.assert_allclose(solution.network(x).numpy(), net(x).numpy(), atol=1e-9)


def test_noise_sets_no_row_aside() -> None:
    data = labelled(truth())
    noisy = replace(data, y=np.asarray(data.y) + 1e-4 * np.random.default_rng(3).standard_normal(data.n))
    solution = fit(Exact(), noisy, Budget((8,)))
    assert "fitted rows are not met" not in solution.certificates[0].assumptions[0].evidence


def test_a_kink_that_no_rows_decide_is_taken_out_with_the_rows_beyond_it() -> None:
    x = np.random.default_rng(5).standard_normal((500, 2))
    two, three = np.sort(x[:, 0])[-3:-1].mean(), np.sort(-x[:, 1])[-4:-2].mean()
    weight = torch.tensor([[1.0, 0.0, -two], [0.0, -2.0, -2 * three]]).double()
    kinks = ReluModel.linear(tensor(np.zeros((1, 3)))).with_hinges(weight, tensor([[1.0], [-1.0]]))
    assert [int((x[:, 0] > two).sum()), int((-x[:, 1] > three).sum())] == [2, 3]
    sample = Sample(x, np.zeros((500, 1)))
    left, beyond = drop_undecided(kinks, sample)
    assert len(left) == 1
    assert sorted(beyond.tolist()) == np.flatnonzero(x[:, 0] > two).tolist()
    before, after = (torch.cat([k(rows) for rows, _ in sample.blocks()]).numpy() for k in (kinks, left))
    assert sorted(np.flatnonzero(np.abs(before - after)[:, 0] > 1e-12).tolist()) == sorted(beyond.tolist())


def test_an_error_a_little_above_rounding_begins_nothing_anew() -> None:
    """The rounding of eight outputs, mixed, is here 6 % above what is expected of it: the search ends all the same."""
    shape = {"inputs": 60, "hidden": (5,), "nonzeros": 10, "output_weights": "sign", "outputs": 8, "biases": 0.5}
    data = planted(rows=30000, test_rows=0, seed=936, **shape)
    solution = fit(Exact(), data, Budget((5,)), limits=Limits(rounds=40))
    assert solution.status is Status.converged
