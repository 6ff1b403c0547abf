"""The curve of error against neurons: what is measured, what is drawn."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from sparelu.data import Data
from sparelu.experiments.report.compression_curve import (
    CompressionCurve,
    Width,
    gap_and_variance,
    share,
    width_chart,
    width_figure,
)
from sparelu.networks.network import Network

CURVE = CompressionCurve(
    (
        Width(2, 0.4, 0.3, 0.35, 0.6, 0.5, False),
        Width(4, 0.02, 0.01, 0.03, 0.9, 0.8, True),
        Width(8, 0.0, 0.0, 0.0, 0.95, 0.85, False),
    ),
    16,
    0.96,
    0.86,
    "accuracy",
    0.1,
)


def test_gap_and_variance_are_means_over_rows() -> None:
    rng = np.random.default_rng(0)
    nets = [Network.two_layer(rng.normal(size=(5, 3)), rng.normal(size=(2, 5)), rng.normal(size=5)) for _ in range(2)]
    x = rng.normal(size=(40, 3))
    one, two = (net(x).numpy() for net in nets)
    gap, variance = gap_and_variance(*nets, Data(x, x[:, :2]))
    assert gap == pytest.approx(((one - two) ** 2).sum(axis=1).mean(), rel=1e-12)
    assert variance == pytest.approx(one.var(axis=0).sum(), rel=1e-12)
    assert share(gap, variance) == gap / variance
    assert [share(0.0, 0.0), share(1.0, 0.0)] == [0.0, np.inf]


def test_a_curve_survives_its_json() -> None:
    assert CompressionCurve.of(json.loads(json.dumps(asdict(CURVE)))) == CURVE


def test_the_figure_has_the_numbers_and_rings_the_choice() -> None:
    error, score = width_figure(CURVE).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in (*error.lines, *score.lines[:2])}
    assert error.lines[1].get_xydata().tolist() == [[2, 0.35], [4, 0.03]]
    assert error.lines[2].get_xydata().tolist() == [[2, 0.4], [4, 0.02]]
    assert drawn["held-out rows"] == [[2, 0.5], [4, 0.8], [8, 0.85], [16, 0.86]]
    assert drawn["chosen"] == [[4, 0.03]]
    levels = {line.get_label(): line.get_ydata()[0] for line in score.lines}
    assert levels["held-out, original"] == 0.86
    assert levels["least asked of training rows"] == pytest.approx(0.86)
    assert error.get_yscale() == error.get_xscale() == "log"


def test_there_is_no_chart_where_nothing_is_lost() -> None:
    nothing = CompressionCurve((Width(4, None, 0.0, 0.0, 1.0, 1.0, True),), 8, 1.0, 1.0, "R2", None)
    assert width_chart(nothing) is None
    assert len(width_figure(nothing).axes) == 2
    assert width_chart(CURVE) is not None
