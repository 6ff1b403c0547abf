"""The orientation of a fit: which side of each hinge is active, what the affine part then still needs, and a refit."""

from dataclasses import replace

from sparelu.recover.exact.model.hinges import Sample
from sparelu.recover.exact.model.least_squares import Fit, explains_as_well, refit
from sparelu.recover.exact.model.relu_model import Support
from sparelu.recover.exact.model.tolerances import ROUNDING
from sparelu.recover.exact.steps.orientation import Orientations, find_orientations

STANDARD_ERRORS = 6.0
"""Of an affine entry within which it is explained: so far off are fewer than one in 10^8 (normal tail 2e-9)."""


def orient(fit: Fit, sample: Sample) -> tuple[Fit, Orientations | None]:
    """Return the fit with its orientations read off, affine entries that are then explained at zero, refitted.

    An entry a_oi less sum_j V_jo e_j w_ji / 2 has the variances of its terms. The oriented fit is kept only where it
    explains every output as well; else there are no orientations.
    """
    model = fit.model
    variances = fit.equations.variances(fit.slope)
    own = model.outputs.square().T @ variances.weight + variances.outputs.T @ model.weight.square()
    floor = 100 * ROUNDING / fit.noise[:, None]
    slack = STANDARD_ERRORS * ((variances.affine + own / 4) * floor.clamp_min(1.0)).clamp_min(ROUNDING**2).sqrt()
    found = find_orientations(model.weight, model.outputs, model.affine, slack)
    side = found.signs
    left = model.affine - (model.outputs * side[:, None]).T @ model.weight / 2
    needed = left.abs() > slack
    turned = replace(model, orientation=side, affine=left * needed)
    again = refit(turned, sample, Support.of(turned, needed), steps=8)
    return (again, found) if explains_as_well(again, fit) else (fit, None)
