"""What a report is made of: live parts, the drawing, pixel maps, charts, and numbers in words."""

import itertools
import math

import numpy as np
import pytest
import torch
from bokeh.models.annotations import Span
from hypothesis import given, settings
from hypothesis import strategies as st

from sparelu.experiments import formatting as text
from sparelu.experiments.report.charts import Point, history_charts, score_chart
from sparelu.experiments.report.live_network import anatomy
from sparelu.experiments.report.network_drawing import DrawingLimits, draw
from sparelu.experiments.report.pixel_maps import pixel_maps
from sparelu.experiments.report.tables import neuron_rows
from sparelu.networks.network import Network
from tests.experiments.report.samples import random_network, solution_of


def plain_name(unit: int) -> str:
    return f"i{unit}"


def class_name(unit: int) -> str:
    return f"o{unit}"


@given(st.integers(0, 10_000), st.integers(5, 60), st.booleans())
@settings(max_examples=40, deadline=None)
def test_dropping_everything_that_is_not_live_leaves_the_function(seed: int, nonzeros: int, biases: bool) -> None:
    network, dense = random_network((5, 6, 4, 2), nonzeros, seed, biases=biases)
    body = anatomy(network)
    kept = [np.zeros_like(w) for w in dense]
    for w, wires in zip(kept, body.layers, strict=True):
        w[wires.targets, wires.sources] = wires.weights
    bias = [[wires.bias.get(u, 0.0) for u in range(len(w))] for w, wires in zip(dense, body.layers, strict=True)]
    x = np.random.default_rng(seed).normal(size=(50, 5))
    torch.testing.assert_close(Network.from_dense(kept, bias)(x), network(x))
    assert tuple(len(h) for h in body.hidden) == network.compact().hidden


def test_live_units_keep_their_numbers_and_chains_of_dead_units_go() -> None:
    w1 = np.array([[1.0, 0], [0, 2.0], [0, 0], [3.0, 0]])  # unit 2 is fed by nothing
    w2 = np.array([[0, 1.0, 5.0, 0], [0, 0, 0, 4.0]])  # unit 0 is read by nothing
    w3 = np.array([[1.0, 0]])  # the second unit of layer 2 is read by nothing, so unit 3 leads nowhere
    body = anatomy(Network.from_dense([w1, w2, w3]))
    assert [h.tolist() for h in body.hidden] == [[1], [0]]
    assert [w.weights.tolist() for w in body.layers] == [[2.0], [1.0], [1.0]]
    assert body.inputs.tolist() == [1]


def test_strength_does_not_change_when_relu_units_are_rescaled() -> None:
    network, dense = random_network((8, 6, 3), 40, biases=False)
    scale = np.linspace(0.1, 9, 6)
    rescaled = Network.from_dense([dense[0] * scale[:, None], dense[1] / scale])
    np.testing.assert_allclose(anatomy(rescaled).strength(0), anatomy(network).strength(0))


def test_a_small_network_is_drawn_whole_with_signs_and_relative_widths() -> None:
    w, v = np.array([[0.5, 0, -2.0], [0, 1.0, 0]]), np.array([[3.0, -1.5]])
    drawing = draw(anatomy(Network.from_dense([w, v])), 1, plain_name, class_name)
    found = {c.tip: (c.positive, c.width) for c in drawing.curves}
    assert found == {
        "i0 → neuron 0: +0.5": (True, 0.5 + 3.5 * 0.25),
        "i2 → neuron 0: −2": (False, 4.0),
        "i1 → neuron 1: +1": (True, 0.5 + 3.5 * 0.5),
        "neuron 0 → o0: +3": (True, 4.0),
        "neuron 1 → o0: −1.5": (False, 0.5 + 3.5 * 0.5),
    }
    assert drawing.left_out == ""
    assert [c.width for c in drawing.curves] == sorted(c.width for c in drawing.curves)
    assert {u.label for u in drawing.units} == {"i0", "i1", "i2", "0", "1", "o0"}


