"""The estimators keep scikit-learn's laws, whatever Fitter is behind them."""

import copy
import pickle
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_classification, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparelu import catalogue
from sparelu.data import Budget, Data
from sparelu.datasets import rows
from sparelu.estimators import SparseReLUClassifier, SparseReLURegressor
from sparelu.method import Fitter, budget_reason, setting
from sparelu.networks.network import Layer, Network
from sparelu.outcome import Iterate, State, Status


@dataclass(frozen=True)
class RandomFeatures(Fitter):
    """Hidden units of one random input each, outputs by ridge regression (on labels -1 and 1)."""

    name: ClassVar[str] = "random-features"
    question: ClassVar[str] = "a Fitter of these tests"
    paper: ClassVar[str] = "none"

    ridge: float = setting(1e-3, "weight of the ridge term", above=0.0)
    blow_up: bool = setting(False, "end as a diverged fit does")

    def refuses(self, data: Data, budget: Budget) -> str | None:
        return budget_reason(data, budget, depth=(1, 1))

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        x, y = (np.asarray(a[:], dtype=np.float64) for a in (data.x, data.y))
        if data.task == "classification":
            y = 2.0 * (y[:, None] == np.arange(len(data.classes))[-data.outputs :]) - 1
        y = y.reshape(len(y), -1)
        allowed = budget.count(data.inputs, data.outputs) or 0
        cost = 1 if data.outputs == 1 else 1 + data.outputs
        units = min(budget.hidden[0], allowed // cost)
        column, sign = rng.integers(data.inputs, size=units), rng.choice([-1.0, 1.0], size=units)
        bias = rng.standard_normal(units)
        features = np.maximum(x[:, column] * sign + bias, 0)
        design = np.column_stack([features, np.ones(len(x))])
        v = np.linalg.solve(design.T @ design + self.ridge * np.eye(units + 1), design.T @ y)
        w = Layer.from_triplets((budget.hidden[0], data.inputs), np.arange(units), column, sign, bias, np.arange(units))
        out = np.zeros((data.outputs, budget.hidden[0]))
        out[:, :units] = v[:-1].T
        network = Network((w, Layer.from_dense(out, v[-1]))).to(data.dtype)
        loss = np.inf if self.blow_up else float(((design @ v - y) ** 2).mean())
        yield Iterate(1.0, loss, lambda: network, dict)
        return Status.converged


@pytest.fixture(autouse=True, scope="module")
def random_features() -> Generator[None, None, None]:
    """The Fitter of these tests, in the catalogue."""
    catalogue.METHODS[RandomFeatures.name] = RandomFeatures
    yield
    del catalogue.METHODS[RandomFeatures.name]


def regressor(**more: object) -> SparseReLURegressor:
    return SparseReLURegressor(**{"method": "random-features", "random_state": 0, **more})


def classifier(**more: object) -> SparseReLUClassifier:
    return SparseReLUClassifier(**{"method": "random-features", "random_state": 0, **more})


BRIEF = {"method": "gmp", "settings": {"least": 300}}
"""Few steps of the method that is the default for tables."""


@parametrize_with_checks([regressor(), classifier(), SparseReLURegressor(**BRIEF), SparseReLUClassifier(**BRIEF)])
def test_check_estimator(estimator, check) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([SparseReLURegressor(), SparseReLUClassifier()])
def test_check_estimator_as_it_comes(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_diabetes(return_X_y=True)
    return x * 7 + 3, y  # far from standardised


def test_predict_is_the_network_on_raw_inputs(diabetes) -> None:
    x, y = diabetes
    model = regressor(density=0.3).fit(x, y)
    np.testing.assert_array_equal(model.predict(x), model.network_(x).numpy()[:, 0])
    np.testing.assert_array_equal(model.predict(x), model.solution_.predict(x))
    dense = model.network_.to_module()
    hidden = np.maximum(x @ dense[0].weight.detach().numpy().T + dense[0].bias.detach().numpy(), 0)
    by_hand = hidden @ dense[2].weight.detach().numpy()[0] + dense[2].bias.item()
    np.testing.assert_allclose(model.predict(x), by_hand, rtol=1e-10)
    assert model.score(x, y) > 0.4


def test_standardise_false_trains_on_the_raw_inputs(diabetes) -> None:
    x, y = diabetes
    raw, scaled = (regressor(standardise=s).fit(x, y).predict(x) for s in (False, True))
    assert np.abs(raw - scaled).max() > 1


def test_what_is_known_after_a_fit(diabetes) -> None:
    x, y = diabetes
    x = np.column_stack([x[:, :2], np.zeros(len(x)), x[:, 2:]])
    model = regressor(nonzeros=7).fit(x, y)
    assert model.nnz_ == model.network_.nonzeros == 7
    assert model.n_iter_ == len(model.loss_curve_) == 1
    moved = [np.abs(model.predict(x + 5 * np.eye(x.shape[1])[j]) - model.predict(x)).max() > 0 for j in range(11)]
    np.testing.assert_array_equal(model.support_, moved)
    assert 0 < model.support_.sum() <= 7


def test_support_leaves_out_units_that_nothing_reads_and_counts_the_skip() -> None:
    net = Network.two_layer([[1.0, 0, 0, 0], [0, 2.0, 0, 0]], [3.0, 0.0])
    assert net.used_inputs.tolist() == [0]
    skipped = Network(net.layers, Layer.from_dense([[0.0, 0, 0, 1.0]]))
    assert skipped.used_inputs.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"nonzeros": 12}, 12),
        ({"nonzeros": np.int64(12)}, 12),
        ({"density": 0.25}, 50),
        ({"sparsity": 0.9}, 20),
        ({"compression": 8.0}, 25),
        ({}, 20),
        ({"hidden": (3,)}, 11),
        ({"hidden": (1,)}, 10),
    ],
)
def test_each_budget_and_the_default(given, wanted) -> None:
    x, y = make_regression(60, 10, random_state=0)
    model = regressor(**{"hidden": 20, **given}).fit(x, y)
    assert model.solution_.budget.count(10, 1) == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nonzeros": 1001}, "1001 nonzeros does not fit 1000 weights .* ask for 1 to 1000"),
        ({"nonzeros": 5, "density": 0.1}, "got nonzeros and density"),
        ({"method": "random-featurs"}, "did you mean 'random-features'"),
        ({"settings": {"rige": 1.0}}, "no setting 'rige'; did you mean 'ridge'"),
        ({"settings": {"ridge": -1.0}}, "ridge must be a number above 0"),
        ({"hidden": (5, 5)}, "change `hidden`"),
    ],
)
def test_wrong_parameters_are_refused_at_fit(diabetes, given, words) -> None:
    model = regressor(**given)
    with pytest.raises(ValueError, match=words):
        model.fit(*diabetes)


