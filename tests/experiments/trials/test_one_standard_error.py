"""The one-standard-error rule on curves whose answer is known."""

import math

import pytest
from scipy.stats import sem

from sparelu.experiments.trials.one_standard_error import Validated, choose_budget, loss_name, read_loss
from sparelu.method import SettingError

# Means 5, 3.5, 3, 4; the standard error of the best is 1/sqrt(3) = 0.577, so that 3.5 is within and 5 is not.
CURVE = [
    Validated(20, (2.0, 3.0, 4.0)),
    Validated(5, (5.0, 5.0, 5.0)),
    Validated(10, (3.0, 3.5, 4.0)),
    Validated(40, (3.0, 4.0, 5.0)),
]


def test_mean_and_standard_error() -> None:
    for p in CURVE:
        assert p.loss == pytest.approx(sum(p.losses) / 3)
        assert p.error == pytest.approx(sem(p.losses))
    assert Validated(3, (), {}, "refused").loss == math.inf


@pytest.mark.parametrize(("select", "wanted"), [("one-se", 10), ("best", 20)])
def test_the_rule_decides(select: str, wanted: int) -> None:
    curve = choose_budget(CURVE, select)
    assert [p.nonzeros for p in curve] == [5, 10, 20, 40]
    assert [p.nonzeros for p in curve if p.chosen] == [wanted]


def test_without_spread_the_smallest_of_the_best_is_taken() -> None:
    flat = [Validated(9, (1.0, 1.0)), Validated(7, (1.0, 1.0)), Validated(3, (1.5, 1.5)), Validated(1, (), {}, "no")]
    for select in ("one-se", "best"):
        assert next(p.nonzeros for p in choose_budget(flat, select) if p.chosen) == 7


def test_rows_come_back() -> None:
    for p in choose_budget([*CURVE, Validated(2, (), {"rate": 0.1}, "it refuses")]):
        assert Validated.of(p.row()) == p


def test_nothing_to_choose_from_and_wrong_names() -> None:
    with pytest.raises(ValueError, match="no budget has a loss"):
        choose_budget([Validated(5, (), {}, "refused")])
    with pytest.raises(SettingError, match="did you mean 'one-se'"):
        choose_budget(CURVE, "one_se")


def test_losses_of_both_tasks() -> None:
    measured = {"accuracy": 0.9, "mse": 0.25}
    assert read_loss(measured, "classification") == pytest.approx(0.1)
    assert read_loss(measured, "regression") == 0.25
    assert "wrong" in loss_name("classification")
