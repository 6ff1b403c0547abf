"""What is allowed: the shape of a network, and how many of its weights may be nonzero."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Budget:
    """Hidden widths, and at most one of: ``nonzeros``, ``density``, ``sparsity``, ``compression``.

    With ``channels`` the inputs are images, and come first through 3 x 3 convolutions of stride 2 with so many channels
    each; their weights count once. ``hidden`` are the widths of the layers behind them, and may then be empty.
    ``density`` is the kept fraction of the weights, ``sparsity`` the fraction of zeros, ``compression`` the ratio of
    all to kept. With none of the four the method finds the number itself, where it can. Raises ``ValueError`` for two
    at once or a number out of range.
    """

    hidden: tuple[int, ...] = (100,)
    nonzeros: int | None = None
    density: float | None = None
    sparsity: float | None = None
    compression: float | None = None
    channels: tuple[int, ...] = ()
    _given: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _whole_numbers(self.hidden))
        object.__setattr__(self, "channels", _whole_numbers(self.channels))
        given = [k for k in ("nonzeros", "density", "sparsity", "compression") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of nonzeros, density, sparsity, compression; got {' and '.join(given)}")
        if any(h < 1 for h in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {self.hidden}")
        if any(c < 1 for c in self.channels):
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        if self.nonzeros is not None and (self.nonzeros != int(self.nonzeros) or self.nonzeros < 1):
            raise ValueError(f"nonzeros must be a whole number of at least 1, got {self.nonzeros}")
        for key, low, high in (("density", 0, 1), ("sparsity", 0, 1), ("compression", 1, math.inf)):
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{key} must lie from {low} to {high:g}, got {value}")
        object.__setattr__(self, "_given", given[0] if given else None)

    def weights(self, inputs: int, outputs: int, image: Sequence[int] | None = None) -> int:
        """Count all weights: of products v_j w_j for one hidden layer and one output, else of every layer.

        Raises ``ValueError`` for ``channels`` without the (height, width[, channels]) of an ``image``.
        """
        if self.channels and image is None:
            raise ValueError(
                f"channels {self.channels} need images, and these rows are {inputs} plain inputs: give Data an `image` "
                "(height, width, colours), or leave `channels` out"
            )
        if len(self.hidden) == 1 and outputs == 1 and not self.channels:
            return self.hidden[0] * inputs
        from sparelu.networks.convolution import SIDE, stages  # imports torch, which a budget alone does not need

        images = stages(image or (1, inputs, 1), self.channels)
        kernels = sum(SIDE**2 * a[2] * b[2] for a, b in zip(images, images[1:], strict=False))
        height, width, deep = images[-1]
        widths = (height * width * deep, *self.hidden, outputs)
        return kernels + sum(a * b for a, b in zip(widths, widths[1:], strict=False))

    def count(self, inputs: int, outputs: int, image: Sequence[int] | None = None) -> int | None:
        """Return the nonzeros allowed; None when the method is to find the number.

        Raises ``ValueError`` when that is zero or above the number of weights, or like :meth:`weights`.
        """
        total = self.weights(inputs, outputs, image)
        match self._given:
            case None:
                return None
            case "nonzeros":
                allowed = int(self.nonzeros or 0)
            case "density":
                allowed = round((self.density or 0.0) * total)
            case "sparsity":
                allowed = round((1 - (self.sparsity or 0.0)) * total)
            case _:
                allowed = int(total / (self.compression or 1.0))
        if not 1 <= allowed <= total:
            raise ValueError(
                f"a budget of {allowed} nonzeros does not fit {total} weights ({inputs} inputs, "
                f"{f'channels {self.channels}, ' if self.channels else ''}hidden {self.hidden}, {outputs} outputs): "
                f"ask for 1 to {total}, or widen `hidden`"
            )
        return allowed


def _whole_numbers(given: Any) -> tuple[int, ...]:
    """Return the numbers of a list, an array or a single one."""
    return tuple(int(n) for n in (given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)))