def test_a_large_network_is_drawn_in_part_and_the_strongest_are_kept() -> None:
    network, dense = random_network((200, 100, 30), 3000, biases=False)
    limits = DrawingLimits(inputs=15, neurons=10, outputs=5, weights=60)
    drawing = draw(anatomy(network), 30, plain_name, class_name, limits)
    drawn = {kind: [u for u in drawing.units if u.kind == kind] for kind in ("input", "neuron", "output")}
    assert {k: len(v) for k, v in drawn.items()} == {"input": 15, "neuron": 10, "output": 5}
    assert 0 < len(drawing.curves) <= 60
    strength = np.linalg.norm(dense[0], axis=1) * np.linalg.norm(dense[1], axis=0)
    assert {int(u.label) for u in drawn["neuron"]} == set(np.argsort(-strength)[:10].tolist())
    alive = dense[0].any(axis=1) & dense[1].any(axis=0)
    assert (alive.sum(), np.count_nonzero(dense[0][alive]) + np.count_nonzero(dense[1][:, alive])) == (98, 2945)
    for words in ("15 of 200 used inputs", "10 of 98 live neurons", "5 of 30 outputs", "60 of 2,945 weights"):
        assert words in drawing.left_out


def test_units_stand_apart_inside_the_canvas() -> None:
    drawing = draw(anatomy(random_network((30, 20, 10), 300)[0]), 10, plain_name, class_name)
    for a, b in itertools.combinations(drawing.units, 2):
        assert math.hypot(a.x - b.x, a.y - b.y) > 13
    assert all(0 < u.x < drawing.width and 20 < u.y < drawing.height for u in drawing.units)


def test_the_order_of_units_removes_crossings_that_need_not_be() -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(20)
    weight = np.zeros((20, 20))
    weight[np.arange(20), order] = 1.0
    drawing = draw(anatomy(Network.from_dense([weight, np.ones((1, 20))])), 1, plain_name, class_name)
    place = {u.key: u.y for u in drawing.units}
    ends = [(place[c.source], place[c.target]) for c in drawing.curves if c.source.startswith("c0")]
    assert sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(ends, 2)) == 0


def test_the_affine_part_is_drawn_from_inputs_to_outputs() -> None:
    drawing = draw(anatomy(random_network((4, 3, 2), 6, skip=True)[0]), 2, plain_name, class_name)
    affine = [(c.source, c.target, c.tip) for c in drawing.curves if c.skip]
    assert affine == [("c0u0", "c2u0", "i0 → o0: +1 (affine part)"), ("c0u1", "c2u1", "i1 → o1: +1 (affine part)")]


def test_pixels_lie_where_numpy_puts_them() -> None:
    picture = np.zeros((4, 5))
    picture[1, 3], picture[2, 0] = 2.0, -1.0
    network = Network.from_dense([picture.reshape(1, 20), [[1.0]]])
    maps = pixel_maps(anatomy(network), 1, (4, 5, 1), class_name, np.arange(20.0))
    found = {(p.y, p.x): p.tip for p in maps.neurons[0].pixels}
    assert found == {(1, 3): "row 1, column 3: +2", (2, 0): "row 2, column 0: −1"}
    blue, red = (p.colour for p in sorted(maps.neurons[0].pixels, key=lambda p: p.y))
    assert int(blue[5:], 16) > int(blue[1:3], 16)
    assert int(red[1:3], 16) > int(red[5:], 16)
    assert maps.neurons[0].text == "2 pixels → o0 (+1)"
    assert maps.overall.text == "2 of 20 pixels used; the darkest has 1 weight"
    assert maps.left_out == ""


def test_channels_of_one_pixel_share_a_square_and_many_neurons_are_cut() -> None:
    weight = np.zeros((40, 2, 2, 3))
    weight[:, 1, 0] = [0.5, -3.0, 0.0]
    network = Network.from_dense([weight.reshape(40, 12), np.ones((2, 40))])
    maps = pixel_maps(anatomy(network), 2, (2, 2, 3), class_name, np.ones((2, 2, 3)))
    assert [p.tip for p in maps.neurons[0].pixels] == ["row 1, column 0: −3, +0.5"]
    assert len(maps.neurons) == 24
    assert maps.left_out == "Shown are the 24 strongest of 40 neurons."


