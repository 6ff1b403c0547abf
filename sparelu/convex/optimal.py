"""How far is the weight-decay objective of a two-layer network from the least of all such networks?"""

from dataclasses import dataclass

import numpy as np
import torch

from sparelu.convex.dual_bound import all_patterns, bound_price
from sparelu.convex.patterns import Patterns, draw_patterns
from sparelu.convex.rows import training_loss
from sparelu.convex.solver.cones import ConeNorm, Cones
from sparelu.convex.solver.loss import Loss, Separable
from sparelu.convex.solver.newton import minimise_program, start_point
from sparelu.convex.solver.program import Design, Program
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate

SOLVED = 1e-6
"""Relative gap of the programs that dual points are taken from: the bound holds for any point."""
LARGEST_PROGRAM = 2000
"""Rows above which no program is solved: the dual point is then the network's own."""


@dataclass(frozen=True)
class Optimal(Certifier):
    """Bounds the distance of a network's objective, mean loss + penalty / 2 |all weights|^2, from the global optimum.

    The network may come from anywhere. By weak duality no two-layer ReLU network of any width has an objective below
    D(theta) for a dual point theta that no direction prices above the penalty (Pilanci and Ergen 2020); theta is scaled
    by a proved upper bound of that price (:mod:`sparelu.convex.dual_bound`), exact for rows of rank three at most.

    Use it to ask how far a network of one hidden layer is from the best loss and weight decay that any width reaches.

    Not for the error on new rows, or for deeper networks.
    """

    penalty: float = setting(1e-3, "weight decay against the mean loss (half squares, or cross-entropy)", above=0.0)
    patterns: int = setting(100, "patterns of the program that gives a better dual point; 0: none is solved", low=0)

    name = "optimal"
    question = "convex"
    paper = "Pilanci and Ergen, Neural networks are convex regularizers, 2020; bounds over all patterns: here"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        """Refuse no data, another width or number of outputs, none or several hidden layers, and convolutions."""
        if data is None:
            return "it needs the data: the objective is the loss on them"
        if data.inputs != network.inputs:
            return f"the network reads {network.inputs} inputs, the data have {data.inputs}: give those it was made for"
        if data.outputs != network.outputs:
            return f"the network has {network.outputs} outputs, the data ask for {data.outputs}"
        if network.convolutions or len(network.hidden) != 1:
            layers = f"{len(network.hidden)} hidden layers" + (" with convolutions" if network.convolutions else "")
            return f"the dual bound is for one hidden layer, this network has {layers}"
        return None

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        if data is None:
            raise ValueError(self.refuses(network, data))
        case = _Case.of(network, data, self.penalty)
        everything = all_patterns(case.x, limit=100_000)
        points = [case.loss.dual_point(case.outputs)]
        known = case.objective
        if self.patterns and data.n <= LARGEST_PROGRAM and isinstance(case.loss, Separable):
            theta, better = _from_programs(case, case.loss, self.patterns, rng)
            points, known = [*points, theta], min(known, better)
        found = max((case.lower_bound(theta, everything, rng) for theta in points), key=lambda bound: bound.value)
        claim = (
            f"the network's objective {case.objective:.9g} at penalty {self.penalty:g} is above the least of any "
            f"two-layer ReLU network {case.kind} by at most this: the least is from {found.value:.9g} to {known:.9g}; "
            f"with neurons balanced this network has {case.balanced:.9g}"
        )
        premises = (
            Assumption("no direction is priced above the penalty", "checked", found.how(self.penalty)),
            Assumption("the network is as it is stored, and these are its training rows", "taken on trust"),
        )
        distance = max(case.objective - found.value, 0.0)
        return Certificate(claim, distance, "objective", premises, vacuous=found.value <= 0, source=self.paper)


@dataclass(frozen=True)
class _Bound:
    """A lower bound ``value``, the proved and the met ``price`` of its dual point before it was scaled."""

    value: float
    price: float
    met: float
    exact: bool

    def how(self, penalty: float) -> str:
        kind = "exact over all patterns" if self.exact else "a relaxation's bound"
        slack = f"; local searches met {self.met / penalty:.4f} of the penalty"
        return f"scaled by the largest price, {self.price / penalty:.4f} of the penalty, {kind}{slack}"


