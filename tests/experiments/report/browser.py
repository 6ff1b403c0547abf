"""A headless Chromium for the tests of pages; they skip with the reason where there is none."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
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


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with an empty ``profile`` that logs its console and its requests."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def opened(browser: Any, url: str) -> float:
    """Seconds until the page has loaded; the least of a few is what the page needs on a machine with other work."""
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(url)
    return time.perf_counter() - start


def requests(browser: Any) -> list[str]:
    """Addresses asked for since the last call, without those of the browser's own start page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith("chrome:")]


def hover(browser: Any, x: float, y: float) -> None:
    """Move the pointer to a place in the window."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    moves = ActionBuilder(browser, duration=50)
    moves.pointer_action.move_to_location(int(x) - 3, int(y) - 3)
    moves.pointer_action.move_to_location(int(x), int(y))
    moves.perform()


def shown(browser: Any, script: str, wanted: str) -> str:
    """What ``script`` returns, once it holds ``wanted`` or two seconds have passed."""
    end, found = time.perf_counter() + 2, ""
    while wanted not in found and time.perf_counter() < end:
        found = browser.execute_script(script) or ""
        time.sleep(0.02)
    return found


def problems(browser: Any) -> list[str]:
    """Warnings and errors on the console so far."""
    return [m["message"] for m in browser.get_log("browser") if m["level"] in ("SEVERE", "WARNING")]
