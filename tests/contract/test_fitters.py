"""Every Fitter of the catalogue keeps every law, on every problem that its row names."""

import math

import pytest

from sparelu.catalogue import METHODS, fitter
from sparelu.data import Budget
from sparelu.method import Fitter, SettingError, settings_of
from tests.contract.checks import CHECKS
from tests.contract.table import FITTERS, PROBLEMS, Row

CASES = [(row, problem) for row in FITTERS for problem in row.serves]
IDS = [f"{row.name}-{problem}" for row, problem in CASES]
KNOWN = {name: method for name, method in METHODS.items() if issubclass(method, Fitter)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(("row", "problem"), CASES, ids=IDS)
def test_law(row: Row, problem: str, check) -> None:
    data, budget = PROBLEMS[problem]()
    check(fitter(row.name, **row.settings), data, budget)


def test_every_fitter_has_a_row() -> None:
    assert {row.name for row in FITTERS} == {name for name, method in KNOWN.items() if not method.asks}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_refusal_is_a_reason(name: str, problem: str) -> None:
    data, budget = PROBLEMS[problem]()
    reason = fitter(name).refuses(data, budget)
    assert reason is None or len(reason) > 20


@pytest.mark.parametrize("row", FITTERS, ids=lambda row: row.name)
def test_a_budget_above_the_weights_is_refused(row: Row) -> None:
    data, _ = PROBLEMS[row.serves[0]]()
    reason = fitter(row.name, **row.settings).refuses(data, Budget((3,), nonzeros=10**6))
    assert reason is not None
    assert "1000000" in reason


@pytest.mark.parametrize("name", KNOWN)
def test_settings_are_declared_and_guarded(name: str) -> None:
    for s in settings_of(KNOWN[name]):
        assert len(s.rule.help) > 5, f"{name}.{s.name} has no help"
        for bad in (math.nan, object()):
            with pytest.raises((SettingError, TypeError), match=s.name):  # TypeError: the hook on types comes first
                fitter(name, **{s.name: bad})
    with pytest.raises(SettingError, match="no setting 'nonsense'"):
        fitter(name, nonsense=1)


@pytest.mark.parametrize("name", KNOWN)
def test_docstrings_name_their_source(name: str) -> None:
    method = KNOWN[name]
    assert method.__doc__
    assert method.paper
    assert method.question in ("recover", "interpolate", "convex", "train")
