"""What first and second moments say before anything is fitted: the affine part, the signs of kinks, about how many.

For x ~ N(0, I) and no biases, with u_j = w_j / |w_j|, E[y x] = sum_j v_j w_j / 2 and
E[y (x x' - I)] = (2 pi)^(-1/2) sum_j v_j |w_j| u_j u_j', so the eigenvalues of the second moment carry the signs of the
output weights. Eigenvalues beyond noise only choose how many students start, and how many of each sign; for other
inputs they are a weaker guess of the same, and nothing rests on it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparelu.recover.exact.model.hinges import Sample


@dataclass(frozen=True, eq=False)
class LabelMoments:
    """Least squares on the affine part alone: ``affine`` (d + 1,), relative error ``mse``; ``negative`` in [0, 1].

    ``rank`` counts the eigenvalues of the second moment of the residual that noise does not explain.
    """

    affine: Float[Tensor, " inputs"]
    mse: float
    negative: float
    rank: int


def moments(sample: Sample) -> LabelMoments:
    """Return them of rows whose last column is 1 and one target of unit variance, read twice."""
    normal, slope, n = torch.zeros(()), torch.zeros(()), sample.n
    for x, y in sample.blocks():
        normal, slope = normal.to(x) + x.T @ x, slope.to(x) + x.T @ y[:, 0]
    power, mean = normal.diagonal() / n, normal[-1, :-1] / n
    variance = float(power[:-1].mean() - mean.square().mean())
    normal.diagonal().add_(1e-10 * float(normal.diagonal().mean()))  # of duplicated columns, the least norm
    affine = torch.linalg.solve(normal, slope)
    second, squares = torch.zeros_like(normal[:-1, :-1]), 0.0
    for x, y in sample.blocks():
        r, centred = y[:, 0] - x @ affine, x[:, :-1] - mean
        second += (centred * r[:, None]).T @ centred / n
        squares += float(r @ r) / n
    values = torch.linalg.eigvalsh(second)
    # Under no structure the spectral norm of the second moment is about 2 sd(r) sqrt(d / n) for unit inputs.
    noise = 2 * (squares * len(second) / n) ** 0.5 * variance
    below, above = float((-values - noise).clamp(min=0).sum()), float((values - noise).clamp(min=0).sum())
    negative = below / (below + above) if below + above > 0 else 0.5
    return LabelMoments(affine, squares, negative, int((values.abs() > noise).sum()))