def test_unusable_targets_are_refused(diabetes) -> None:
    x, _ = diabetes
    with pytest.raises(ValueError, match="constant"):
        regressor().fit(x, np.ones(len(x)))
    with pytest.raises(ValueError, match="one class only"):
        classifier().fit(x, np.full(len(x), "a"))


def test_a_diverged_fit_raises(diabetes) -> None:
    with pytest.raises(FloatingPointError, match="Lower the step size"):
        regressor(settings={"blow_up": True}).fit(*diabetes)


def test_auto_takes_the_method_that_choose_names(diabetes, monkeypatch) -> None:
    asked = []

    def chosen(data: Data, budget: Budget) -> tuple[str, str]:
        asked.append((data.task, budget.nonzeros))
        return "random-features", "a test"

    monkeypatch.setattr("sparelu.estimators.choose", chosen)
    model = SparseReLURegressor(nonzeros=9).fit(*diabetes)
    assert asked == [("regression", 9)]
    assert model.solution_.method == "random-features"


def test_random_state_decides(diabetes) -> None:
    x, y = diabetes
    same = [regressor(random_state=s).fit(x, y) for s in (3, 3, np.int64(3))]
    assert all(np.array_equal(same[0].predict(x), other.predict(x)) for other in same[1:])
    assert same[0].solution_.seed == 3
    state = np.random.RandomState(3)
    first, second = (regressor(random_state=state).fit(x, y).predict(x) for _ in range(2))
    assert not np.array_equal(first, second)


