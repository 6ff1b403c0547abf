"""One declaration of a hyperparameter: validation, messages and texts."""

from dataclasses import dataclass

import pytest

from sparelu.method import Method, SettingError, configured, setting, settings_of


@dataclass(frozen=True)
class Toy(Method):
    """A method with one setting of every kind."""

    name = "toy"
    question = "train"
    paper = "none"
    epochs: int = setting(3, "passes over the rows", low=1)
    rate: float = setting(0.1, "step size", above=0, below=1)
    score: str = setting("magnitude", "what to keep by", choices=("magnitude", "random"))
    fixed: bool = setting(False, "whether the support stays")
    cap: float | None = setting(None, "largest weight", above=0)


def test_defaults_and_changes() -> None:
    toy = Toy(epochs=5, rate=0.5)
    assert toy.changed() == {"epochs": 5, "rate": 0.5}
    assert Toy().changed() == {}
    assert toy.settings()["score"] == "magnitude"
    assert isinstance(Toy(rate=0.5).rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "toy: epochs must be a whole number at least 1, got 0"),
        ({"epochs": 2.0}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"rate": 1}, "rate must be a number above 0 and below 1, got 1"),
        ({"rate": float("inf")}, "rate must be a number"),
        ({"rate": None}, "rate must be a number"),
        ({"score": "size"}, "score must be one of magnitude, random, got 'size'"),
        ({"fixed": 1}, "fixed must be true or false"),
        ({"cap": 0}, "cap must be a number above 0 or none"),
        ({"epoch": 3}, "toy has no setting 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_bad_values_are_named_with_what_was_wanted(values: dict, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        configured(Toy, values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("epochs", "7", 7), ("rate", "1e-3", 1e-3), ("fixed", "yes", True), ("cap", "none", None), ("cap", "2", 2.0)],
)
def test_texts_become_values(name: str, text: str, value) -> None:
    declared = {s.name: s for s in settings_of(Toy)}
    assert declared[name].parse(text) == value


@pytest.mark.parametrize(("name", "text"), [("epochs", "x"), ("rate", "fast"), ("fixed", "maybe"), ("rate", "none")])
def test_bad_texts_say_what_was_wanted(name: str, text: str) -> None:
    declared = {s.name: s for s in settings_of(Toy)}
    with pytest.raises(SettingError, match=f"{name} must be"):
        declared[name].parse(text)
