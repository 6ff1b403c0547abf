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


@dataclass(frozen=True, eq=False)
class Moments:
    """Least squares on the affine part alone: ``affine`` (d + 1,), relative error ``mse``; ``negative`` in [0, 1].

    ``rank`` counts the eigenvalues of the second moment of the residual that noise does not explain.
    """

    affine: Float[Tensor, " inputs"]
    mse: float
    negative: float
    rank: int


def moments(x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"]) -> Moments:
    """From float64 rows whose last column is 1; ``y`` has unit variance."""
    ridge = 1e-10 * float(x.square().mean()) * len(y)  # a duplicated column leaves the minimum-norm solution
    normal = x.T @ x
    normal.diagonal().add_(ridge)
    affine = torch.linalg.solve(normal, x.T @ y)
    r = y - x @ affine
    centred = x[:, :-1] - x[:, :-1].mean(0)
    second = (centred * r[:, None]).T @ centred / len(y)
    values = torch.linalg.eigvalsh(second)
    # Under no structure the spectral norm of the second moment is about 2 sd(r) sqrt(d / n) for unit inputs.
    noise = 2 * float(r.std()) * (centred.shape[1] / len(y)) ** 0.5 * float(centred.var())
    below, above = float((-values - noise).clamp(min=0).sum()), float((values - noise).clamp(min=0).sum())
    negative = below / (below + above) if below + above > 0 else 0.5
    return Moments(affine, float(r.square().mean()), negative, int((values.abs() > noise).sum()))
