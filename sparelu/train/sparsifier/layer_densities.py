"""How many weights each layer of a module keeps: uniform, Erdős-Rényi, its kernel form, or one pool for all layers.

An allocation turns the shapes of the weights and a number of nonzeros into pools; the weights of a pool compete with
each other. The numbers of the pools add up to the number asked for, exactly.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral, Real

import torch
from torch import Tensor

from sparelu.topk import largest_mask

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the weights by name."""

Masks = dict[str, Tensor]
"""One tensor of the shape of each weight, by name: bool for masks, real for scores."""


@dataclass(frozen=True)
class Pool:
    """Weights by ``names`` that share ``nonzeros`` places out of ``size``."""

    names: tuple[str, ...]
    nonzeros: int
    size: int

    def select(self, scores: Mapping[str, Tensor], allowed: Mapping[str, Tensor], k: int) -> Masks:
        """Mask the ``k`` largest ``scores`` among the ``allowed``, or all of these if fewer.

        Ties keep the earlier weight, and minus infinity is never chosen. Raises ``ValueError`` when a score is NaN.
        """
        device = scores[self.names[0]].device
        score = torch.cat([scores[n].reshape(-1).to(device) for n in self.names])
        free = torch.cat([allowed[n].reshape(-1).to(device) for n in self.names])
        score = torch.where(free, score, -math.inf)
        mask = largest_mask(score, min(k, int((score != -math.inf).count_nonzero())))
        chosen = mask.split([scores[n].numel() for n in self.names])
        return {n: m.reshape(scores[n].shape).to(scores[n].device) for n, m in zip(self.names, chosen, strict=True)}


Allocation = Callable[[Shapes, int], Sequence[Pool]]
"""Shapes and a number of nonzeros to pools; each weight is in one pool."""


def uniform_density(shapes: Shapes, nonzeros: int) -> Sequence[Pool]:
    """Give every layer the same density."""
    share = nonzeros / _total(shapes)
    return exactly(shapes, dict.fromkeys(shapes, share), nonzeros)


def er(shapes: Shapes, nonzeros: int) -> Sequence[Pool]:
    """Give Erdős-Rényi densities, in proportion to (n_in + n_out) / (n_in n_out), with channels as nodes.

    Mocanu et al., Scalable training of artificial neural networks with adaptive sparse connectivity, 2018, equation 1.
    """
    density = nonzeros / _total(shapes)
    return exactly(shapes, scaled_densities(shapes, density, lambda s: sum(s[:2]) / math.prod(s[:2])), nonzeros)


def erk(shapes: Shapes, nonzeros: int) -> Sequence[Pool]:
    """Give Erdős-Rényi-Kernel densities, in proportion to the sum of all dimensions over their product.

    Evci et al., Rigging the lottery, 2020, section 3. Layers are rounded together, so that the total is exact; the
    authors' code rounds the zeros of each layer down.
    """
    density = nonzeros / _total(shapes)
    return exactly(shapes, scaled_densities(shapes, density, lambda s: sum(s) / math.prod(s)), nonzeros)


def pooled(shapes: Shapes, nonzeros: int) -> Sequence[Pool]:
    """Put all layers in one ranking."""
    return (Pool(tuple(shapes), nonzeros, _total(shapes)),)


ALLOCATIONS: dict[str, Allocation] = {"uniform": uniform_density, "er": er, "erk": erk, "global": pooled}


def scaled_densities(shapes: Shapes, density: float, weight: Callable[[tuple[int, ...]], float]) -> dict[str, float]:
    """Compute densities min(1, eps ``weight``(shape)) with the eps that gives ``density`` over all weights together.

    Layers that reach 1 are taken out and eps is solved again for the others, until none exceeds 1.
    """
    raw = {n: weight(s) for n, s in shapes.items()}
    size = {n: math.prod(s) for n, s in shapes.items()}
    dense: set[str] = set()
    while len(dense) < len(shapes):
        wanted = density * sum(size.values()) - sum(size[n] for n in dense)
        eps = wanted / sum(raw[n] * size[n] for n in shapes if n not in dense)
        over = {n for n in shapes if n not in dense and eps * raw[n] > 1}
        if not over:
            return {n: 1.0 if n in dense else eps * raw[n] for n in shapes}
        dense |= over
    return dict.fromkeys(shapes, 1.0)


