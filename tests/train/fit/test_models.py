"""Convolutional fits: the network that comes back is what was trained, within the budget; chase makes it smaller."""

import numpy as np
import pytest
import torch
from torch import nn

from sparelu import Budget, Data, SparseReLUClassifier, SparseReLURegressor, Status, fit, load, save
from sparelu.catalogue import certifier, choose, compressor, fitter
from sparelu.experiments.evaluate import evaluate
from sparelu.method import Refusal
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Network
from sparelu.run import certify, compress
from sparelu.train.fit.models import Convolutional

QUICK = {"least": 80, "epochs": 20, "batch": 40}
BUDGET = Budget((6,), density=0.3, channels=(4, 5))


def stripes(task: str = "classification") -> Data:
    """Images of 6 x 5 in two colours, bright on one of three rows; or the row and its brightness as numbers."""
    rng = np.random.default_rng(0)
    row, x = rng.integers(0, 3, 120), rng.random((120, 6, 5, 2)).astype(np.float32)
    x[np.arange(120), 2 * row] += 1
    flat = x.reshape(120, 60)
    if task == "classification":
        return Data(flat, row, task, image=(6, 5, 2))
    return Data(flat, np.stack([100.0 * row, 7 + x.mean((1, 2, 3))], 1), task, image=(6, 5, 2))


def test_weights_are_counted_once() -> None:
    """6 x 5 -> 3 x 3 -> 2 x 2: 9 x 2 x 4 + 9 x 4 x 5 + (4 x 5) x 6 + 6 x 3."""
    assert BUDGET.weights(60, 3, (6, 5, 2)) == 72 + 180 + 120 + 18
    assert Budget((), channels=(4,)).weights(60, 1, (6, 5, 2)) == 72 + 36
    body = Convolutional(stripes(), BUDGET, np.random.default_rng(0))
    assert body.weights == 390
    assert [tuple(body.module.get_submodule(n).weight.shape) for n in body.pruned] == [
        *((4, 2, 3, 3), (5, 4, 3, 3), (6, 20), (3, 6)),
    ]


def test_the_network_is_the_module_in_evaluation() -> None:
    """After steps that move weights and statistics; outputs of a regression are brought to the scale of the targets."""
    body = Convolutional(stripes("regression"), BUDGET, np.random.default_rng(0))
    optimizer = torch.optim.SGD(body.module.parameters(), lr=0.05)
    x = torch.as_tensor(np.asarray(stripes().x))
    for _ in range(3):
        optimizer.zero_grad()
        body.module(x).square().mean().backward()
        optimizer.step()
    masks = {f"{n}.weight": body.module.get_submodule(n).weight.detach() != 0 for n in body.pruned}
    mean, sd = np.array([3.0, -1.0]), np.array([10.0, 0.5])
    network = body.network(masks, 10**6, mean, sd)
    wanted = body.module.eval()(x).detach().numpy() * sd + mean
    np.testing.assert_allclose(network(x).numpy(), wanted, rtol=1e-4, atol=1e-4)
    assert network.nonzeros == body.weights


def test_a_network_above_the_budget_keeps_its_largest_weights() -> None:
    body = Convolutional(stripes(), BUDGET, np.random.default_rng(0))
    masks = {n: torch.ones_like(body.module.get_submodule(n).weight, dtype=torch.bool) for n in body.pruned}
    for parameter in body.module.parameters():
        parameter.data.clamp_(-1, 1)
    sizes = torch.cat([body.module.get_submodule(n).weight.detach().abs().flatten() for n in body.pruned])
    network = body.network(masks, 50, None, None)
    assert network.nonzeros == 50
    kept = torch.cat([p.written_out.values.abs() for p in network.parts if not isinstance(p, Convolution)])
    assert float(kept.min()) >= float(sizes.topk(50).values.min())


@pytest.mark.parametrize("name", ["mest", "snip", "synflow", "gmp", "magnitude"])
def test_every_method_of_the_engine_fits_them(name: str) -> None:
    solution = fit(fitter(name, **QUICK, rate=0.02), stripes(), BUDGET, standardise=True)
    assert solution.network.nonzeros == round(0.3 * 390)
    assert solution.within_budget
    assert evaluate(solution.network, stripes()).accuracy > 0.6


def test_chase_returns_a_smaller_network_that_is_as_good() -> None:
    data, budget = stripes(), Budget((8,), density=0.3, channels=(6, 8))
    settings = {"least": 150, "epochs": 20, "batch": 40, "every": 15, "rate": 0.02, "channel_sparsity": 0.4}
    solution = fit(fitter("chase", **settings), data, budget)
    network = solution.network
    assert network.nonzeros == budget.count(data.inputs, 3, data.image)
    assert sum(p.channels for p in network.parts[:-1]) <= round(0.6 * 22)
    module = network.to_module().eval()
    small = sum(p.numel() for p in module.parameters() if p.ndim > 1)
    assert small < 0.8 * budget.weights(data.inputs, 3, data.image)
    x = torch.as_tensor(np.asarray(data.x))
    torch.testing.assert_close(module(x).detach(), network(x), rtol=1e-4, atol=1e-5)
    assert evaluate(network, data).accuracy > 0.9


