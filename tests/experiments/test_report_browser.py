"""The report in a real browser: it renders, hover shows values, nothing is requested, it opens quickly."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sparelu.experiments.report import write_report
from tests.experiments.report_samples import digits_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no browser: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1100,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    from selenium.webdriver.chrome.service import Service

    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    solution, points, mean = digits_report()
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, solution, points, "test accuracy", "360 of 1797 rows at random", mean)
    browser.get_log("performance")
    browser.seconds = min(_opened(browser, path.as_uri()) for _ in range(3))
    browser.messages = browser.get_log("browser")
    browser.requests = _requests(browser)
    return browser


def _opened(browser: Any, url: str) -> float:
    """Seconds until the page has loaded; the least of a few is what the page needs on a machine with other work."""
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(url)
    return time.perf_counter() - start


def _requests(browser: Any) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def _hover(browser: Any, x: float, y: float) -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    moves = ActionBuilder(browser, duration=50)
    moves.pointer_action.move_to_location(int(x) - 3, int(y) - 3)
    moves.pointer_action.move_to_location(int(x), int(y))
    moves.perform()


def _shown(browser: Any, script: str, wanted: str) -> str:
    """What ``script`` returns, once it holds ``wanted`` or two seconds have passed."""
    end, found = time.perf_counter() + 2, ""
    while wanted not in found and time.perf_counter() < end:
        found = browser.execute_script(script) or ""
        time.sleep(0.02)
    return found


def test_opens_quickly_without_errors_or_requests(page: Any) -> None:
    assert page.seconds < 5
    assert [m for m in page.messages if m["level"] in ("SEVERE", "WARNING")] == []
    assert [u for u in page.requests if not u.startswith(("file:", "data:"))] == []
    assert any(u.startswith("file:") for u in page.requests)


def test_the_browser_itself_refuses_requests_from_the_page(page: Any) -> None:
    script = "fetch('http://127.0.0.1:9/x').then(() => arguments[0]('sent'), () => arguments[0]('refused'))"
    assert page.execute_async_script(script) == "refused"
    assert any("Content Security Policy" in m["message"] for m in page.get_log("browser"))


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
    _hover(page, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = "const t = document.getElementById('tip'); return t.style.visibility == 'visible' ? t.textContent : ''"
    assert _shown(page, tip, "weights in") == unit.get_attribute("data-tip")
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
    _hover(page, *page.execute_script(where))
    deep = """
      const texts = root => [...root.querySelectorAll('*')].map(e => e.shadowRoot ? texts(e.shadowRoot) : '')
        .concat([...root.querySelectorAll('.bk-tooltip-row-label, .bk-tooltip-row-value')].map(e => e.textContent));
      return texts(document).flat().join(' ')
    """
    shown = _shown(page, deep, "91.25 %")
    for words in ("300", "91.25 %", "1.8 kB", "3.2 s", "48.0 MB", "gmp"):
        assert words in shown
