"""Cholesky factors of Gram matrices that rounding may make indefinite."""

import torch
from jaxtyping import Float
from torch import Tensor


def cholesky(matrix: Float[Tensor, "c c"], damping: float) -> tuple[Float[Tensor, "c c"], float]:
    """Factorise the matrix with its diagonal raised, by more where rounding makes it indefinite."""
    diagonal = matrix.diagonal()
    diagonal = diagonal.clamp_min(1e-14 * float(diagonal.max())) if len(diagonal) else diagonal
    while True:
        root, failed = torch.linalg.cholesky_ex(matrix + torch.diag(damping * diagonal))
        if not int(failed):
            return root, damping
        damping = max(damping * 10, 1e-12)


def factor(matrix: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """Factorise a Gram matrix, its diagonal raised by no more than rounding asks for."""
    return cholesky(matrix, 0.0)[0]
