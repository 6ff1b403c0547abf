"""What a report says of errors and of simple models, against scikit-learn on the same rows."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import linear_model, metrics, preprocessing
from sklearn.calibration import calibration_curve

from sparelu.data import Budget, Data, Split
from sparelu.experiments.errors import calibration, errors_of, roc, simple_models
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status


def solution_of(network: Network, classes: tuple = ()) -> Solution:
    task = "classification" if classes else "regression"
    return Solution(network, Status.converged, "none", {}, Budget((3,)), 0, True, task=task, classes=classes)


def split_of(x: np.ndarray, y: np.ndarray, classes: tuple = ()) -> Split:
    data = Data(x, y, "classification" if classes else "regression", (), classes)
    return data.split(0.5, 0)


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_classes_are_told_as_scikit_learn_tells_them(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    classes = ("a", "b", "c", "d")[: max(outputs, 2)]
    x = rng.standard_normal((600, 3))
    split = split_of(x, rng.integers(0, len(classes), 600), classes)
    solution = solution_of(
        Network.from_dense([rng.standard_normal((3, 3)), rng.standard_normal((outputs, 3))]), classes
    )
    found = errors_of(solution, split)
    held, y = np.asarray(split.test.x), np.asarray(split.test.y)
    shares, predicted = solution.probabilities(held), solution.predict(held)
    assert found is not None
    assert found["confusion"] == metrics.confusion_matrix(np.array(classes)[y], predicted, labels=classes).tolist()
    worst = found["worst"][0]
    assert worst["given"] == pytest.approx(shares[np.arange(len(y)), y].min())
    assert split.test_rows is not None
    place = split.test_rows.tolist().index(worst["row"])
    assert (worst["true"], worst["found"]) == (classes[y[place]], predicted[place])
    if len(classes) > 2:
        assert found["roc"] is None
        return
    false, true, _ = metrics.roc_curve(y, shares[:, 1], drop_intermediate=False)
    assert np.array(found["roc"]) == pytest.approx(np.column_stack([false, true]))


def test_calibration_has_equal_groups() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(1000)
    came = rng.random(1000) < said**2
    share, mean = calibration_curve(came, said, n_bins=10, strategy="quantile")
    found = np.array(calibration(said, came))
    assert found[:, 0] == pytest.approx(mean)
    assert found[:, 1] == pytest.approx(share)
    assert found[:, 2].tolist() == [100] * 10
    assert calibration(np.array([0.3]), np.array([True])) == [[0.3, 1.0, 1]]


def test_ties_are_passed_at_once() -> None:
    said, came = np.array([0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, False])
    assert roc(said, came) == [[0.0, 0.0], [0.5, 1.0], [1.0, 1.0]]


def test_errors_of_numbers() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    split = split_of(x, x[:, 0] + rng.standard_normal(400))
    solution = solution_of(Network.from_dense([rng.standard_normal((3, 3)), rng.standard_normal((1, 3))]))
    found = errors_of(solution, split)
    y, predicted = np.asarray(split.test.y), solution.predict(np.asarray(split.test.x))
    assert found is not None
    assert found["rms"] == pytest.approx(metrics.root_mean_squared_error(y, predicted))
    assert found["mean"] == pytest.approx(metrics.mean_absolute_error(y, predicted))
    assert np.array(found["pairs"]) == pytest.approx(np.column_stack([predicted, predicted - y]))
    assert abs(found["worst"][0]["true"] - found["worst"][0]["found"]) == pytest.approx(np.abs(predicted - y).max())
    two = solution_of(Network.from_dense([np.eye(3), rng.standard_normal((2, 3))]))
    assert errors_of(two, split_of(x, x[:, :2])) is None


def test_simple_models_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)) * [1, 10, 100]
    y = (x[:, 0] + 0.3 * rng.standard_normal(400) > 0.5).astype(int)
    split = split_of(x, y, ("no", "yes"))
    found = {one["name"]: one for one in simple_models(split)}
    train, test = split.train, split.test
    scaled = preprocessing.StandardScaler().fit(np.asarray(train.x))
    line = linear_model.LogisticRegression(max_iter=300).fit(scaled.transform(np.asarray(train.x)), np.asarray(train.y))
    assert found["linear"]["score"] == line.score(scaled.transform(np.asarray(test.x)), np.asarray(test.y))
    assert found["linear"]["numbers"] == 4
    assert found["most frequent class"]["score"] == np.mean(np.asarray(test.y) == 0)
    numbers = split_of(x, x[:, 0])
    of_numbers = {one["name"]: one["score"] for one in simple_models(numbers)}
    assert of_numbers["linear"] > 0.99
    constant = np.full(len(numbers.test.y), np.asarray(numbers.train.y).mean())
    assert of_numbers["mean"] == pytest.approx(metrics.r2_score(np.asarray(numbers.test.y), constant))
    assert simple_models(replace(numbers, train=Data(x, x[:, :2]))) == []
