"""Figures of a sweep: what is drawn is what the rows say, counted here by hand."""

import io
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from PIL import Image

from sparelu.experiments.figures.curves import cost_against_nonzeros, save_figure, score_against_nonzeros
from sparelu.experiments.figures.heatmap import Theory, panels, phase_transition


def row(label: str, nonzeros: int, score: float, **more: Any) -> dict[str, Any]:
    return {"label": label, "budget": nonzeros, "nonzeros": nonzeros, "score": score, **more}


THREE = [row("gmp", 100, s) for s in (0.8, 0.9, 0.7)] + [row("gmp", 50, s) for s in (0.5, 0.5, 0.8)]


def test_lines_are_means_over_seeds_and_bands_one_standard_deviation() -> None:
    failed = {"label": "gmp", "budget": 100, "status": "failed"}
    axes = score_against_nonzeros([*THREE, failed, row("imp", 70, 0.6)], name="test R²", dense=0.95).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert list(lines) == ["gmp, mean ± sd of 3 seeds", "imp", "dense"]
    np.testing.assert_allclose(lines["gmp, mean ± sd of 3 seeds"], [[50, 0.6], [100, 0.8]])
    assert lines["imp"] == [[70, 0.6]]
    assert {y for _, y in lines["dense"]} == {0.95}
    assert axes.get_xscale() == "log"
    (band,) = axes.collections
    corners = {(round(x), round(y, 9)) for x, y in band.get_paths()[0].vertices.tolist()}
    assert corners == {(50, round(0.6 - 0.03**0.5, 9)), (50, round(0.6 + 0.03**0.5, 9)), (100, 0.7), (100, 0.9)}


def test_rows_of_one_budget_are_one_point_even_where_methods_keep_fewer() -> None:
    rows = [row("lp", 100, 0.5) | {"nonzeros": n} for n in (90, 100)]
    (line,) = score_against_nonzeros(rows).axes[0].lines
    assert line.get_xydata().tolist() == [[95, 0.5]]


def test_accuracy_is_labelled_in_percent_and_error_can_be_logarithmic() -> None:
    axes = score_against_nonzeros(THREE, name="test accuracy").axes[0]
    assert axes.yaxis.get_major_formatter()(0.9, 0) == "90 %"
    assert score_against_nonzeros(THREE, name="test error", log_score=True).axes[0].get_yscale() == "log"


def test_the_guide_has_slope_one_and_stays_below_every_point() -> None:
    costs = [(10, 5e6, 0.2), (100, 6e6, 0.9), (1000, 4e7, 20.0)]
    rows = [row("gmp", n, 0.5, peak_memory=m, seconds=s) for n, m, s in costs]
    for axes, column in zip(cost_against_nonzeros(rows).axes, (1, 2), strict=True):
        (guide,) = (line for line in axes.lines if line.get_label() == "slope one")
        (x0, y0), (x1, y1) = guide.get_xydata()
        assert math.log(y1 / y0) / math.log(x1 / x0) == pytest.approx(1)
        assert all(y0 * c[0] / x0 < c[column] for c in costs)
        assert axes.get_xscale() == axes.get_yscale() == "log"


def grid(successes: np.ndarray, label: str = "aiht", seeds: int = 4) -> list[dict[str, Any]]:
    """Rows of a grid of widths 10, 20, 40 and budgets 1, 3 in which ``successes`` of ``seeds`` rows recover."""
    return [
        row(label, b, 1.0 if seed < successes[j, i] else 0.2, width=w)
        for i, w in enumerate((10, 20, 40))
        for j, b in enumerate((1, 3))
        for seed in range(seeds)
        if successes[j, i] >= 0
    ]


def recovered(given: dict[str, Any]) -> bool:
    return given["score"] > 0.999


def meshes(figure: Any) -> list[QuadMesh]:
    return [c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh) and axes.get_title()]


def test_cells_of_a_phase_transition_are_shares_of_seeds_and_missing_ones_are_masked() -> None:
    successes = np.array([[4, 3, -1], [1, 0, 2]])
    figure = phase_transition(grid(successes), "width", "budget", recovered, "R² > 0.999")
    (mesh,) = meshes(figure)
    shares = np.ma.filled(mesh.get_array(), -0.25).reshape(2, 3)
    np.testing.assert_array_equal(shares, successes / 4)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
    assert "share of 4 seeds with R² > 0.999" in [a.get_ylabel() for a in figure.axes]


def test_the_contour_crosses_where_half_of_the_seeds_recover() -> None:
    figure = phase_transition(grid(np.array([[0, 0, 4], [0, 0, 4]])), "width", "budget", recovered, "success")
    contours = [c for c in figure.axes[0].collections if not isinstance(c, QuadMesh)]
    vertices = np.concatenate([path.vertices for c in contours for path in c.get_paths()])
    np.testing.assert_allclose(vertices[:, 0], 30)  # half way from 20, where none does, to 40, where all do


def test_the_theory_line_is_the_function_given() -> None:
    theory = Theory("m = 10 s", lambda m: m / 10)
    figure = phase_transition(grid(np.ones((2, 3))), "width", "budget", recovered, "success", theory=theory)
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "m = 10 s")
    x, y = line.get_xydata().T
    np.testing.assert_allclose(y, x / 10)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["m = 10 s"]


def test_panels_share_one_colour_scale_and_every_column_has_tick_labels() -> None:
    rows = [r | {"label": m, "score": r["score"] * k} for k, m in enumerate("abcde", 1) for r in grid(np.ones((2, 3)))]
    figure = panels(rows, "width", "budget", "score", "test R²")
    drawn = meshes(figure)
    assert len(drawn) == 5
    for mesh in drawn:  # one seed of four recovers: means of 1, 0.2, 0.2, 0.2, times 1 to 5
        assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((0.4, 2.0))
    labelled = [a.get_title() for a in figure.axes if a.get_title() and a.xaxis.get_tick_params()["labelbottom"]]
    assert labelled == ["c", "d", "e"]


def test_values_over_decades_get_a_logarithmic_scale() -> None:
    rows = [row("a", b, 0.5, width=w, mse=10.0**-w) for w in (1, 2, 3, 9) for b in (1, 2)]
    figure = panels(rows, "width", "budget", "mse", "mean squared error")
    assert type(meshes(figure)[0].norm).__name__ == "LogNorm"


def test_rows_that_cannot_be_drawn_are_refused_in_words() -> None:
    failed = [{"label": "gmp", "status": "failed", "budget": 5, "width": 3}]
    for draw in (
        lambda: score_against_nonzeros(failed),
        lambda: cost_against_nonzeros(failed),
        lambda: panels(failed, "width", "budget", "score", "R²"),
        lambda: phase_transition(failed, "width", "budget", recovered, "success"),
    ):
        with pytest.raises(ValueError, match=r"none of \d rows? has a finite .*there is nothing to draw"):
            draw()


def test_files_are_png_and_vector_pdf_the_same_every_time_and_settings_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first = [p.read_bytes() for p in save_figure(score_against_nonzeros(THREE, name="test accuracy"), tmp_path / "a.b")]
    again = [
        p.read_bytes() for p in save_figure(score_against_nonzeros(THREE, name="test accuracy"), tmp_path / "again")
    ]
    assert first == again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b.pdf", "a.b.png", "again.pdf", "again.png"]
    assert Image.open(io.BytesIO(first[0])).size[0] > 900
    assert first[1].startswith(b"%PDF")
    assert b"/Subtype /Image" not in first[1]
    assert dict(matplotlib.rcParams) == before
