"""PAGS: choose a mask before training, layer by layer, by the topology of candidates; and what chance would choose.

    start = snip(model, loss, density=0.05)
    found = select_by_topology(model, start, snip_candidates(model, losses, start))
    sparsifier = Static(model, optimizer, masks=found.masks)
    print(found)

Hoang, Kundu, Liu and Wang, Don't just prune by magnitude! Your mask topology is a secret weapon, 2023. The best of
many draws is better than one draw of anything: the same selection among shuffled candidates stands beside it. Train
with ``found.control.masks`` too before the topology is given credit.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from sparelu.train.analysis.mask_topology import part_edges
from sparelu.train.analysis.spectra import COORDINATE, Convention, Topology, topology
from sparelu.train.at_init import Loss, shuffled, snip, synflow
from sparelu.train.sparsifier.layer_densities import Allocation, Masks, Pool, Shapes
from sparelu.train.sparsifier.prunable import prunable_weights, seeded, unwrapped
from sparelu.train.sparsifier.selection import Choice

CRITERIA = ("imdb", "gap")


@dataclass(eq=False)
class Selection:
    """The ``masks`` so far, the topology of each layer at the ``start`` and now, and how often one was ``replaced``."""

    masks: Masks
    start: dict[str, Topology]
    topology: dict[str, Topology]
    replaced: dict[str, int]

    @classmethod
    def of(cls, masks: Masks, numbers: dict[str, Topology]) -> "Selection":
        """Begin before any candidate."""
        return cls(dict(masks), dict(numbers), dict(numbers), dict.fromkeys(numbers, 0))

    def take(self, masks: Masks, numbers: dict[str, Topology], criterion: str) -> None:
        """Take over the layers of ``masks`` that are at least as good."""
        for name, new in numbers.items():
            best = self.topology[name]
            (gap, _, imdb, _), (best_gap, _, best_imdb, _) = new.coordinate, best.coordinate
            better = imdb >= best_imdb if criterion == "imdb" else gap < best_gap
            if better and new.length >= best.length:
                self.masks[name], self.topology[name] = masks[name], new
                self.replaced[name] += 1


@dataclass(frozen=True, eq=False)
class SelectedMasks:
    """What was selected among ``tried`` candidates, and among the same ones shuffled within each layer."""

    selection: Selection
    control: Selection
    tried: int

    @property
    def masks(self) -> Masks:
        """Return the masks selected."""
        return self.selection.masks

    def __str__(self) -> str:
        lines = [f"{self.tried} candidates; in brackets the same selection among shuffled ones"]
        for name in self.selection.start:
            here, there = (
                f"imdb {s.start[name].imdb:.4g} -> {s.topology[name].imdb:.4g}, "
                f"length {s.start[name].length:.4g} -> {s.topology[name].length:.4g}"
                for s in (self.selection, self.control)
            )
            lines.append(f"  {name}: {here} ({there})")
        return "\n".join(lines)


def select_by_topology(
    model: nn.Module,
    start: Masks,
    candidates: Iterable[Masks],
    *,
    criterion: str = "imdb",
    seed: int = 0,
    layers: Choice | None = None,
    convention: Convention = COORDINATE,
) -> SelectedMasks:
    """Go through ``candidates`` and take over every layer that is at least as good as the best so far.

    A layer is as good when IMDB and the length of the full-spectrum coordinate are not smaller, or, by ``criterion``
    "gap" (the authors' alternative), when the gap is smaller and the length is not. Numbers that are not defined count
    as 0. The authors mix layers of different densities, so that the total drifts and a denser layer wins by density;
    here candidates have the counts of ``start`` in every layer (:func:`as_in`), which keeps the budget exactly.

    Raises ``ValueError`` for another criterion, candidates of other counts, no candidate, and layers that
    :func:`~sparelu.train.analysis.mask_topology.diagnose_layers` refuses.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")
    parts, g = prunable_weights(model, layers), seeded(seed)

    def measured(masks: Masks) -> dict[str, Topology]:
        return {n: topology(part_edges(p, masks[n]), convention) for n, p in parts.items()}

    mixed = shuffled(start, g)
    selection, control = Selection.of(start, measured(start)), Selection.of(mixed, measured(mixed))
    tried = 0
    for masks in candidates:
        _check_counts(masks, start)
        tried += 1
        selection.take(masks, measured(masks), criterion)
        mixed = shuffled(masks, g)
        control.take(mixed, measured(mixed), criterion)
    if not tried:
        raise ValueError("there is no candidate to choose from")
    return SelectedMasks(selection, control, tried)


def as_in(masks: Masks) -> Allocation:
    """Return the allocation that gives every layer as many weights as ``masks`` do."""

    def allocate(shapes: Shapes, nonzeros: int) -> tuple[Pool, ...]:
        found = tuple(Pool((n,), int(masks[n].sum()), masks[n].numel()) for n in shapes)
        if sum(p.nonzeros for p in found) != nonzeros:
            raise ValueError(f"the masks have {sum(p.nonzeros for p in found)} weights, not {nonzeros}")
        return found

    return allocate


def snip_candidates(
    model: nn.Module, losses: Iterable[Loss], start: Masks, *, rounds: int = 1, layers: Choice | None = None
) -> Iterator[Masks]:
    """Yield SNIP masks with the counts of ``start``, one from each of ``losses``: other minibatches, other masks.

    The authors score each with four minibatches and draw 2000 to 3000.
    """
    nonzeros = sum(int(m.sum()) for m in start.values())
    for loss in losses:
        yield snip(model, loss, nonzeros=nonzeros, rounds=rounds, layers=layers, allocation=as_in(start))


def synflow_candidates(
    model: nn.Module,
    shape: tuple[int, ...],
    start: Masks,
    draws: int,
    *,
    rounds: int = 10,
    seed: int = 0,
    layers: Choice | None = None,
) -> Iterator[Masks]:
    """Yield SynFlow masks with the counts of ``start``, each with normal noise of variance 2 / n added to the weights.

    n is the number of weights that an output has. ``shape`` is that of one input.
    """
    nonzeros, g = sum(int(m.sum()) for m in start.values()), seeded(seed)
    for _ in range(draws):
        noisy = copy.deepcopy(unwrapped(model))
        for part in prunable_weights(noisy, layers).values():
            fan = part.weight.numel() / len(part.weight)
            noise = torch.randn(part.weight.shape, generator=g) * (2 / fan) ** 0.5
            part.weight.detach().add_(noise.to(part.weight))
        yield synflow(noisy, shape, nonzeros=nonzeros, rounds=rounds, layers=layers, allocation=as_in(start))


def _check_counts(masks: Masks, start: Masks) -> None:
    for name, mask in start.items():
        if name not in masks or int(masks[name].sum()) != int(mask.sum()):
            count = int(masks[name].sum()) if name in masks else 0
            raise ValueError(
                f"a candidate has {count} weights in {name} and the start {int(mask.sum())}: draw candidates with "
                "allocation=as_in(start)"
            )
