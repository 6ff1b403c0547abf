"""A network as C: one header, one source file, constant tables in compressed sparse rows, no dependencies."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sparelu.export.plain import check_labels, plain_network
from sparelu.networks.convolution import Convolution
from sparelu.networks.network import Layer, Network
from sparelu.writing import write_atomically

STANDARD_HEADERS = re.compile(
    "assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdarg|stdbool|stddef|"
    "stdint|stdio|stdlib|string|tgmath|time|wchar|wctype",
    re.IGNORECASE,
)
WIDTH = 110
FLOAT = 4
"""Bytes of a C float (IEEE 754 single precision)."""


@dataclass(frozen=True)
class Footprint:
    """What one prediction of the exported code takes.

    ``flash``: bytes of the constant tables, machine code left out. ``ram``: bytes of hidden units on the stack; ``x``
    and ``out`` are the caller's. ``multiply_adds`` of the weights and ``comparisons`` of the ReLUs are all the
    floating-point operations: a sum starts from its bias.
    """

    flash: int
    ram: int
    multiply_adds: int
    comparisons: int


def to_c(
    network: Network,
    folder: str | Path,
    name: str = "network",
    *,
    names: Sequence[str] = (),
    classes: Sequence[Any] = (),
) -> Footprint:
    """Write ``name.h`` and ``name.c`` of :func:`c_files` into ``folder``.

    Raises ``ValueError`` as that does.
    """
    files, cost = c_files(network, name, names=names, classes=classes)
    for file, content in files.items():
        write_atomically(Path(folder) / file, content)
    return cost


def c_files(
    network: Network, name: str = "network", *, names: Sequence[str] = (), classes: Sequence[Any] = ()
) -> tuple[dict[str, bytes], Footprint]:
    """Return ``name.h`` and ``name.c``: C99, float32, ``void name_predict(const float *x, float *out)``.

    ``x`` holds the raw inputs, ``out`` receives the outputs of ``network``; they must not overlap. Tables are CSR: the
    values, the inputs they read and the number of values in each row, indices in the smallest type that holds them.
    ``names`` of the inputs used and ``classes`` are listed in the header's comment.

    The products are of float32: inputs whose mean is far above their spread lose digits, more so than in float64.

    Raises ``ValueError`` when ``name`` cannot start an identifier or is the name of a header of the C library, for
    numbers that float32 does not hold, and for names or classes that are not one for each input and output.
    """
    _check_name(name)
    check_labels(network, names, classes)
    net = plain_network(network)
    parts = _parts(net)
    cost = _footprint(net, parts)
    about = _about(net, cost, names, classes)
    return {f"{name}.h": _header(net, name, about).encode(), f"{name}.c": _source(net, parts, name).encode()}, cost


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"the name {name!r} cannot start a C identifier: use letters, digits and _, a letter first")
    if STANDARD_HEADERS.fullmatch(name):
        raise ValueError(f"{name}.h is a header of the C library: choose another name")


def _parts(net: Network) -> dict[str, Layer | Convolution]:
    parts = {f"layer{i}": part for i, part in enumerate(net.parts)}
    return parts if net.skip is None else {**parts, "skip": net.skip}


def _tables(part: Layer | Convolution) -> dict[str, np.ndarray]:
    """List the arrays of a layer, empty ones left out; of a convolution the place in the window, not the input."""
    layer = part.kernel
    lengths = np.zeros(layer.shape[0], dtype=np.int64)
    lengths[layer.rows.numpy()] = layer.indptr.diff().numpy()
    found = {}
    if layer.nonzeros:
        found = {"values": layer.values.numpy(), "inputs": _small(layer.indices.numpy()), "lengths": _small(lengths)}
    if isinstance(part, Convolution) and layer.nonzeros:
        place, colour = np.divmod(found.pop("inputs").astype(np.int64), part.image[2])
        windows = {"down": place // part.side, "across": place % part.side, "colour": colour}
        found |= {name: _small(numbers) for name, numbers in windows.items()}
    if layer.biases:
        found["bias"] = layer.dense_bias().numpy()
    return found


def _small(index: np.ndarray) -> np.ndarray:
    return index.astype(np.min_scalar_type(int(index.max())))


def _footprint(net: Network, parts: dict[str, Layer | Convolution]) -> Footprint:
    return Footprint(
        flash=sum(table.nbytes for part in parts.values() for table in _tables(part).values()),
        ram=FLOAT * sum(_scratch(net)),
        multiply_adds=sum(part.written_out.nonzeros for part in parts.values()),
        comparisons=sum(net.hidden),
    )


def _scratch(net: Network) -> list[int]:
    """Return sizes of the buffers that hidden layers 0, 2, 4, ... and 1, 3, 5, ... share."""
    return [max(widths) for widths in (net.hidden[0::2], net.hidden[1::2]) if widths]


def _about(net: Network, cost: Footprint, names: Sequence[str], classes: Sequence[Any]) -> list[str]:
    widths = " - ".join(str(w) for w in (net.inputs, *net.hidden, net.outputs))
    used = net.used_inputs.tolist()
    lines = [
        f"A sparse ReLU network, {widths}, written by sparelu {version('sparelu')}.",
        "",
        f"Flash:      {cost.flash} bytes of constant tables, machine code left out.",
        f"RAM:        {cost.ram} bytes of stack for the hidden units.",
        f"Operations: {cost.multiply_adds} multiply-adds, {cost.comparisons} comparisons.",
        f"Inputs:     {len(used)} of {net.inputs} are read.",
    ]
    if names:
        lines += ["", "x[i] that are read: " + ", ".join(f"{i} = {_quoted(names[i])}" for i in used)]
    if classes and net.outputs == 1:
        lines += ["", f"out[0] > 0 means {_quoted(classes[1])}, else {_quoted(classes[0])}."]
    elif classes:
        lines += [
            "",
            "The largest out[i] names the class: " + ", ".join(f"{i} = {_quoted(c)}" for i, c in enumerate(classes)),
        ]
    return lines


def _quoted(label: Any) -> str:
    """Return JSON without a slash: a label can neither end the comment nor begin another."""
    return json.dumps(label).replace("/", "\\u002f")


def _header(net: Network, name: str, about: list[str]) -> str:
    guard = name.upper()
    comment = [f" * {part}".rstrip() for line in about for part in (_wrapped(line) if line else [""])]
    return "\n".join(
        [
            "/*",
            *comment,
            " */",
            f"#ifndef {guard}_H",
            f"#define {guard}_H",
            "",
            f"#define {guard}_INPUTS {net.inputs}",
            f"#define {guard}_OUTPUTS {net.outputs}",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"/* x: {guard}_INPUTS raw inputs; out: {guard}_OUTPUTS outputs; they must not overlap. */",
            f"void {name}_predict(const float *x, float *out);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
    )


def _source(net: Network, parts: dict[str, Layer | Convolution], name: str) -> str:
    lines = [f'#include "{name}.h"', "", "#include <stddef.h>", "#include <stdint.h>", ""]
    for name_of_part, part in parts.items():
        for table, numbers in _tables(part).items():
            lines += [*_table(f"{name_of_part}_{table}", numbers), ""]
    lines += [f"void {name}_predict(const float *x, float *out)", "{"]
    lines += [f"    float scratch{i}[{size}];" for i, size in enumerate(_scratch(net))]
    reads_nothing = net.parts[0].nonzeros + net.skip_nonzeros == 0
    lines += ["    size_t i;", *(["    (void)x;"] if reads_nothing else []), *_body(net), "}", ""]
    return "\n".join(lines)


def _table(name: str, numbers: np.ndarray) -> list[str]:
    if numbers.dtype.kind == "f":
        kind, texts = "float", [np.format_float_scientific(v, trim="0") + "f" for v in numbers]
    else:
        kind, texts = f"{numbers.dtype}_t", [str(v) for v in numbers]
    body = [f"    {line}" for line in _wrapped(", ".join(texts))]
    return [f"static const {kind} {name}[{len(texts)}] = {{", *body, "};"]


def _wrapped(text: str) -> Iterator[str]:
    """Yield ``text`` broken at spaces."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _body(net: Network) -> Iterable[str]:
    last = len(net.parts) - 1
    for i, layer in enumerate(net.parts):
        below = "x" if i == 0 else f"scratch{(i - 1) % 2}"
        if isinstance(layer, Convolution):
            yield from _windows(layer, f"layer{i}", below, f"scratch{i % 2}")
            continue
        sums = [(f"layer{i}", layer, below)]
        if i == last and net.skip is not None:
            sums.append(("skip", net.skip, "x"))
        target = "out[i] = sum;" if i == last else f"scratch{i % 2}[i] = sum < 0.0f ? 0.0f : sum;"
        yield from _loop(layer.shape[0], sums, target)


