"""A convolution as a sparse affine map of images laid flat: its weights are stored, and counted, once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import conv2d

from sparelu.networks.layer import Layer

SIDE, STRIDE, PADDING = 3, 2, 1
"""Of the convolutions that ``channels`` of a budget ask for."""

Image = tuple[int, int, int]
"""Height, width, channels. A row of numbers is such an image, row by row, then column by column, then by channel."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """Apply ``kernel`` at every ``stride``-th place of an ``image`` with ``padding`` zeros around it.

    ``kernel`` has the shape (channels, side * side * channels of the image): for each place of the window, row by row,
    one column for each channel. Its bias is that of a whole channel. Inputs and outputs are images laid flat.

    Raises ``ValueError`` when the kernel does not fit the image.
    """

    kernel: Layer
    image: Image
    side: int = SIDE
    stride: int = STRIDE
    padding: int = PADDING

    def __post_init__(self) -> None:
        height, width, channels = self.image
        if self.kernel.shape[1] != self.side**2 * channels:
            raise ValueError(
                f"a kernel of side {self.side} over {channels} channels has {self.side**2 * channels} columns, "
                f"got {self.kernel.shape[1]}"
            )
        if min(height, width) + 2 * self.padding < self.side:
            raise ValueError(f"an image of {height} x {width} is smaller than the window of side {self.side}")

    @property
    def outputs(self) -> Image:
        """Return the image that comes out."""
        height, width = ((n + 2 * self.padding - self.side) // self.stride + 1 for n in self.image[:2])
        return height, width, self.channels

    @property
    def shape(self) -> tuple[int, int]:
        """Return the counts of numbers out and in."""
        height, width, channels = self.outputs
        return height * width * channels, self.image[0] * self.image[1] * self.image[2]

    @property
    def kind(self) -> str:
        """Say what tables add to its name."""
        return f" (convolution {self.side} x {self.side})"

    @property
    def channels(self) -> int:
        """Count the channels that come out."""
        return self.kernel.shape[0]

    @property
    def cells(self) -> int:
        """Count the weights that there could be."""
        return self.kernel.cells

    @property
    def nonzeros(self) -> int:
        """Count the weights, each once however many places use it."""
        return self.kernel.nonzeros

    @property
    def biases(self) -> int:
        """Count the nonzero biases, one for a channel."""
        return self.kernel.biases

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.kernel.dtype

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.kernel.device

    @property
    def live(self) -> Int[Tensor, " live"]:
        """Return the channels that something feeds: a weight or a bias."""
        return self.kernel.live

    def read(self, channels: int) -> Int[Tensor, " read"]:
        """Return the ``channels`` of the image that are read."""
        return torch.unique(self.kernel.indices % channels)

    def writing(self, live: Int[Tensor, " a"]) -> "Convolution":
        """Return it with the named channels alone."""
        return replace(self, kernel=self.kernel.take(rows=live))

    def reading(self, live: Int[Tensor, " a"], channels: int) -> "Convolution":
        """Return it reading the named of the ``channels`` of the image alone."""
        columns = blocks(live, self.side**2, channels)
        return replace(self, kernel=self.kernel.take(columns=columns), image=(*self.image[:2], live.numel()))

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Convolution":
        """Return the same in another dtype or on another device."""
        return replace(self, kernel=self.kernel.to(dtype, device))

    def weight(self) -> Float[Tensor, "channels colours side side"]:
        """Return the kernel as ``torch.nn.Conv2d`` has it."""
        return self.kernel.dense().reshape(self.channels, self.side, self.side, self.image[2]).permute(0, 3, 1, 2)

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        """Return the outputs for rows ``x``."""
        if not self.nonzeros:
            height, width, _ = self.outputs
            return self.kernel.dense_bias().repeat(height * width).expand(len(x), -1).clone()
        images = x.reshape(-1, *self.image).permute(0, 3, 1, 2)
        out = conv2d(images, self.weight(), self.kernel.dense_bias(), self.stride, self.padding)
        return out.permute(0, 2, 3, 1).reshape(len(x), -1)

    @cached_property
    def written_out(self) -> Layer:
        """Return the same map with every weight written at every place that it is used: rows for the flat outputs."""
        height, width, channels = self.outputs
        rows, columns, values = [], [], []
        place, colour = self.kernel.indices.long() // self.image[2], self.kernel.indices.long() % self.image[2]
        for i in range(height):
            for j in range(width):
                r = i * self.stride - self.padding + place // self.side
                c = j * self.stride - self.padding + place % self.side
                inside: Bool[Tensor, " nnz"] = (r >= 0) & (r < self.image[0]) & (c >= 0) & (c < self.image[1])
                rows.append((i * width + j) * channels + self.kernel.outputs_of_values.long()[inside])
                columns.append(((r * self.image[1] + c) * self.image[2] + colour)[inside])
                values.append(self.kernel.values[inside])
        bias = None if self.kernel.bias is None else self.kernel.dense_bias().repeat(height * width)
        return Layer.from_triplets(self.shape, torch.cat(rows), torch.cat(columns), torch.cat(values), bias)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}


def blocks(live: Int[Tensor, " a"], places: int, channels: int) -> Int[Tensor, " b"]:
    """Find where the ``live`` of ``channels`` are in ``places`` consecutive blocks of all of them."""
    return (torch.arange(places, device=live.device)[:, None] * channels + live.long()).reshape(-1)


def channels_first(layer: Layer, image: Image) -> Layer:
    """Return the same for inputs that lie channel by channel, as Flatten makes them of images (channels, height,
    width).
    """
    height, width, channels = image
    place, channel = layer.indices.long() // channels, layer.indices.long() % channels
    columns, bias = channel * height * width + place, layer.bias
    return Layer.from_triplets(layer.shape, layer.outputs_of_values, columns, layer.values, bias, layer.rows)


def stages(image: Sequence[int], channels: Sequence[int]) -> list[Image]:
    """Return the images before, between and behind convolutions with that many channels."""
    height, width, colours = (*image, 1)[:3]
    found = [(height, width, colours)]
    for count in channels:
        height, width = ((n + 2 * PADDING - SIDE) // STRIDE + 1 for n in (height, width))
        found.append((height, width, count))
    return found
