"""A last fit of a small network on rows of data: to what the original says there, not to the labels."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from sparelu.gaussian import TwoLayer


def refit_outputs(student: TwoLayer, x: Float[Tensor, "n d"], wanted: Float[Tensor, "n k"]) -> TwoLayer:
    """Output weights and offset by least squares on the rows; hidden neurons and linear part as they are."""
    features = (x @ student.weight.T + student.bias).clamp(min=0)
    rest = wanted - x @ student.linear.T
    centre, level = features.mean(0), rest.mean(0)
    out = torch.linalg.lstsq(features - centre, rest - level, driver="gelsd").solution.T
    return TwoLayer(out, student.weight, student.bias, student.linear, level - out @ centre)


def refit_all(
    student: TwoLayer, x: Float[Tensor, "n d"], wanted: Float[Tensor, "n k"], classes: bool, form_bias: bool, steps: int
) -> TwoLayer:
    """All weights by L-BFGS on the rows.

    The loss is the mean squared gap over the variance of ``wanted``; for ``classes`` the Kullback-Leibler divergence
    of the class probabilities that ``wanted`` are the logits of (one output: of two classes). Inputs are centred
    meanwhile, which changes biases only. Without ``form_bias`` hidden biases stay as they are.
    """
    centre = x.mean(0) if form_bias else torch.zeros_like(x[0])
    moved = x - centre
    parts = {
        "out": student.out,
        "weight": student.weight,
        "bias": student.bias + student.weight @ centre,
        "offset": student.offset + student.linear @ centre,
    }
    free = [name for name in parts if form_bias or name != "bias"]
    if bool(student.linear.any()):
        parts["linear"] = student.linear
        free.append("linear")
    shapes = [parts[name].shape for name in free]
    spread = wanted.var(0).sum().clamp(min=1e-300)

    def rebuilt(flat: Tensor) -> TwoLayer:
        pieces = torch.split(flat, [s.numel() for s in shapes])
        new = {**parts, **{n: p.reshape(s) for n, p, s in zip(free, pieces, shapes, strict=True)}}
        return TwoLayer(new["out"], new["weight"], new["bias"], new.get("linear", student.linear), new["offset"])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(flat).to(x.dtype).requires_grad_()
        said = rebuilt(variable)(moved)
        value = divergence(said, wanted) if classes else (said - wanted).square().sum(1).mean() / spread
        value.backward()
        assert variable.grad is not None
        return float(value.detach()), variable.grad.double().numpy()

    start = torch.cat([parts[name].reshape(-1) for name in free]).double().numpy()
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxcor": 20, "gtol": 1e-9})
    new = rebuilt(torch.from_numpy(found.x))
    return TwoLayer(new.out, new.weight, new.bias - new.weight @ centre.double(), new.linear,
                    new.offset - new.linear @ centre.double())  # fmt: skip


def divergence(said: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Mean Kullback-Leibler divergence from the probabilities of logits ``wanted`` to those of ``said``."""
    if said.shape[1] == 1:
        said, wanted = (torch.cat([torch.zeros_like(t), t], 1) for t in (said, wanted))
    target = torch.log_softmax(wanted, 1)
    return (target.exp() * (target - torch.log_softmax(said, 1))).sum(1).mean()
