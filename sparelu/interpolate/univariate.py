"""The sparsest ReLU network through points on a line, exactly and in linear time."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.interpolant import SOURCE, Interpolant, certify_interpolant, interpolate
from sparelu.interpolate.curves.second_differences import PointsError
from sparelu.method import Fitter, budget_reason, setting
from sparelu.outcome import Iterate, State, Status

LARGEST_MISS = 1e-6
"""Largest error of the delivered network on a point, as a share of the range of the targets."""


@dataclass(frozen=True)
class Univariate(Fitter):
    """Find the l^p-minimal interpolant of one input, with a free affine part: exact, with its certificates.

    Source: Nakhleh & Nowak (2025), Theorems 3.1 and 3.2. Departs from it in the algorithm: gradient descent
    for 100,000 epochs there, dynamic programming here (:mod:`sparelu.interpolate.curves.lp_program`). ``p`` none takes
    the limit p -> 0+, which lies below p* whatever the points, so that the network is both sparsest and
    l^p-minimal for all small p. The network is
    in float64 also where the data are not, since rounded knots would miss the points.

    Use it for points of one input that are to be met exactly.

    Not for noisy values, which it meets too: ``piecewise`` smooths them.
    """

    name = "univariate"
    question = "interpolate"
    paper = SOURCE

    p: float | None = setting(
        None, "exponent of the path norm; none for the limit p -> 0, the sparsest", low=0.0, high=1.0
    )
    collinear: str = setting(
        "exact", "what counts as collinear: numbers as given, or within their rounding", choices=("exact", "rounding")
    )

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Name the reason: not one input, not one target, contradicting points, or a budget below the proved
        minimum.
        """
        reason = one_input_reason(data) or budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is not None:
            return reason
        try:
            found = self.interpolant(data)
        except PointsError as error:
            return str(error)
        allowed = min(budget.count(1, 1) or budget.hidden[0], budget.hidden[0])
        if found.least_knots > allowed:
            return (
                f"no network with fewer than {found.least_knots} nonzeros passes through these points (proved), "
                f"and the budget allows {allowed}: raise `nonzeros` and `hidden`, "
                "or fit with noise by the method 'piecewise'"
            )
        if found.knots.size > allowed:
            return (
                f"the minimum for p = {self.p:g} has {found.knots.size} nonzeros and the budget allows {allowed}: "
                f"p = none gives {found.least_knots}"
            )
        return self._unmet(found, *points_on_a_line(data))

    def _unmet(self, found: Interpolant, x: np.ndarray, y: np.ndarray) -> str | None:
        """Say why the network that would be delivered misses the points: inputs that float64 hardly tells apart."""
        missed = np.abs(found.network()(x[:, None]).numpy()[:, 0] - y).max()
        if missed <= LARGEST_MISS * np.ptp(y):
            return None
        i = int(np.abs(found.points.slopes).argmax())
        low, high = found.points.x[i : i + 2].tolist()
        return (
            f"no network in float64 meets these points: the best misses one by {missed:.2g}, since the inputs "
            f"{low!r} and {high!r} are {high - low:.2g} apart and their targets "
            f"{abs(found.points.slopes[i] * (high - low)):.2g}; average such neighbours, or fit with noise by the "
            "method 'piecewise'"
        )

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield one round: the interpolant."""
        found = self.interpolant(data)
        x, y = points_on_a_line(data)
        network = found.network()
        residual = network(x[:, None]).numpy()[:, 0] - y
        loss = float(np.mean(residual**2))
        numbers = {"least_knots": float(found.least_knots), "path_norm": found.path_norm(self.exponent)}
        yield Iterate(
            1.0,
            loss,
            lambda: network,
            dict,
            numbers,
            lambda: certify_interpolant(found, self.exponent, float(np.abs(residual).max())),
        )
        return Status.converged

    @property
    def exponent(self) -> float:
        """Return p as a number, 0 for the limit."""
        return 0.0 if self.p is None else self.p

    def interpolant(self, data: Data) -> Interpolant:
        """Return the interpolant itself. Raises :class:`~sparelu.interpolate.curves.second_differences.PointsError`."""
        return interpolate(np.asarray(data.x)[:, 0], np.asarray(data.y).reshape(-1), self.exponent, self.collinear)


def one_input_reason(data: Data) -> str | None:
    """Say why these are not points on a line with one target; None when they are."""
    if data.task != "regression" or data.outputs != 1:
        return (
            f"it serves regression with one target, got {data.task} with {data.outputs} output(s); "
            "a target of few whole numbers is taken for classes unless task = regression is given"
        )
    if data.inputs != 1:
        return f"it serves one input, got {data.inputs}: for several take 'few-weights' or 'reweighted'"
    return None


def points_on_a_line(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (n,), (n,) in float64."""
    return np.asarray(data.x, dtype=np.float64)[:, 0], np.asarray(data.y, dtype=np.float64).reshape(-1)
