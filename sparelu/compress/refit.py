"""A last fit of a small network on rows of data: to what the original says there, not to the labels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from sparelu.gaussian import TwoLayer

PATIENCE = 30
"""Steps of the fit that may pass without coming nearer on the watched rows."""


def refit_outputs(student: TwoLayer, x: Float[Tensor, "n d"], wanted: Float[Tensor, "n k"]) -> TwoLayer:
    """Fit the output weights and offset by least squares on the rows; hidden neurons and linear part as they are."""
    features = (x @ student.weight.T + student.bias).clamp(min=0)
    rest = wanted - x @ student.linear.T
    centre, level = features.mean(0), rest.mean(0)
    out = torch.linalg.lstsq(features - centre, rest - level, driver="gelsd").solution.T
    return TwoLayer(out, student.weight, student.bias, student.linear, level - out @ centre)


def refit_all(
    student: TwoLayer,
    x: Float[Tensor, "n d"],
    original: TwoLayer,
    classes: bool,
    steps: int,
    watched: Float[Tensor, "w d"] | None = None,
) -> TwoLayer:
    """Fit all weights by L-BFGS on the rows, in the number type of the rows; the iterate nearest on ``watched`` rows.

    The loss is :func:`row_gap` over the variance of the original's outputs. Inputs are centred meanwhile, which changes
    biases only. A student of a network without hidden biases keeps them at zero, one without linear part has none.
    Stops when :data:`PATIENCE` steps come no nearer on the watched rows.
    """
    form_bias = bool(original.bias.any())
    centre = x.mean(0) if form_bias else torch.zeros_like(x[0])
    parts, free = _parts(student, centre.double(), form_bias)
    wanted = original(x.double()).to(x.dtype)
    spread = 1.0 if classes else float(wanted.var(0).sum())
    shapes = [parts[name].shape for name in free]

    def rebuilt(flat: Tensor) -> TwoLayer:
        pieces = torch.split(flat, [s.numel() for s in shapes])
        fixed = {name: part.to(flat.dtype) for name, part in parts.items()}
        return TwoLayer(**{**fixed, **{n: p.reshape(s) for n, p, s in zip(free, pieces, shapes, strict=True)}})

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(flat).to(x.dtype).requires_grad_()
        value = row_gap(rebuilt(variable)(x - centre), wanted, classes) / spread
        (gradient,) = torch.autograd.grad(value, variable)
        return float(value.detach()), gradient.double().numpy()

    start = torch.cat([parts[name].reshape(-1) for name in free]).numpy()
    judge = _Judge(start, rebuilt, original, None if watched is None else watched.double(), centre.double(), classes)
    options = {"maxiter": steps, "maxcor": 20, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options, callback=judge)
    new = rebuilt(torch.from_numpy(found.x if watched is None else judge.best))
    bias, offset = new.bias - new.weight @ centre.double(), new.offset - new.linear @ centre.double()
    return TwoLayer(new.out, new.weight, bias, new.linear, offset)


def refit_students(
    students: Sequence[TwoLayer],
    original: TwoLayer,
    x: Float[Tensor, "n d"],
    classes: bool,
    kind: str,
    steps: int,
    rng: np.random.Generator,
) -> TwoLayer:
    """Choose, of the students and of what fits of ``kind`` ("outputs" or "all") make of each, the nearest on rows kept
    apart.

    A fifth of the rows, drawn at random, is kept apart; the original's outputs have no noise, so few tell.
    """
    order = torch.from_numpy(rng.permutation(len(x)))
    watched, fitted = x[order[: len(x) // 5]], x[order[len(x) // 5 :]]
    judged = watched.double() if len(watched) else fitted.double()
    wanted, answers = original(judged), original(fitted.double())

    def distance(net: TwoLayer) -> float:
        return float(row_gap(net(judged), wanted, classes))

    found = []
    for student in students:
        ways = [student, refit_outputs(student, fitted.double(), answers)]
        if kind == "all":
            ways.append(refit_all(min(ways, key=distance), fitted, original, classes, steps, judged))
        found += ways
    return min(found, key=distance)


def row_gap(said: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"], classes: bool) -> Float[Tensor, ""]:
    """Return the mean squared gap over the rows, or of classes :func:`divergence`."""
    return divergence(said, wanted) if classes else (said - wanted).square().sum(1).mean()


def divergence(said: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return the mean Kullback-Leibler divergence from the probabilities of logits ``wanted`` to those of ``said``."""
    if said.shape[1] == 1:
        said, wanted = (torch.cat([torch.zeros_like(t), t], 1) for t in (said, wanted))
    target = torch.log_softmax(wanted, 1)
    return (target.exp() * (target - torch.log_softmax(said, 1))).sum(1).mean()


class _Judge:
    """Watch the iterates of a fit, keep the best, and end the fit when it has not improved for long."""

    def __init__(
        self,
        start: np.ndarray,
        rebuilt: Callable[[Tensor], TwoLayer],
        original: TwoLayer,
        rows: Tensor | None,
        centre: Tensor,
        classes: bool,
    ) -> None:
        self.best, self.rebuilt, self.classes = start.copy(), rebuilt, classes
        self.rows = None if rows is None else rows - centre
        self.wanted = None if rows is None else original(rows)
        self.least, self.waited = self._distance(start), 0

    def _distance(self, flat: np.ndarray) -> float:
        if self.rows is None or self.wanted is None:
            return 0.0
        return float(row_gap(self.rebuilt(torch.from_numpy(flat))(self.rows), self.wanted, self.classes))

    def __call__(self, flat: np.ndarray) -> None:
        if self.rows is None:
            return
        distance = self._distance(flat)
        self.waited += 1
        if distance < self.least:
            self.least, self.best, self.waited = distance, flat.copy(), 0
        if self.waited >= PATIENCE:
            raise StopIteration


def _parts(student: TwoLayer, centre: Tensor, form_bias: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Return the student read from inputs less ``centre``, and the names of the parts that are fitted."""
    parts = {
        "out": student.out,
        "weight": student.weight,
        "bias": student.bias + student.weight @ centre,
        "linear": student.linear,
        "offset": student.offset + student.linear @ centre,
    }
    held = set() if form_bias else {"bias"}
    if not bool(student.linear.any()):
        held.add("linear")
    return parts, [name for name in parts if name not in held]