def test_several_targets() -> None:
    x, y = make_regression(100, 4, n_targets=3, random_state=0)
    model = regressor(density=0.8).fit(x, y)
    assert model.predict(x).shape == (100, 3)
    assert model.score(x, y) > 0.9
    column = regressor(density=0.8).fit(x, y[:, :1])
    np.testing.assert_array_equal(column.predict(x), regressor(density=0.8).fit(x, y[:, 0]).predict(x))


def test_probabilities_of_two_classes_follow_the_logistic_function() -> None:
    x, y = make_classification(200, 6, random_state=0)
    model = classifier().fit(x, np.where(y == 1, "yes", "no"))
    score, p = model.decision_function(x), model.predict_proba(x)
    assert score.shape == (200,)
    np.testing.assert_allclose(np.log(p[:, 1] / p[:, 0]), score, atol=1e-9)
    np.testing.assert_array_equal(model.predict(x), np.where(p[:, 1] > 0.5, "yes", "no"))
    assert model.score(x, np.where(y == 1, "yes", "no")) > 0.8


def test_probabilities_of_three_classes_follow_the_softmax() -> None:
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    model = classifier(density=0.5).fit(x, names[y])
    score, p = model.decision_function(x), model.predict_proba(x)
    assert score.shape == p.shape == (150, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(p[:, [1, 2]] / p[:, [0]]), score[:, [1, 2]] - score[:, [0]], atol=1e-9)
    np.testing.assert_array_equal(model.predict(x), names[p.argmax(axis=1)])
    np.testing.assert_array_equal(model.predict(x), model.solution_.predict(x))
    assert model.score(x, names[y]) > 0.85


@pytest.mark.parametrize("labels", [[False, True, True], [-3, 8, 8], ["b", "a", "a"]])
def test_labels_of_any_kind_come_back(labels) -> None:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.5]])
    y = np.array(labels)
    model = classifier().fit(x, y)
    assert model.predict(x).dtype == y.dtype
    np.testing.assert_array_equal(model.predict(x), y)


def test_data_frames_give_names_and_are_checked(diabetes) -> None:
    x, y = diabetes
    frame = pd.DataFrame(x, columns=load_diabetes().feature_names)
    model = regressor().fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == list(frame.columns)
    assert model.solution_.names == tuple(frame.columns)
    np.testing.assert_array_equal(model.predict(frame), regressor().fit(x, y).predict(x))
    with pytest.raises(ValueError, match="same order"):
        model.predict(frame[frame.columns[::-1]])
    named = classifier().fit(frame, pd.Series(np.where(y > 150, "high", "low")))
    assert set(named.predict(frame)) == {"high", "low"}
    assert named.solution_.names == tuple(frame.columns)
    assert named.solution_.classes == ("high", "low")


def test_float32_stays_float32(diabetes) -> None:
    x, y = (a.astype(np.float32) for a in diabetes)
    model = regressor().fit(x, y)
    assert model.predict(x).dtype == np.float32


def test_pipeline_and_cross_validation(diabetes) -> None:
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), regressor(density=0.3))
    assert cross_val_score(model, *diabetes, cv=3).mean() > 0.3
    assert model.fit(*diabetes)[-1].feature_names_in_[0] == "x0"


