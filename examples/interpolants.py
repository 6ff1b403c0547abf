"""Four interpolants of the same six points: fewest knots, least l^p norm, connected dots, and a dense trained
network.

Run: python examples/interpolants.py [FILE.png]
"""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from sparelu.interpolate.curves.interpolant import Interpolant, interpolate
from sparelu.networks.network import Network

PEAK = np.array([-2.0, -1, 0, 1, 2, 3]), np.array([0.0, 0, 1, 1, 0, 0])
"""The task of the paper: its sparsest interpolant has three neurons."""
SLOPES = np.array([1.0, 1.2, 2.0, 3.0, 3.1, 3.6, 5.0]) / 10


def convex() -> tuple[np.ndarray, np.ndarray]:
    """Convex points whose l^p minimiser for p = 0.9 is not sparsest."""
    x = np.arange(SLOPES.size + 1.0)
    return x, np.concatenate([[0.0], np.cumsum(SLOPES)])


def trained(x: np.ndarray, y: np.ndarray, steps: int = 4000) -> Network:
    """A dense network of 80 neurons, trained by Adam without a penalty."""
    draw = torch.Generator().manual_seed(20)
    w, v = (torch.randn(s, generator=draw, dtype=torch.float64).requires_grad_() for s in ((80, 1), (1, 80)))
    b = torch.randn(80, generator=draw, dtype=torch.float64).requires_grad_()
    inputs, targets = torch.as_tensor(x)[:, None], torch.as_tensor(y)[:, None]
    adam = torch.optim.Adam([w, b, v], lr=1e-2)
    for _ in range(steps):
        loss = ((torch.relu(inputs @ w.T + b) @ v.T / 80 - targets) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return Network.two_layer(w.detach(), v.detach() / 80, b.detach())


def connected(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The points joined by lines: one of the minimisers for p = 1, with a knot at every bend."""
    slopes = np.diff(y) / np.diff(x)
    ends = np.where(at < x[0], y[0] + slopes[0] * (at - x[0]), y[-1] + slopes[-1] * (at - x[-1]))
    return np.where((at < x[0]) | (at > x[-1]), ends, np.interp(at, x, y))


def draw(axis: plt.Axes, x: np.ndarray, y: np.ndarray, p: float) -> tuple[Interpolant, Interpolant]:
    """One panel; the sparsest and the l^p-minimal interpolant."""
    at = np.linspace(x[0] - 0.7, x[-1] + 0.7, 800)
    sparse, least = interpolate(x, y), interpolate(x, y, p)
    axis.plot(at, trained(x, y)(at[:, None])[:, 0], color="0.75", label="dense, trained (80 neurons)")
    axis.plot(
        at,
        connected(x, y, at),
        ":",
        color="tab:green",
        label=f"p = 1, joined dots ({np.count_nonzero(sparse.points.bends)} knots)",
    )
    axis.plot(at, least(at), "--", color="tab:orange", label=f"least V_p, p = {p:g} ({least.knots.size} knots)")
    axis.plot(at, sparse(at), color="tab:blue", label=f"fewest knots ({sparse.knots.size})")
    axis.plot(sparse.knots, sparse(sparse.knots), "|", color="tab:blue", markersize=14)
    axis.plot(x, y, "ko", markersize=4)
    axis.legend(fontsize=8)
    axis.set(xlabel="x", ylabel="f(x)")
    return sparse, least


def main(file: str) -> None:
    """Draw both point sets and print what is proved of them."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, (x, y), p in zip(axes, (PEAK, convex()), (0.4, 0.9), strict=True):
        sparse, least = draw(axis, x, y, p)
        low, high = sparse.critical.overall
        print(
            f"{len(x)} points: fewest knots {sparse.least_knots}, with p = {p:g}: {least.knots.size}; "
            f"p* in [{low:.3f}, {high:.3f}]; V_{p:g} = {least.path_norm(p):.4f} against {sparse.path_norm(p):.4f}"
        )
    figure.savefig(file, dpi=120)
    print(f"wrote {file}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "interpolants.png")