def _windows(part: Convolution, name: str, below: str, target: str) -> Iterable[str]:
    """Return a convolution that is not the last: the window at every place, what lies outside the image passed over.

    Places are counted from the corner of the padding; one above or left of the image wraps around to a large number.
    """
    (height, width, colours), (rows, columns, channels) = part.image, part.outputs
    start = f"{name}_bias[k]" if part.biases else "0.0f"
    yield f"    for (i = 0; i < {rows * columns}u; ++i) {{"
    if part.nonzeros:
        yield f"        const size_t top = i / {columns}u * {part.stride}u, left = i % {columns}u * {part.stride}u;"
        yield f"        size_t {name} = 0;"
    yield "        size_t k;"
    yield f"        for (k = 0; k < {channels}u; ++k) {{"
    yield f"            float sum = {start};"
    if part.nonzeros:
        yield "            size_t n;"
        yield f"            for (n = {name}_lengths[k]; n > 0; --n, ++{name}) {{"
        yield f"                const size_t row = top + {name}_down[{name}] - {part.padding}u;"
        yield f"                const size_t column = left + {name}_across[{name}] - {part.padding}u;"
        yield f"                if (row < {height}u && column < {width}u)"
        at = f"(row * {width}u + column) * {colours}u + {name}_colour[{name}]"
        yield f"                    sum += {name}_values[{name}] * {below}[{at}];"
        yield "            }"
    yield f"            {target}[i * {channels}u + k] = sum < 0.0f ? 0.0f : sum;"
    yield "        }"
    yield "    }"


def _loop(outputs: int, sums: list[tuple[str, Layer, str]], target: str) -> Iterable[str]:
    """Return one layer: each output is its bias plus one sparse product for each of ``sums``."""
    live = [(part, below) for part, layer, below in sums if layer.nonzeros]
    start = f"{sums[0][0]}_bias[i]" if sums[0][1].biases else "0.0f"
    yield "    {"
    for part, _ in live:
        yield f"        size_t {part} = 0;"
    yield f"        for (i = 0; i < {outputs}u; ++i) {{"
    yield f"            float sum = {start};"
    if live:
        yield "            size_t n;"
    for part, below in live:
        yield f"            for (n = {part}_lengths[i]; n > 0; --n, ++{part})"
        yield f"                sum += {part}_values[{part}] * {below}[{part}_inputs[{part}]];"
    yield f"            {target}"
    yield "        }"
    yield "    }"
