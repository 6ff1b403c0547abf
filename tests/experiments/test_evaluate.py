"""Scores of networks on rows, against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics

from sparelu.data import Data
from sparelu.experiments import evaluate as judging
from sparelu.experiments.evaluate import evaluate
from sparelu.networks.network import Network


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_scores_of_classes_are_those_of_scikit_learn(classes: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "CHUNK", chunk)
    rng = np.random.default_rng(classes)
    x = np.round(rng.standard_normal((200, 3)), 1)  # ties in the scores
    y = rng.choice(classes, 200, p=[0.9, 0.1] if classes == 2 else [0.7, 0.2, 0.1])
    net = Network.two_layer(rng.standard_normal((4, 3)), rng.standard_normal((1 if classes == 2 else classes, 4)))
    found = evaluate(net, Data(x, y, "classification"))
    scores = net(x).numpy()
    label = (scores[:, 0] > 0).astype(int) if classes == 2 else scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(y, label))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, label))
    assert found.base_rate == np.bincount(y).max() / 200
    if classes == 2:
        assert found.auc == pytest.approx(metrics.roc_auc_score(y, scores[:, 0]))
    else:
        assert math.isnan(found.auc)


def test_a_class_that_the_rows_lack_counts_nothing() -> None:
    data = Data(np.ones((4, 1)), np.zeros(4, int), "classification", classes=("a", "b"))
    found = evaluate(Network.two_layer([[1.0]], [-1.0]), data)
    assert (found.accuracy, found.balanced_accuracy, found.base_rate) == (1, 1, 1)
    assert math.isnan(found.auc)
