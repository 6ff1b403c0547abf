"""The theorem's own setting: known generators, true ones among decoys, and iterative hard thresholding.

With generators h_1 .. h_p fixed the network is linear in its fused weights, y = A w, and column (j, i) of A is
1{h_j.x >= 0} x_i (Fridovich-Keil and Pilanci 2026, eq. 3). The steps are those of normalised hard thresholding
(Blumensath and Davies 2010): w <- H_s(w + mu A'(y - A w)), mu the exact line search on the present support, halved
while a new support makes it too long. On the right support a step multiplies |y - A w| by at most
(kappa - 1) / (kappa + 1) (Kantorovich), kappa the condition number of the Gram matrix of the support.

Step gates make kappa grow as 1 + k for k neurons on one input, since any two columns of it share half their rows. Since
1{t >= 0} = (1 + sign t) / 2, the same weights are those of the columns sign(h_j.x) x_i / 2 beside a linear part that is
projected out: for orthogonal generators these are uncorrelated. This is our departure from the paper.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparelu.topk import StreamingLargest

GENERATORS = 256
"""Generators whose gradient is held at a time."""
SHORTER = 0.99
"""Share of the longest safe step on a new support."""


@dataclass(frozen=True, eq=False)
class Thresholded:
    """Weights ``value`` (s,) at places ``index`` = j d + i (s,), increasing; ``errors``: |y - A w| / |y| by step."""

    index: Int[Tensor, " s"]
    value: Float[Tensor, " s"]
    errors: tuple[float, ...]


class _Design:
    """Products with A on the rows, for one kind of gate; a product with few columns costs n (d + 1) for each neuron."""

    def __init__(self, x: Tensor, generators: Tensor, gate: str) -> None:
        self.x, self.h, self.signs = x, generators, gate == "sign"
        self.root = torch.linalg.cholesky(x.T @ x) if self.signs else None

    def gates(self, h: Tensor) -> Tensor:
        """Compute the gates (n, b) of the generators (b, d); those of signs are +-1/2."""
        open_ = (self.x @ h.T >= 0).to(self.x)
        return open_ - 0.5 if self.signs else open_

    def projected(self, r: Tensor) -> Tensor:
        """Return ``r`` (n,) without its linear part, for signs."""
        if self.root is None:
            return r
        return r - self.x @ torch.cholesky_solve((self.x.T @ r)[:, None], self.root)[:, 0]

    def times(self, index: Tensor, value: Tensor) -> Tensor:
        """Compute A w (n,) for the weights at ``index``, a few generators at a time."""
        total, d = torch.zeros_like(self.x[:, 0]), self.x.shape[1]
        for live in torch.unique(index // d).split(GENERATORS):
            own = torch.isin(index // d, live)
            w = self.x.new_zeros(len(live), d)
            w[torch.searchsorted(live, index[own] // d), index[own] % d] = value[own]
            total += (self.gates(self.h[live]) * (self.x @ w.T)).sum(1)
        return self.projected(total)

    def gradient(self, r: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield A' r a block of generators at a time: the first place of the block, and its entries."""
        for start in range(0, len(self.h), GENERATORS):
            gates = self.gates(self.h[start : start + GENERATORS])
            yield start * self.x.shape[1], ((gates * r[:, None]).T @ self.x).reshape(-1)


def hard_thresholding(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    generators: Float[Tensor, "p d"],
    nonzeros: int,
    gate: str = "step",
    steps: int = 500,
    tolerance: float = 1e-13,
) -> Thresholded:
    """Fit ``nonzeros`` fused weights of the network with these ``generators`` to rows in float64.

    ``gate`` is "step" (the paper) or "sign" (the linear part projected out). Ends when |y - A w| / |y| is below
    ``tolerance`` or after ``steps``. Memory beyond the rows and generators: 256 n for gates, and the nonzeros.
    Raises ``ValueError`` for another gate, and for two generators of one hyperplane, whose columns are dependent:
    1{h.x >= 0} x_i + 1{-h.x >= 0} x_i = x_i for every h.
    """
    if gate not in ("step", "sign"):
        raise ValueError(f"gate must be 'step' or 'sign', got {gate!r}")
    _check_distinct(generators)
    design = _Design(x, generators, gate)
    y = design.projected(y)
    scale, errors = float(y.norm()), list[float]()
    index, value = torch.zeros(0, dtype=torch.int64, device=x.device), y.new_zeros(0)
    for _ in range(steps):
        r = y - design.times(index, value)
        errors.append(float(r.norm()) / scale)
        if errors[-1] < tolerance:
            break
        index, value = _step(design, r, index, value, nonzeros)
    return Thresholded(index, value, tuple(errors))


def _check_distinct(generators: Tensor) -> None:
    unit = generators / generators.norm(dim=1, keepdim=True)
    for start in range(0, len(unit), GENERATORS):
        cosine = (unit[start : start + GENERATORS] @ unit.T).abs().triu(start + 1)
        if bool((cosine > 1 - 1e-12).any()):
            i, j = (int(v) for v in (cosine > 1 - 1e-12).nonzero()[0])
            raise ValueError(
                f"generators {start + i} and {j} have one hyperplane, so their columns are dependent: "
                "keep one of each +- pair"
            )


def _step(design: _Design, r: Tensor, index: Tensor, value: Tensor, nonzeros: int) -> tuple[Tensor, Tensor]:
    """Make one step of normalised hard thresholding from weights with residual ``r``."""
    on = index
    if len(on) == 0:
        on = _best(design, r, index, value, 1.0, nonzeros)[0]
    slope = _picked(design, r, on)
    length = float(slope @ slope) / float(design.times(on, slope).square().sum())
    while True:
        new, moved = _best(design, r, index, value, length, nonzeros)
        if torch.equal(new, index):
            return new, moved
        places = torch.unique(torch.cat([index, new]))
        change = torch.zeros(len(places)).to(value)
        change[torch.searchsorted(places, new)] += moved
        change[torch.searchsorted(places, index)] -= value
        longest = float(change.square().sum()) / float(design.times(places, change).square().sum())
        if length <= SHORTER * longest or len(index) == 0:
            return new, moved
        length = min(length / 2, SHORTER * longest)


def _best(
    design: _Design, r: Tensor, index: Tensor, value: Tensor, length: float, nonzeros: int
) -> tuple[Tensor, Tensor]:
    """Find the ``nonzeros`` largest entries of w + length A' r, block by block."""
    kept = StreamingLargest(nonzeros)
    for start, slope in design.gradient(r):
        moved = length * slope
        own = (index >= start) & (index < start + len(slope))
        moved[index[own] - start] += value[own]
        kept.add(moved.abs(), torch.arange(start, start + len(slope), device=moved.device), moved)
    return kept.result()


def _picked(design: _Design, r: Tensor, index: Tensor) -> Tensor:
    """Compute A' r at ``index``."""
    out = torch.zeros(len(index)).to(r)
    for start, slope in design.gradient(r):
        own = (index >= start) & (index < start + len(slope))
        out[own] = slope[index[own] - start]
    return out
