"""What is written as JSON is strict, and comes back as it was."""

import json
import math

import pytest

from sparelu.json_form import dumps, loads, with_nan


def strict(text: str):
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1.5, math.inf, {"b": -math.inf}], "c": "x", "d": None, "e": True, "f": (1, 2)},
        {"Infinity": "NaN", "1e999": "-Infinity", "x": [[], {}]},
        [0.1, -0.0, 5e-324, 1.7976931348623157e308],
    ],
)
def test_infinity_is_a_number_that_comes_back(value) -> None:
    text = dumps(value)
    assert strict(text) == loads(text)
    assert json.dumps(loads(text)) == json.dumps(value)


def test_nan_is_null_and_comes_back_where_it_is_a_number() -> None:
    value = {"score": math.nan, "label": None, "test": {"psnr": math.nan, "rows": [{"score": math.nan}]}}
    found = strict(dumps(value, indent=1))
    assert found == {"score": None, "label": None, "test": {"psnr": None, "rows": [{"score": None}]}}
    back = with_nan(found, ("score", "psnr"))
    assert math.isnan(back["score"])
    assert math.isnan(back["test"]["psnr"])
    assert math.isnan(back["test"]["rows"][0]["score"])
    assert back["label"] is None
    with pytest.raises(TypeError):
        dumps({"a": object()})
    assert strict(dumps({"a": object}, default=str))["a"].startswith("<class")
