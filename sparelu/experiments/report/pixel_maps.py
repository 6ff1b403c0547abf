"""For image data: which pixels feed each neuron, over a mean image."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sparelu.experiments.formatting import counted, signed
from sparelu.experiments.report.live_network import Anatomy, norms

NEURONS = 24
PIXELS = 4000
Ramp = tuple[tuple[int, int, int], tuple[int, int, int]]
BLUES: Ramp = ((158, 202, 235), (8, 60, 140))
REDS: Ramp = ((250, 180, 160), (140, 0, 24))
PURPLES: Ramp = ((208, 190, 228), (63, 0, 125))


@dataclass(frozen=True)
class Pixel:
    """A square at column ``x``, row ``y``, of an opaque ``colour`` (#rrggbb)."""

    x: int
    y: int
    colour: str
    tip: str


@dataclass(frozen=True)
class PixelMap:
    """One small picture: a title, one line about it, and its pixels."""

    title: str
    text: str
    pixels: tuple[Pixel, ...]


@dataclass(frozen=True)
class PixelMaps:
    """The map of all neurons together, the maps of the strongest, and what was left out in words."""

    height: int
    width: int
    background: str
    overall: PixelMap
    neurons: tuple[PixelMap, ...]
    left_out: str


def pixel_maps(
    body: Anatomy,
    outputs: int,
    shape: tuple[int, int, int],
    output_name: Callable[[int], str],
    mean_image: np.ndarray | None = None,
) -> PixelMaps:
    """Return maps of the first layer for images of ``shape`` (height, width, channels).

    ``mean_image`` has the pixels of one image, in any shape of that many numbers. A pixel of several channels is
    shown by its largest weight.
    """
    units, strength = _owners(body, outputs)
    order = units[np.lexsort((units, -strength))]
    shown: list[PixelMap] = []
    pixels = 0
    for unit in order[:NEURONS]:
        picture = _of_neuron(body, int(unit), shape, output_name)
        pixels += len(picture.pixels)
        if shown and pixels > PIXELS:
            break
        shown.append(picture)
    what = "neurons" if body.hidden else "outputs"
    left_out = f"Shown are the {len(shown)} strongest of {len(order)} {what}." if len(shown) < len(order) else ""
    background = "" if mean_image is None else _data_uri(mean_image.reshape(shape))
    return PixelMaps(shape[0], shape[1], background, _overall(body, shape), tuple(shown), left_out)


def _owners(body: Anatomy, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the units that read pixels, with their strength: the first hidden layer, or the outputs where there is
    none.
    """
    if body.hidden:
        return body.hidden[0], body.strength(0)
    every = np.arange(outputs)
    return every, norms(every, body.layers[0].targets, body.layers[0].weights)


def _of_neuron(body: Anatomy, unit: int, shape: tuple[int, int, int], output_name: Callable[[int], str]) -> PixelMap:
    first = body.layers[0]
    mine = first.targets == unit
    largest = np.abs(first.weights[mine]).max(initial=1e-300)
    pixels = tuple(
        Pixel(x, y, _blend(BLUES if values[0] > 0 else REDS, abs(values[0]) / largest), _weights_tip(y, x, values))
        for (y, x), values in _by_place(first.sources[mine], first.weights[mine], shape).items()
    )
    text = counted(len(pixels), "pixel")
    if not body.hidden:
        return PixelMap(output_name(unit), text, pixels)
    name = output_name if len(body.layers) == 2 else lambda i: f"neuron {i} of layer 2"
    return PixelMap(f"neuron {unit}", f"{text} → {_feeds(body, unit, name)}", pixels)


def _feeds(body: Anatomy, unit: int, name: Callable[[int], str], limit: int = 3) -> str:
    out = body.layers[1]
    mine = out.sources == unit
    targets, weights = out.targets[mine], out.weights[mine]
    order = np.argsort(-np.abs(weights), kind="stable")
    texts = [f"{name(int(targets[i]))} ({signed(float(weights[i]))})" for i in order[:limit]]
    return ", ".join(texts) + (f" and {len(order) - limit} more" if len(order) > limit else "")


def _by_place(
    sources: np.ndarray, weights: np.ndarray, shape: tuple[int, int, int]
) -> dict[tuple[int, int], list[float]]:
    """Return weights by (row, column), the largest of its channels first."""
    rows, columns, _ = np.unravel_index(sources, shape)
    places: dict[tuple[int, int], list[float]] = {}
    for i in np.argsort(-np.abs(weights), kind="stable"):
        places.setdefault((int(rows[i]), int(columns[i])), []).append(float(weights[i]))
    return places


def _weights_tip(row: int, column: int, values: Sequence[float]) -> str:
    return f"row {row}, column {column}: " + ", ".join(signed(v) for v in values)


def _blend(ramp: Ramp, share: float) -> str:
    """Return the colour at ``share`` (0 to 1) of the way from the light to the dark end."""
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ramp, strict=True))


def _overall(body: Anatomy, shape: tuple[int, int, int]) -> PixelMap:
    first = body.layers[0]
    places = _by_place(first.sources, first.weights, shape)
    most = max((len(v) for v in places.values()), default=1)
    pixels = tuple(
        Pixel(x, y, _blend(PURPLES, len(v) / most), f"row {y}, column {x}: {counted(len(v), 'weight')}")
        for (y, x), v in places.items()
    )
    total = shape[0] * shape[1]
    return PixelMap(
        "all neurons", f"{len(pixels)} of {total} pixels used; the darkest has {counted(most, 'weight')}", pixels
    )


def _data_uri(image: np.ndarray) -> str:
    """Return a light PNG of an image (height, width, channels): one channel from white (low) to grey, colours
    lightened.
    """
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image, dtype=np.float64)
    light = 255 - 120 * scaled if image.shape[2] != 3 else 130 + 125 * scaled
    pixels = light.round().astype(np.uint8)
    picture = Image.fromarray(pixels if image.shape[2] == 3 else pixels.mean(axis=2).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