def exactly(shapes: Shapes, densities: Mapping[str, float], nonzeros: int) -> Sequence[Pool]:
    """Round ``densities`` so that the total is ``nonzeros``, largest remainders first, to one pool for each weight.

    Raises ``ValueError`` when the densities are more than rounding away from that total.
    """
    size = {n: math.prod(s) for n, s in shapes.items()}
    wanted = {n: densities[n] * size[n] for n in shapes}
    count = {n: min(size[n], math.floor(wanted[n] + 1e-9 * size[n])) for n in shapes}
    missing = nonzeros - sum(count.values())
    order = sorted((n for n in shapes if count[n] < size[n]), key=lambda n: count[n] - wanted[n])
    if not 0 <= missing <= len(order):
        raise ValueError(f"the densities give about {sum(wanted.values()):.0f} nonzeros where {nonzeros} are asked for")
    for n in order[:missing]:
        count[n] += 1
    return tuple(Pool((n,), count[n], size[n]) for n in shapes)


def allocation(choice: str | Allocation) -> Allocation:
    """Look up the allocation of a name; a function is its own. Raises ``ValueError`` for an unknown name."""
    if not isinstance(choice, str):
        return choice
    if choice not in ALLOCATIONS:
        raise ValueError(f"unknown allocation {choice!r}: choose {', '.join(ALLOCATIONS)}, or give a function")
    return ALLOCATIONS[choice]


def pools(shapes: Shapes, density: float | None, nonzeros: int | None, choice: str | Allocation) -> tuple[Pool, ...]:
    """Make the pools of a ``density`` over all weights or of their number ``nonzeros``, one of which is given.

    Raises ``ValueError`` when both or none are given, or more or less is asked for than there is.
    """
    if (density is None) == (nonzeros is None):
        raise ValueError("give exactly one of density, nonzeros and masks")
    for name, given, kind in (("density", density, Real), ("nonzeros", nonzeros, Integral)):
        if given is not None and not isinstance(given, kind):
            raise ValueError(f"{name} must be a {'number' if kind is Real else 'whole number'}, got {given!r}")
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density}")
    size = _total(shapes)
    k = nonzeros if density is None else round(density * size)
    if k is None or not 1 <= k <= size:
        raise ValueError(f"the layers have {size} weights: ask for 1 to {size} nonzeros, not {k}")
    return tuple(allocation(choice)(shapes, k))


def pools_by_name(shapes: Shapes, densities: Mapping[str, float]) -> tuple[Pool, ...]:
    """Return a pool for each weight with the density of the first name or pattern that is its own or its layer's.

    Raises ``ValueError`` for a weight without a density, a name without a weight, and a density not in 0..1.
    """
    wanted: dict[str, float] = {}
    used: set[str] = set()
    for name in shapes:
        layer = name.rpartition(".")[0]
        own = next((p for p in densities if fnmatchcase(name, p) or fnmatchcase(layer, p)), None)
        if own is None:
            raise ValueError(f"density has no entry for {name}: add one for it, or '*' for all others at the end")
        wanted[name] = densities[own]
        used.add(own)
    if unused := [p for p in densities if p not in used]:
        raise ValueError(f"density has an entry for {unused[0]!r}, which is no weight, or has one before it already")
    for name, density in wanted.items():
        if not 0 < density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {density} for {name}")
    return tuple(Pool((n,), max(1, round(wanted[n] * math.prod(s))), math.prod(s)) for n, s in shapes.items())


def _total(shapes: Shapes) -> int:
    return sum(math.prod(s) for s in shapes.values())
