"""Wrong labels: rows that the spread of the others does not explain, whatever their inputs.

Least squares on all rows, then on all but those far away, again and again: the concentration steps of least trimmed
squares (Rousseeuw and Van Driessen 1999), with the number of rows left out decided by the rows. What a network lacks
lies where its hinges are, so rows that are far away for that reason differ in their inputs; labels that are wrong by
chance do not, and rows are left out only then.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import norm
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample, residual
from sparelu.recover.exact.model.relu_model import ReluModel
from sparelu.recover.exact.model.tolerances import NOISELESS, universal_threshold

MOST = 0.25
"""Share of the rows that may be left out: half of what the median bears, since a model bends towards them."""
CONCENTRATED = 0.3
"""Share of the squared error that they have at least, in units of the spread; of Gaussian noise they have none."""


def find_outliers(model: ReluModel, rows: Sample) -> np.ndarray:
    """Return the rows (m,) whose error is no noise of the size that most have, and whose inputs are like the others'.

    The spread of each output is that of Gaussian noise with the same median of |r|. Where rows beyond a hinge that is
    missing are among the furthest, the limit is doubled until they are not: the next search may find the hinge.
    """
    r = residual(model, rows)
    r = r - r.median(dim=0).values
    spread = r.abs().median(dim=0).values / norm.ppf(0.75)
    squares = (r / spread.clamp_min(NOISELESS**0.5)).square()
    limit, furthest = universal_threshold(rows.n, 1.0), squares.amax(1)
    while float(furthest.max()) > limit:
        far = furthest > limit
        if float(squares[far].sum()) < CONCENTRATED * float(squares.sum()):
            break
        if int(far.sum()) <= MOST * rows.n and _drawn_at_random(far, rows):
            return far.nonzero()[:, 0].cpu().numpy()
        limit *= 4  # of a square
    return np.zeros(0, dtype=np.int64)


def _drawn_at_random(far: Bool[Tensor, " n"], rows: Sample) -> bool:
    """Tell whether the rows ``far`` have the means and the mean sizes of the inputs that all have, up to chance."""
    count, sums = float(far.sum()), torch.zeros(3, 2 * rows.inputs - 2, dtype=torch.float64, device=far.device)
    centre, start = _means(rows), 0
    for x, _ in rows.blocks():
        inner = x[:, :-1] - centre
        values = torch.cat([inner, inner.abs()], dim=1)
        own = values[far[start : start + len(x)]]
        sums += torch.stack([values.sum(0), values.square().sum(0), own.sum(0)])
        start += len(x)
    mean = sums[0] / rows.n
    variance = (sums[1] / rows.n - mean.square()) * (1 - count / rows.n) / count
    t = (sums[2] / count - mean).square() / variance.clamp_min(torch.finfo(torch.float64).tiny)
    return bool((torch.where(variance > 0, t, 0.0) < universal_threshold(len(mean), 1.0)).all())


def _means(rows: Sample) -> Float[Tensor, " d"]:
    return sum((x[:, :-1].sum(0) for x, _ in rows.blocks()), torch.zeros(())) / rows.n
