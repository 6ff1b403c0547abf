"""Convolutions as sparse layers, so that every certificate reads convolutional networks too."""

from itertools import product

import numpy as np
import torch

from sparelu.networks.network import Layer, Network


def unroll(module: torch.nn.Sequential, image: tuple[int, int, int]) -> Network:
    """Return the network of a chain of Conv2d, ReLU, Flatten, Linear on images (channels, height, width), flattened by
    rows.

    A convolution becomes a sparse layer with one row for each output pixel and channel: weights are repeated, not
    shared. Groups and dilation are followed; padding is with zeros.

    Raises ``ValueError`` naming the first part that is of another kind.
    """
    layers: list[Layer] = []
    size, wants_relu = image, False
    for name, part in module.named_children():
        if isinstance(part, torch.nn.Conv2d) and not wants_relu:
            layer, size = convolution(part, size)
            layers.append(layer)
            wants_relu = True
        elif isinstance(part, torch.nn.Linear) and not wants_relu:
            bias = None if part.bias is None else part.bias.detach().cpu().double()
            layers.append(Layer.from_dense(part.weight.detach().cpu().double(), bias))
            wants_relu = True
        elif isinstance(part, torch.nn.ReLU) and wants_relu:
            wants_relu = False
        elif not isinstance(part, (torch.nn.Flatten, torch.nn.Identity, torch.nn.Dropout)):
            wanted = "ReLU" if wants_relu else "Conv2d or Linear"
            raise ValueError(
                f"module {name!r} is a {type(part).__name__} where a {wanted} was wanted: "
                "only chains of these are unrolled"
            )
    if not wants_relu:
        raise ValueError("the module must end in a Conv2d or Linear: a Network has no ReLU after its last layer")
    return Network(tuple(layers))


def convolution(conv: torch.nn.Conv2d, image: tuple[int, int, int]) -> tuple[Layer, tuple[int, int, int]]:
    """Return a convolution of images (channels, height, width) as a layer, and the size of what it makes.

    Raises ``ValueError`` for padding other than a number of zeros.
    """
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise ValueError(f"padding {conv.padding!r} of mode {conv.padding_mode!r}: only a number of zeros is unrolled")
    channels, height, width = image
    weight = conv.weight.detach().cpu().double().numpy()
    (ph, pw), (sh, sw), (dh, dw) = conv.padding, conv.stride, conv.dilation
    kh, kw = weight.shape[2:]
    out = (
        len(weight),
        (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
        (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
    )
    pixel = np.arange(out[1] * out[2])
    rows, columns, values = [], [], []
    per_group, group_outputs = weight.shape[1], len(weight) // conv.groups
    for o, c, i, j in product(range(out[0]), range(per_group), range(kh), range(kw)):
        y, x = (pixel // out[2]) * sh - ph + i * dh, (pixel % out[2]) * sw - pw + j * dw
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        channel = (o // group_outputs) * per_group + c
        rows.append(o * pixel.size + pixel[inside])
        columns.append((channel * height + y[inside]) * width + x[inside])
        values.append(np.full(int(inside.sum()), weight[o, c, i, j]))
    bias = None if conv.bias is None else np.repeat(conv.bias.detach().cpu().double().numpy(), pixel.size)
    join = np.concatenate
    shape = (out[0] * pixel.size, channels * height * width)
    return Layer.from_triplets(shape, join(rows), join(columns), join(values), bias), out


def pixel_groups(module: torch.nn.Sequential, image: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Return the groups for :func:`~sparelu.certify.complexity.graph_complexity`: all channels of an output pixel are
    one.

    One array for each hidden layer of :func:`unroll`, a fully connected layer being one group; where the network has
    biases the constant unit is a group of its own. They fit the network as unrolled, while no unit is dead.
    """
    linear = [p for p in module if isinstance(p, (torch.nn.Conv2d, torch.nn.Linear))]
    constant = any(p.bias is not None for p in linear)
    groups, size = [], image
    for part in linear[:-1]:
        if isinstance(part, torch.nn.Conv2d):
            size = convolution(part, size)[1]
            group = np.tile(np.arange(size[1] * size[2]), size[0])
        else:
            group = np.zeros(part.out_features, dtype=np.int64)
        groups.append(np.append(group, group.max() + 1) if constant else group)
    return tuple(groups)
