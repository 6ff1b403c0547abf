"""What a network gets wrong on test rows, and what simple models get on them, as JSON values for the report."""

import math
import warnings
from typing import Any

import numpy as np

from sparelu.data import Data, Split, probabilities
from sparelu.outcome import Solution

ROWS = 2000
"""Rows that are looked at, at most, evenly spaced."""
HELD = 10_000_000
"""Numbers of these rows, at most."""
DRAWN = 400
"""Points of a chart, at most."""
BINS = 10
CLASSES = 20
"""Classes of a table of confusion, at most."""
WORST = 5
FEWEST = 10
"""Training rows below which no simple model is fitted."""
CELLS = 2_000_000
"""Numbers in the training inputs above which simple models are not fitted: they are to take seconds."""


def spaced_rows(data: Data, count: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return at most ``count`` rows, evenly spaced: their places (n,), inputs (n, d) in float64, and targets.

    Of wide tables there are fewer, so that they take at most 80 MB.
    """
    count = min(count, max(1, HELD // data.inputs))
    places = np.unique(np.linspace(0, data.n - 1, min(count, data.n)).astype(np.int64))
    parts, start = [], 0
    for x, y in data.chunks():
        here = places[(places >= start) & (places < start + len(x))] - start
        parts.append((x[here].astype(np.float64), y[here]))
        start += len(x)
    return places, np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def errors_of(solution: Solution, split: Split) -> dict[str, Any] | None:
    """Return what is wrong on the test rows; of several targets nothing.

    Of a regression the pairs (prediction, error) of some rows, the root mean square and the mean size of errors, and
    the worst rows. Of classes the confusion (rows of each class by predicted class), the calibration, and of two
    classes the ROC curve.
    """
    places, x, y = spaced_rows(split.test)
    numbers = places if split.test_rows is None else split.test_rows[places]
    scores = solution.network(x).cpu().numpy()
    if solution.task == "classification":
        return {"rows": len(x), **_of_classes(probabilities(scores), y.astype(np.int64), numbers, solution.classes)}
    return None if scores.shape[1] > 1 else {"rows": len(x), **_of_numbers(scores[:, 0], y.reshape(-1), numbers)}


def _of_numbers(found: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> dict[str, Any]:
    error = found - y
    shown = np.linspace(0, len(y) - 1, min(DRAWN, len(y))).astype(np.int64)
    worst = np.argsort(-np.abs(error), kind="stable")[:WORST]
    return {
        "rms": float(np.sqrt(np.mean(error**2))),
        "mean": float(np.mean(np.abs(error))),
        "pairs": [[float(found[i]), float(error[i])] for i in shown],
        "worst": [{"row": int(numbers[i]), "true": float(y[i]), "found": float(found[i])} for i in worst],
    }


def _of_classes(shares: np.ndarray, y: np.ndarray, numbers: np.ndarray, classes: tuple[Any, ...]) -> dict[str, Any]:
    predicted = shares.argmax(axis=1)
    two = len(classes) == 2
    said = shares[:, 1] if two else shares.max(axis=1)
    came = y == 1 if two else predicted == y
    known = shares[np.arange(len(y)), y]
    worst = np.argsort(known, kind="stable")[:WORST]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (y, predicted), 1)
    return {
        "confusion": confusion.tolist() if len(classes) <= CLASSES else None,
        "calibration": calibration(said, came),
        "roc": roc(said, came) if two and 0 < came.sum() < len(came) else None,
        "worst": [
            {
                "row": int(numbers[i]),
                "true": str(classes[y[i]]),
                "found": str(classes[predicted[i]]),
                "given": float(known[i]),
            }
            for i in worst
        ],
    }


def calibration(said: np.ndarray, came: np.ndarray) -> list[list[float]]:
    """Return for at most ten groups of equally many rows, by rising probability: mean said, share that came, rows."""
    order = np.argsort(said, kind="stable")
    groups = [part for part in np.array_split(order, min(BINS, max(1, len(order) // BINS))) if len(part)]
    return [[float(said[part].mean()), float(came[part].mean()), len(part)] for part in groups]


def roc(said: np.ndarray, came: np.ndarray) -> list[list[float]]:
    """Return points (false positives, true positives), as shares, of falling thresholds, from (0, 0) to (1, 1).

    Rows of equal probability are passed at once.
    """
    order = np.argsort(-said, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(said[order]) != 0, True))
    true, false = np.cumsum(came[order])[ends], np.cumsum(~came[order])[ends]
    points = np.column_stack([false / false[-1], true / true[-1]])
    kept = np.unique(np.linspace(0, len(points) - 1, min(DRAWN, len(points))).astype(np.int64))
    return [[0.0, 0.0], *points[kept].tolist()]


def simple_models(split: Split) -> list[dict[str, Any]]:
    """Return ``name``, ``numbers`` stored and test ``score`` of models that everybody knows, of the same training rows.

    The score is R2 or accuracy, as the network's. Nothing is said of several targets, of fewer than ten rows, and where
    the rows are too many to fit them in passing.
    """
    train, test = split.train, split.test
    if train.n < FEWEST or train.n * train.inputs > CELLS or (train.task == "regression" and train.outputs > 1):
        return []
    x, y = (np.concatenate(parts) for parts in zip(*train.chunks(), strict=True))
    _, held, wanted = spaced_rows(test, test.n)
    y, wanted = y.reshape(len(y)), wanted.reshape(len(wanted))
    if not np.ptp(y):
        return []
    fitted = (_constant, _linear, _tree)
    found = [fit(x, y, held, train.task == "classification") for fit in fitted]
    score = _accuracy if train.task == "classification" else _explained
    return [{"name": name, "numbers": numbers, "score": score(wanted, said)} for name, numbers, said in found]


def _accuracy(wanted: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean(wanted == said))


def _explained(wanted: np.ndarray, said: np.ndarray) -> float:
    variance = float(np.var(wanted))
    return 1 - float(np.mean((wanted - said) ** 2)) / variance if variance else math.nan


def _constant(_: np.ndarray, y: np.ndarray, held: np.ndarray, classes: bool) -> tuple[str, int, np.ndarray]:
    said = np.bincount(y.astype(np.int64)).argmax() if classes else y.mean()
    return "most frequent class" if classes else "mean", 1, np.full(len(held), said)


def _linear(x: np.ndarray, y: np.ndarray, held: np.ndarray, classes: bool) -> tuple[str, int, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = LogisticRegression(max_iter=300) if classes else RidgeCV(np.logspace(-3, 3, 13))
    model = make_pipeline(StandardScaler(), line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a comparison
        model.fit(x, y)
    return "linear", int(line.coef_.size + np.size(line.intercept_)), model.predict(held)


def _tree(x: np.ndarray, y: np.ndarray, held: np.ndarray, classes: bool) -> tuple[str, int, np.ndarray]:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
    model = kind(max_depth=4, min_samples_leaf=5, random_state=0).fit(x, y)
    leaves = int(model.get_n_leaves())
    return "tree of depth 4", 3 * leaves - 2, model.predict(held)  # input and threshold of each split, and the leaves
