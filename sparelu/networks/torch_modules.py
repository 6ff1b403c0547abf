"""Sparse networks as dense torch modules, and back."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from sparelu.networks.convolution import Convolution, Image, channels_first
from sparelu.networks.layer import Layer

Part = Layer | Convolution
"""What a network is a chain of."""

Traced = Tensor | fx.Proxy
"""A tensor, or what stands for one while torch.fx records the graph."""

TRANSPARENT = (nn.Identity, nn.Dropout)


class Images(nn.Module):
    """Reshape rows (n, height * width * channels), pixel by pixel, to images (n, channels, height, width)."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.image: Image = (height, width, channels)

    def forward(self, x: Traced) -> Traced:
        """Return the images of the rows ``x``; channels stay last in memory."""
        return x.reshape(-1, *self.image).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Return the height, width, channels."""
        return ", ".join(map(str, self.image))


class SkipNetwork(nn.Module):
    """Compute ``chain(x) + skip(x)``: a chain of Linear and ReLU beside one Linear."""

    def __init__(self, chain: nn.Sequential, skip: nn.Linear) -> None:
        super().__init__()
        self.chain = chain
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs for rows ``x``."""
        return self.chain(x) + self.skip(x)


def build_module(chain: Sequence[Part], skip: Layer | None) -> nn.Module:
    """Build ``nn.Sequential`` of Linear and ReLU; a :class:`SkipNetwork` where there is an affine skip part.

    Convolutions are Conv2d, behind :class:`Images` and before Flatten. Raises ``ValueError`` for a network that ends
    in a convolution.
    """
    if isinstance(chain[-1], Convolution):
        raise ValueError("the network ends in a convolution: a module of it would give images; add a layer")
    parts: list[nn.Module] = []
    image: Image | None = None
    for part in chain:
        if isinstance(part, Convolution):
            parts += [*([Images(*part.image)] if part.image != image else []), _conv2d(part), nn.ReLU()]
            image = part.outputs
        else:
            flat = [] if image is None else [nn.Flatten()]
            parts += [*flat, _linear(part if image is None else channels_first(part, image)), nn.ReLU()]
            image = None
    sequence = nn.Sequential(*parts[:-1])
    return sequence if skip is None else SkipNetwork(sequence, _linear(skip))


def _linear(layer: Layer) -> nn.Linear:
    linear = nn.Linear(layer.shape[1], layer.shape[0], bias=layer.bias is not None, dtype=layer.dtype)
    with torch.no_grad():
        linear.weight.copy_(layer.dense())
        if layer.bias is not None:
            linear.bias.copy_(layer.dense_bias())
    return linear


def _conv2d(part: Convolution) -> nn.Conv2d:
    sizes, biased = (part.image[2], part.channels, part.side, part.stride, part.padding), part.kernel.bias is not None
    conv = nn.Conv2d(*sizes, bias=biased, dtype=part.dtype)
    with torch.no_grad():
        conv.weight.copy_(part.weight())
        if conv.bias is not None:
            conv.bias.copy_(part.kernel.dense_bias())
    return conv


def read_module(module: nn.Module) -> tuple[tuple[Part, ...], Layer | None]:
    """Read the parts and the skip part of a chain Linear, ReLU, ..., Linear; pass over Identity, Dropout and Flatten.

    The chain may begin with :class:`Images`; Conv2d, with BatchNorm2d or without, and ReLU may come before Linear then.
    Normalisations are taken as they are in evaluation, and folded into the convolution before them.

    Raises ``ValueError`` naming the first part that cannot be read.
    """
    if isinstance(module, SkipNetwork):
        return read_module(module.chain)[0], _layer(module.skip, "skip")
    reader = _Reader()
    for name, part in module.named_modules():
        if isinstance(part, (nn.Sequential, nn.ModuleList)) or (part is module and list(part.children())):
            continue
        reader.read(name or type(part).__name__, part)
    if not reader.parts or reader.wanted:
        raise ValueError("the module must end in a Linear layer: a Network has no ReLU after its last layer")
    return tuple(reader.parts), None


class _Reader:
    """Hold the parts read so far, the ``image`` that they give where it is one, and whether a layer is ``wanted``
    next.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.image: Image | None = None
        self.wanted = True

    def read(self, name: str, part: nn.Module) -> None:
        """Read the next module of the chain."""
        folds = isinstance(part, nn.BatchNorm2d) and not self.wanted
        if isinstance(part, Images) and not self.parts:
            self.image = part.image
        elif isinstance(part, nn.Linear) and self.wanted:
            self.parts.append(_layer(part, name, self.image))
            self.image, self.wanted = None, False
        elif isinstance(part, nn.Conv2d) and self.wanted:
            self.parts.append(found := _convolution(part, name, self.image))
            self.image, self.wanted = found.outputs, False
        elif folds and isinstance(self.parts[-1], Convolution):
            self.parts[-1] = _folded(self.parts[-1], part)
        elif isinstance(part, nn.ReLU) and not self.wanted:
            self.wanted = True
        elif not isinstance(part, (*TRANSPARENT, nn.Flatten)):
            raise ValueError(
                f"module {name!r} is a {type(part).__name__} where a "
                f"{'Linear' if self.wanted else 'ReLU'} was wanted: only chains of Linear and ReLU are read, with "
                "Conv2d and BatchNorm2d before them"
            )


def _layer(linear: nn.Linear, name: str, image: Image | None = None) -> Layer:
    bias = None if linear.bias is None else linear.bias.detach().clone()
    weight = linear.weight.detach().clone()
    if image is not None:
        height, width, channels = image
        weight = weight.reshape(-1, channels, height, width).permute(0, 2, 3, 1).reshape(weight.shape)
    try:
        return Layer.from_dense(weight, bias)
    except ValueError as error:
        raise ValueError(f"module {name!r}: {error}") from None


def _convolution(conv: nn.Conv2d, name: str, image: Image | None) -> Convolution:
    if image is None:
        raise ValueError(
            f"module {name!r} is a Conv2d and the size of its images is unknown: begin the chain with "
            "sparelu.networks.torch_modules.Images(height, width, channels)"
        )
    side, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    square = conv.kernel_size == (side, side) and conv.stride == (stride, stride) and conv.padding == (padding, padding)
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    if not (square and plain and isinstance(padding, int)):
        raise ValueError(f"module {name!r}: of convolutions only square ones without groups and dilation are read")
    weight = conv.weight.detach().permute(0, 2, 3, 1).reshape(conv.out_channels, -1)
    try:
        kernel = Layer.from_dense(weight.clone(), None if conv.bias is None else conv.bias.detach().clone())
    except ValueError as error:
        raise ValueError(f"module {name!r}: {error}") from None
    return Convolution(kernel, image, side, stride, padding)


def _folded(part: Convolution, norm: nn.Module) -> Convolution:
    """Fold by gamma (W x + b - m) / s + beta = (gamma / s) W x + gamma (b - m) / s + beta, with s^2 the variance +
    eps.
    """
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch normalisation without running statistics depends on the batch: it cannot be folded")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(scale)
    if norm.affine:
        scale, shift = scale * norm.weight.detach().double(), norm.bias.detach().double()
    kernel, dtype = part.kernel, part.dtype
    bias = (kernel.dense_bias().double() - norm.running_mean.double()) * scale + shift
    rows = kernel.outputs_of_values
    values = (kernel.values.double() * scale[rows.long()]).to(dtype)
    folded = Layer.from_triplets(kernel.shape, rows, kernel.indices, values, bias.to(dtype))
    return replace(part, kernel=folded)
