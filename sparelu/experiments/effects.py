"""What each column does in a network: what is lost without it, and how the prediction follows it, as JSON values."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sparelu.data import Split, probabilities
from sparelu.experiments.errors import spaced_rows
from sparelu.networks.layer import Layer
from sparelu.networks.network import Network
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
    read = _read(solution.network)
    columns = _columns(solution, read)
    if not 0 < len(columns) <= READ or (solution.task == "regression" and solution.network.outputs > 1):
        return []
    narrow = replace(solution, network=_narrow(solution.network, read))
    _, x, y = spaced_rows(split.test)
    _, inside, _ = spaced_rows(split.train, AVERAGED)
    x, inside = x[:, read], inside[:, read]
    whole = _loss(narrow, x, y)
    found = []
    for number, (name, inputs) in enumerate(columns.items()):
        lost = []
        for repeat in range(SHUFFLES):
            mixed = x.copy()
            order = np.random.default_rng([solution.seed, number, repeat]).permutation(len(x))
            mixed[:, inputs] = x[order][:, inputs]
            lost.append(_loss(narrow, mixed, y) - whole)
        name = str(solution.names[read[inputs[0]]]) if len(inputs) == 1 and solution.names else name
        found.append({"name": name, "lost": float(np.mean(lost)), "effect": _effect(narrow, inside, inputs)})
    return sorted(found, key=lambda one: -one["lost"])


def _read(network: Network) -> np.ndarray:
    """Return the numbers of the inputs that a network reads, in order."""
    net = network.compact()
    parts = [net.layers[0], *([] if net.skip is None else [net.skip])]
    return np.unique(np.concatenate([part.indices.cpu().numpy() for part in parts]))


def _narrow(network: Network, read: np.ndarray) -> Network:
    """Return the network of these inputs alone: of a wide table a small part."""
    net = network.to(torch.float64, "cpu").compact()
    place = torch.zeros(net.inputs, dtype=torch.int32)
    place[torch.from_numpy(read).long()] = torch.arange(len(read), dtype=torch.int32)

    def on_read(layer: Layer) -> Layer:
        return replace(layer, shape=(layer.shape[0], len(read)), indices=place[layer.indices.long()])

    return Network((on_read(net.layers[0]), *net.layers[1:]), None if net.skip is None else on_read(net.skip))


def _columns(solution: Solution, read: np.ndarray) -> dict[str, list[int]]:
    """Return the places among the inputs that are ``read``, by column."""
    names = list(map(str, solution.names)) or [f"x{i}" for i in range(solution.network.inputs)]
    whose = names if solution.columns is None else [kind.name for kind in solution.columns.read for _ in kind.inputs]
    found: dict[str, list[int]] = {}
    for place, i in enumerate(read.tolist()):
        found.setdefault(whose[i], []).append(place)
    return found


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
    rows, points = x.copy(), []
    for value in np.unique(np.quantile(x[:, at], np.linspace(0.01, 0.99, POINTS))):
        rows[:, at] = value
        scores = solution.network(rows).cpu().numpy()
        mean = probabilities(scores)[:, 1].mean() if solution.task == "classification" else scores[:, 0].mean()
        points.append([float(value), float(mean)])
    return points
