"""Ranges of a search: derived from every declaration of the catalogue, or given as texts."""

import math
from dataclasses import dataclass

import pytest

from sparelu.catalogue import METHODS
from sparelu.experiments.sweeps.search_space import Choice, Range, derived, search_space
from sparelu.method import Method, SettingError, setting, settings_of
from sparelu.train.fit.magnitude import GradualPruning
from tests.experiments.toys import Shrunk


@dataclass(frozen=True)
class Many(Method):
    """One setting of each kind."""

    name = "many"
    question = "train"
    paper = "none"

    rate: float = setting(0.1, "open below", above=0)
    share: float = setting(0.7, "a share", above=0, high=1)
    open_share: float = setting(0.9, "a share below 1", above=0, below=1)
    penalty: float = setting(0.0, "no positive default", low=0)
    epochs: int = setting(20, "whole", low=1)
    free: float | None = setting(None, "no default", above=0)
    exact: bool = setting(False, "yes or no")
    form: str = setting("a", "one of two", choices=("a", "b"))


def test_what_is_searched_by_itself() -> None:
    space = search_space(Many, {})
    assert set(space) == {"rate", "share", "open_share"}
    assert space["rate"] == Range(0.1 / math.sqrt(10), 0.1 * math.sqrt(10), log=True)
    assert space["share"] == Range(0.7 / math.sqrt(10), 1.0, log=True)


def test_named_settings_take_the_range_of_their_declaration() -> None:
    space = search_space(Many, {"epochs": "", "exact": "", "form": ""})
    assert space["epochs"] == Range(6, 63, log=True, whole=True)
    assert space["exact"] == Choice((False, True))
    assert space["form"] == Choice(("a", "b"))


@pytest.mark.parametrize("kind", [Many, *METHODS.values()], ids=lambda m: m.name)
def test_derived_ranges_keep_the_rules(kind: type[Method]) -> None:
    for s in settings_of(kind):
        if s.kind in (int, float) and s.default is not None and s.default > 0:
            found = derived(kind.name, s)
            assert isinstance(found, Range)
            assert found.low < s.default < found.high or s.default in (found.low, found.high)
            for end in (found.low, found.high):
                s.check(kind.name, int(end) if found.whole else end)


def test_given_ranges_and_lists() -> None:
    given = {"rate": "log:1e-4:1e-1", "l1": "0:1", "epochs": "5:50", "batch": "32,64"}
    assert search_space(GradualPruning, given) == {
        "rate": Range(1e-4, 1e-1, log=True),
        "l1": Range(0.0, 1.0),
        "epochs": Range(5, 50, whole=True),
        "batch": Choice((32, 64)),
    }
    assert search_space(Many, {"form": "b", "free": "1:2"}) == {"form": Choice(("b",)), "free": Range(1.0, 2.0)}


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (GradualPruning, {"rat": "1:2"}, "no setting 'rat' to search; did you mean 'rate'"),
        (GradualPruning, {"rate": "-1:2"}, "rate must be a number above 0"),
        (GradualPruning, {"rate": "2:1"}, "LOW below HIGH"),
        (GradualPruning, {"l1": "log:0:1"}, "above 0"),
        (GradualPruning, {"rate": "1:2:3"}, "wanted LOW:HIGH, log:LOW:HIGH or a list"),
        (GradualPruning, {"epochs": ""}, "no range follows from the default of epochs"),
        (Many, {"penalty": ""}, "no range follows from the default of penalty"),
        (Many, {"form": "a:b"}, "wanted LOW:HIGH"),
        (Many, {"form": "c"}, "one of a, b"),
        (METHODS["aiht"], {}, "aiht has no setting to search by itself: name one"),
    ],
)
def test_bad_ranges_are_named(kind: type[Method], given: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        search_space(kind, given)


def test_values_that_a_search_could_try() -> None:
    assert Range(1, 2).holds(1)
    assert not Range(1, 2).holds(None)
    assert not Range(1, 2).holds(2.5)
    assert Choice((1, 2)).holds(2)
    assert search_space(Shrunk, {})["shrink"].holds(0.5)
