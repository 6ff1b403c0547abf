"""Physical removal of channels: a smaller plain module that computes the same as the one it is cut from.

A channel that no layer reads can go with its filters, biases, statistics and the weights that would read it. Nothing
has to be folded into the layers behind it: whatever a dead channel carries, say relu(beta) of a batch normalisation
over a filter of zeros, meets only weights of zero. So equality is exact up to the order of summation, in training mode
as well. Channels of a residual sum go together, only when no layer reads the sum's channel.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparelu.train.channels.channel_groups import ChannelGroup, Place, channel_groups, channel_rows
from sparelu.train.sparsifier.prunable import unwrapped


def unread_channels(model: nn.Module) -> dict[str, Tensor]:
    """Mark the removable channels of each group, by name: bool (width,), True where all weights that read are 0."""
    model = unwrapped(model)
    return {n: ~_read(model, s) for n, s in channel_groups(model).items() if not s.kept}


def remove_channels(model: nn.Module, channels: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Copy ``model`` without ``channels``, or without all that no layer reads when they are not given.

    ``channels`` maps names of streams (the first layer that writes them, see
    :func:`~sparelu.train.channels.channel_groups.channel_groups`) to bool tensors (width,), True for those to remove.
    Layers keep their kind and name; convolutions, depthwise and transposed ones, linear layers behind a flattening and
    batch and instance normalisations are cut. Optimisers must be made anew for the copy.

    Raises ``ValueError`` for a stream that is unknown or must be kept whole (and why), for a channel that a layer still
    reads, and where all channels would go, with the names of the layers.
    """
    small = copy.deepcopy(unwrapped(model))
    streams = channel_groups(small)
    if channels is None:
        channels = unread_channels(small)
    for name, gone in channels.items():
        if bool(gone.any()):
            _check(small, streams, name, gone)
    for name, gone in channels.items():
        if bool(gone.any()):
            _cut(small, streams[name], torch.nonzero(~gone)[:, 0])
    return small


def _read(model: nn.Module, stream: ChannelGroup) -> Tensor:
    """Mark the channels that meet a weight that is not 0."""
    read = [channel_rows(p, _weight(model, p).detach()).any(1) for p in stream.readers]
    return torch.stack([r.to(read[0].device) for r in read]).any(0)


def _check(model: nn.Module, streams: Mapping[str, ChannelGroup], name: str, gone: Tensor) -> None:
    if name not in streams:
        raise ValueError(f"{name!r} writes no channels of the model: choose from {', '.join(streams)}")
    stream = streams[name]
    if stream.kept:
        raise ValueError(f"no channel of {name} can be removed: {stream.kept}")
    if gone.shape != (stream.width,) or gone.dtype != torch.bool:
        raise ValueError(
            f"{name} has {stream.width} channels: give a bool tensor of that length, "
            f"got {gone.dtype} of shape {tuple(gone.shape)}"
        )
    if bool(gone.all()):
        raise ValueError(f"{name} would lose all its {stream.width} channels: leave at least one")
    for place in stream.readers:
        read = channel_rows(place, _weight(model, place).detach()).any(1)
        if bool((read & gone.to(read.device)).any()):
            first = int(torch.nonzero(read & gone.to(read.device))[0, 0])
            raise ValueError(
                f"channel {first} of {name} is still read by {place.module}: set the weights that read it to 0 first"
            )


def _cut(model: nn.Module, stream: ChannelGroup, left: Tensor) -> None:
    """Keep the channels ``left``: weights along each place's axis, what belongs to a channel, and the sizes."""
    for place in stream.readers:
        module = model.get_submodule(place.module)
        _select(module, "weight", place.axis, _blocks(left, place.block))
        _resize(module, place, len(left), reading=True)
    for place in (*stream.writers, *stream.norms):
        module = model.get_submodule(place.module)
        index = _blocks(left, place.block)
        _select(module, "weight", place.axis, index)
        for key in ("bias", "running_mean", "running_var"):
            _select(module, key, 0, index)
        _resize(module, place, len(left), reading=False)


def _blocks(left: Tensor, block: int) -> Tensor:
    return (left[:, None] * block + torch.arange(block, device=left.device)).reshape(-1)


def _select(module: nn.Module, key: str, axis: int, index: Tensor) -> None:
    parameter, buffer = module._parameters.get(key), module._buffers.get(key)
    if parameter is not None:
        chosen = parameter.detach().index_select(axis, index.to(parameter.device))
        module._parameters[key] = nn.Parameter(chosen, requires_grad=parameter.requires_grad)
    elif buffer is not None:
        module._buffers[key] = buffer.index_select(axis, index.to(buffer.device))


def _resize(module: nn.Module, place: Place, width: int, *, reading: bool) -> None:
    """Set the sizes that the module states, whose names depend on its kind."""
    if isinstance(module, nn.Linear):
        names = ["in_features" if reading else "out_features"]
    elif isinstance(module, nn.modules.conv._ConvNd):
        names = ["in_channels" if reading else "out_channels"]
        if module.groups > 1:
            names = ["in_channels", "out_channels", "groups"]
    else:
        names = ["num_features"]
    for name in names:
        setattr(module, name, width * place.block)


def _weight(model: nn.Module, place: Place) -> Tensor:
    return model.get_submodule(place.module).get_parameter("weight")
