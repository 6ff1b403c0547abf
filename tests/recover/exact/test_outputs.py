"""The joint refit of several outputs: its equations, its statistics, and what is dropped, joined and added."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted, planted_network
from sparelu.networks.network import Network
from sparelu.outcome import Status
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.exact.hinges import Kinks, Sample
from sparelu.recover.exact.outputs_least_squares import Joint, Normal, Places, fitted, refit_jointly, saliencies, unit
from sparelu.recover.exact.outputs_search import cut, drafted, oriented_jointly, pruned, settled, trimmed_jointly
from sparelu.recover.exact.relu_model import Found
from sparelu.run import fit


def _problem(rng: np.random.Generator, noise: float = 0.0, rows: int = 600) -> tuple[Found, Sample]:
    """Three kinks in four inputs, three outputs that read some of them, with affine parts."""
    w = np.array([[1.0, -0.6, 0, 0, 0], [0, 0.8, 1.0, 0, 0.3], [0, 0, 0, 1.0, 0]])
    v = np.array([[1.0, 0.5, 0], [0, -1.0, 0.7], [0.4, 0, 2.0]])
    found = Found(
        torch.as_tensor(w), torch.zeros(3).double(), torch.as_tensor(v), torch.as_tensor(rng.standard_normal((3, 5)))
    )
    x = rng.standard_normal((rows, 4))
    y = found(torch.as_tensor(np.column_stack([x, np.ones(rows)]))).numpy()
    return found, Sample(x, y + noise * rng.standard_normal(y.shape))


def _jacobian(joint: Joint, sample: Sample) -> Tensor:
    """By autograd: rows of all outputs over their noise; free weights, live output weights, affine parts."""
    f, places = joint.found, joint.places
    free = Normal(joint).free
    kink, column = joint.support.kink[free], joint.support.column[free]
    pairs = [(j, o) for o in range(places.outputs.shape[1]) for j in places.outputs[:, o].nonzero()[:, 0].tolist()]
    x, _ = sample.tensors(torch.float64)

    def values(step: Tensor) -> Tensor:
        weight, outputs = f.weight.clone(), f.outputs.clone()
        weight = weight.index_put((kink, column), step[: len(kink)], accumulate=True)
        for t, (j, o) in enumerate(pairs):
            outputs = outputs.index_put((torch.tensor(j), torch.tensor(o)), step[len(kink) + t], accumulate=True)
        affine = f.affine + step[len(kink) + len(pairs) :].view_as(f.affine)
        moved = replace(f, weight=weight, outputs=outputs, affine=affine)
        return (moved(x) / joint.noise.sqrt()).T.reshape(-1)

    return torch.autograd.functional.jacobian(values, torch.zeros(len(kink) + len(pairs) + f.affine.numel()).double())


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_step_solves_the_least_squares_of_all_outputs(tilt: float) -> None:
    """Against one dense least squares problem with the Jacobian of autograd."""
    rng = np.random.default_rng(0)
    truth, sample = _problem(rng, noise=0.1)
    near = replace(truth, weight=truth.weight * (1 + 0.05 * torch.as_tensor(rng.standard_normal((3, 5)))))
    near = replace(near, tilt=torch.full((3,), tilt).double())
    joint = fitted(near, Places.of(near), sample)
    moved, _ = Normal(joint).moved(0.0)
    x, y = sample.tensors(torch.float64)
    r = ((y - near(x)) / joint.noise.sqrt()).T.reshape(-1)
    step = torch.linalg.lstsq(_jacobian(joint, sample), r[:, None]).solution[:, 0]
    free = Normal(joint).free
    kink, column = joint.support.kink[free], joint.support.column[free]
    torch.testing.assert_close((moved.weight - near.weight)[kink, column], step[: len(kink)])
    torch.testing.assert_close((moved.affine - near.affine).reshape(-1), step[-15:])


def test_saliencies_are_squared_t_statistics() -> None:
    """Against the covariance of the dense problem."""
    rng = np.random.default_rng(1)
    _, sample = _problem(rng, noise=0.2)
    start, _ = _problem(np.random.default_rng(1))
    joint = refit_jointly(unit(start), Places.of(start), sample)
    j = _jacobian(joint, sample)
    variance = torch.linalg.inv(j.T @ j).diagonal()
    t_weight, t_outputs = saliencies(joint)
    free = Normal(joint).free
    kink, column = joint.support.kink[free], joint.support.column[free]
    torch.testing.assert_close(
        t_weight[kink, column], joint.found.weight[kink, column].square() / variance[: len(kink)]
    )
    live = joint.places.outputs.T
    torch.testing.assert_close(
        t_outputs.T[live], joint.found.outputs.T[live].square() / variance[len(kink) : len(kink) + int(live.sum())]
    )
    _, _, affine = Normal(joint).variances()
    torch.testing.assert_close(affine.reshape(-1), variance[-15:])


def test_the_scale_of_a_kink_is_shared_in_one_way() -> None:
    rng = np.random.default_rng(2)
    truth, sample = _problem(rng)
    x, _ = sample.tensors(torch.float64)
    torch.testing.assert_close(unit(truth)(x), truth(x))
    torch.testing.assert_close(unit(truth).weight.norm(dim=1), torch.ones(3).double())


def test_what_noise_explains_is_dropped_and_what_is_missing_added() -> None:
    """A weight and an output weight are planted in the start, two of the true ones and a whole kink are left out."""
    rng = np.random.default_rng(3)
    truth, sample = _problem(rng, noise=0.05, rows=6000)
    weight, outputs = truth.weight.clone(), truth.outputs.clone()
    weight[0, 3], weight[1, 2], outputs[0, 2], outputs[1, 2] = 0.01, 0.0, 0.01, 0.0
    start = replace(truth, weight=weight, outputs=outputs).take(torch.tensor([True, True, False]))
    sample = replace(sample, y=sample.y / sample.y.std(axis=0))
    joint, rest = settled(refit_jointly(start, Places.of(start), sample), sample, rng)
    assert rest
    patterns = {tuple(row.tolist()) for row in torch.cat([joint.places.weight, joint.places.outputs], 1)}
    assert patterns == {tuple(r.tolist()) for r in torch.cat([truth.weight != 0, truth.outputs != 0], 1)}


def test_kinks_of_almost_one_direction_are_joined_over_all_outputs() -> None:
    rng = np.random.default_rng(4)
    truth, sample = _problem(rng, noise=0.05, rows=3000)
    twin = truth.weight[:1].clone()
    twin[0, 1] += 1e-3
    double = replace(
        truth,
        weight=torch.cat([truth.weight, twin]),
        tilt=torch.zeros(4).double(),
        outputs=torch.cat([truth.outputs * torch.tensor([[0.5], [1.0], [1.0]]), truth.outputs[:1] / 2]),
    )
    joint = pruned(refit_jointly(unit(double), Places.of(double), sample, steps=2), sample)
    assert len(joint.found.weight) == 3


@pytest.mark.parametrize("trim", ["cut", "refit"])
def test_budgets_count_both_layers(trim: str) -> None:
    rng = np.random.default_rng(5)
    truth, sample = _problem(rng, noise=0.05)
    if trim == "cut":
        assert cut(truth, 8, 3).nonzeros <= 8
        assert len(cut(truth, None, 2).weight) == 2
    else:
        joint = trimmed_jointly(refit_jointly(truth, Places.of(truth), sample), sample, 8, 3)
        assert joint.found.nonzeros <= 8
        assert len(trimmed_jointly(joint, sample, None, 2).found.weight) <= 2


def test_orientations_of_all_outputs_are_read_off() -> None:
    """ReLU networks with every pattern of signs come back from their kinks without an affine part."""
    rng = np.random.default_rng(6)
    truth, sample = _problem(rng)
    x, _ = sample.tensors(torch.float64)
    for signs in itertools.product([-1.0, 1.0], repeat=3):
        relu = replace(truth, tilt=torch.tensor(signs).double(), affine=truth.affine * 0)
        own = replace(sample, y=relu(x).numpy())
        kinks = Kinks(torch.ones(3).double(), truth.weight, torch.zeros(3).double(), truth.affine[0] * 0)
        joint, read = oriented_jointly(refit_jointly(drafted(kinks, own).found, Places.of(truth), own), own)
        assert read is not None
        assert (read.free, read.open) == ((), ())
        assert joint.found.tilt.tolist() == list(signs)
        assert not bool(joint.found.affine.any())
        torch.testing.assert_close(joint.found(x), relu(x), rtol=1e-9, atol=1e-9)


def test_a_kink_that_a_combination_hides_is_found() -> None:
    """Its output weights are those of a neuron a thousand times as large in the others; labels are noisy."""
    rng = np.random.default_rng(7)
    w, v = np.zeros((4, 10)), np.zeros((3, 4))
    w[0, :2], w[1, 2:4], w[2, 4:6], w[3, 6:8] = (1, -1), (1, 0.5), (0.7, 0.7), (1, 1)
    v[0, :2], v[1, 1:3], v[2, 3] = (1, -1), (2, 1), 0.001
    truth = Network.two_layer(w, v)
    x = rng.standard_normal((1000, 10))
    y = truth(x).numpy()
    solution = fit(Exact(), Data(x, y + 0.01 * y.std(axis=0) * rng.standard_normal(y.shape)), Budget((4,)))
    a, b = solution.network.oriented(1e-6), truth.oriented()
    assert all(torch.equal(p.indices, q.indices) for p, q in zip(a.layers, b.layers, strict=True))


def test_the_published_vector_task_is_exact_where_it_is_identifiable() -> None:
    shape = {"inputs": 20, "hidden": (10,), "nonzeros": 40, "outputs": 4, "seed": 0}
    truth = planted_network(**shape)
    solution = fit(Exact(), planted(rows=3000, test_rows=0, **shape), Budget((10,)))
    assert solution.status is Status.converged
    a, b = solution.network.oriented(1e-6), truth.oriented()
    assert all(torch.equal(p.indices, q.indices) for p, q in zip(a.layers, b.layers, strict=True))
    assert solution.network.nonzeros == b.nonzeros < truth.nonzeros
