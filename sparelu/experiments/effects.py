"""What each column does in a network: what is lost without it, and how the prediction follows it, as JSON values."""

from typing import Any

import numpy as np

from sparelu.data import Split, probabilities
from sparelu.experiments.errors import spaced_rows
from sparelu.outcome import Solution

READ = 60
"""Columns above which nothing is said: no list to read."""
SHUFFLES = 5
AVERAGED = 200
"""Training rows over which an effect is averaged."""
POINTS = 41


def effects_of(solution: Solution, split: Split) -> list[dict[str, Any]]:
    """Return for each column that is read, the most important first: ``name``, ``lost`` and ``effect``.

    ``lost`` is what R2 loses on test rows when the column's values are shuffled among them (mean of five), of classes
    what the mean log loss gains (Breiman, Random Forests, 2001, section 10). ``effect`` are points (value, mean output)
    of a column that is one input: the output with that value put into rows of the training set, averaged (Friedman,
    Greedy Function Approximation, 2001, section 8.2); of two classes the mean probability of the second. Nothing is
    said of several targets, nor of more than 60 columns.
    """
    columns = _columns(solution)
    if not 0 < len(columns) <= READ or (solution.task == "regression" and solution.network.outputs > 1):
        return []
    _, x, y = spaced_rows(split.test)
    _, inside, _ = spaced_rows(split.train)
    whole = _loss(solution, x, y)
    found = []
    for number, (name, inputs) in enumerate(columns.items()):
        lost = []
        for repeat in range(SHUFFLES):
            mixed = x.copy()
            order = np.random.default_rng([solution.seed, number, repeat]).permutation(len(x))
            mixed[:, inputs] = x[order][:, inputs]
            lost.append(_loss(solution, mixed, y) - whole)
        found.append({"name": name, "lost": float(np.mean(lost)), "effect": _effect(solution, inside, inputs)})
    return sorted(found, key=lambda one: -one["lost"])


def _columns(solution: Solution) -> dict[str, list[int]]:
    """Return the inputs that a network reads, by column; the inputs that are made of one column belong together."""
    net = solution.network.compact()
    read = {int(i) for i in net.layers[0].indices} | (set() if net.skip is None else {int(i) for i in net.skip.indices})
    names = list(map(str, solution.names)) or [f"x{i}" for i in range(net.inputs)]
    whose = names if solution.columns is None else [kind.name for kind in solution.columns.read for _ in kind.inputs]
    return {whose[i]: [j for j in range(net.inputs) if whose[j] == whose[i]] for i in sorted(read)}


def _loss(solution: Solution, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of variance that is not explained, or the mean log loss in nats."""
    scores = solution.network(x).cpu().numpy()
    if solution.task == "regression":
        return float(np.mean((scores[:, 0] - y.reshape(-1)) ** 2) / max(float(np.var(y)), np.finfo(np.float64).tiny))
    known = probabilities(scores)[np.arange(len(y)), y.astype(np.int64)]
    return float(-np.mean(np.log(np.maximum(known, np.finfo(np.float64).tiny))))


def _effect(solution: Solution, x: np.ndarray, inputs: list[int]) -> list[list[float]]:
    """Return the points of a column of one input; of others, and of more than two classes, none."""
    if len(inputs) > 1 or len(solution.classes) > 2:
        return []
    (at,) = inputs
    rows = x[np.linspace(0, len(x) - 1, min(AVERAGED, len(x))).astype(np.int64)]
    points = []
    for value in np.unique(np.quantile(x[:, at], np.linspace(0.01, 0.99, POINTS))):
        rows[:, at] = value
        scores = solution.network(rows).cpu().numpy()
        mean = probabilities(scores)[:, 1].mean() if solution.task == "classification" else scores[:, 0].mean()
        points.append([float(value), float(mean)])
    return points