def test_a_solution_is_stored_certified_and_read(tmp_path) -> None:
    data = stripes()
    solution = fit(fitter("rigl", **QUICK), data, BUDGET)
    save(solution, tmp_path / "model")
    back = load(tmp_path / "model")
    assert back.budget == BUDGET
    assert back.network.convolutions == 2
    assert back.network.nonzeros == solution.network.nonzeros
    assert torch.equal(back.network(data.x), solution.network(data.x))
    claims = [certify(certifier("generalise"), net, data).value for net in (back.network, Network(back.network.layers))]
    assert claims[0] == claims[1]
    with pytest.raises(Refusal, match="it has convolutions: fit it with the method chase"):
        compress(compressor("merge"), back.network, Budget((3,)))


def test_the_estimators_take_images() -> None:
    data, labels = stripes(), np.array(["low", "middle", "high"])
    x, y = np.asarray(data.x), labels[np.asarray(data.y)]
    model = SparseReLUClassifier("chase", (6,), density=0.4, channels=(4, 5), image=(6, 5, 2), random_state=0)
    model.set_params(settings={"least": 120, "epochs": 20, "batch": 40, "every": 20, "rate": 0.02}).fit(x, y)
    assert model.score(x, y) > 0.8
    assert model.network_.convolutions == 2
    numbers = SparseReLURegressor(channels=(4,), image=(6, 5, 2), settings=QUICK, random_state=0)
    assert numbers.fit(x, np.asarray(stripes("regression").y)).predict(x).shape == (120, 2)
    assert numbers.solution_.method == choose(data, BUDGET)[0] == "rigl"
    assert numbers.solution_.status is Status.max_steps


@pytest.mark.parametrize(
    ("name", "budget", "image", "message"),
    [
        ("imp", BUDGET, (6, 5, 2), "it fits no convolutions: choose a method of sparse training such as rigl"),
        ("aiht", BUDGET, (6, 5, 2), "it fits no convolutions"),
        ("rigl", BUDGET, None, "need images, and these rows are 60 plain inputs: give Data an `image`"),
        ("rigl", Budget((6,), nonzeros=2, channels=(4, 5)), (6, 5, 2), "a path through 4 layers takes 4 nonzeros"),
        ("rigl", Budget((6,), nonzeros=391, channels=(4, 5)), (6, 5, 2), r"390 weights \(60 inputs, channels \(4, 5\)"),
        ("chase", Budget((1,), density=0.5, channels=(1,)), (6, 5, 2), "cannot go while each layer keeps one"),
        ("rigl", Budget((), density=0.5), (6, 5, 2), "fits 1 to 1000000 hidden layers, got 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_fix(
    name: str, budget: Budget, image: tuple[int, ...] | None, message: str
) -> None:
    data = Data(np.asarray(stripes().x), np.asarray(stripes().y), "classification", image=image)
    with pytest.raises(Refusal, match=message):
        fit(fitter(name), data, budget)


def test_products_of_weights_are_refused_by_chase() -> None:
    data = Data(np.random.default_rng(0).random((40, 3)), np.arange(40.0))
    with pytest.raises(Refusal, match="with one hidden layer and one output, products of weights are counted"):
        fit(fitter("chase"), data, Budget((5,), nonzeros=6))


@pytest.mark.parametrize("image", [(6, 5), (60,), (2, 3, 5, 2)])
def test_an_image_of_another_size_is_refused(image: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(height, width\[, colours\]\) of the 60 inputs"):
        Data(np.asarray(stripes().x), np.asarray(stripes().y), image=image)


def test_channels_must_be_positive() -> None:
    with pytest.raises(ValueError, match="channels must be at least 1"):
        Budget((3,), channels=(4, 0))


def test_the_first_weights_are_of_the_variance_of_he() -> None:
    body = Convolutional(stripes(), Budget((300,), channels=(200,)), np.random.default_rng(0))
    for name in body.pruned[:2]:
        layer = body.module.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        inputs = layer.weight[0].numel()
        assert float(layer.weight.detach().var()) == pytest.approx(2 / inputs, rel=0.1)


def test_convolutions_are_pruned_along_the_schedule_of_the_method() -> None:
    """By hand: 390 weights to 117 by 0.7 of the way with power 5; at once in the middle for one shot."""
    history = fit(fitter("gmp", **QUICK, rate=0.02), stripes(), BUDGET).history
    first = history[0]
    assert first["nonzeros"] == round(117 + 273 * (1 - first["progress"] / 0.7) ** 5)
    assert all(row["nonzeros"] == 117 for row in history if row["progress"] >= 0.7)
    history = fit(fitter("magnitude", **QUICK, rate=0.02), stripes(), BUDGET).history
    assert {row["nonzeros"] for row in history} == {390, 117}
    assert all((row["nonzeros"] == 390) == (row["progress"] < 0.5) for row in history)
