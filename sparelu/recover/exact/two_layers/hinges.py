"""The model of exact recovery with two hidden layers: kinks of kinks.

    f(x) = a.x + sum_j c_j h_j + (1/2) sum_k v_k (|z_k| + s_k z_k),   h_j = |w_j.x| + e_j w_j.x,   z_k = U_k.h + B_k.x

Every ReLU network of two hidden layers has this form, since (t)_+ = (t + |t|) / 2: the first layer bends along the
hyperplanes w_j, the second along z_k = 0, and what is linear passes by. As with one hidden layer
(:mod:`.exact.model.hinges`), the orientations e_j and s_k are 0 while kinks are sought and +-1 once they are read off;
B and a, which are free until then, take away the sign ambiguities of both layers. The last input is the constant 1, so
biases are weights.

Neurons of the second layer that see nonnegative combinations of the first are linear in h and belong to c.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PARTS = ("weight", "inner", "direct", "through", "affine")
SAME = 0.9
"""|cos| below which two kinks are never taken for one."""
FAINT = 1e-9
"""Relative size of what folding leaves by rounding."""


@dataclass(frozen=True, eq=False)
class DeepKinks:
    """``weight`` w (k1, D), ``tilt`` e (k1,), ``through`` c (k1,); ``inner`` U (k2, k1), ``direct`` B (k2, D),
    ``sign`` v (k2,), ``side`` s (k2,); ``affine`` a (D,). D counts the constant, which is the last input."""

    weight: Float[Tensor, "k1 inputs"]
    tilt: Float[Tensor, " k1"]
    through: Float[Tensor, " k1"]
    inner: Float[Tensor, "k2 k1"]
    direct: Float[Tensor, "k2 inputs"]
    sign: Float[Tensor, " k2"]
    side: Float[Tensor, " k2"]
    affine: Float[Tensor, " inputs"]

    @classmethod
    def none(cls, affine: Tensor) -> "DeepKinks":
        """Return the affine function alone, without kinks."""
        empty, wide = affine.new_zeros(0), affine.new_zeros(0, affine.numel())
        return cls(wide, empty, empty, affine.new_zeros(0, 0), wide, empty, empty, affine)

    @property
    def widths(self) -> tuple[int, int]:
        """Count the kinks of the first and the second layer."""
        return self.through.numel(), self.sign.numel()

    @property
    def nonzeros(self) -> int:
        """Count the weights of both layers on inputs and on kinks; biases are not counted."""
        parts = (self.weight[:, :-1], self.inner, self.direct[:, :-1], self.through)
        return sum(int(torch.count_nonzero(part)) for part in parts)

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, " n"]:
        """Compute the values for rows whose last column is 1."""
        h = self.features(x)
        z = h @ self.inner.T + x @ self.direct.T
        return x @ self.affine + h @ self.through + (z.abs() + z * self.side) @ self.sign / 2

    def features(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n k1"]:
        """Compute what the first layer puts out."""
        z = x @ self.weight.T
        return z.abs() + z * self.tilt

    def vector(self) -> Float[Tensor, " numbers"]:
        """Return all weights in one vector, in the order of ``PARTS``."""
        return torch.cat([getattr(self, part).reshape(-1) for part in PARTS])

    def with_vector(self, vector: Float[Tensor, " numbers"]) -> "DeepKinks":
        """Return the model with the weights of a vector."""
        shapes = [getattr(self, part).shape for part in PARTS]
        pieces = vector.split([shape.numel() for shape in shapes])
        return replace(self, **{part: p.view(s) for part, p, s in zip(PARTS, pieces, shapes, strict=True)})

    def to(self, dtype: torch.dtype) -> "DeepKinks":
        """Return the model in another dtype."""
        return DeepKinks(**{name: getattr(self, name).to(dtype) for name in self.__dataclass_fields__})

    def columns(self, index: Tensor) -> "DeepKinks":
        """Return the model of the inputs ``index`` alone."""
        return replace(self, weight=self.weight[:, index], direct=self.direct[:, index], affine=self.affine[index])

    def spread(self, index: Tensor, inputs: int) -> "DeepKinks":
        """Undo :meth:`columns`: over ``inputs`` columns, zero where ``index`` has none."""
        wide = {
            name: (old := getattr(self, name)).new_zeros(*old.shape[:-1], inputs).index_copy_(-1, index, old)
            for name in ("weight", "direct", "affine")
        }
        return replace(self, **wide)

    def take(self, first: Tensor, second: Tensor) -> "DeepKinks":
        """Return the kinks of two indices or masks alone."""
        return replace(
            self,
            weight=self.weight[first],
            tilt=self.tilt[first],
            through=self.through[first],
            inner=self.inner[second][:, first],
            direct=self.direct[second],
            sign=self.sign[second],
            side=self.side[second],
        )

    def with_first(self, weight: Tensor, through: Tensor, inner: Tensor | None = None) -> "DeepKinks":
        """Add kinks of the first layer, which the second reads with weights ``inner`` (k2, added) or not."""
        read = self.inner.new_zeros(self.sign.numel(), len(weight)) if inner is None else inner
        return replace(
            self,
            weight=torch.cat([self.weight, weight]),
            tilt=torch.cat([self.tilt, torch.zeros_like(through)]),
            through=torch.cat([self.through, through]),
            inner=torch.cat([self.inner, read], dim=1),
        )

    def with_second(self, sign: Tensor, inner: Tensor, direct: Tensor) -> "DeepKinks":
        """Add kinks of the second layer."""
        return replace(
            self,
            inner=torch.cat([self.inner, inner]),
            direct=torch.cat([self.direct, direct]),
            sign=torch.cat([self.sign, sign]),
            side=torch.cat([self.side, torch.zeros_like(sign)]),
        )


def tidied(model: DeepKinks, x: Float[Tensor, "n inputs"], tolerance: float) -> DeepKinks:
    """Express the same function, or one that differs by a mean square below ``tolerance`` a step, in fewer kinks.

    Only for models that are not oriented. Kinks of the second layer that keep one sign on the rows ``x``, or bend
    along a hyperplane of inputs alone, move to the first layer; kinks of one hyperplane are joined; dead ones are gone.
    """
    model = _joined_first(without_dead(model), tolerance)
    model = _joined_second(_folded(_lowered(model), x), tolerance)
    return balanced(without_dead(_joined_first(without_dead(model), tolerance)))


def balanced(model: DeepKinks) -> DeepKinks:
    """Scale every first-layer kink so that its weights and what reads it have one l1 norm."""
    coming, going = model.weight.abs().sum(1), model.through.abs() + model.inner.abs().sum(0)
    scale = (going / coming).sqrt()
    return replace(
        model, weight=model.weight * scale[:, None], through=model.through / scale, inner=model.inner / scale
    )


def without_dead(model: DeepKinks) -> DeepKinks:
    """Remove kinks that nothing feeds or nothing reads."""
    second = (model.inner != 0).any(1) | (model.direct != 0).any(1)
    first = (model.weight[:, :-1] != 0).any(1) & ((model.inner[second] != 0).any(0) | (model.through != 0))
    kept = model.take(first, second)
    return kept if bool(first.all() & second.all()) else without_dead(kept)


def _lowered(model: DeepKinks) -> DeepKinks:
    """Move second-layer kinks that see no first-layer kink to the first layer: v |B.x| / 2."""
    low = ~(model.inner != 0).any(1)
    everything = torch.ones_like(model.through, dtype=torch.bool)
    return model.take(everything, ~low).with_first(model.direct[low], model.sign[low] / 2)


def _folded(model: DeepKinks, x: Float[Tensor, "n inputs"]) -> DeepKinks:
    """Make second-layer kinks of one sign on all rows linear, and those of one hyperplane w_j kinks along it.

    |u |t| + b t| = |u| |t| + sign(u) b t where |u| >= |b|, else |b| |t| + sign(b) u t.
    """
    z = model.features(x) @ model.inner.T + x @ model.direct.T
    through, affine = model.through.clone(), model.affine.clone()
    keep = torch.ones_like(model.sign, dtype=torch.bool)
    for k in range(model.sign.numel()):
        half, b = model.sign[k] / 2, model.direct[k]
        if bool((z[:, k] >= 0).all()) or bool((z[:, k] <= 0).all()):
            side = z[:, k].sum().sign()
            through, affine, keep[k] = through + half * side * model.inner[k], affine + half * side * b, False
            continue
        (read,) = model.inner[k].nonzero(as_tuple=True)
        w = model.weight[read[0]]
        share = (b @ w) / (w @ w)
        if len(read) == 1 and float((b - share * w).norm()) <= 1e-6 * float(b.norm()):
            u = model.inner[k, read[0]]
            large, small = (u, share) if abs(u) >= abs(share) else (share, u)
            through[read[0]] += half * large.abs()
            affine, keep[k] = affine + half * large.sign() * small * w, False
    everything = torch.ones_like(through, dtype=torch.bool)
    return replace(model, through=through, affine=affine).take(everything, keep)


def _close(rows: Tensor, size: Tensor, signs: Tensor, tolerance: float) -> list[tuple[int, int, float]]:
    """Find pairs (kept, joined, ratio of lengths with its sign) whose hyperplanes agree up to ``tolerance``.

    The cost of joining is that of :func:`.model.hinges.merge_duplicates`, for kinks whose effects have root mean square
    ``size``; ``signs`` says which have one output sign. The longer of two is kept.
    """
    length = rows.norm(dim=1)
    unit = rows / length[:, None]
    cos = unit @ unit.T
    near = torch.triu(cos.abs() > SAME, diagonal=1).nonzero()
    found: list[tuple[int, int, float]] = []
    gone = set[int]()
    for i, j in near.tolist():
        if i in gone or j in gone:
            continue
        keep, drop = (i, j) if float(size[i]) >= float(size[j]) else (j, i)
        side = float(cos[i, j].sign())
        angle = float((unit[i] - side * unit[j]).norm())
        a, b = float(size[keep]), float(size[drop])
        rise = (a * b / (a + b)) ** 2 if bool(signs[i] == signs[j]) else a * b * b / max(a - b, FAINT * a)
        if 2 / (3 * math.pi) * rise * angle**3 <= tolerance:
            gone.add(drop)
            found.append((keep, drop, side * float(length[drop] / length[keep])))
    return found


def _joined_first(model: DeepKinks, tolerance: float) -> DeepKinks:
    size = model.weight.norm(dim=1) * (model.through.abs() + model.inner.abs().sum(0))
    weight, through, inner = model.weight.clone(), model.through.clone(), model.inner.clone()
    keep = torch.ones_like(through, dtype=torch.bool)
    for i, j, ratio in _close(weight, size, torch.zeros_like(through), tolerance):
        scale = abs(ratio)
        own, other = float(size[i]), float(size[j])
        weight[i] = (own * weight[i] + other * weight[j] / ratio) / (own + other)
        through[i] += scale * through[j]
        inner[:, i] += scale * inner[:, j]
        keep[j] = False
    everything = torch.ones_like(model.sign, dtype=torch.bool)
    return replace(model, weight=weight, through=through, inner=inner).take(keep, everything)


def _joined_second(model: DeepKinks, tolerance: float) -> DeepKinks:
    length = model.weight.norm(dim=1)
    inner, direct = model.inner.clone(), model.direct.clone()
    rows = torch.cat([inner * length, direct], dim=1)
    sign, keep = model.sign.clone(), torch.ones_like(model.sign, dtype=torch.bool)
    for i, j, ratio in _close(rows, rows.norm(dim=1), sign, tolerance):
        scale = (1.0 if ratio > 0 else -1.0) * float(sign[i] * sign[j])
        inner[i], direct[i] = inner[i] + scale * inner[j], direct[i] + scale * direct[j]
        keep[j] = False
    everything = torch.ones_like(model.through, dtype=torch.bool)
    return replace(model, inner=inner, direct=direct).take(everything, keep)


def live(model: DeepKinks) -> Bool[Tensor, " numbers"]:
    """Mark the weights that are not zero, as a mask of :meth:`DeepKinks.vector`; the affine part always is."""
    mask = model.vector() != 0
    mask[-model.affine.numel() :] = True
    return mask
