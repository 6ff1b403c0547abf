"""One row buys a method all contract tests: its name, quick settings, and the problems it must serve."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparelu.data import Budget, Data


def _planted() -> tuple[Data, Budget]:
    rng = np.random.default_rng(1)
    w = np.zeros((3, 6))
    w[0, :2], w[1, 3], w[2, 4:] = (1.0, -0.5), 2.0, (0.7, 0.9)
    x = rng.standard_normal((240, 6))
    return Data(x, np.maximum(x @ w.T, 0).sum(axis=1)), Budget((4,), nonzeros=6)


def _two_targets() -> tuple[Data, Budget]:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 5))
    return Data(x, np.stack([np.abs(x[:, 0]), x[:, 1] + np.maximum(x[:, 2], 0)], axis=1)), Budget((8,), nonzeros=30)


def _classes() -> tuple[Data, Budget]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 4))
    label = np.array(["low", "mid", "top"])[np.digitize(x[:, 0] + 0.5 * np.abs(x[:, 1]), [-0.3, 0.8])]
    return Data(x, label, "classification"), Budget((8,), nonzeros=24)


def _two_classes() -> tuple[Data, Budget]:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 4)).astype(np.float32)
    return Data(x, (np.abs(x[:, 0]) > 0.7).astype(int), "classification"), Budget((6,), nonzeros=8)


def _one_input() -> tuple[Data, Budget]:
    x = np.linspace(-2, 3, 12)[:, None]
    return Data(x, np.abs(x[:, 0]) - 0.5 * np.maximum(x[:, 0] - 1, 0)), Budget((12,), nonzeros=12)


def _few_points() -> tuple[Data, Budget]:
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (7, 5))
    return Data(x, rng.uniform(-1, 1, 7)), Budget((20,), nonzeros=20)


def _images() -> tuple[Data, Budget]:
    rng = np.random.default_rng(6)
    x = rng.random((90, 5, 4)).astype(np.float32)
    label = x[:, :2].sum((1, 2)) > x[:, 3:].sum((1, 2))
    x[:, :2] += 0.5 * label[:, None, None]
    budget = Budget((6,), nonzeros=90, channels=(4, 5))
    return Data(x.reshape(90, 20), label.astype(int), "classification", image=(5, 4)), budget


PROBLEMS: dict[str, Callable[[], tuple[Data, Budget]]] = {  # each is made once: the laws share fits on it
    "planted": functools.cache(_planted),
    "two targets": functools.cache(_two_targets),
    "classes": functools.cache(_classes),
    "two classes": functools.cache(_two_classes),
    "one input": functools.cache(_one_input),
    "few points": functools.cache(_few_points),
    "images": functools.cache(_images),
}
DENSE = tuple(name for name in PROBLEMS if name != "images")


@dataclass(frozen=True)
class Row:
    """A Fitter by name, settings that make it quick, and the problems that it serves."""

    name: str
    serves: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


ENGINE = {"least": 150, "rate": 0.03}

FITTERS: tuple[Row, ...] = (
    Row("gmp", DENSE, {"least": 300}),
    Row("magnitude", DENSE, {"least": 300}),
    Row("imp", DENSE, {"least": 400}),
    Row("rigl", DENSE, ENGINE | {"every": 15}),
    *(Row(name, ("two targets", "two classes"), ENGINE | {"every": 15}) for name in ("set", "snfs", "mest")),
    *(Row(name, ("two targets", "two classes"), ENGINE) for name in ("static", "grasp", "synflow")),
    Row("chase", ("images",), ENGINE | {"every": 15}),
    Row("snip", ("planted", "classes"), ENGINE | {"rows": 50, "rounds": 3}),
    Row("exact", ("planted", "two targets")),
    Row("aiht", DENSE, {"epochs": 15, "batch": 50, "step": 0.2}),
    Row("pursuit", ("planted", "two classes", "one input", "few points"), {"swaps": 5}),
    Row("univariate", ("one input",)),
    Row("piecewise", ("one input",)),
    Row("few-weights", ("few points",)),
    Row("reweighted", DENSE, {"epochs": 100}),
    Row("convex", DENSE, {"patterns": 40, "rounds": 1, "tolerance": 1e-6}),
    Row("gated", ("two targets", "two classes", "one input"), {"patterns": 40, "tolerance": 1e-6}),
)
