"""The report in a real browser: it renders, hover shows values, nothing is requested, it opens quickly."""

from collections.abc import Iterator
from typing import Any

import pytest

from sparelu.experiments.report.run_report import write_report
from tests.experiments.report.browser import chromium, hover, opened, problems, requests, shown
from tests.experiments.report.samples import digits_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    solution, points, mean = digits_report()
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, solution, points, "test accuracy", "360 of 1797 rows at random", mean)
    browser.get_log("performance")
    browser.seconds = min(opened(browser, path.as_uri()) for _ in range(3))
    browser.problems, browser.requests = problems(browser), requests(browser)
    return browser


def test_opens_quickly_without_errors_or_requests(page: Any) -> None:
    assert page.seconds < 5
    assert page.problems == []
    assert {url.partition(":")[0] for url in page.requests} - {"data"} == {"file"}


def test_the_browser_itself_refuses_requests_from_the_page(page: Any) -> None:
    script = "fetch('http://127.0.0.1:9/x').then(() => arguments[0]('sent'), () => arguments[0]('refused'))"
    assert page.execute_async_script(script) == "refused"
    assert any("Content Security Policy" in message for message in problems(page))


def test_charts_drawing_and_pixels_are_there_and_fit_the_window(page: Any) -> None:
    boxes = page.execute_script(
        "return [...document.querySelectorAll('.bk-Figure, .drawing, .map')].map(e => e.getBoundingClientRect())"
    )
    assert len(boxes) >= 3 + 1 + 25
    assert all(b["width"] > 60 and b["height"] > 60 for b in boxes)
    for width in (1100, 500):
        page.set_window_size(width, 900)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.set_window_size(1100, 900)


def test_hover_on_a_weight_and_a_neuron_shows_values(page: Any) -> None:
    unit = page.find_element("css selector", ".drawing .unit[data-tip^='neuron']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", unit)
    box = page.execute_script("return arguments[0].querySelector('circle').getBoundingClientRect()", unit)
    hover(page, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = "const t = document.getElementById('tip'); return t.style.visibility == 'visible' ? t.textContent : ''"
    assert shown(page, tip, "weights in") == unit.get_attribute("data-tip")
    near = page.execute_script("return document.querySelectorAll('.drawing.focus .curve.near').length")
    key = unit.get_attribute("data-key")
    ends = f"return document.querySelectorAll(\".curve[data-from='{key}'], .curve[data-to='{key}']\").length"
    assert near == page.execute_script(ends) > 0


def test_hover_on_a_point_of_the_curve_shows_its_numbers(page: Any) -> None:
    where = """
      const view = Bokeh.index.roots.find(v => v.el.closest('#curve'));
      view.el.scrollIntoView({block: 'center'});
      const box = view.canvas_view.el.getBoundingClientRect();
      return [box.x + view.frame.x_scale.compute(300), box.y + view.frame.y_scale.compute(0.9125)]
    """
    hover(page, *page.execute_script(where))
    deep = """
      const texts = root => [...root.querySelectorAll('*')].map(e => e.shadowRoot ? texts(e.shadowRoot) : '')
        .concat([...root.querySelectorAll('.bk-tooltip-row-label, .bk-tooltip-row-value')].map(e => e.textContent));
      return texts(document).flat().join(' ')
    """
    text = shown(page, deep, "91.25 %")
    for words in ("300", "91.25 %", "1.8 kB", "3.2 s", "48.0 MB", "gmp"):
        assert words in text
