"""What the inputs of a layer are, as a matrix: rows of a batch, patches of an image, tokens before a projection.

Every layer is a product of a matrix for each group (outputs, inputs) with such rows.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparelu.train.sparsifier.prunable import PrunableWeight, unwrapped
from sparelu.train.sparsifier.selection import is_transformers_conv1d

Run = Callable[[nn.Module], Any]
"""Passes the calibration rows through a module; what it returns is not used."""

Read = Callable[[tuple[Any, ...], dict[str, Any]], Tensor]
"""Arguments of a call, positional and named, to rows as :func:`patches` gives them."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def to_matrix(part: PrunableWeight, tensor: Tensor) -> Tensor:
    """Return a tensor of the weight's shape as (groups, outputs, inputs); those of attention are three groups."""
    module = part.module
    if isinstance(module, TRANSPOSED):
        groups = module.groups
        kernel = tensor.flip(tuple(range(2, tensor.ndim))).reshape(groups, len(tensor) // groups, tensor.shape[1], -1)
        return kernel.transpose(1, 2).reshape(groups, tensor.shape[1], -1)
    if is_transformers_conv1d(module):
        return tensor.t()[None]
    groups = 3 if part.key == "in_proj_weight" else getattr(module, "groups", 1)
    return tensor.reshape(groups, len(tensor) // groups, -1)


def to_weight(part: PrunableWeight, matrix: Tensor) -> Tensor:
    """Undo :func:`to_matrix`."""
    module, shape = part.module, part.shape
    if isinstance(module, TRANSPOSED):
        kernel = matrix.reshape(module.groups, shape[1], shape[0] // module.groups, -1).transpose(1, 2)
        return kernel.reshape(shape).flip(tuple(range(2, len(shape))))
    return matrix[0].t() if is_transformers_conv1d(module) else matrix.reshape(shape)


def patches(module: nn.Module, x: Tensor) -> Tensor:
    """Return what each output of a layer is a product of: (products, groups, inputs of one output)."""
    if isinstance(module, nn.Linear) or is_transformers_conv1d(module):
        return x.reshape(-1, 1, x.shape[-1])
    if isinstance(module, TRANSPOSED):
        return _patches_of_transposed(module, x)
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        raise ValueError(
            f"calibration knows Linear, Conv, ConvTranspose and MultiheadAttention, not {type(module).__name__}: leave "
            "it out with `layers`"
        )
    dimensions = len(module.kernel_size)
    x = x if x.ndim == dimensions + 2 else x[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode)
    for i, (size, step, gap) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        x = x.unfold(2 + i, (size - 1) * gap + 1, step)[..., ::gap]
    x = x.movedim(1, 1 + dimensions).flatten(0, dimensions)
    return x.reshape(len(x), module.groups, -1)


def _patches_of_transposed(module: Any, x: Tensor) -> Tensor:
    """Cut the patches of the ordinary convolution with the kernel turned round, on x with zeros between its entries.

    Padding is taken off the reach d (k - 1) of the kernel at both ends; the output's padding is added at the far one.
    """
    dimensions = len(module.kernel_size)
    x = x if x.ndim == dimensions + 2 else x[None]
    for i, step in enumerate(module.stride):
        axis = 2 + i
        spread = torch.zeros(*x.shape[:axis], (x.shape[axis] - 1) * step + 1, *x.shape[axis + 1 :]).to(x)
        spread[(slice(None),) * axis + (slice(None, None, step),)] = x
        x = spread
    margins: list[int] = []
    sizes = zip(module.kernel_size, module.dilation, module.padding, module.output_padding, strict=True)
    for size, gap, padding, extra in sizes:
        reach = gap * (size - 1) - padding
        margins = [reach, reach + extra, *margins]
    x = F.pad(x, margins)
    for i, (size, gap) in enumerate(zip(module.kernel_size, module.dilation, strict=True)):
        x = x.unfold(2 + i, (size - 1) * gap + 1, 1)[..., ::gap]
    x = x.movedim(1, 1 + dimensions).flatten(0, dimensions)
    return x.reshape(len(x), module.groups, -1)


def order_of_calls(model: nn.Module, run: Run, parts: Mapping[str, PrunableWeight]) -> list[str]:
    """Return the names in the order in which the layers are called.

    Raises ``ValueError`` for one that ``run`` does not reach.
    """
    called: dict[str, None] = {}
    hooks = [
        _source(model, p)[0].register_forward_pre_hook(lambda module, inputs, name=n: called.setdefault(name))
        for n, p in parts.items()
    ]
    _calibrate(model, run, hooks)
    missing = [n for n in parts if n not in called]
    if missing:
        raise ValueError(f"the calibration rows do not reach {missing[0]}: leave it out with `layers`")
    return list(called)


def gather(model: nn.Module, run: Run, part: PrunableWeight, moments: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the sum of ``moments`` over all inputs of a weight."""
    sums: list[Tensor] = []
    source, read = _source(model, part)

    def add(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        new = moments(read(inputs, named).detach())
        sums[:] = [sums[0] + new] if sums else [new]

    _calibrate(model, run, [source.register_forward_pre_hook(add, with_kwargs=True)])
    return sums[0]


def _source(
    model: nn.Module, part: PrunableWeight
) -> tuple[nn.Module, Callable[[tuple[Any, ...], dict[str, Any]], Tensor]]:
    """Find the module whose calls show the inputs of a weight, and how to read them from its arguments."""
    module = part.module
    if isinstance(module, nn.MultiheadAttention):
        return module, lambda args, named: _tokens(part, args, named)
    for attention in unwrapped(model).modules():
        if isinstance(attention, nn.MultiheadAttention) and attention.out_proj is module:
            return attention, lambda args, named, a=attention: _heads(a, args, named)
    return module, lambda args, named: patches(module, (*args, *named.values())[0])


def _tokens(part: PrunableWeight, args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """Return what query, key and value are made from, side by side, or the one that the weight projects."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | named
    read = [given[name].reshape(-1, given[name].shape[-1]) for name in ("query", "key", "value")]
    if part.key != "in_proj_weight":
        return read["qkv".index(part.key[0])][:, None]
    if len({len(r) for r in read}) > 1:
        raise ValueError(
            f"{part.name} reads queries and keys of different lengths, which calibration does not know: leave it out "
            "with `layers`"
        )
    return torch.stack(read, 1)


def _heads(attention: nn.MultiheadAttention, args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """Compute what the output projection reads: what the attention gives with the identity in its place."""
    twin = copy.deepcopy(attention)
    twin._forward_pre_hooks.clear()
    with torch.no_grad():
        twin.out_proj.weight.copy_(torch.eye(len(twin.out_proj.weight)))
        if twin.out_proj.bias is not None:
            twin.out_proj.bias.zero_()
        out = twin(*args, **{**named, "need_weights": False})[0]
    return out.reshape(-1, 1, out.shape[-1])


def _calibrate(model: nn.Module, run: Run, hooks: list[Any]) -> None:
    """Run in evaluation mode without gradients, and take the hooks off again."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            run(unwrapped(model))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
