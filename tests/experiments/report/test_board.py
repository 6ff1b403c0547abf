"""The report of a sweep: rows made flat, the figures that they can fill, and the page with its sortable table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparelu.experiments.report.sweep_report import figures_of, flat, transitions_of, write_sweep_report
from tests.experiments.report.browser import chromium, hover, opened, problems, requests, shown

METHODS = ("gmp", "imp", "magnitude")


def sweep_rows(count: int) -> list[dict[str, Any]]:
    """Rows as a sweep writes them: three methods, six budgets, and now and then one that failed or was refused."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        method, budget = METHODS[i % 3], (50, 100, 200, 500, 1000, 2000)[i // 3 % 6]
        row = {"key": str(i), "trial": {"data": "digits", "method": method, "nonzeros": budget, "seed": i // 18}}
        row |= {"versions": {"sparelu": "0.1.0"}, "cpu": "some CPU", "threads": 1, "device": "cpu"}
        if i % 50 == 7:
            row |= {"status": "failed", "error": "ValueError: <b>something</b> is wrong"}
        elif i % 50 == 20:
            row |= {"status": "refused", "error": "it needs more rows"}
        else:
            score = 0.97 - 8 / budget + 0.01 * float(rng.normal())
            row |= {
                "method": method,
                "status": "max_steps",
                "nonzeros": budget,
                "score": score,
                "score_name": "accuracy",
            }
            row |= {"seconds": 0.01 * budget, "peak_memory": 10**7 + 10**4 * budget, "stored_bytes": 6 * budget}
        rows.append(row)
    return rows


def test_a_flat_row_has_the_defaults_of_its_trial_and_tells_settings_and_parameters_apart() -> None:
    trial = {"data": "planted", "method": "aiht", "nonzeros": 20, "hidden": [50], "settings": {"epochs": 15}}
    trial["parameters"] = {"nonzeros": 20, "rows": 1000, "seed": 3}
    row = flat({"key": "k", "trial": trial, "status": "converged", "nonzeros": 18, "test": {"r2": 0.5}})
    wanted = {
        "data": "planted",
        "variant": "planted, rows 1,000",
        "label": "aiht (epochs 15)",
        "hidden": (50,),
        "width": 50,
        "budget": 20,
        "nonzeros": 18,
        "seed": 0,
        "settings.epochs": 15,
        "parameters.rows": 1000,
        "test.r2": 0.5,
        "status": "converged",
    }
    assert {k: row[k] for k in wanted} == wanted
    assert flat({"trial": {"data": "digits", "density": 0.1}, "status": "failed"})["budget"] == 0.1


def test_files_are_the_figures_that_the_rows_can_fill(tmp_path: Path) -> None:
    write_sweep_report(tmp_path / "one", sweep_rows(54), "one width")
    names = {p.name for p in (tmp_path / "one").iterdir()}
    assert names == {"board.html"} | {f"digits-{n}.{kind}" for n in ("score", "cost") for kind in ("png", "pdf")}
    wide = [{**r, "trial": {**r["trial"], "hidden": [w]}} for w in (10, 20, 50, 100) for r in sweep_rows(18)]
    write_sweep_report(tmp_path / "four", wide, "four widths")
    assert {p.stem for p in (tmp_path / "four").iterdir()} == {"board", "digits-panels"}


def test_a_planted_grid_gets_its_phase_transition_by_psnr(tmp_path: Path) -> None:
    rows = [
        {
            "trial": {"data": "planted", "method": "aiht", "nonzeros": s, "hidden": [m], "seed": seed},
            **{"method": "aiht", "status": "converged", "nonzeros": s, "score": 0.9, "score_name": "R2"},
            **{"psnr": float("inf") if s < m else 30.0, "seconds": 1.0, "peak_memory": 10**6, "stored_bytes": 100},
        }
        for m in (10, 20)
        for s in (5, 15)
        for seed in range(2)
    ]
    page = write_sweep_report(tmp_path, rows, "planted").read_text()
    assert (tmp_path / "planted-recovered.pdf").is_file()
    assert "share of seeds with held-out PSNR of at least 150 dB" in page


def test_a_sweep_without_a_score_is_still_a_page_and_without_rows_an_error(tmp_path: Path) -> None:
    failed = [r for r in sweep_rows(60) if "error" in r]
    page = write_sweep_report(tmp_path, failed, "all failed").read_text()
    assert "No row has a score to draw." in page
    assert "<b>something</b>" not in page
    with pytest.raises(ValueError, match="the sweep has no rows"):
        write_sweep_report(tmp_path, [], "empty")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        rows = sweep_rows(10_000)
        path = write_sweep_report(tmp_path_factory.mktemp("board"), rows, "ten thousand")
        requests(browser)
        opened(browser, path.as_uri())
        browser.problems, browser.requests = problems(browser), requests(browser)
        browser.execute_script("window.table = Bokeh.index.roots.find(v => v.el.closest('.board'))")
        yield browser


def _cells(board: Any, column: int) -> list[str]:
    script = """
      const rows = [...table.shadow_el.querySelectorAll('.slick-row')];
      const top = row => parseFloat(row.style.top || new DOMMatrix(row.style.transform).f);
      rows.sort((a, b) => top(a) - top(b));
      return rows.map(row => row.querySelectorAll('.slick-cell')[arguments[0]].textContent)
    """
    return board.execute_script(script, column)


def test_ten_thousand_rows_open_without_errors_or_requests(board: Any) -> None:
    assert board.problems == []
    assert {url.partition(":")[0] for url in board.requests} - {"data"} == {"file"}
    assert board.execute_script("return table.model.source.get_length()") == 10_000


def test_a_click_on_a_heading_sorts_all_rows(board: Any) -> None:
    budgets = _cells(board, 3)
    assert budgets[:4] == ["50", "50", "50", "100"]
    board.execute_script("table.el.scrollIntoView({block: 'center'})")
    for wanted in ("50", "2,000"):
        board.execute_script("table.shadow_el.querySelectorAll('.slick-header-column')[3].click()")
        assert set(_cells(board, 3)[:10]) == {wanted}


def test_hover_on_a_dot_shows_its_row(board: Any) -> None:
    where = """
      const view = Bokeh.index.roots.find(v => v.el.closest('#chart'));
      view.el.scrollIntoView({block: 'center'});
      const data = table.model.source.data, box = view.canvas_view.el.getBoundingClientRect();
      return [box.x + view.frame.x_scale.compute(data.nonzeros[0]), box.y + view.frame.y_scale.compute(data.score[0])]
    """
    hover(board, *board.execute_script(where))
    texts = """
      const texts = root => [...root.querySelectorAll('*')].map(e => e.shadowRoot ? texts(e.shadowRoot) : '')
        .concat([...root.querySelectorAll('.bk-tooltip-row-value')].map(e => e.textContent));
      return texts(document).flat().join(' ')
    """
    assert "digits" in shown(board, texts, "digits")


def _planted(rows: int, s: int, seed: int, psnr: float) -> dict[str, Any]:
    parameters = {"rows": rows, "hidden": 20, "nonzeros": s}
    trial = {"data": "planted", "method": "aiht", "nonzeros": s, "hidden": [20], "seed": seed, "parameters": parameters}
    row = {"trial": trial, "method": "aiht", "status": "converged", "nonzeros": s, "score": 0.9, "score_name": "R2"}
    return row | {"psnr": psnr, "seconds": 1.0, "peak_memory": 10**6, "stored_bytes": 100}


def test_planted_rows_and_nonzeros_get_a_transition_with_the_sampling_line() -> None:
    rows = [
        flat(_planted(n, s, seed, 160 if n > 20 * s else 30)) for n in (100, 400) for s in (5, 50) for seed in (0, 1)
    ]
    ((name, (caption, figure)),) = transitions_of(rows).items()
    assert name == "samples"
    assert "150 dB" in caption
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    label = "rows = 2 s log(d m / s), as for l1 recovery"
    n, s = lines[label].get_data()
    drawn = np.isfinite(s)
    np.testing.assert_allclose(2 * s[drawn] * np.log(100 * 20 / s[drawn]), n[drawn], rtol=1e-4)
    assert label in [text.get_text() for text in figure.legends[0].get_texts()]
    assert transitions_of([row for row in rows if row["samples"] == 100]) == {}


def test_budgets_given_as_a_density_have_panels_of_their_own() -> None:
    wide = [{**r, "trial": {**r["trial"], "hidden": [w]}} for w in (10, 20) for r in sweep_rows(18)]
    dense = [
        {**r, "trial": {"data": "digits", "hidden": [w], "density": share, "method": "gmp"}}
        for w in (10, 20)
        for share in (0.1, 0.5)
        for r in sweep_rows(1)
    ]
    found = figures_of([flat(row) for row in wide + dense])
    titles = {name: figure.get_supylabel() for name, (_, figure) in found.items() if name.startswith("panels")}
    assert titles == {"panels": "budget of nonzeros", "panels, density": "budget as density (share of weights kept)"}