def test_grid_search_over_nonzeros_and_settings(diabetes) -> None:
    grid = {"nonzeros": [2, 60], "settings": [None, {"ridge": 1e6}]}
    search = GridSearchCV(regressor(), grid, cv=3, error_score="raise").fit(*diabetes)
    assert search.best_params_ == {"nonzeros": 60, "settings": None}
    assert search.best_estimator_.solution_.budget.nonzeros == 60
    np.testing.assert_array_equal(search.predict(diabetes[0]), search.best_estimator_.predict(diabetes[0]))


def test_clone_is_unfitted_with_the_same_parameters(diabetes) -> None:
    model = regressor(settings={"ridge": 0.5}).fit(*diabetes)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not [name for name in vars(fresh) if name.endswith("_")]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_predicts_the_same(diabetes, copied) -> None:
    x, y = diabetes
    model = regressor().fit(x, y)
    before = model.predict(x)
    np.testing.assert_array_equal(copied(model).predict(x), before)


def mixed_frame(n: int = 200) -> tuple[pd.DataFrame, np.ndarray]:
    """A frame with text, a date, a category and missing values, and a target that depends on some of them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n).astype(float),
            "city": rng.choice(["Paris", "Rome", "Oslo"], n),
            "kind": pd.Categorical(rng.choice(["x", "y"], n)),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 300, n), unit="D"),
            "member": rng.random(n) < 0.5,
        }
    )
    y = frame["age"] / 10 + 3 * (frame["city"] == "Paris") - 2 * (frame["kind"] == "y")
    frame.loc[::11, "age"] = np.nan
    return frame, y.to_numpy()


def test_frames_are_taken_as_they_are() -> None:
    frame, y = mixed_frame()
    model = SparseReLURegressor(nonzeros=20, random_state=0).fit(frame, y)
    assert model.n_features_in_ == 5
    assert list(model.feature_names_in_) == list(frame)
    assert "city = Paris" in model.solution_.names
    assert model.support_.tolist()[:3] == [True, True, True]
    assert model.score(frame, y) > 0.9
    np.testing.assert_allclose(model.predict(frame[::-1])[::-1], model.predict(frame))
    shuffled = frame[["member", "day", "kind", "city", "age"]].assign(extra="?")
    np.testing.assert_allclose(model.predict(shuffled), model.predict(frame))
    assert np.isfinite(model.predict(frame.assign(city="Cairo", age=np.nan))).all()
    with pytest.raises(ValueError, match="lacks 1 of the columns that the model reads, such as 'city'"):
        model.predict(frame.drop(columns="city"))
    with pytest.raises(ValueError, match="give a frame of pandas or polars, got ndarray"):
        model.predict(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="column 'age' holds 'old' where numbers belong"):
        model.predict(frame.assign(age="old"))
    labels = SparseReLUClassifier(nonzeros=20, random_state=0).fit(frame, np.where(y > y.mean(), "high", "low"))
    assert labels.score(frame, np.where(y > y.mean(), "high", "low")) > 0.9


def test_a_frame_of_numbers_is_read_as_an_array() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((50, 3)), columns=list("abc"))
    y = frame["a"].to_numpy()
    found = [SparseReLURegressor(nonzeros=4, random_state=0).fit(x, y) for x in (frame, frame.to_numpy())]
    assert found[0].columns_ is None
    np.testing.assert_array_equal(found[0].predict(frame), found[1].predict(frame.to_numpy()))


@pytest.mark.parametrize("limit", [0, 2**30])
def test_sparse_matrices_are_fitted_as_dense_ones(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", limit)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 8)) * (rng.random((100, 8)) < 0.3)
    y = np.maximum(x[:, 0], 0) - x[:, 3]
    model = SparseReLURegressor(nonzeros=10, random_state=0).fit(sparse.csr_matrix(x), y)
    np.testing.assert_array_equal(model.predict(sparse.csr_array(x)), model.predict(x))
    if limit:
        dense = SparseReLURegressor(nonzeros=10, random_state=0).fit(x, y)
        np.testing.assert_array_equal(dense.predict(x), model.predict(x))
    else:
        assert model.score(x, y) > 0.9
