"""Piecewise-linear functions of one input from noisy data, with few knots."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from sparelu.data import Budget, Data
from sparelu.interpolate.curves.free_knots import LinearSpline, move_knots, refit_spline, remove_knots
from sparelu.interpolate.curves.hat_basis import Series
from sparelu.interpolate.curves.interpolant import Interpolant, interpolate_bends
from sparelu.interpolate.curves.second_differences import Points
from sparelu.interpolate.curves.trend_filter import Denoised, denoise, denoise_path, largest_strength
from sparelu.interpolate.univariate import one_input_reason, points_on_a_line
from sparelu.method import Fitter, budget_reason, setting
from sparelu.outcome import Assumption, Certificate, Iterate, State, Status


def sparsest_interpolant(series: Series, denoised: Denoised) -> Interpolant:
    """Return the interpolant of the denoised values with the fewest knots: the second step of Debarre et al. (2022)."""
    bends = np.zeros(max(0, series.x.size - 2))
    bends[denoised.knots - 1] = denoised.changes
    nodes = np.concatenate([[0], denoised.knots, [series.x.size - 1]])
    slopes = np.repeat(np.diff(denoised.theta[nodes]) / np.diff(series.x[nodes]), np.diff(nodes))
    given = Points(series.x, denoised.theta, slopes, bends, np.zeros(bends.size, dtype=bool), 0, 0)
    return interpolate_bends(given, 0.0)


def fit_spline(series: Series, denoised: Denoised, refit: bool) -> LinearSpline:
    """Return the sparsest interpolant of ``denoised``; with ``refit`` its values are fitted again, its knots kept."""
    found = sparsest_interpolant(series, denoised)
    x0 = float(series.x[0])
    plain = LinearSpline(x0, float(denoised.theta[0]), found.slope, found.knots, found.changes)
    return refit_spline(series, plain) if refit else plain


@dataclass(frozen=True)
class Piecewise(Fitter):
    """Find the piecewise-linear function of least loss + strength TV(f'), its knots as few as they can be.

    Half the squared error and the total variation of the slope are minimised in two exact steps: the values
    at the data by an active set (:mod:`sparelu.interpolate.curves.trend_filter`, with a duality gap), then the sparsest
    interpolant of these values. Source: Debarre, Denoyelle, Unser & Fageot, Sparsest piecewise-linear
    regression of one-dimensional data (2022). Collinear values part the runs, where their published code
    joins runs across them. ``strength`` none chooses from a path: with a budget the least strength that keeps
    it, else by cross-validation. ``refit`` fits the values once more by least squares, and moves the knots to
    where the error is least.

    Use it for noisy values of one input; ``auto`` takes it there.

    Not for several inputs or targets.
    """

    name = "piecewise"
    question = "interpolate"
    paper = "Debarre, Denoyelle, Unser & Fageot 2022, Sparsest piecewise-linear regression of one-dimensional data"

    strength: float | None = setting(None, "weight of TV(f') against half the squared error; none chooses", above=0.0)
    refit: bool = setting(
        True, "least squares on the knots found, and their best places: undoes the shrinking by the penalty"
    )
    folds: int = setting(10, "parts of the rows for cross-validation", low=2)
    grid: int = setting(40, "strengths on the path", low=2)
    ratio: float = setting(1e-6, "least strength of the path as a share of the largest", above=0.0, below=1.0)
    rule: str = setting(
        "one-standard-error",
        "which strength cross-validation takes: the best, or the strongest within one standard error of it",
        choices=("one-standard-error", "best"),
    )

    def refuses(self, data: Data, budget: Budget) -> str | None:
        """Name the reason: not one input, not one target, or fewer than three places."""
        reason = one_input_reason(data) or budget_reason(data, budget, needed=False, depth=(1, 1))
        if reason is not None:
            return reason
        places = np.unique(points_on_a_line(data)[0]).size
        return f"it needs three different inputs at least, got {places}" if places < 3 else None

    def steps(
        self, data: Data, budget: Budget, rng: np.random.Generator, start: State | None = None
    ) -> Generator[Iterate, None, Status]:
        """Yield one iterate: the function at the strength that was given or chosen."""
        series = Series.of(*points_on_a_line(data))
        binds, most = False, min(budget.count(1, 1) or budget.hidden[0], budget.hidden[0])
        allowed, cap = most, largest_strength(series)
        strengths = np.geomspace(cap, cap * self.ratio, self.grid)
        if self.strength is not None:
            strengths = np.array([self.strength])
        elif budget.count(1, 1) is None:
            last, tried, binds = self._cross_validated(points_on_a_line(data), strengths, most, rng)
            strengths, allowed = strengths[: last + 1], min(tried, most)
        kept: tuple[Denoised, LinearSpline, float] | None = None
        over: LinearSpline | None = None
        for strength, solution in zip(strengths, denoise_path(series, strengths), strict=True):
            if sparsest_interpolant(series, solution).knots.size > allowed:
                over = fit_spline(series, solution, self.refit)
                break
            kept = solution, fit_spline(series, solution, self.refit), float(strength)
        if kept is None:
            kept = self._first(series, allowed, cap)
        if self.refit:
            kept = kept[0], _polished(series, kept[1], over, allowed), kept[2]
        yield self._iterate(series, *kept, data, most if binds else None)
        return Status.converged

    def _first(self, series: Series, allowed: int, cap: float) -> tuple[Denoised, LinearSpline, float]:
        """Double a strength with more knots than allowed until they are few enough."""
        strength = min(self.strength or cap, cap)
        while True:
            solution = denoise(series, strength)
            if sparsest_interpolant(series, solution).knots.size <= allowed:
                return solution, fit_spline(series, solution, self.refit), strength
            strength *= 2

    def _cross_validated(
        self, points: tuple[np.ndarray, np.ndarray], strengths: np.ndarray, most: int, rng: np.random.Generator
    ) -> tuple[int, int, bool]:
        """Choose a strength by cross-validation: its number, the most knots that a fold has at it, and whether the best
        was the last before ``most`` ended the paths.

        A fold's path ends where even the sparsest interpolant, of at least half as many knots, is over ``most``. On
        short series the strength is near the noise: the folds may have one knot where all rows together have a dozen,
        which no fold has tried.
        """
        x, y = points
        fold = rng.permutation(np.arange(x.size) % self.folds)
        errors, knots = np.full((2, self.folds, strengths.size), np.nan)
        for k in range(self.folds):
            rest = Series.of(x[fold != k], y[fold != k])
            if rest.x.size < 3 or not (fold == k).any():
                continue
            for i, solution in enumerate(denoise_path(rest, strengths * rest.w.sum() / x.size)):
                if solution.knots.size > min(2 * most, rest.x.size // 2):
                    break
                found = fit_spline(rest, solution, self.refit)
                errors[k, i], knots[k, i] = np.mean((found(x[fold == k]) - y[fold == k]) ** 2), found.knots.size
        seen = ~np.isnan(errors[:, 0])
        usable = ~np.isnan(errors[seen]).any(axis=0)
        kept = errors[seen][:, usable]
        mean, error = kept.mean(axis=0), kept.std(axis=0, ddof=1) / np.sqrt(len(kept))
        best = int(mean.argmin())
        ended = best == len(mean) - 1 < strengths.size - 1 and 2 * most < x.size // 2
        if self.rule == "one-standard-error":
            best = int(np.flatnonzero(mean <= mean[best] + error[best])[0])
        return best, int(knots[seen, best].max()), ended

    def _iterate(
        self, series: Series, solution: Denoised, found: LinearSpline, strength: float, data: Data, bound: int | None
    ) -> Iterate:
        x, y = points_on_a_line(data)
        loss = float(np.mean((found(x) - y) ** 2))
        numbers = {"strength": strength, "knots": float(found.knots.size), "gap": solution.gap}
        least = sparsest_interpolant(series, solution).least_knots
        return Iterate(
            1.0,
            loss,
            lambda: found.network(),
            dict,
            numbers,
            lambda: _claims(solution, least, found.knots.size, bound),
        )


def _polished(series: Series, within: LinearSpline, over: LinearSpline | None, allowed: int) -> LinearSpline:
    """Choose the better of the last curve within the budget and the first one over it reduced to it, knots moved."""
    choices = [move_knots(series, within)]
    if over is not None and over.knots.size <= 4 * allowed + 8:
        choices.append(move_knots(series, remove_knots(series, over, allowed)))
    return min(choices, key=lambda c: c.error(series))


def _claims(solution: Denoised, least: int, knots: int, bound: int | None) -> tuple[Certificate, ...]:
    """State the gap, and the least knots; ``bound`` is the width that kept cross-validation from taking more."""
    settled = Assumption("the denoised values are optimal", "checked", f"relative duality gap {solution.gap:.1e}")
    free = Assumption(
        "the number of knots was free to be chosen",
        "checked" if bound is None else "violated",
        "no bound was met" if bound is None else f"cross-validation took all {bound} that `hidden` allows: widen it",
    )
    return (
        Certificate("relative duality gap of the denoised values", solution.gap, "share of the objective"),
        Certificate(
            f"no minimiser of the penalised loss has fewer knots; this function has {knots}",
            float(least),
            "knots",
            (settled, free),
        ),
    )
