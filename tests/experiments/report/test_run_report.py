"""The report file: self-contained, escaped, complete, and honest about what is missing."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sparelu.experiments.report.run_report import Point, write_report
from sparelu.networks.network import Layer, Network, zero_network
from sparelu.outcome import Assumption, Certificate, Status
from tests.experiments.report.samples import digits_report, random_network, solution_of


class Page(HTMLParser):
    """Attributes that load something, table cells, and the visible text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.parts: list[str] = []
        self.hidden = 0
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.hidden += tag in ("script", "style")
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "poster")]

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.parts))


def page_of(path: Path) -> Page:
    return Page(path.read_text())


@pytest.fixture
def written(tmp_path: Path) -> Page:
    solution, points, mean = digits_report()
    write_report(tmp_path / "report.html", solution, points, "test accuracy", "360 rows at random", mean)
    return page_of(tmp_path / "report.html")


def test_nothing_is_loaded_from_outside(tmp_path: Path, written: Page) -> None:
    content = (tmp_path / "report.html").read_text()
    assert [u for u in written.loads if not u.startswith(("#", "data:image/png;base64,"))] == []
    assert "link" not in written.tags
    assert re.findall(r"@import|@font-face", content.split("</style>")[0]) == []
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', content)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]


def test_headline_tables_and_plain_words(written: Page) -> None:
    for words in (
        "300 nonzero weights, test accuracy 91.25 %",
        "A dense network of 2,220 weights reaches 97.50 %",
        "gmp (chosen)",
        "360 rows at random",
        "rounds 40, rewind none, scope global",
        "sparelu 0.1.0, torch 2.13.0",
        "Nothing is proved about this network",
        "Biases are counted apart",
        "rows that the fit did not see",
    ):
        assert words in written.text


def test_layer_table_counts_what_numpy_counts(tmp_path: Path) -> None:
    network, dense = random_network((64, 30, 10), 300, seed=3)
    solution = solution_of(network)
    write_report(tmp_path / "r.html", solution, [Point(300, 0.9, 1.0, 1, 1, "", True)], "test accuracy", "some")
    text = page_of(tmp_path / "r.html").text
    live = np.count_nonzero(dense[1].any(axis=0))
    assert f"hidden 30 × 64 {live} {np.count_nonzero(dense[0])} {100 * np.mean(dense[0] != 0):.3g} % 30" in text
    assert f"output 10 × 30 10 {np.count_nonzero(dense[1])} {100 * np.mean(dense[1] != 0):.3g} % 10" in text


def test_every_text_is_escaped(tmp_path: Path) -> None:
    evil = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
    network, _ = random_network((4, 3, 1), 9)
    solution = solution_of(
        network,
        task="regression",
        classes=(),
        names=(evil, "b", "c", "d"),
        method=evil,
        settings={evil: evil},
        history=({"loss": 1.0, evil: 2.0}, {"loss": 0.5, evil: 1.0}),
        certificates=(Certificate(evil, 1.0, evil, (Assumption(evil, "checked", evil),)),),
        about={"data": evil, "target": evil},
    )
    points = [Point(network.nonzeros, 0.5, 1.0, 1, 1, "", True), Point(99, 0.6, 1.0, 1, 1, evil, False)]
    write_report(tmp_path / "r.html", solution, points, evil, evil, extra={evil: evil})
    page = page_of(tmp_path / "r.html")
    assert "img" not in page.tags
    assert evil in page.text
    assert "<script>document.title" not in (tmp_path / "r.html").read_text()


def test_certificates_show_every_assumption_with_state_and_evidence(tmp_path: Path) -> None:
    solution, points, _ = digits_report()
    claims = (
        Certificate(
            "Error rate at most",
            0.183,
            "of new rows",
            (
                Assumption("Rows are independent", "taken on trust"),
                Assumption("No test row was used", "checked", "seed 7"),
            ),
        ),
        Certificate("Support recovered", 1.0, "", (Assumption("Gaussian inputs", "violated", "kurtosis 1.8"),)),
        Certificate("Error rate at most", 1.7, "", vacuous=True),
    )
    write_report(tmp_path / "r.html", replace(solution, certificates=claims), points, "test accuracy", "s")
    text = page_of(tmp_path / "r.html").text
    assert (
        "0.183 of new rows yes, under its assumptions taken on trust : Rows are independent checked : No test" in text
    )
    assert "No test row was used (seed 7)" in text
    assert "no: an assumption is violated violated : Gaussian inputs (kurtosis 1.8)" in text
    assert "1.7 vacuous: it says nothing here none" in text
    assert "Nothing is proved" not in text


def test_a_network_without_weights_or_score_is_reported_in_words(tmp_path: Path) -> None:
    solution = solution_of(
        zero_network(64, 10), status=Status.diverged, history=(), within_budget=True, about={"image": [8, 8]}
    )
    points = [Point(count, math.nan, 0.1, 1, 1, "", count == 0) for count in (0, 5)]
    write_report(tmp_path / "r.html", solution, points, "test accuracy", "s")
    text = page_of(tmp_path / "r.html").text
    for words in ("no nonzero weights", "not measured", "There is nothing to draw", "its output is a constant"):
        assert words in text
    assert "The fit did not end well (diverged)." in text
    assert "reported no rounds" in text


def test_affine_part_deep_and_unnamed_networks(tmp_path: Path) -> None:
    network, _ = random_network((6, 5, 4, 2), 30, skip=True)
    solution = solution_of(network, classes=(), task="regression", about={}, names=())
    write_report(tmp_path / "r.html", solution, [Point(30, 0.5, 1.0, 1, 1, "", True)], "test R²", "s")
    text = page_of(tmp_path / "r.html").text
    for words in ("hidden 2", "affine part 2 × 6", "so is the affine part (2 weights)", "neurons of layer 2", "x0"):
        assert words in text


def test_a_wide_network_costs_what_its_nonzeros_cost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    units = rng.choice(1_000_000, 500, replace=False)
    first = Layer.from_triplets((1_000_000, 50_000), units, rng.integers(0, 50_000, 500), rng.normal(size=500))
    last = Layer.from_triplets((1, 1_000_000), np.zeros(500), units, rng.choice([-1.0, 1.0], 500))
    solution = solution_of(Network((first, last)), classes=(), task="regression", about={})
    write_report(tmp_path / "r.html", solution, [Point(500, 0.5, 1.0, 1, 1, "", True)], "test R²", "s")
    assert (tmp_path / "r.html").stat().st_size < 2_000_000


def test_points_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    solution, points, mean = digits_report()
    unchosen = [replace(p, chosen=False) for p in points]
    with pytest.raises(ValueError, match="0 of 5 points are chosen"):
        write_report(tmp_path / "r.html", solution, unchosen, "test accuracy", "s")
    other = [replace(unchosen[0], chosen=True), *unchosen[1:]]
    with pytest.raises(ValueError, match="has 50 nonzeros and the network 300"):
        write_report(tmp_path / "r.html", solution, other, "test accuracy", "s")
    with pytest.raises(ValueError, match="mean_image has 63 numbers, wanted one for each of 64"):
        write_report(tmp_path / "r.html", solution, points, "test accuracy", "s", mean[:-1])
    assert list(tmp_path.iterdir()) == []
