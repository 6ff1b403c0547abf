"""Formulas of networks: evaluated as Python they are the network; read by a person they say where it bends."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from sparelu.data import Budget
from sparelu.networks.formula import Notation, network_formulas, write_formula
from sparelu.networks.layer import Layer
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status

EXACT = Notation(repr, "max(0.0, {})", " * ")


def random_network(seed: int) -> Network:
    """A sparse network of one to three hidden layers, some neurons without inputs, some with a skip part."""
    rng = np.random.default_rng(seed)
    widths = [4, *rng.integers(1, 5, rng.integers(1, 4)), rng.integers(1, 3)]
    pairs = list(zip(widths, widths[1:], strict=False))
    weights = [rng.standard_normal((b, a)) * (rng.random((b, a)) < 0.5) for a, b in pairs]
    biases = [rng.standard_normal(b) * (rng.random(b) < 0.7) for _, b in pairs]
    net = Network.from_dense(weights, biases)
    if seed % 2:
        skip = rng.standard_normal((widths[-1], 4)) * (rng.random((widths[-1], 4)) < 0.5)
        net = Network(net.layers, Layer.from_dense(skip, rng.standard_normal(widths[-1])))
    return net


@pytest.mark.parametrize("seed", range(40))
def test_an_evaluated_formula_is_the_network(seed: int) -> None:
    net = random_network(seed)
    x = 3 * np.random.default_rng([seed, 1]).standard_normal((20, 4))
    texts = [write_formula(one, [f"x{i}" for i in range(4)], EXACT) for one in network_formulas(net)]
    assert len(texts) == net.outputs
    rows = [dict(zip(("x0", "x1", "x2", "x3"), row.tolist(), strict=True)) for row in x]
    found = [[eval(text, {"max": max}, row) for text in texts] for row in rows]
    np.testing.assert_allclose(found, net(x).numpy(), rtol=1e-9, atol=1e-9)
    exact = re.findall(r"\d\.\d{12,}", " ".join(texts))
    rounded = [write_formula(one, ["a", "b", "c", "d"]) for one in network_formulas(net)]
    assert not exact or not any(re.search(r"\d\.\d{12,}", text) for text in rounded)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (Network.two_layer([[2.0, 0.0]], [1.7], [-12.4], [22.1]), "22.1 + 3.4 max(0, rooms - 6.2)"),
        (Network.two_layer([[0.0, -0.5]], [-2.0], [1.0]), "-max(0, 2 - age)"),
        (Network.two_layer([[0.5, 1.0]], [1.0]), "max(0, 0.5 rooms + age)"),
        (Network.two_layer([[0.0, 0.0]], [3.0], [2.0], [1.0]), "7"),
        (Network.two_layer([[1.0, 0.0]], [1.0], skip=Layer.from_dense([[0.0, -3.0]], [-1.0])),
         "-1 - 3 age + max(0, rooms)"),
    ],
)  # fmt: skip
def test_a_person_reads_where_it_bends(net: Network, text: str) -> None:
    (formula,) = network_formulas(net)
    assert write_formula(formula, ["rooms", "age"]) == text


def test_a_long_one_is_not_written() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="more than 200 terms"):
        network_formulas(Network.two_layer(rng.standard_normal((30, 9)), rng.standard_normal(30)))
    deep = Network.from_dense([np.eye(20), np.ones((20, 20)), np.ones((1, 20))])
    with pytest.raises(ValueError, match="more than 200 terms"):
        network_formulas(deep.to(torch.float32))
    assert math.isclose(network_formulas(Network.two_layer([[1.0]], [1.0]))[0].terms[0][0], 1.0)


def solution(net: Network, **given: Any) -> Solution:
    known = {"status": Status.converged, "method": "<m>", "settings": {}, "budget": Budget((1,)), "seed": 0}
    return Solution(net, **{**known, "within_budget": True, **given})


def test_outputs_and_inputs_have_their_names() -> None:
    net = Network.two_layer([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [2.0, -1.0], [0.0, 1.0]], [-1.0, 0.0])
    names = ("age", "city = <b>")
    found = solution(net, task="classification", classes=("a", "b", "c"), names=names).formula()
    assert found["score of b"] == "2 max(0, age - 1) - max(0, [city = <b>])"
    assert solution(net).formula()["y0"] == "max(0, x0 - 1)"
    one = Network.two_layer([[1.0, 0.0]], [1.0])
    assert list(solution(one, about={"target": "price"}).formula()) == ["price"]
    two = solution(one, task="classification", classes=("no", "yes"), names=names)
    assert list(two.formula()) == ["log odds of yes"]
    page = solution(net, names=names)._repr_html_()
    assert "2 max(0, age - 1) - max(0, [city = &lt;b&gt;])" in page
    assert "<m>" not in page
    wide = Network.two_layer(np.ones((30, 9)) + np.arange(30)[:, None], np.ones(30))
    assert "nonzeros" in solution(wide)._repr_html_()
    assert "max" not in solution(wide)._repr_html_()
