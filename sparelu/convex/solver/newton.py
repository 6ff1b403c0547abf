"""Semismooth Newton on the dual of the convex programs, within an augmented Lagrangian.

The dual is max_theta D(theta) subject to Omega*(s_j X' D_j theta) <= 1. With the blocks u as multipliers and a step
sigma, the augmented Lagrangian in theta is, up to a constant,

    psi(theta) = -D(theta) + |prox_{sigma Omega}(w)|^2 / (2 sigma),    w_j = u_j + sigma s_j X' D_j theta,

convex with gradient F(prox(w)) + B a - f(theta), f(theta) the outputs that belong to theta. A step solves with

    H = diag(-df/dtheta) + B B' / penalty + sigma sum_j D_j X S_j X' D_j,    S_j the derivative of prox at w_j,

in which only blocks that are not zero count. Source: Li, Sun and Toh 2018 (SSNAL, for the lasso); the algebra of
patterns is ours: where S_j = a_j I + R_j R_j', the sum is (X X') o (D diag(a) D') plus few outer products.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sparelu.convex.solver.newton_system import solve_newton
from sparelu.convex.solver.penalties import Penalty
from sparelu.convex.solver.program import Blocks, Outputs, Program

GROWTH = 3.0
"""Factor of sigma from one outer step to the next."""
LARGEST_RATIO = np.finfo(float).eps ** -0.5
"""Largest ratio of the two parts of H: half the digits of float64 are left for either."""


@dataclass(frozen=True, eq=False)
class PrimalDualPoint:
    """Where the search stands: multipliers ``u`` (b, d, k), dual point ``theta`` (n, k), step ``sigma``, ``steps``.

    ``blocks`` and ``ridge`` are the best primal solution met, with objective ``primal``; ``feasible`` is the dual point
    of the largest lower bound ``dual``.
    """

    u: Blocks
    theta: Outputs
    sigma: float
    blocks: Blocks
    ridge: Float[np.ndarray, "q k"]
    feasible: Outputs
    primal: float = np.inf
    dual: float = -np.inf
    steps: int = 0
    outer: int = 0
    stalled: bool = False
    """Whether rounding lets neither part move any more."""

    @property
    def gap(self) -> float:
        """Return the relative duality gap: how far the objective may be above the least one, as a share of it."""
        scale = max(abs(self.primal), np.finfo(float).tiny)
        return max(self.primal - self.dual, 0.0) / scale if np.isfinite(self.primal) else np.inf


def start_point(program: Program) -> PrimalDualPoint:
    """Return the empty network, its dual point, and a step for which both parts of H are of one size."""
    n, d = program.design.x.shape
    k = program.loss.y.shape[1]
    theta, sigma = program.empty_dual_point(), _balanced_sigma(program)
    empty = np.zeros((len(program.pattern), d, k))
    return PrimalDualPoint(empty, theta, sigma, empty, np.zeros((program.ridge.shape[1], k)), np.zeros_like(theta))


def _balanced_sigma(program: Program) -> float:
    row = float(np.mean(np.einsum("nd,nd->n", program.design.x, program.design.x)))
    return float(np.mean(1 / program.loss.c)) / max(row, np.finfo(float).tiny)


def warm_point(
    program: Program, penalty: Penalty, blocks: Blocks, feasible: Outputs, sigma: float, share: float
) -> PrimalDualPoint:
    """Return the start that the solution of a nearby program gives: fewer patterns, or ``share`` of its penalty less.

    Blocks beyond those given are zero. ``sigma``, where that program ended, is lowered half the way to a cold start,
    then until what the dual point violates costs no more in psi than the whole objective: a larger one would make a
    loss with a bounded domain creep along its edge.
    """
    fresh = start_point(program)
    u = np.zeros_like(fresh.u)
    u[: len(blocks)] = blocks
    theta = share * feasible
    g, scale = program.correlate(theta), max(abs(program.dual_value(theta)), np.finfo(float).tiny)
    sigma = max(fresh.sigma, float(np.sqrt(sigma * fresh.sigma)))
    while sigma > fresh.sigma:
        if float((penalty.shrink(u + sigma * g, sigma) ** 2).sum() - (u**2).sum()) <= 2 * sigma * scale:
            break
        sigma /= GROWTH
    return replace(fresh, u=u, theta=theta, sigma=max(sigma, fresh.sigma), blocks=u)


def minimise_program(
    program: Program, penalty: Penalty, start: PrimalDualPoint, tolerance: float, outer: int = 60
) -> Iterator[PrimalDualPoint]:
    """Yield a point after every outer step, until the relative gap is below ``tolerance`` or ``outer`` are used.

    The best primal and dual values so far are kept: the gap never rises. From a point that was yielded, what follows
    is the same.
    """
    point, search = start, _Search(program, penalty, start)
    while point.outer < outer and point.gap > tolerance and not point.stalled:
        if point.outer:
            point = replace(point, sigma=min(point.sigma * GROWTH, search.largest))
        point = search.outer_step(point, tolerance)
        yield point


class _Search:
    """The inner minimisation of psi, with the best primal and dual values met."""

    def __init__(self, program: Program, penalty: Penalty, best: PrimalDualPoint) -> None:
        self.program, self.penalty, self.best = program, penalty, best
        self.largest = _balanced_sigma(program) * LARGEST_RATIO
        self.loss = program.loss

    def outer_step(self, point: PrimalDualPoint, tolerance: float, *, newton_steps: int = 50) -> PrimalDualPoint:
        """Minimise psi for the sigma of the point, by three to six Newton steps as a rule."""
        theta, sigma, steps = point.theta, point.sigma, point.steps
        g = self.program.correlate(theta)
        w = point.u + sigma * g
        u = self.penalty.shrink(w, sigma)
        moved = False
        for _ in range(newton_steps):
            gradient = self._look(theta, g, u)
            if self.best.gap <= tolerance:
                break
            curvature = self.penalty.curvature(w, u, sigma)
            step = solve_newton(self.program, self.loss.curvature(theta), curvature, sigma, -gradient)
            slope = float((gradient * step).sum())
            # Rockafellar's criterion: psi within half the squared move of the multipliers.
            if -slope <= float(((u - point.u) ** 2).sum()) / (4 * sigma):
                break
            found = self._line_search(point, theta, g, u, step, slope)
            if found is None:
                break
            theta, g, w, u = found
            steps, moved = steps + 1, True
        stalled = not moved and np.allclose(u, point.u, rtol=8 * np.finfo(float).eps, atol=0.0)
        return replace(self.best, u=u, theta=theta, sigma=sigma, steps=steps, outer=point.outer + 1, stalled=stalled)

    def _look(self, theta: Outputs, g: Blocks, u: Blocks) -> Outputs:
        """Return the gradient of psi; note primal and dual value on the way, which cost nothing more."""
        a = self.program.ridge_weights(theta)
        f = self.program.outputs(u, a)
        primal = self.loss.value(f) + self.penalty.value(u) + 0.5 * self.program.penalty * float((a**2).sum())
        scale = 1 / max(1.0, self.penalty.dual_norm(g))
        dual = self.program.dual_value(scale * theta)
        if primal < self.best.primal:
            self.best = replace(self.best, blocks=u, ridge=a, primal=primal)
        if dual > self.best.dual:
            self.best = replace(self.best, feasible=scale * theta, dual=dual)
        return np.asarray(f - self.loss.outputs(theta))

    def _line_search(
        self,
        point: PrimalDualPoint,
        theta: Outputs,
        g: Blocks,
        u: Blocks,
        step: Outputs,
        slope: float,
        *,
        armijo: float = 1e-4,
        halvings: int = 30,
    ) -> tuple[Outputs, Blocks, Blocks, Blocks] | None:
        """Return the first of t, t/2, ... that decreases psi enough, None when rounding hides the decrease.

        ``armijo`` is the share of the decrease that the slope promises which a step must bring (Nocedal and Wright
        2006). After so many ``halvings`` the decrease is below what float64 can show.
        """
        sigma = point.sigma
        change = self.program.correlate(step)
        t = self.loss.longest_step(theta, step)
        here = self._psi(theta, u, sigma)
        for _ in range(halvings):
            there = theta + t * step
            g_there = g + t * change
            w = point.u + sigma * g_there
            u_there = self.penalty.shrink(w, sigma)
            if self._psi(there, u_there, sigma) <= here + armijo * t * slope:
                return there, g_there, w, u_there
            t /= 2
        return None

    def _psi(self, theta: Outputs, u: Blocks, sigma: float) -> float:
        return float((u**2).sum()) / (2 * sigma) - self.program.dual_value(theta)
