"""The reweighted l^1 proximal step on the products v_k w_k, around Adam, as published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WARM = 5
"""Adam steps before the first proximal step, as in the published code."""


@dataclass(frozen=True)
class PathPenalty:
    """Hold strength sum |v_k w_ki|^p: with the biases b_k among the w_k when ``biases``. Neurons whose products
    have a norm below ``least`` are zeroed.
    """

    p: float
    strength: float
    biases: bool
    least: float = 1e-8


class PathNetwork:
    """Hold v (w x + b)_+ + c with w (K, d), b (K,), v (o, K), c (o,) not trained, and one Adam for all of them.

    For one output it is the published network. For several, |v_k| is the norm of the outgoing weights of
    neuron k.
    """

    def __init__(self, w: Tensor, b: Tensor, v: Tensor, c: Tensor, rate: float) -> None:
        self.w, self.b, self.v = (t.clone().requires_grad_() for t in (w, b, v))
        self.c, self.rate, self.count = c, rate, 0
        self.adam = torch.optim.Adam([self.w, self.b, self.v], lr=rate)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (n, o) for rows x (n, d)."""
        return torch.relu(x @ self.w.T + self.b) @ self.v.T + self.c

    def step(self, x: Tensor, y: Tensor, penalty: PathPenalty, classes: bool) -> float:
        """Take one Adam step on the mean loss of the batch, then the proximal step; return the loss before both."""
        before = self.products(penalty.biases).detach().clone()
        self.adam.zero_grad()
        out = self(x)
        loss = _cross_entropy(out, y) if classes else ((out - y) ** 2).mean()
        loss.backward()
        self.adam.step()
        self.count += 1
        if self.count > WARM:
            with torch.no_grad():
                self._shrink(before, penalty)
        return float(loss.detach())

    def products(self, biases: bool) -> Tensor:
        """Compute |v_k| [w_k, b_k] with signs, (K, d+1); (K, d) without the biases."""
        return self.v.norm(dim=0)[:, None] * self._incoming(biases)

    def _incoming(self, biases: bool) -> Tensor:
        return torch.cat([self.w, self.b[:, None]], dim=1) if biases else self.w

    def _shrink(self, before: Tensor, penalty: PathPenalty) -> None:
        """Set u = soft(v w, strength rate p |v_old w_old|^(p-1)), split evenly between v and w; zeros stay zeros
        for p < 1.
        """
        weight = penalty.strength * self.rate * penalty.p * before.abs() ** (penalty.p - 1)
        size = (self.products(penalty.biases).abs() - weight).clamp_(min=0)
        size = torch.where(torch.isfinite(weight), size, torch.zeros_like(size))
        norm = torch.linalg.vector_norm(size, dim=1)
        norm = torch.where(norm >= penalty.least, norm, torch.zeros_like(norm))
        root = norm.sqrt()
        share = torch.where(root > 0, 1 / root.clamp(min=1e-30), torch.zeros_like(root))
        self.v *= torch.where(root > 0, root / self.v.norm(dim=0).clamp(min=1e-30), torch.zeros_like(root))
        balanced = size * share[:, None]
        self.w.copy_(balanced[:, : self.w.shape[1]] * self.w.sign())
        if penalty.biases:
            self.b.copy_(balanced[:, -1] * self.b.sign())

    def state(self) -> dict[str, Tensor | int]:
        """Return the weights and the moments of Adam."""
        found: dict[str, Tensor | int] = {"count": self.count, "c": self.c.clone()}
        for name in ("w", "b", "v"):
            weight = getattr(self, name)
            found[name] = weight.detach().clone()
            for moment, value in self.adam.state.get(weight, {}).items():
                found[f"{name}_{moment}"] = value.clone()
        return found

    @classmethod
    def restored(cls, state: Mapping[str, Any], rate: float) -> "PathNetwork":
        """Restore the network of a :meth:`state`."""
        net = cls(state["w"], state["b"], state["v"], state["c"].clone(), rate)
        net.count = int(state["count"])
        for name in ("w", "b", "v"):
            if f"{name}_step" in state:
                moments = ("step", "exp_avg", "exp_avg_sq")
                net.adam.state[getattr(net, name)] = {m: state[f"{name}_{m}"].clone() for m in moments}
        return net


def _cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    if out.shape[1] == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(out[:, 0], y.to(out.dtype))
    return torch.nn.functional.cross_entropy(out, y)