@dataclass(frozen=True, eq=False)
class _Case:
    """What the bound needs of network and data: rows with biases, ridge columns, loss, objectives."""

    x: np.ndarray
    ridge: np.ndarray
    loss: Loss
    penalty: float
    outputs: np.ndarray
    objective: float
    balanced: float
    patterns: Patterns
    kind: str

    @classmethod
    def of(cls, network: Network, data: Data, penalty: float) -> "_Case":
        exact = network.to(torch.float64, "cpu")
        rows = np.asarray(data.x[:], dtype=np.float64)
        ones = np.ones((len(rows), 1))
        hidden, last = (layer.to_scipy().toarray() for layer in exact.layers)
        biased = [layer.bias is not None and bool(layer.bias.any()) for layer in exact.layers]
        x = np.column_stack([rows, ones]) if biased[0] else rows
        w = np.column_stack([hidden, exact.layers[0].dense_bias().numpy()]) if biased[0] else hidden
        linear = [] if exact.skip is None else [rows]
        # A constant that two parameters carry costs half as much: each has its column.
        skip_constant = exact.skip is not None and exact.skip.bias is not None and bool(exact.skip.bias.any())
        constant = [ones] * (biased[1] + skip_constant)
        size = np.linalg.norm(w, axis=1) * np.linalg.norm(last, axis=0)
        rest = sum(float((layer.dense_bias() ** 2).sum()) for layer in exact.layers[1:])
        if exact.skip is not None:
            rest += float((exact.skip.values**2).sum() + (exact.skip.dense_bias() ** 2).sum())
        f, loss = exact(rows).numpy(), training_loss(data)
        mean = loss.value(f)
        decay = float((w**2).sum() + (last**2).sum()) + rest
        parts = (("biases of neurons", biased[0]), ("output biases", bool(constant)), ("an affine part", bool(linear)))
        words = ["of any width", *(f"{'with' if there else 'without'} {part}" for part, there in parts)]
        return cls(
            x,
            np.column_stack([*linear, *constant]) if linear or constant else np.empty((len(rows), 0)),
            loss,
            penalty,
            f,
            mean + penalty / 2 * decay,
            mean + penalty * float(size.sum()) + penalty / 2 * rest,
            Patterns.of_gates(x, w[np.abs(w).sum(axis=1) > 0]),
            ", ".join(words),
        )

    def lower_bound(self, theta: np.ndarray, everything: Patterns | None, rng: np.random.Generator) -> _Bound:
        """Return the dual value of ``theta`` scaled until feasible, and by the best share beyond (a line search)."""
        price, met = bound_price(self.x, theta, everything, rng)
        most = min(1.0, self.penalty / price) if price > 0 else 1.0
        values = [self._dual_value(share * most * theta) for share in np.linspace(0.0, 1.0, 101)]
        return _Bound(max(values), price, met, everything is not None)

    def _dual_value(self, theta: np.ndarray) -> float:
        return self.loss.dual_value(theta) - float(((self.ridge.T @ theta) ** 2).sum()) / (2 * self.penalty)


def _from_programs(case: _Case, loss: Separable, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return the dual point and objective of the ReLU program with drawn patterns and those of the network.

    Outputs are solved one by one, as networks in which each neuron feeds one output: such a network is allowed, so that
    the objective is an upper bound of the least.
    """
    patterns = draw_patterns(case.x, count, rng).add(case.patterns)
    design, cones = Design(case.x, patterns), Cones(case.x, patterns)
    theta, objective = np.zeros_like(loss.y), 0.0
    for o in range(loss.y.shape[1]):
        program = Program.relu(design, loss.column(o), case.penalty, case.ridge)
        norm = ConeNorm(case.penalty, cones, program.pattern)
        *_, point = minimise_program(program, norm, start_point(program), SOLVED)
        theta[:, o], objective = point.feasible[:, 0], objective + point.primal
    return theta, objective