def test_neuron_table_names_inputs_by_strength() -> None:
    w = np.array([[0.5, 0, -2.0], [0, 1.0, 0]])
    network = Network.from_dense([w, [[3.0, -0.5]]], [[0.25, 0.0], [0.0]])
    rows, left_out = neuron_rows(solution_of(network, classes=(), names=("a", "b", "c"), about={"target": "price"}))
    assert left_out == 0
    assert [(r.name, r.weights, r.inputs, r.bias, r.feeds) for r in rows] == [
        ("neuron 0", 2, "c (−2); a (+0.5)", "+0.25", "price (+3)"),
        ("neuron 1", 1, "b (+1)", "none", "price (−0.5)"),
        ("output price", 2, "neuron 0 (+3); neuron 1 (−0.5)", "none", ""),
    ]
    assert neuron_rows(solution_of(network, classes=(), about={}), limit=1)[1] == 1


def point(nonzeros: int, score: float, label: str = "", chosen: bool = False) -> Point:
    return Point(nonzeros, score, 1.0, 10**6, 5 * nonzeros, label, chosen)


def test_the_chart_has_a_log_axis_the_dense_line_and_every_point_in_view() -> None:
    points = [point(50, 0.7), point(2000, 0.96, chosen=True), point(90_000, 0.98, "dense"), point(0, 0.1)]
    chart = score_chart(points, "test accuracy", "gmp")
    assert chart is not None
    assert type(chart.xaxis[0]).__name__ == "LogAxis"
    assert [s.location for s in chart.center if isinstance(s, Span)] == [0.98]
    drawn = {
        n for r in chart.renderers for n in r.data_source.data["nonzeros" if "shown" in r.data_source.data else "x"]
    }
    assert drawn == {50, 2000, 90_000}
    assert chart.x_range.start < 50 < 90_000 < chart.x_range.end
    assert chart.y_range.start < 0.7 < 0.98 < chart.y_range.end
    assert [item.label["value"] for item in chart.legend[0].items] == ["gmp", "chosen", "dense"]


@pytest.mark.parametrize("nonzeros", [1, 5, 300, 10**7])
@pytest.mark.parametrize("score", [-3.0, 0.0, 0.5, 1.0])
def test_one_point_alone_is_in_view_with_at_least_two_ticks(nonzeros: int, score: float) -> None:
    chart = score_chart([point(nonzeros, score, chosen=True)], "test R²", "gmp")
    assert chart is not None
    assert chart.x_range.start < nonzeros < chart.x_range.end
    assert chart.y_range.start < score < chart.y_range.end
    assert len([t for t in chart.xaxis[0].ticker.ticks if chart.x_range.start <= t <= chart.x_range.end]) >= 2


def test_a_curve_without_a_drawable_point_is_none() -> None:
    assert score_chart([point(0, 0.5), point(9, math.nan)], "test R²", "gmp") is None


def test_history_is_thinned_and_leaves_out_what_is_not_finite() -> None:
    rows = [
        {"progress": i / 5000, "loss": math.nan if i == 7 else 1.0 + i, "seconds": 1.0, "step": 2.0}
        for i in range(5000)
    ]
    charts = history_charts(rows)
    assert [name for name, _ in charts] == ["loss", "step"]
    rounds = charts[0][1].renderers[0].data_source.data["round"]
    assert len(rounds) <= 1001
    assert rounds[0] == 1
    assert rounds[-1] == 5000
    assert history_charts([{"loss": 1.0}]) == history_charts([]) == []


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (text.size(1), "1 byte"),
        (text.size(999), "999 bytes"),
        (text.size(2900), "2.9 kB"),
        (text.size(999_600), "1.0 MB"),
        (text.size(120_000_000), "120 MB"),
        (text.duration(0.085), "85 ms"),
        (text.duration(3.21), "3.2 s"),
        (text.duration(245), "4 min 5 s"),
        (text.duration(7380), "2 h 3 min"),
        (text.score(0.91254, "test accuracy"), "91.25 %"),
        (text.score(0.91254, "test R²"), "0.9125"),
        (text.score(math.nan, "test R²"), "not measured"),
        (text.signed(-1.2e-5), "−1.2e-05"),
        (text.counted(2, "bias", "biases"), "2 biases"),
        (text.counted(1, "bias", "biases"), "1 bias"),
        (text.counted(0, "input"), "no inputs"),
        (text.plain([True, None, 2, 0.5, "a"]), "yes, none, 2, 0.5, a"),
    ],
)
def test_numbers_in_words(shown: str, wanted: str) -> None:
    assert shown == wanted
